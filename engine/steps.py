"""A flow's steps: the one place where an event becomes a record.

Every change a driven flow makes goes through one function, `record`: it writes the record and the flow's new row
in one transaction, and only then updates the flow in memory. Steps are taken one at a time, under a lock, and cannot be
cancelled between the accepted step and the commit. What is written has been read back first, and the flow goes on with
what was read.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
import trio

from ..base.clock import Clock
from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.moments import moment_text
from .countdown import BothClocks, Countdown, read_clocks
from .deadlines import deadline_on_entry
from .errors import EventNotAccepted, NotStorable, SignalTaken, TableFailed
from .gates import enter
from .history import Trouble
from .journal.records import QUEUED, RESTING, FlowRow, Record, Signal, record_between
from .ledger import Ledger
from .machine.machine import Machine
from .machine.parts import CancelRequested, Context, Event, Step
from .retries import Attempts
from .run import Run
from .starting import changed_in_place
from .versions import stored_context
from .visit import Program

logger = get_logger(__name__)

Why: TypeAlias = Literal["person", "handover"]
"""Why a flow is resumed: a person is back, or the process that drove it is gone."""


class FlowSteps:
    """A flow's row and context, and how they change.

    Args:
        program: Its machine and activities.
        row: The flow as it is stored.
        context: What it knows.
        ledger: How it is written.
        owner: This process, as the flow's row names it while it is driven; what is stored stays when not given.
        migrated: What made it one of today's flows, and the row as it is stored; written with the first record.
        left_over: Called with an event of the inbox that this state takes and that could not be written.
        read: Both clocks when the row's deadline was decided; as they are now when not given.

    Attributes:
        lock: Held while anything about the flow changes.
        run: The visit it is in.
        waiting: What waits for the turn of a flow that is queued.
        stopped: Nothing drives the flow here any more, although it has not ended.
        kept: Events of its inbox that no state has taken yet.
        behind: It was taken over, and what waits in its inbox has not been looked at.
        intents: The idempotency keys announced in this visit.
        inherited: Those of them that an earlier process announced, or this one before it was stopped.
        cancelling: It is being cancelled: nothing else happens to it until its children have ended.
        decided: Set while it is not being cancelled.
        stay: The visit that entered the state; where an effect was repeated since, the present visit is a later one.
        lost_child: A child of the visit was stopped before its end: the flow is about to be paused.
        failures: By the name of a retried activity, what this visit has behind it.
        again: A resume that came while the flow was about to be paused: it is resumed at once.
    """

    def __init__(
        self,
        program: Program[Any],
        row: FlowRow,
        context: Context,
        *,
        ledger: Ledger,
        owner: str | None = None,
        migrated: tuple[FlowRow, Record] | None = None,
        left_over: Callable[[Signal], None] | None = None,
        read: BothClocks | None = None,
    ) -> None:
        self._ledger = ledger
        self._left_over = left_over or self._keep
        self._owner = owner
        self._migrated = migrated
        self._countdown = Countdown(ledger.clock)
        self._countdown.follow(row.deadline, read)
        self.program = program
        self.row = row
        self.context: Context = context
        self.lock = trio.Lock()
        self.run: Run | None = None
        self.waiting: trio.CancelScope | None = None
        self.stopped = False
        self.kept: list[Signal] = []
        self.behind = False
        self.intents: frozenset[str] = frozenset()
        self.inherited: frozenset[str] = frozenset()
        self.stay = row.incarnation
        self.lost_child = False
        self.failures: Mapping[str, Attempts] = {}
        self.again: Why | None = None
        self.cancelling = False
        self.decided = trio.Event()
        self.decided.set()

    @property
    def machine(self) -> Machine[Any]:
        """The flow's table."""
        return self.program.machine

    @property
    def clock(self) -> Clock:
        """The time."""
        return self._ledger.clock

    @property
    def ended(self) -> bool:
        """True when the flow is in a final state."""
        return self.row.status == "ended"

    @property
    def queued(self) -> bool:
        """True while the flow has not begun."""
        return self.row.status == QUEUED

    # --- changing the flow ----------------------------------------------------------------------------------------

    async def record(
        self,
        kind: Literal["event", "intent", "paused", "resumed", "refused", "retried", "begun"],
        name: str,
        body: str,
        *,
        signal: int | None = None,
        **changes: Any,
    ) -> None:
        """Commit one record with the flow's new row, then update the live flow; cancellation cannot interrupt it.

        Args:
            kind: What kind of record it is.
            name: The event's name, the intent's key, or the activity's name.
            body: JSON.
            signal: The inbox entry it comes from, which is removed in the same transaction.
            changes: The fields of the row that change.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            SignalTaken: The inbox entry has been removed already; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        before, read = self.row, read_clocks(self.clock)
        if before.status == RESTING:
            changes.setdefault("status", "running")
        if self._owner is not None:
            changes.setdefault("owner", self._owner)
        after = msgspec.structs.replace(before, seq=before.seq + 1, updated=moment_text(read.now), **changes)
        record = record_between(before, after, kind, name, body)
        if self._migrated is None:
            await self._ledger.advance(before, after, record, signal)
        else:
            stored, migrated = self._migrated
            await self._ledger.migrate(stored, after, migrated, record, signal)
            self._migrated = None
        self.row = after
        self._countdown.follow(after.deadline, read)

    async def step(self, event: Event, *, incarnation: int | None = None, signal: int | None = None) -> bool:
        """Apply an event: look it up in the table, commit the step, and end the visit if it leaves the state.

        Args:
            event: The event.
            incarnation: The visit it comes from; None for events from outside.
            signal: The inbox entry it comes from.

        Returns:
            False when the event was dropped: its visit is over, or its inbox entry was taken already.

        Raises:
            EventNotAccepted: The state does not take it; nothing changed.
            NotStorable: It, or the context after it, cannot be written and read back; nothing changed.
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        await enter(self.lock, cancellable=False)
        if self.cancelling and incarnation is not None:  # a visit's event counts only if the flow is not cancelled
            self.lock.release()
            await self.acquire_decided()
        try:
            return await self.step_alone(event, incarnation=incarnation, signal=signal)
        finally:
            self.lock.release()

    async def acquire_decided(self) -> None:
        """Acquire `lock` once it is decided whether the flow is cancelled."""
        await self.lock.acquire()
        while self.cancelling:
            self.lock.release()
            await self.decided.wait()
            await self.lock.acquire()

    async def step_alone(self, event: Event, *, incarnation: int | None = None, signal: int | None = None) -> bool:
        """`step` for a caller that holds `lock`."""
        if incarnation is not None and (self.stopped or self.ended or incarnation != self.row.incarnation):
            logger.debug("%s dropped %s: visit %s is over", self.row.id, type(event).__name__, incarnation)
            return False
        if self.machine.events.get(type(event).__name__) is not type(event):
            raise self.machine.refusal(self.row.state, event)
        if self.cancelling and not isinstance(event, CancelRequested):
            raise EventNotAccepted(self.row.state, type(event).__name__, machine=self.machine.name)
        body, event = self.machine.encode_event(event)
        step = self.look_up(event)
        context, changes = self.context, dict[str, Any]()
        if step.context is not context:
            changes["context"], context = self.machine.encode_context(step.context)
            self.machine.check_timeouts(context)
        if step.entered:
            changes |= self._changes_on_entry(step, context, event)
        try:
            await self.record("event", type(event).__name__, body, signal=signal, **changes)
        except SignalTaken as exc:
            logger.debug("%s", exc)
            return False
        self.context = context
        if step.entered:
            self.intents = self.inherited = frozenset()
            self.again, self.lost_child, self.stay = None, False, self.row.incarnation
            self.failures = {}
            if self.run is not None:
                self.run.leave()
            if self.waiting is not None:
                self.waiting.cancel()
            if self.kept and not self.ended:
                await self._take_kept()
        return True

    def look_up(self, event: Event) -> Step[Any]:
        """What the table says about an event now; changes nothing.

        Raises:
            EventNotAccepted: The state does not take it.
            TableFailed: A guard or an update raised.
            NotStorable: The context was changed in place.
            IncompatibleFlow: Its class does not take any more what is stored of it.
        """
        try:
            return self.machine.step(self.row.state, self.context, event)
        except (CloudError, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # Whatever it is, it is this table's trouble and no other flow's.
            raise TableFailed(self.machine.name, self.row.state, type(event).__name__, exc) from exc
        finally:
            if self.machine.mutable_context:
                self._refuse_changed_context()

    def _undo_changes(self) -> None:
        """Take back what an activity changed in place: the event that comes next has nothing to do with it."""
        try:
            self._refuse_changed_context()
        except NotStorable as exc:
            logger.warning("%s: %s", self.row.id, exc)

    def _refuse_changed_context(self) -> None:
        """Find a context that was changed in place, which no record would have."""
        stored = stored_context(self.machine, self.row)
        if (changed := changed_in_place(stored, self.context)) is not None:
            self.context = stored
            raise changed

    def _changes_on_entry(self, step: Step[Any], context: Context, event: Event) -> dict[str, Any]:
        """What entering a state changes in the flow's row."""
        state = self.machine.states[step.state]
        changes: dict[str, Any] = {
            "state": step.state,
            "incarnation": self.row.incarnation + 1,
            "deadline": deadline_on_entry(self.machine, self.row, step.state, context, event, self.clock.now()),
            "status": "ended" if state.final else "running",
            "verdict": str(state.verdict) if state.verdict else None,
            "trouble": None,
        }
        if state.final:
            changes["owner"] = None
        return changes

    async def offer(self, event: Event, keep: Callable[[str], Awaitable[Signal]]) -> bool | None:
        """An event from outside: taken, or kept in the inbox for a state that the flow can enter.

        Args:
            event: The event.
            keep: Leaves the event's JSON in the flow's inbox.

        Returns:
            Whether it was taken; None when nothing drives the flow here any more, and nothing was done.

        Raises:
            EventNotAccepted: Neither this state nor one the flow can enter takes it; nothing changed.
            CloudError: As `step`.
        """
        await enter(self.lock)
        try:
            if self.stopped:
                return None
            if self.cancelling and type(event) in self.machine.accepts(self.row.state):
                text, _ = self.machine.encode_event(event)
                self._left_over(await keep(text))  # taken if the flow is not cancelled after all
                return False
            if not self._waits(type(event)):
                try:
                    return await self.step_alone(event)
                except EventNotAccepted:
                    if self.ended or not self.machine.keeps(self.row.state, type(event)):
                        raise
            text, _ = self.machine.encode_event(event)
            self._keep(await keep(text))
            return False
        finally:
            self.lock.release()

    # --- the inbox --------------------------------------------------------------------------------------------------

    async def take(self, signal: Signal) -> bool:
        """Take an event from the inbox, keep it there for a later state, or refuse it in the history.

        Returns:
            False when nothing drives the flow here any more.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        await self.acquire_decided()
        try:
            if self.stopped or self.ended:
                return False
            if signal not in self.kept:
                await self._take(signal)
        finally:
            self.lock.release()
        return True

    async def _take(self, signal: Signal) -> bool:
        """Whether it led to a step."""
        kind = self.machine.events.get(signal.name)
        if kind is None:
            return await self._refuse(signal, EventNotAccepted(self.row.state, signal.name, machine=self.machine.name))
        if self._waits(kind):
            self._keep(signal)
            return False
        if self.machine.mutable_context:
            self._undo_changes()
        try:
            return await self.step_alone(self.machine.decode_event(signal.body), signal=signal.id)
        except EventNotAccepted as exc:
            if self.machine.keeps(self.row.state, kind):
                self._keep(signal)
                return False
            refusal: Exception = exc
        except (NotStorable, TableFailed, msgspec.DecodeError) as exc:
            refusal = exc
        return await self._refuse(signal, refusal)

    def _waits(self, kind: type[Event]) -> bool:
        """Whether an event has to wait until the flow begins: one that the flow will then take, or keep."""
        if not self.queued or kind is CancelRequested:
            return False
        return kind in self.machine.accepts(self.row.state) or self.machine.keeps(self.row.state, kind)

    def _keep(self, signal: Signal) -> None:
        if signal not in self.kept:
            insort(self.kept, signal, key=lambda each: each.id)

    async def _refuse(self, signal: Signal, exc: Exception) -> Literal[False]:
        logger.warning("%s: the event %s from the inbox was refused: %s", self.row.id, signal.name, exc)
        body = msgspec.json.encode({"message": Trouble.of(exc).message, "event": signal.name}).decode()
        try:
            await self.record("refused", signal.name, body, signal=signal.id)
        except SignalTaken as exc:
            logger.debug("%s", exc)
        return False

    async def _take_kept(self) -> None:
        """The oldest kept event that the state takes is taken, and so on with the state it leads to; under the lock."""
        while not self.ended:
            visit, waiting = self.row.incarnation, self.kept
            self.kept = []
            for index, signal in enumerate(waiting):
                try:
                    await self._take(signal)
                except CloudError as exc:  # the step before it is written; the inbox hands this one over again
                    logger.warning("%s: the event %s has to wait: %s", self.row.id, signal.name, exc)
                    self._left_over(signal)
                if self.row.incarnation != visit:
                    self.kept += waiting[index + 1 :]
                    break
            else:
                return
