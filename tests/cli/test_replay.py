"""`flows check --against DIR`: would this version go on with what older ones recorded?"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.command import CommandLine

HISTORIES = Path(__file__).parents[1] / "histories"


def test_the_recordings_of_every_release_are_good(cli: CommandLine) -> None:
    """Nothing to tell, exit code 0; it needs no journal and makes none."""
    (line,) = cli("flows", "check", "--against", str(HISTORIES), "--json").ended(0).lines
    assert line["problems"] == []
    assert line["points"] > line["stories"] > 0
    assert not cli.journal.exists()


def test_a_recording_that_cannot_be_taken_up_fails_the_check(cli: CommandLine, tmp_path: Path) -> None:
    """A line for every point a flow would be stuck at, exit code 1."""
    directory = tmp_path / "histories"
    shutil.copytree(HISTORIES, directory)
    path = next(directory.rglob("login.json"))
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    ran = cli("flows", "check", "--against", str(directory)).ended(1)
    assert "version 0" in ran.out
    assert "no migration leads" in ran.out
