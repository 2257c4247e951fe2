"""What calls returned or raised, compared with what happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from systemprompt_cloud.base.errors import CloudError, Io
from systemprompt_cloud.engine.errors import (
    EffectUncertain,
    EngineClosed,
    EventNotAccepted,
    FlowBusy,
    FlowInterrupted,
    FlowParked,
    JournalError,
)
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import RESTING

from . import semantics
from .log import Call, Changed, Log
from .machines import BY_NAME

if TYPE_CHECKING:
    from .simulation import Simulation


class Numbers:
    """Where the numbers of events and starts are found in a journal.

    Attributes:
        taken: By flow and number, how often an event is in the history.
        kept: How often it is in the inbox.
        refused: How often it has left the inbox with a `refused` record.
        cancels: The flows with a request to cancel them in the inbox.
        started: By the number of the call, the flows it has begun.
    """

    def __init__(self, journal: Journal, log: Log, limit: int) -> None:
        self.taken: dict[tuple[str, int], int] = {}
        self.kept: dict[tuple[str, int], int] = {}
        self.refused: dict[tuple[str, int], int] = {}
        self.started: dict[int, list[str]] = {}
        for row in journal.flows(limit=limit):
            for record in journal.records(row.id):
                if record.kind == "started" and row.parent is None:
                    self.started.setdefault(_number(record.body), []).append(row.id)
                elif record.kind == "event" and record.name in BY_NAME:
                    _count(self.taken, row.id, record.body)
        signals = journal.signals()
        for signal in signals:
            if signal.name in BY_NAME:
                _count(self.kept, signal.flow, signal.body)
        for signal, kind in log.dropped.items():
            _, posted = log.posted[signal]
            if kind == semantics.REFUSED:
                _count(self.refused, posted.flow, posted.body)
        self.cancels = {signal.flow for signal in signals if signal.name == "CancelRequested"}


def _count(found: dict[tuple[str, int], int], flow: str, body: str) -> None:
    key = (flow, _number(body))
    found[key] = found.get(key, 0) + 1


class _Body(msgspec.Struct, frozen=True):
    number: int = 0


def _number(body: str) -> int:
    return msgspec.json.decode(body, type=_Body).number


def _starts(call: Call) -> bool:
    return call.operation.kind == "start"


class Answers:
    """Judges the answers of one history.

    Args:
        simulation: It.
        numbers: What is in the journal now.
    """

    def __init__(self, simulation: Simulation, numbers: Numbers) -> None:
        self._log = simulation.log
        self._plan = simulation.plan
        self._processes = {each.number: each for each in simulation.processes}
        self._numbers = numbers

    def wrong(self, calls: Sequence[Call]) -> Iterator[str]:
        """The answers that were wrong."""
        for call in calls:
            if not call.died:
                yield from (f"{call}: {problem}" for problem in self._wrong(call))

    def wrong_for_activities(self) -> Iterator[str]:
        """The events whose delivery was acknowledged to an activity, and that are not in the history once."""
        for flow, number in self._log.acknowledged:
            if (times := self._numbers.taken.get((flow, number), 0)) != 1:
                yield f"{flow}: event {number} was acknowledged to an activity; the history has it {times} times"

    def _wrong(self, call: Call) -> Iterator[str]:
        returned = not call.cancelled and call.error is None
        if call.operation.kind == "wait":
            yield from self._wrong_wait(call)
        elif call.error is not None and not call.cancelled:
            yield from self._wrong_error(call, call.error)
        match call.operation.kind:
            case "send":
                yield from self._wrong_send(call)
            case "cancel" if returned:
                yield from self._wrong_cancel(call)
            case "start":
                yield from self._wrong_start(call)
            case "resume" | "repeat" if returned:
                yield from self._wrong_resume(call)
                if call.operation.kind == "repeat":
                    yield from self._wrong_repeat(call)
            case _:
                pass

    # --- errors -------------------------------------------------------------------------------------------------------

    def _wrong_error(self, call: Call, error: Exception) -> Iterator[str]:
        kind = call.operation.kind
        failed = [
            entry.what
            for number, entry in self._log.failures
            if call.begin <= number < call.end and entry.process == call.process
        ]
        match error:
            case FlowBusy():
                if kind in {"send", "cancel"}:
                    yield "it should have been left in the inbox"
                elif not self._driven_elsewhere(call, error.flow):
                    yield "no other process drives it"
            case EventNotAccepted():
                if kind != "send":
                    yield "a flow can always be cancelled"
            case EffectUncertain():
                if kind != "repeat":
                    yield "nobody asked to repeat anything"
            case JournalError():
                if all(what.startswith("vault") for what in failed):
                    yield "no write failed"
            case Io():
                if not failed:
                    yield "nothing failed"
            case CloudError():
                yield "it should not fail"
            case _:
                yield "that is no error of the engine's"

    def _driven_elsewhere(self, call: Call, flow: str) -> bool:
        """Whether another process, that was not gone, owned the flow at some moment of the call."""
        for row in self._log.during(flow, call.begin, call.end):
            for process in self._processes.values():
                gone = process.gone is not None and process.gone <= call.begin
                if process.owner == row.owner and process.number != call.process and not gone:
                    return True
        return False

    # --- each operation -----------------------------------------------------------------------------------------------

    def _wrong_send(self, call: Call) -> Iterator[str]:
        event = (call.flow, call.number)
        taken, kept, refused = (
            found.get(event, 0) for found in (self._numbers.taken, self._numbers.kept, self._numbers.refused)
        )
        if taken + kept + refused > 1:
            yield f"it is in the history {taken} times, in the inbox {kept} times, and refused {refused} times"
        if isinstance(call.error, EventNotAccepted | JournalError) and taken + kept + refused:
            yield "it raised an error, and the event left a trace"
        if isinstance(call.error, EventNotAccepted):
            rows = self._log.during(call.flow, call.begin, call.end)
            if not any(self._may_refuse(call, row) for row in rows):
                yield f"it can be taken or kept in {[(row.status, row.state) for row in rows]}"
        if call.cancelled or call.error is not None:
            return
        if call.answer and not taken:
            yield "it is not in the history"
        if not call.answer and not taken + kept + refused and not self._ended(call.flow) and semantics.REFUSED:
            yield "it is lost"

    def _may_refuse(self, call: Call, row: Changed) -> bool:
        driven = self._is_own(call, row)
        return semantics.may_refuse(row.machine, row.state, row.status, call.operation.what, driven=driven)

    def _wrong_cancel(self, call: Call) -> Iterator[str]:
        row = self._log.row(call.flow, call.end)
        assert row is not None
        if call.answer:
            if row.status != "ended":
                yield f"it is {row.status} in {row.state}"
            elif semantics.CANCEL_WINS and row.verdict != "cancelled":
                ends = self._log.wrote(call.flow, call.begin, call.end, "event")
                if ends and ends[-1][1].name == "ChildEnded" and self._cancelled_child(call):
                    yield f"it ended as {row.verdict}, because its child was cancelled first"
        elif not self._driven_elsewhere(call, call.flow) and row.status != "ended":
            yield "no other process drives it, and it has not ended"
        elif not self._ended(call.flow) and call.flow not in self._numbers.cancels:
            yield "the request is lost"

    def _cancelled_child(self, call: Call) -> bool:
        return any(
            row.parent == call.flow and row.verdict == "cancelled" and call.begin <= number < call.end
            for rows in self._log.rows.values()
            for number, row in rows
        )

    def _wrong_start(self, call: Call) -> Iterator[str]:
        started = self._numbers.started.get(call.number, [])
        if call.error is not None and started and not call.cancelled:
            yield f"it raised an error, and {', '.join(started)} was started"
        if call.cancelled or call.error is not None:
            return
        if not self._log.during(call.flow, call.begin, call.end):
            yield "the flow is not there"
            return
        start, before = self._plan.start(call.operation), self._log.row(call.flow, call.begin)
        if before is not None and before.status == "ended":
            if start.key is None or start.after_end == "again":
                yield "the flow had ended before"
            elif not self._same_key(call):
                yield "it is a flow of another key"
            return
        if started and start.key is not None and start.after_end == "return" and self._ended_before(call):
            yield "a flow of the key had ended before, and is what was asked for"
        if started not in ([], [call.flow]):
            yield f"it has started {', '.join(started)} as well"
        if not started and not self._same_key(call):
            yield "it is a flow of another key"
        own = self._log.wrote(call.flow, call.begin, call.end, "started")
        if not (own and own[0][1].process == call.process):
            yield from self._wrong_resume(call)

    def _same_key(self, call: Call) -> bool:
        wanted = self._plan.start(call.operation)
        return wanted.key is not None and call.flow in self._flows_with_key(wanted.machine, wanted.key)

    def _ended_before(self, call: Call) -> bool:
        start = self._plan.start(call.operation)
        rows = [self._log.row(flow, call.begin) for flow in self._flows_with_key(start.machine, start.key)]
        return any(row is not None and row.status == "ended" for row in rows)

    def _flows_with_key(self, machine: str, key: str | None) -> list[str]:
        starts = {each.number: self._plan.start(each.operation) for each in self._log.calls if _starts(each)}
        return [
            flow
            for number, flows in self._numbers.started.items()
            if number in starts and (starts[number].machine, starts[number].key) == (machine, key)
            for flow in flows
        ]

    def _wrong_resume(self, call: Call) -> Iterator[str]:
        """The flow was resumed during the call, or driven all along; earlier trouble does not stop it."""
        root = self._log.root(call.flow, call.begin)
        rows = self._log.during(root, call.begin, call.end)
        if not rows or rows[-1].status == "ended":
            return
        resumed = self._log.wrote(root, call.begin, call.end, "resumed", "started")
        before = self._log.row(root, call.begin)
        driven = before is not None and before.status == "running" and self._is_own(call, before)
        if before is not None and before.status == RESTING:
            driven = any(self._is_own(call, row) for row in rows)  # something else has woken it meanwhile
        if not resumed and not driven:
            yield f"{root} was not resumed, and was {[row.status for row in rows]}"
            return
        since = resumed[-1][0] if resumed else call.begin
        for number, _ in self._log.wrote(root, since, self._log.now, "paused")[:1]:
            if 0 <= self._log.last_trouble(root, number) < since:
                yield f"{root} was paused afterwards by what had happened before (entry {number})"

    def _wrong_repeat(self, call: Call) -> Iterator[str]:
        before = self._log.row(call.flow, call.begin)
        if before is None or before.status == "ended":
            return
        records = self._log.wrote(call.flow, call.begin, self._log.now, "resumed", "event")
        visits = [record.incarnation for _, record in records]
        if not any(visit > before.incarnation for visit in visits):
            yield f"visit {before.incarnation} was not repeated"

    def _wrong_wait(self, call: Call) -> Iterator[str]:
        rows = self._log.during(call.flow, call.begin, call.end)
        if call.cancelled:
            return
        match call.error:
            case None:
                outcome = call.outcome and (call.outcome.state, call.outcome.verdict)
                if rows[-1].status != "ended" or outcome != (rows[-1].state, rows[-1].verdict):
                    yield f"it returned {outcome}, and the flow is {rows[-1].status} in {rows[-1].state}"
            case FlowParked():
                if not any(row.status == "paused" for row in rows) and not self._just_paused(call):
                    yield "it was not paused, and was not driven here until it was"
            case EngineClosed():
                if self._processes[call.process].open:
                    yield "the engine is open"
            case FlowInterrupted():
                away = any(row.status != "ended" and not self._is_own(call, row) for row in rows)
                if not away and not self._beginning(call):
                    yield "it was driven here, or had ended"
            case JournalError():
                if not any(entry.process == call.process and number < call.end for number, entry in self._log.failures):
                    yield "no write failed"
            case _:
                yield "that is no reason to stop waiting"

    def _just_paused(self, call: Call) -> bool:
        """Whether this process drove the flow until it was paused, and no resume of it has returned since."""
        wrote = self._log.wrote(call.flow, 0, call.end, "started", "resumed", "paused")
        own = [
            record.kind
            for number, record in wrote
            if record.process == call.process and not (record.kind == "resumed" and self._unreturned(number, call))
        ]
        return own[-1:] == ["paused"]

    def _unreturned(self, number: int, call: Call) -> bool:
        """Whether what wrote entry `number` had not returned when a call began."""
        others = (each for each in self._log.calls if each is not call and each.process == call.process)
        return any(each.begin < number and (each.pending or each.end > call.begin) for each in others)

    def _beginning(self, call: Call) -> bool:
        """Whether the flow was just started or resumed, and nothing is done for it yet."""
        driven = self._log.wrote(call.flow, 0, call.end, "started", "resumed")
        visits = [number for number, work in self._log.work[call.flow] if work.how == "began" and number < call.begin]
        return bool(driven) and (not visits or visits[-1] < driven[-1][0])

    def _is_own(self, call: Call, row: Changed) -> bool:
        return row.owner == self._processes[call.process].owner

    def _ended(self, flow: str) -> bool:
        return self._log.rows[flow][-1][1].status == "ended"
