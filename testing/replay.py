"""Recorded histories against the code of today: replayed through the table, and resumed from each of their records.

    recording = record(engine.journal, programs, flow.id)       # once; keep it as a file
    assert check_recording(recording, programs) == []           # every later version of the table
    killed_after(recording, 3, paths)                           # a process that died right after the third record

The first finds a table that no longer leads where it led, or that cannot take over a flow from the middle. The second
makes a journal in which the process died there, so that your activities can be seen to continue: open an engine
on it and resume the flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..base.moments import parse_moment
from ..engine.journal.journal import Journal
from ..engine.journal.vault import VaultFiles
from ..engine.paths import Places, directory_maker
from ..engine.recordings import RecordedFlow, Recording, check_recording, read_recordings, record_flow
from ..engine.visit import Program
from .clock import VirtualClock

__all__ = ["Recording", "check_recording", "clock_after", "killed_after", "read_recordings", "record", "save"]


def record(
    journal: Journal, programs: Iterable[Program[Any]], flow: str, *, release: str = "", story: str = ""
) -> Recording:
    """Record a flow and the flows inside it.

    Args:
        journal: Where they are, for instance `engine.journal`.
        programs: Their machines.
        flow: The id of the outermost flow.
        release: Which version of your program wrote it; problems are told with it.
        story: What happened, in a sentence.

    Raises:
        FlowNotFound: There is none.
        LookupError: A machine is not among the programs.
        JournalCorrupted: Its records do not replay.
    """
    machines = {name: program.machine for program in programs for name in program.machine.names}
    rows = journal.family(journal.find(flow))
    if missing := {row.machine for row in rows} - set(machines):
        raise LookupError(f"no program is given for {', '.join(sorted(missing))}")
    flows = tuple(record_flow(journal, machines[row.machine], row) for row in rows)
    return Recording(release, rows[0].machine, story, flows)


def save(recording: Recording, path: Path) -> None:
    """Write a recording where `read_recordings` finds it: `NAME.json`, in a directory that holds nothing else."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(recording), indent=1))


def killed_after(recording: Recording, count: int, paths: Places, *, secrets: Mapping[str, str] | None = None) -> str:
    """Make the journal of a process that died right after a record of the outermost flow was written.

    Flows inside it are as they were at that moment. Nobody drives any of them.

    Args:
        recording: What happened.
        count: How many records of the outermost flow are kept, from 1 on.
        paths: Where the journal is to be; there is none yet.
        secrets: What the vault of the outermost flow holds, by name: a recording has no secrets.

    Returns:
        The id of the outermost flow.

    Raises:
        ValueError: It has fewer records, or there is a journal already.
    """
    outer = recording.flows[0]
    if not 0 < count <= len(outer.moments):
        raise ValueError(f"the flow has {len(outer.moments)} records, not {count}")
    if paths.journal.exists():
        raise ValueError(f"{paths.journal} exists already")
    moment = outer.moments[count - 1].record.at
    with Journal(paths.journal, make_directory=directory_maker(paths), owners=paths.owners) as journal:
        for flow in recording.flows:
            kept = count if flow is outer else sum(each.record.at <= moment for each in flow.moments)
            _write(journal, flow, kept)
    for name, secret in (secrets or {}).items():
        VaultFiles(paths.vault).put(outer.row.id, name, secret)
    return outer.row.id


def clock_after(recording: Recording, count: int) -> VirtualClock:
    """A clock that begins at the moment of that record, for `open_engine(…, clock=…, inline=True)`."""
    return VirtualClock(parse_moment(recording.flows[0].moments[count - 1].record.at))


def _write(journal: Journal, flow: RecordedFlow, count: int) -> None:
    if not count:
        return
    # What was left in its inbox is not recorded: what it took from there is an event like any other.
    journal.write([partial(journal.begin, flow.after(1), flow.moments[0].record)])
    for number in range(2, count + 1):
        before, after = flow.after(number - 1), flow.after(number)
        journal.write([partial(journal.advance, before, after, flow.moments[number - 1].record)])
