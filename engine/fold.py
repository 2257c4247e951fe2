"""The journal checked against itself: the rows of `events` are the truth, the row in `flows` only their fold.

`fold` replays a flow's records, every event through `Machine.step`, and returns the row they lead to. `check_flow`
compares that with the row that is stored and describes every difference. Nothing here writes.

What another version of the machine wrote is not replayed: its table is gone. The replay begins where the flow was
carried over to today's, with the context in the `migrated` record; before that, every record must lead to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from ..base.errors import CloudError
from .errors import JournalCorrupted
from .journal.journal import Journal
from .journal.records import QUEUED, RESTING, FlowRow, Record, Status
from .machine.machine import Machine
from .machine.parts import Context, Verdict
from .machine.stored import decoded
from .starting import different_fields
from .versions import MigratedBody
from .visit import Program

C = TypeVar("C", bound=Context)

_MIGRATED: Final = msgspec.json.Decoder(MigratedBody)


class Folded(msgspec.Struct, Generic[C], frozen=True, kw_only=True):
    """What a flow's row must be, by its records.

    Attributes:
        state: The state.
        context: What it knows.
        incarnation: The number of the visit.
        seq: The number of the last record.
        deadline: When the visit runs out, as the last record has it (RFC 3339), or None.
        status: `running`, `paused`, `queued` or `ended`.
    """

    state: str
    context: C
    incarnation: int
    seq: int
    deadline: str | None
    status: Status


def fold(machine: Machine[C], records: Sequence[Record]) -> Folded[C]:
    """Replay a flow's whole history.

    Args:
        machine: Its table.
        records: Everything the journal has of it, in order.

    Raises:
        JournalCorrupted: The records are not a history this machine can have: one is missing, cannot be read, is not
            accepted in its state, or disagrees with the table. The message names the record.
    """
    return _fold(machine, records, _migration(records))


def _fold(machine: Machine[C], records: Iterable[Record], migration: int) -> Folded[C]:
    """`fold` of records that pass by once; the number of the last migration among them is known, 0 for none."""
    passing = iter(records)
    first = next(passing, None)
    if first is None:
        raise JournalCorrupted("there is not one record")
    folded = _carried(machine, first, passing, migration) if migration else _begun(machine, first)
    for record in passing:
        folded = _after(machine, folded, record)
    return folded


def own_part(records: Sequence[Record]) -> int:
    """Where the part of a history begins that the newest of its tables wrote: at its last migration, else at 0."""
    return next((at for at in reversed(range(len(records))) if records[at].kind == "migrated"), 0)


def _migration(records: Sequence[Record]) -> int:
    """The number of the last migration; 0 for none."""
    begin = own_part(records)
    return records[begin].seq if begin else 0


def is_table_of(machine: Machine[Any] | None, row: FlowRow) -> bool:
    """Whether the flow's records can be replayed with this table: it is the one that wrote the last of them."""
    return machine is not None and machine.wrote(row.version, row.fingerprint)


def check_flow(journal: Journal, programs: Iterable[Program[Any]], row: FlowRow) -> list[str]:
    """Compare a flow's stored row with the fold of its records.

    Args:
        journal: Where both are.
        programs: What is known of machines. A flow of an unknown machine, or of another version of a known one, is not
            replayed; that its records are complete and lead to the stored state is checked all the same.
        row: The flow as it is stored. Records younger than the row are left out: the flow may be running meanwhile.

    Returns:
        A description of every difference; empty when there is none.

    Raises:
        JournalError: The journal cannot be read.
    """
    machine = next((program.machine for program in programs if row.machine in program.machine.names), None)
    records = journal.each_record(row.id, last=row.seq)
    return _check(machine, row, records, journal.migrated(row.id, last=row.seq))


def check_records(machine: Machine[Any] | None, row: FlowRow, records: Sequence[Record]) -> list[str]:
    """Compare a flow's row with the fold of its records, wherever they were kept; see `check_flow`.

    Args:
        machine: Its table, None when it is not known.
        row: The flow as it is stored.
        records: Its history up to there.
    """
    return _check(machine, row, records, _migration(records))


class _Passing:
    """Records on their way through a check, each held no longer than that, and what is asked about them afterwards."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self.last: Record | None = None
        self.trouble: str | None = None

    def __iter__(self) -> Iterator[Record]:
        for record in self._records:
            self.last = record
            if record.kind == "paused":
                self.trouble = record.body
            yield record


def _check(machine: Machine[Any] | None, row: FlowRow, records: Iterable[Record], migration: int) -> list[str]:
    if machine is None or not is_table_of(machine, row):
        return [f"flow {row.id}: {problem}" for problem in _chain_problems(records, row)]
    passing = _Passing(records)
    try:
        folded = _fold(machine, passing, migration)
    except JournalCorrupted as exc:
        return [f"flow {row.id}: {exc.user_message}"]
    return [f"flow {row.id}: {problem}" for problem in _row_problems(machine, folded, passing, row)]


def status_after(records: Iterable[Record]) -> Status:
    """What a flow that has not reached an end is doing after these records: its whole history, or the first part."""
    status: Status = "running"
    before: Record | None = None
    for record in records:
        status, before = _status_after(status, before, record), record
    return status


def _status_after(status: Status, before: Record | None, record: Record) -> Status:
    match record.kind:
        case "started":
            return QUEUED if record.name == QUEUED else "running"
        case "paused":
            return "paused"
        case "resumed" if status == QUEUED:
            return status
        case "resumed" | "begun":
            return "running"
        case "abandoned":
            return "ended"
        case "event" if before is not None and record.incarnation > before.incarnation:
            return "running"
        case _:
            return status


def _begun(machine: Machine[C], record: Record) -> Folded[C]:
    if record.kind != "started" or record.seq != 1:
        raise _broken(record, "the history does not begin with its start")
    if record.to_state != machine.initial:
        raise _broken(record, f"it starts in {record.to_state}, not in {machine.initial}")
    try:
        context = machine.decode_context(record.body)
    except msgspec.DecodeError as exc:
        raise _broken(record, f"its context cannot be read: {exc}") from exc
    return Folded(
        state=machine.initial,
        context=context,
        incarnation=1,
        seq=1,
        deadline=record.deadline,
        status=_status_after("running", None, record),
    )


def _carried(machine: Machine[C], first: Record, passing: Iterator[Record], migration: int) -> Folded[C]:
    record, status = first, _status_after("running", None, first)
    while record.seq < migration:
        before, record = record, next(passing)
        if record.seq != before.seq + 1:
            raise _broken(record, f"it follows record {before.seq}")
        if record.from_state != before.to_state:
            raise _broken(record, f"it continues from {record.from_state}; the one before led to {before.to_state}")
        status = _status_after(status, before, record)
    if first.kind != "started" or first.seq != 1:
        raise _broken(first, "the history does not begin with its start")
    try:
        body = decoded(_MIGRATED, record.body)
        context = machine.decode_context(bytes(body.context))
    except msgspec.DecodeError as exc:
        raise _broken(record, f"its context cannot be read: {exc}") from exc
    if not machine.wrote(body.here.version, body.here.fingerprint):
        raise _broken(record, f"it leads to version {body.here.version} ({body.here.fingerprint})")
    if record.to_state not in machine.states or machine.states[record.to_state].final:
        raise _broken(record, f"it leads to {record.to_state}, in which no flow can continue")
    return Folded(
        state=record.to_state,
        context=context,
        incarnation=record.incarnation,
        seq=record.seq,
        deadline=record.deadline,
        status=status,
    )


def _after(machine: Machine[C], before: Folded[C], record: Record) -> Folded[C]:
    if record.seq != before.seq + 1:
        raise _broken(record, f"it follows record {before.seq}")
    if before.status == "ended":
        raise _broken(record, f"the flow had ended in {before.state}")
    state, context, incarnation, status = before.state, before.context, before.incarnation, before.status
    match record.kind:
        case "event":
            try:
                step = machine.step(state, context, machine.decode_event(record.body))
            except msgspec.DecodeError as exc:
                raise _broken(record, f"it cannot be read: {exc}") from exc
            except CloudError as exc:
                raise _broken(record, exc.user_message) from exc
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # a guard's or an update's: it is this flow's trouble and no other's
                raise _broken(record, f"its table raised {type(exc).__name__}: {exc}") from exc
            context = step.context
            if step.entered:
                state, incarnation = step.state, incarnation + 1
                status = "ended" if machine.states[state].final else "running"
        case "paused":
            status = "paused"
        case "begun":
            if status != QUEUED:
                raise _broken(record, f"the flow is {status}, and only a queued one begins")
            status = "running"
        case "resumed":
            status = QUEUED if status == QUEUED else "running"
            if record.incarnation == incarnation + 1:  # a person had the effect repeated: a visit of its own
                incarnation += 1
        case "abandoned":
            status = "ended"
        case "intent" | "refused" | "retried":
            pass
        case "started" | "migrated":  # `fold` begins with the last of these
            raise _broken(record, "a flow starts only once")
    if (record.from_state, record.to_state, record.incarnation) != (before.state, state, incarnation):
        raise _broken(
            record,
            f"it leads from {record.from_state} to {record.to_state}, visit {record.incarnation}; "
            f"by the table it leads from {before.state} to {state}, visit {incarnation}",
        )
    if (
        incarnation == before.incarnation
        and record.kind not in {"resumed", "begun"}
        and record.deadline != before.deadline
    ):
        raise _broken(record, f"it moves the deadline from {before.deadline} to {record.deadline}")
    return Folded(
        state=state,
        context=context,
        incarnation=incarnation,
        seq=record.seq,
        deadline=record.deadline,
        status=status,
    )


def _broken(record: Record, why: str) -> JournalCorrupted:
    return JournalCorrupted(f"record {record.seq} ({record.name}): {why}")


def _row_problems(machine: Machine[C], folded: Folded[C], passed: _Passing, row: FlowRow) -> list[str]:
    last = cast("Record", passed.last)
    verdict = Verdict.CANCELLED if last.kind == "abandoned" else machine.states[folded.state].verdict
    paused = folded.status == "paused"
    wanted: dict[str, tuple[object, object]] = {
        "state": (row.state, folded.state),
        "visit": (row.incarnation, folded.incarnation),
        "last record": (row.seq, folded.seq),
        "deadline": (row.deadline, folded.deadline),
        "status": ("running" if row.status == RESTING else row.status, folded.status),
        "verdict": (row.verdict, None if verdict is None else str(verdict)),
        "trouble": (row.trouble, passed.trouble if paused else None),
        "time of the last change": (row.updated, last.at),
    }
    problems = [
        f"the stored {what} is {stored}; by its records it is {true}"
        for what, (stored, true) in wanted.items()
        if stored != true
    ]
    try:
        context = machine.decode_context(row.context)
    except msgspec.DecodeError as exc:
        problems.append(f"the stored context cannot be read: {exc}")
    else:
        # Names only, no values: a context must hold no secret, but nothing here can prove that.
        # A class may compare otherwise, or not at all: then what is in it counts.
        names = [
            name
            for name in different_fields(folded.context, context)
            if getattr(context, name) != getattr(folded.context, name)
        ]
        if names:
            problems.append(f"the stored context differs from its records: {', '.join(names)}")
    return problems


def _chain_problems(records: Iterable[Record], row: FlowRow) -> list[str]:
    """Checks that need no table: no record is missing, and each begins in the state the one before it led to."""
    problems: list[str] = []
    many, whole = 0, True
    last: Record | None = None
    for record in records:
        many += 1
        whole = whole and record.seq == many
        if last is not None and record.from_state != last.to_state:
            problems.append(
                f"record {record.seq} ({record.name}) continues from {record.from_state}; "
                f"the one before led to {last.to_state}"
            )
        last = record
    if not whole or many != row.seq:
        problems.append(f"records are missing: there are {many} of {row.seq}")
    elif last is not None and last.to_state != row.state:
        problems.append(f"the stored state is {row.state}; by its records it is {last.to_state}")
    return problems
