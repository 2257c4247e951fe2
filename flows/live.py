"""A flow while this process drives it: the one place where a step becomes a record.

Every change of a flow is made by one function, `LiveFlow.record`: it writes the record and the flow's new row in one
transaction, and only then takes them over. Steps are taken one at a time, under a lock, and from the accepted step to
the commit nothing can cancel them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

import msgspec
import trio

from ..errors import CloudError, EffectUncertain, FlowParked, SignalTaken, UnexpectedFailure
from ..io.log import logger, redact
from ..io.records import FlowRow, Record, moment_text, parse_moment
from ..machines.machine import Context, DeadlinePassed, Event, Machine, ResumePolicy
from .flow import Change, Outcome
from .visit import Intent, Program, Visit
from .ways_on import fitting

if TYPE_CHECKING:
    from .engine import Engine

P = ParamSpec("P")
T = TypeVar("T")

NO_BODY = "{}"


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a flow is parked, and which of the intents it has announced came to nothing, as the journal keeps it."""

    kind: str
    message: str
    hint: str
    code: int
    withdrawn: frozenset[str] = frozenset()

    @classmethod
    def of(cls, exc: Exception, withdrawn: frozenset[str] = frozenset()) -> Trouble:
        """From what stopped the flow; anything unplanned becomes `UnexpectedFailure`."""
        if not isinstance(exc, CloudError):
            exc = UnexpectedFailure(f"{type(exc).__name__}: {redact(str(exc))}")
        code = (
            exc.code if isinstance(exc, FlowParked) else (exc.exit_code if exc.requires_login else FlowParked.exit_code)
        )
        return cls(exc.kind, redact(exc.user_message), redact(exc.recovery_hint), code, withdrawn)

    def error(self, row: FlowRow) -> FlowParked:
        """The error whoever waits for the flow gets."""
        hint = fitting(self.hint, row)
        return FlowParked(row.id, row.state, kind=self.kind, message=self.message, hint=hint, exit_code=self.code)


class LiveFlow:
    """One driven flow: its row, its context, and the visit it is in. The `Host` behind that visit."""

    def __init__(self, engine: Engine, program: Program[Any], row: FlowRow, context: Context) -> None:
        self.engine = engine
        self.program = program
        self.row = row
        self.context: Context = context
        self.lock = trio.Lock()
        self.visit: Visit[Any] | None = None
        self.intents: frozenset[str] = frozenset()
        self.inherited: frozenset[str] = frozenset()
        self.settled = trio.Event()
        self.failure: Exception | None = None

    @property
    def machine(self) -> Machine[Any]:
        """The flow's table."""
        return self.program.machine

    @property
    def ended(self) -> bool:
        """True when the flow stands in a final state."""
        return self.row.status == "ended"

    # --- the one way anything changes -----------------------------------------------------------------------------

    async def record(
        self,
        kind: Literal["event", "intent", "parked", "resumed"],
        name: str,
        body: str,
        *,
        context: Context | None = None,
        signal: int | None = None,
        **changes: Any,
    ) -> None:
        """Commit one record with the row that follows from it, then take both over. Never torn by cancellation."""
        before, now = self.row, moment_text(self.engine.clock.now())
        if context is not None and context is not self.context:
            changes["context"] = msgspec.json.encode(context).decode()
        after = msgspec.structs.replace(before, seq=before.seq + 1, updated=now, **changes)
        record = Record(
            flow=before.id,
            seq=after.seq,
            at=now,
            kind=kind,
            name=name,
            body=body,
            from_state=before.state,
            to_state=after.state,
            incarnation=after.incarnation,
            deadline=after.deadline,
        )
        journal = self.engine.journal
        await self.engine.commits.write(partial(journal.advance, before, after, record, signal))
        self.row = after
        if context is not None:
            self.context = context
        if self.engine.feed.heard:
            self.engine.feed.publish(Change.of(after.machine, record))

    async def step(self, event: Event, *, incarnation: int | None = None, signal: int | None = None) -> bool:
        """Follow an event: the table says where to, the journal makes it so, the visit that is left is ended.

        Args:
            event: The fact.
            incarnation: The visit it comes from; None for events from outside.
            signal: The inbox entry it comes from.

        Returns:
            False when the visit it comes from is over, or the inbox entry was taken already: the event is dropped then.

        Raises:
            EventNotAccepted: The state does not take it; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        # Without company the lock is taken without a turn of the loop, which would cost as much as the step.
        if self.lock.locked():
            await self.lock.acquire()
        else:
            self.lock.acquire_nowait()
        try:
            if incarnation not in (None, self.row.incarnation):
                logger.debug("{} dropped {}: visit {} is over", self.row.id, type(event).__name__, incarnation)
                return False
            step = self.machine.step(self.row.state, self.context, event)
            changes: dict[str, Any] = {}
            if step.entered:
                state = self.machine.states[step.state]
                changes = {
                    "state": step.state,
                    "incarnation": self.row.incarnation + 1,
                    "deadline": self._deadline_on_entry(step.state, step.context, event),
                    "status": "ended" if state.final else "running",
                    "verdict": str(state.verdict) if state.verdict else None,
                    "owner": None if state.final else self.row.owner,
                    "trouble": None,
                }
            body = msgspec.json.encode(event).decode()
            name = type(event).__name__
            try:
                await self.record("event", name, body, context=step.context, signal=signal, **changes)
            except SignalTaken as exc:
                logger.debug("{}", exc)
                return False
            if step.entered:
                self.intents = self.inherited = frozenset()
                if self.visit is not None:
                    self.visit.leave()
        finally:
            self.lock.release()
        return True

    async def resume(self, owner: str, *, repeat: bool = False) -> None:
        """Note that the flow goes on here; a person who is back gets the whole time again.

        `repeat` starts the visit anew, with new idempotency keys, after a person decided so.
        """
        state = self.machine.states[self.row.state]
        self.intents = self.inherited = self.engine.journal.intents(self.row.id, self.row.incarnation)
        deadline = self.row.deadline
        if deadline is not None and state.late == "restart":
            deadline = self._deadline_from_now(state.name, self.context)
        changes: dict[str, Any] = {"status": "running", "trouble": None, "deadline": deadline, "owner": owner}
        if repeat:
            changes["incarnation"] = self.row.incarnation + 1
            self.intents = self.inherited = frozenset()
        async with self.lock:
            await self.record("resumed", "resumed", NO_BODY, **changes)

    async def park(self, exc: Exception) -> Trouble | None:
        """Stop here, resumably, and write down why; None when an event from outside led out of the state meanwhile."""
        if not isinstance(exc, CloudError):
            logger.opt(exception=exc).error("{} met a failure nobody planned for in {}", self.row.id, self.row.state)
        trouble = Trouble.of(exc, frozenset() if self.visit is None else self.visit.withdrawn)
        body = msgspec.json.encode(trouble).decode()
        async with self.lock:
            if self.visit is not None and self.visit.left:
                return None
            await self.record("parked", trouble.kind, body, status="parked", trouble=body, owner=None)
        return trouble

    def outcome(self) -> Outcome:
        """How it ended."""
        return outcome_of(self.machine, self.row, self.context)

    def settle(self, failure: Exception | None) -> None:
        """Nobody drives it here any more; whoever waits is told."""
        self.failure = failure
        self.settled.set()

    # --- the host of a visit --------------------------------------------------------------------------------------

    def current_context(self) -> Context:
        """The context after the last committed event."""
        return self.context

    def deliver(self, event: Event, incarnation: int) -> Awaitable[bool]:
        """An event from an activity."""
        return self.step(event, incarnation=incarnation)

    async def announce(self, effect: str) -> Intent:
        """Commit the intent of an effect, unless an earlier process did."""
        state = self.machine.states[self.row.state]
        if state.effect is None:
            raise UnexpectedFailure(f"{self.machine.name}: {state.name} declares no effect, and announces {effect}")
        key = f"{self.row.id}:{self.row.incarnation}:{effect}"
        if key in self.inherited:
            if state.resume is ResumePolicy.ASK:
                raise EffectUncertain(f"{state.effect}: it is not known whether it happened before the interruption")
            return Intent(key, uncertain=True)
        if key not in self.intents:
            async with self.lock:
                await self.record("intent", key, NO_BODY)
            self.intents |= {key}
        return Intent(key, uncertain=False)

    async def keep(self, name: str, secret: str) -> str:
        """Put a secret in the flow's vault."""
        return await self.engine.on_disk(self.engine.vault.put, self.row.id, name, secret)

    async def reveal(self, reference: str) -> str:
        """Get a secret out of the flow's vault."""
        return await self.engine.on_disk(self.engine.vault.get, self.row.id, reference)

    async def holds(self, reference: str) -> bool:
        """Whether the flow's vault has this secret."""
        return await self.engine.on_disk(self.engine.vault.has, self.row.id, reference)

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk, off the loop."""
        return await self.engine.on_disk(function, *args, **kwargs)

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        """Run, or go on with, the child flow of this visit."""
        return await self.engine.run_child(self, program, context)

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _deadline_on_entry(self, state: str, context: Context, event: Event) -> str | None:
        # One that has passed is used up: kept, it would pass again at once, and so on for ever.
        shared = self.machine.shares_deadline(self.row.state, state) and not isinstance(event, DeadlinePassed)
        if self.row.deadline is not None and shared:
            return self.row.deadline
        return self._deadline_from_now(state, context)

    def _deadline_from_now(self, state: str, context: Context) -> str | None:
        return deadline_text(self.machine, state, context, self.engine.clock.now())

    def deadline(self) -> datetime | None:
        """When the current visit runs out."""
        return None if self.row.deadline is None else parse_moment(self.row.deadline)


def deadline_text(machine: Machine[Any], state: str, context: Context, now: datetime) -> str | None:
    """When a visit of `state` that begins now runs out, as the journal writes it."""
    seconds = machine.timeout_of(state, context)
    return None if seconds is None else moment_text(now + timedelta(seconds=seconds))


def first_lines(
    flow: str,
    machine: Machine[Any],
    context: Context,
    *,
    now: datetime,
    key: str | None,
    parent: str | None,
    owner: str,
) -> tuple[FlowRow, Record]:
    """What a new flow looks like in the journal: its row and its first record."""
    moment, deadline = moment_text(now), deadline_text(machine, machine.initial, context, now)
    body = msgspec.json.encode(context).decode()
    row = FlowRow(
        id=flow,
        machine=machine.name,
        version=machine.version,
        fingerprint=machine.fingerprint,
        key=key,
        parent=parent,
        state=machine.initial,
        incarnation=1,
        seq=1,
        status="running",
        verdict=None,
        deadline=deadline,
        context=body,
        trouble=None,
        created=moment,
        updated=moment,
        owner=owner,
    )
    record = Record(
        flow=flow,
        seq=1,
        at=moment,
        kind="started",
        name="started",
        body=body,
        from_state=machine.initial,
        to_state=machine.initial,
        incarnation=1,
        deadline=deadline,
    )
    return row, record


def outcome_of(machine: Machine[Any], row: FlowRow, context: Context) -> Outcome:
    """How a flow that has ended did so."""
    return Outcome(
        flow=row.id,
        machine=row.machine,
        state=row.state,
        verdict=cast("str", row.verdict),
        problem="" if row.verdict == "success" else context.problem,
        result=machine.result(context),
    )
