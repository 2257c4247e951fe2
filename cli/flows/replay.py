"""`flows check --against DIR`: whether the flows older releases recorded could be gone on with by this one."""

from __future__ import annotations

from pathlib import Path

from ...engine.recordings import check_recording, read_recordings
from ...flows.onboarding import all_programs
from ...flows.services import Services
from ..screen.terminal import clean
from ..shared.settings import Settings
from ..tools.findings import put_problems


def replay(settings: Settings, directory: Path) -> int:
    """Try the machines of this version on recorded histories; tell every problem and give the exit code.

    Args:
        settings: The global options.
        directory: Holds the recordings, in any depth; one directory for each release.

    Raises:
        Io: There are none, or one of them cannot be read.
    """
    programs = all_programs(Services(settings.paths, open_browser=None))
    problems: list[str] = []
    stories = points = 0
    for recording in read_recordings(directory):
        stories += 1
        points += sum(len(flow.moments) for flow in recording.flows)
        problems += map(clean, check_recording(recording, programs))
    found = {"directory": str(directory), "stories": stories, "points": points, "problems": problems}
    return put_problems(settings, found, f"{directory}: {stories} stories, taken up at {points} points")
