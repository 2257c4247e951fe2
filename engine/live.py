"""A flow while this process drives it: the one place where a step becomes a record.

Every change a driven flow makes goes through one function, `LiveFlow.record`: it writes the record and the flow's new
row in one transaction, and only then updates the live flow. Steps are taken one at a time, under a lock, and cannot be
cancelled between the accepted step and the commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar

import msgspec
import trio

from ..base.clock import Clock
from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.moments import moment_text, parse_moment
from .deadlines import deadline_on_entry, deadline_text
from .disk import Disk
from .errors import EffectUncertain, SignalTaken, UnexpectedFailure
from .history import NO_BODY, Outcome, Trouble, outcome_of
from .journal.records import FlowRow, record_between
from .ledger import Ledger
from .machine.machine import Machine
from .machine.parts import Context, Event, ResumePolicy, Step
from .run import Run
from .store import Vault
from .visit import Intent, Program

logger = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

RunChild: TypeAlias = "Callable[[LiveFlow, Program[Any], Context], Awaitable[Outcome]]"
"""Runs the child flow of a flow's current visit to its end: begins it, or finds the one that this visit had begun and
resumes it. Raises `FlowParked` when the child is parked."""


class LiveFlow:
    """One driven flow: its row, its context, and the visit it is in. The `Host` behind that visit.

    Args:
        program: Its machine and activities.
        row: The flow as it is stored.
        context: What it knows.
        ledger: How it is written.
        vault: Where its secrets are.
        disk: Where blocking calls go.
        run_child: Runs the child flow of a visit.
    """

    def __init__(
        self,
        program: Program[Any],
        row: FlowRow,
        context: Context,
        *,
        ledger: Ledger,
        vault: Vault,
        disk: Disk,
        run_child: RunChild,
    ) -> None:
        self._ledger = ledger
        self._vault = vault
        self._disk = disk
        self._run_child = run_child
        self.program = program
        self.row = row
        self.context: Context = context
        self.lock = trio.Lock()
        self.run: Run | None = None
        self.scratch: dict[str, Any] = {}
        self.intents: frozenset[str] = frozenset()
        self.inherited: frozenset[str] = frozenset()
        self.settled = trio.Event()
        self.failure: Exception | None = None

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

    # --- changing the flow ----------------------------------------------------------------------------------------

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
        """Commit one record with the flow's new row, then update the live flow; cancellation cannot interrupt it.

        Args:
            kind: What kind of record it is.
            name: The event's name, or the intent's key.
            body: JSON.
            context: The context after it, when it may have changed.
            signal: The inbox entry it comes from, which is removed in the same transaction.
            changes: The fields of the row that change.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            SignalTaken: The inbox entry has been removed already; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        before, now = self.row, moment_text(self.clock.now())
        if context is not None and context is not self.context:
            changes["context"] = msgspec.json.encode(context).decode()
        after = msgspec.structs.replace(before, seq=before.seq + 1, updated=now, **changes)
        await self._ledger.advance(before, after, record_between(before, after, kind, name, body), signal)
        self.row = after
        if context is not None:
            self.context = context

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
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        # A free lock is taken without a checkpoint: that would cost as much as the step itself.
        if self.lock.locked():
            await self.lock.acquire()
        else:
            self.lock.acquire_nowait()
        try:
            if incarnation not in (None, self.row.incarnation):
                logger.debug("%s dropped %s: visit %s is over", self.row.id, type(event).__name__, incarnation)
                return False
            step = self.machine.step(self.row.state, self.context, event)
            changes = self._changes_on_entry(step, event) if step.entered else {}
            body = msgspec.json.encode(event).decode()
            name = type(event).__name__
            try:
                await self.record("event", name, body, context=step.context, signal=signal, **changes)
            except SignalTaken as exc:
                logger.debug("%s", exc)
                return False
            if step.entered:
                self.intents = self.inherited = frozenset()
                if self.run is not None:
                    self.run.leave()
        finally:
            self.lock.release()
        return True

    def _changes_on_entry(self, step: Step[Any], event: Event) -> dict[str, Any]:
        """What entering a state changes in the flow's row."""
        state = self.machine.states[step.state]
        return {
            "state": step.state,
            "incarnation": self.row.incarnation + 1,
            "deadline": self._deadline_on_entry(step.state, step.context, event),
            "status": "ended" if state.final else "running",
            "verdict": str(state.verdict) if state.verdict else None,
            "owner": None if state.final else self.row.owner,
            "trouble": None,
        }

    async def resume(self, owner: str, *, repeat: bool = False) -> None:
        """Record that the flow is resumed here. Where the state's `late` is `restart`, its deadline starts again.

        An event from the inbox may be applied first: then the state it led to is resumed, or nothing if the flow ended.

        Args:
            owner: This process, as the flow's row names it from now on.
            repeat: Begin a new visit with new idempotency keys, after a person decided to repeat the effect.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        async with self.lock:
            if self.ended:
                return
            state = self.machine.states[self.row.state]
            self.intents = self.inherited = await self._ledger.store.intents(self.row.id, self.row.incarnation)
            deadline = self.row.deadline
            if deadline is not None and state.late == "restart":
                deadline = self._deadline_from_now(state.name, self.context)
            changes: dict[str, Any] = {"status": "running", "trouble": None, "deadline": deadline, "owner": owner}
            if repeat:
                changes["incarnation"] = self.row.incarnation + 1
                self.intents = self.inherited = frozenset()
            await self.record("resumed", "resumed", NO_BODY, **changes)

    async def park(self, exc: Exception) -> Trouble | None:
        """Park the flow and record why; None when an event from outside led out of the state meanwhile."""
        if not isinstance(exc, CloudError):
            logger.error("%s met a failure nobody planned for in %s", self.row.id, self.row.state, exc_info=exc)
        trouble = Trouble.of(exc, frozenset() if self.run is None else self.run.visit.withdrawn)
        body = msgspec.json.encode(trouble).decode()
        async with self.lock:
            if self.run is not None and self.run.visit.left:
                return None
            await self.record("parked", trouble.kind, body, status="parked", trouble=body, owner=None)
        return trouble

    def outcome(self) -> Outcome:
        """How it ended."""
        return outcome_of(self.machine, self.row, self.context)

    def settle(self, failure: Exception | None) -> None:
        """Driving it here has stopped: `Engine.wait` returns, or raises `failure`."""
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
        """Commit the intent of an effect, unless an earlier process did.

        Raises:
            EffectUncertain: An earlier process did, and the state's policy is `ask`.
            JournalError: It could not be written; nothing changed.
        """
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
        return await self._vault.put(self.row.id, name, secret)

    async def reveal(self, reference: str) -> str:
        """Get a secret out of the flow's vault."""
        return await self._vault.get(self.row.id, reference)

    async def holds(self, reference: str) -> bool:
        """Whether the flow's vault has this secret."""
        return await self._vault.has(self.row.id, reference)

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk, in a worker thread."""
        return await self._disk.run(function, *args, **kwargs)

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        """Run or resume the child flow of this visit."""
        return await self._run_child(self, program, context)

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _deadline_on_entry(self, state: str, context: Context, event: Event) -> str | None:
        return deadline_on_entry(self.machine, self.row, state, context, event, self.clock.now())

    def _deadline_from_now(self, state: str, context: Context) -> str | None:
        return deadline_text(self.machine, state, context, self.clock.now())

    def deadline(self) -> datetime | None:
        """When the current visit runs out."""
        return None if self.row.deadline is None else parse_moment(self.row.deadline)
