"""What must be true of any journal after anything: checked from the records alone, by other means than the engine's.

`engine/fold.py` replays a history and compares it with the stored row. This goes on where that ends: deadlines are what
the table says they are, an effect is announced once, nothing is stamped earlier than what it follows, no child outlives
the visit it belongs to. Moments are compared exactly, so the records must come from a clock that stands still between
the steps (`testing.clock.VirtualClock`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec

from ..base.moments import moment_text, parse_moment
from ..engine.fold import check_flow, fold, own_part
from ..engine.ids import visit_of_child
from ..engine.journal.journal import Journal
from ..engine.journal.records import QUEUED, FlowRow, Record
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Context, DeadlinePassed
from ..engine.visit import Program

EVERY_FLOW = 100_000


def audit_journal(journal: Journal, programs: Iterable[Program[Any]]) -> list[str]:
    """Everything that is wrong in a journal, in words; empty when all is well.

    Args:
        journal: It, open. Nobody else may be writing.
        programs: Every machine it has flows of.

    Raises:
        JournalError: The journal cannot be read.
    """
    known = {name: program for program in programs for name in program.machine.names}
    problems = [f"the file: {problem}" for problem in journal.integrity_problems()]
    rows = {row.id: row for row in journal.flows(limit=EVERY_FLOW)}
    for row in rows.values():
        found = check_flow(journal, known.values(), row)
        if not found:  # the rest is said about histories that can be replayed
            about = _audit_records(known[row.machine].machine, journal.records(row.id))
            found = [f"flow {row.id}: {problem}" for problem in [*about, *_audit_child(row, rows)]]
        problems += found
    return problems


def _audit_records(machine: Machine[Any], records: Sequence[Record]) -> Iterator[str]:
    begin = own_part(records)  # what an older table wrote is not this one's to judge
    first = fold(machine, records[: begin + 1])
    context: Context = first.context
    queued = first.status == QUEUED
    records = records[begin:]
    wanted = _deadline_from(machine, records[0], context)
    if not begin and not queued and records[0].deadline != wanted:
        yield f"it starts with the deadline {records[0].deadline}; its first state runs out at {wanted}"
    for before, record in pairwise(records):
        if record.at < before.at:
            yield f"record {record.seq} ({record.name}) was written at {record.at}, before the one it follows"
        wanted = before.deadline
        if record.kind == "event":
            event = machine.decode_event(record.body)
            if isinstance(event, DeadlinePassed) and (before.deadline is None or record.at < before.deadline):
                yield f"record {record.seq}: the deadline {before.deadline} passed already at {record.at}"
            step = machine.step(before.to_state, context, event)
            context = step.context
            shared = machine.shares_deadline(before.to_state, step.state) and not isinstance(event, DeadlinePassed)
            if step.entered and (queued or not (wanted is not None and shared)):
                wanted = _deadline_from(machine, record, context)
        elif record.kind == "begun":
            wanted = _deadline_from(machine, record, context)
        elif record.kind == "resumed" and not queued and machine.states[record.to_state].late == "restart":
            wanted = None if wanted is None else _deadline_from(machine, record, context)
        if record.deadline != wanted:
            yield f"record {record.seq} ({record.name}) has the deadline {record.deadline}; it should be {wanted}"
        queued = queued and record.kind != "begun" and record.incarnation == before.incarnation
    fired = Counter((record.incarnation, record.deadline) for record in records if record.name == "DeadlinePassed")
    yield from (
        f"the deadline {deadline} of visit {visit} passed {times} times"
        for (visit, deadline), times in fired.items()
        if times > 1 and deadline is not None
    )
    announced: set[str] = set()
    for record in records:
        if record.kind == "intent":
            if record.name in announced:
                yield f"record {record.seq}: {record.name} was announced already, and not withdrawn"
            announced.add(record.name)
        elif record.kind in {"paused", "retried"}:
            announced.difference_update(msgspec.json.decode(record.body).get("withdrawn", ()))


def _deadline_from(machine: Machine[Any], record: Record, context: Context) -> str | None:
    seconds = machine.timeout_of(record.to_state, context)
    return None if seconds is None else moment_text(parse_moment(record.at) + timedelta(seconds=seconds))


def _audit_child(row: FlowRow, rows: Mapping[str, FlowRow]) -> Iterator[str]:
    if row.parent is None or row.status == "ended":
        return
    parent = rows.get(row.parent)
    if parent is None:
        yield f"its parent {row.parent} does not exist"
    elif parent.status == "running" and (visit_of_child(row.id) or 0) > parent.incarnation:
        yield f"it belongs to a visit its parent {row.parent} has not come to"


def orphans(journal: Journal) -> list[FlowRow]:
    """Child flows that go on although their parent has ended, or has left the visit they belong to.

    To be asked when everything has come to rest: between a parent's step and its child's end there is a moment.
    """
    rows = {row.id: row for row in journal.flows(limit=EVERY_FLOW)}
    return [
        row
        for row in rows.values()
        if row.parent is not None and row.status != "ended" and (parent := rows[row.parent])
        if parent.status == "ended" or visit_of_child(row.id) != parent.incarnation
    ]
