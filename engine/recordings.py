"""Recorded histories: what the flows of a release wrote, kept as test data for every later version.

A flow may be at any of its records when a newer version resumes it. A recording holds a flow's whole
history and, beside each record, what the flow knew then; so the flow can be restored as it was after any of them,
without the table that wrote it. `check_recording` checks them all: flows of today's table must replay to what was
stored, flows of an older one must be carried over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from ..base.errors import Io
from ..base.moments import parse_moment
from .errors import IncompatibleFlow
from .fold import check_records, fold, status_after
from .journal.journal import Journal
from .journal.records import FlowRow, Record, open_intents
from .machine.machine import Machine
from .machine.stored import decoded
from .versions import Begun, bring
from .visit import Program

_PARKED: Final = re.compile(rb'("(?:kind|status)":\s*)"parked"')


class Moment(msgspec.Struct, frozen=True):
    """One record, and what the flow knew when it was written."""

    record: Record
    context: dict[str, Any]


class RecordedFlow(msgspec.Struct, frozen=True):
    """A flow from its start to where the recording ends.

    Attributes:
        row: The flow at the end.
        moments: Every record of it.
    """

    row: FlowRow
    moments: tuple[Moment, ...]

    @property
    def records(self) -> list[Record]:
        """Its history."""
        return [moment.record for moment in self.moments]

    def after(self, count: int) -> FlowRow:
        """The flow as it was after its first `count` records, without an owner."""
        if count == len(self.moments):
            return self.row
        moment = self.moments[count - 1]
        record, status = moment.record, status_after(self.records[:count])
        troubles = [each.body for each in self.records[:count] if each.kind == "paused"]
        return msgspec.structs.replace(
            self.row,
            state=record.to_state,
            incarnation=record.incarnation,
            seq=record.seq,
            status=status,
            verdict=None,
            deadline=record.deadline,
            context=msgspec.json.encode(moment.context).decode(),
            trouble=troubles[-1] if status == "paused" else None,
            updated=record.at,
            owner=None,
        )


class Recording(msgspec.Struct, frozen=True):
    """One story and every flow in it.

    Attributes:
        release: The version of this package that wrote it.
        story: Its name.
        tells: What happened, in a sentence.
        flows: Parents before their children.
    """

    release: str
    story: str
    tells: str
    flows: tuple[RecordedFlow, ...]


def record_flow(journal: Journal, machine: Machine[Any], row: FlowRow) -> RecordedFlow:
    """Record a flow of `machine` from a journal. Raises `JournalCorrupted` if its records do not replay."""
    records = journal.records(row.id)
    moments: list[Moment] = []
    for count in range(1, len(records) + 1):
        context = fold(machine, records[:count]).context
        moments.append(Moment(records[count - 1], msgspec.to_builtins(context)))
    return RecordedFlow(msgspec.structs.replace(row, owner=None), tuple(moments))


_RECORDING: Final = msgspec.json.Decoder(Recording)


def read_recordings(directory: Path) -> Iterator[Recording]:
    """Every recording in a directory and below it, by path.

    Raises:
        Io: There are none, or one of them cannot be read; the message names it.
    """
    paths = sorted(directory.rglob("*.json"))
    if not paths:
        raise Io(f"there are no recorded histories in {directory}", hint="Name the directory that holds them.")
    for path in paths:
        try:
            yield decoded(_RECORDING, _in_todays_words(path.read_bytes()))
        except OSError as exc:
            raise Io(f"cannot read {path}: {exc.strerror or exc}") from exc
        except msgspec.DecodeError as exc:
            raise Io(f"{path} is no recorded history: {exc}", hint="Only recordings may lie there.") from exc


def _in_todays_words(recording: bytes) -> bytes:
    """A recording of a release that called a paused flow parked; texts inside it have their quotes escaped."""
    return _PARKED.sub(rb'\1"paused"', recording)


def check_recording(recording: Recording, programs: Iterable[Program[Any]]) -> list[str]:
    """Check that today's machines can resume every flow of a recording after each of its records.

    Returns:
        A description of every problem; empty when every flow can be resumed from every record.
    """
    machines = {name: program.machine for program in programs for name in program.machine.names}
    problems: list[str] = []
    for flow in recording.flows:
        machine = machines.get(flow.row.machine)
        for count in range(1, len(flow.moments) + 1):
            row = flow.after(count)
            found = check_records(machine, row, flow.records[:count])
            if machine is None:
                found.append(f"flow {row.id}: the machine {row.machine} is not known here")
            else:
                try:
                    bring(machine, row, _begun(recording, flow, count), parse_moment(row.updated))
                except IncompatibleFlow as exc:
                    found.append(exc.user_message)
            at = f"{recording.release} {recording.story}: after record {count}, in {row.state}"
            problems += [f"{at}: {problem}" for problem in found]
    return problems


def _begun(recording: Recording, flow: RecordedFlow, count: int) -> Begun:
    """What a flow of a recording has begun by its first `count` records."""
    moment = flow.moments[count - 1].record
    visit = (each for each in flow.records[:count] if each.incarnation == moment.incarnation)
    children = [
        each.after(max(1, sum(record.at <= moment.at for record in each.records)))
        for each in recording.flows
        if each.row.parent == flow.row.id and each.row.created <= moment.at
    ]
    return Begun(open_intents(visit), children)
