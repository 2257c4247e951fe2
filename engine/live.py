"""A flow while this process drives it: resumed, paused, and the host of its visits. Its steps are in `steps.py`."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import msgspec
import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.moments import moment_text
from .countdown import BothClocks
from .deadlines import deadline_text
from .disk import Disk
from .errors import EffectUncertain, FlowParked, UnexpectedFailure
from .history import NO_BODY, Outcome, Trouble, outcome_of
from .journal.records import FlowRow, Record, Signal
from .ledger import Ledger
from .limits import Seat, Ticket
from .machine.parts import Context, Event, ResumePolicy
from .retries import Attempts, Failed, Retry, attempts_in
from .sizes import check_secret
from .steps import FlowSteps, Why
from .store import Vault
from .visit import Intent, Program

logger = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class ResumeFlow(Protocol):
    """Takes a flow over and drives it; nothing when it is driven here.

    `repeating` is the flow whose effect is repeated: this one, or one that runs inside it.
    """

    def __call__(self, flow: str, *, why: Why, repeating: str | None = None) -> Awaitable[None]: ...


class RunChild(Protocol):
    """Runs a child flow of a flow's current visit to its end: begins it, or finds the one that this visit had begun and
    resumes it. Raises `FlowParked` when the child is paused."""

    def __call__(
        self, parent: LiveFlow, visit: int, program: Program[Any], context: Context, key: str | None
    ) -> Awaitable[Outcome]: ...


class LiveFlow(FlowSteps):
    """One driven flow, and the `Host` behind its visits.

    Args:
        program: Its machine and activities.
        row: The flow as it is stored.
        context: What it knows.
        ledger: How it is written.
        vault: Where its secrets are.
        disk: Where blocking calls go.
        run_child: Runs a child flow of a visit.
        owner: This process, as the flow's row names it while it is driven; what is stored stays when not given.
        migrated: What made it one of today's flows, and the row as it is stored; written with the first record.
        left_over: Called with an event of the inbox that could not be written, to hand it over again.
        read: Both clocks when the row's deadline was decided; as they are now when not given.
        chance: From 0 to 1, for the jitter of retries.

    Attributes:
        scope: What drives the flow runs in it.
        settled: Set when nothing of it runs here any more.
        failure: Why it stopped before its end.
        unwritten: What stopped it, while that is not written.
        culprit: The activity that raised it; empty when none did.
        why: Why it was resumed.
        repeating: A flow whose uncertain effect a person decided to repeat: this one, or one that runs inside it.
        place: Its place under the limit of its program.
        ticket: Its stand in line for one.
        scratch: What its activities remember while this process drives it.
        may_rest: The states in which it needs no process.
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
        owner: str | None = None,
        migrated: tuple[FlowRow, Record] | None = None,
        left_over: Callable[[Signal], None] | None = None,
        read: BothClocks | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(
            program, row, context, ledger=ledger, owner=owner, migrated=migrated, left_over=left_over, read=read
        )
        self._vault = vault
        self._disk = disk
        self._run_child = run_child
        self._chance = chance
        self.scope = trio.CancelScope()
        self.scratch: dict[str, Any] = {}
        self.may_rest: frozenset[str] = frozenset()
        self.why: Why = "person"
        self.repeating: str | None = None
        self.place: Seat | None = None
        self.ticket: Ticket | None = None
        self.settled = trio.Event()
        self.failure: Exception | None = None
        self.unwritten: BaseException | None = None
        self.culprit = ""

    # --- resuming and pausing ---------------------------------------------------------------------------------------

    async def resume(self, owner: str, *, repeat: bool = False, why: Why = "person") -> None:
        """Record that the flow is resumed here, and take it over with the same write.

        Where a person is back and the state's `late` is `restart`, its deadline starts again.

        Args:
            owner: This process, as the flow's row names it from now on.
            repeat: Begin a new visit with new idempotency keys, after a person decided to repeat the effect.
            why: Why it is resumed.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        async with self.lock:
            if not self.ended:
                await self._resume(owner, repeat=repeat, why=why)

    async def _resume(self, owner: str, *, repeat: bool, why: Why) -> None:
        state = self.machine.states[self.row.state]
        announced = await self._ledger.store.intents(self.row.id, self.row.incarnation)
        failures = await self._past_failures(why, anew=repeat)
        self.stay = await self._beginning_of_stay()
        deadline = self.row.deadline
        if deadline is not None and state.late == "restart" and why == "person":
            deadline = deadline_text(self.machine, state.name, self.context, self.clock.now())
        changes: dict[str, Any] = {"status": "running", "trouble": None, "deadline": deadline, "owner": owner}
        if self.queued:  # its turn has not come, whoever waits for it
            changes |= {"status": self.row.status, "deadline": self.row.deadline}
        if repeat:
            changes["incarnation"] = self.row.incarnation + 1
        await self.record("resumed", "resumed" if why == "person" else why, NO_BODY, **changes)
        self.why = why
        if repeat:
            self.repeating = None
        self.intents = self.inherited = frozenset() if repeat else announced
        self.failures = failures

    async def _past_failures(self, why: Why, *, anew: bool) -> Mapping[str, Attempts]:
        """What this visit has behind it of retried activities. Where a person is back, none waits any longer."""
        if anew or self.row.state not in self.program.retrying:
            return {}
        found = attempts_in(await self._ledger.store.failures(self.row.id, self.row.incarnation))
        return found if why == "handover" else {name: Attempts(each.failures) for name, each in found.items()}

    async def begin(self) -> None:
        """Record that a queued flow begins now; nothing when it was ended or moved on meanwhile.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        async with self.lock:
            if self.queued:
                deadline = deadline_text(self.machine, self.row.state, self.context, self.clock.now())
                await self.record("begun", "begun", NO_BODY, status="running", deadline=deadline)
                if self.kept:
                    await self._take_kept()

    async def _beginning_of_stay(self) -> int:
        """The visit that entered the state: later ones, in which its effect was repeated, have the same children."""
        stay = self.row.incarnation
        if self.machine.states[self.row.state].resume is ResumePolicy.ASK and stay > 1:
            records = await self._ledger.store.records(self.row.id)
            for before, record in zip(reversed(records[:-1]), reversed(records), strict=False):
                if record.incarnation != before.incarnation:
                    if record.kind != "resumed":
                        break
                    stay = before.incarnation
        return stay

    async def ask_again(self, why: Why, *, pausing: bool = False) -> bool:
        """A resume of a flow that is driven here: one that is being paused continues instead.

        Args:
            why: Why it is resumed.
            pausing: It is about to be paused, because a flow that it runs is.

        Returns:
            False when nothing drives the flow here any more: it has to be taken over.
        """
        async with self.lock:
            if self.stopped or self.settled.is_set():
                return False
            if pausing or self.lost_child or (self.run is not None and self.run.trouble is not None):
                self.again = why
            return True

    async def park(self, exc: BaseException) -> FlowParked | None:
        """Pause the flow and record why.

        Returns:
            The error for whoever waits, with what stopped the flow as its cause; None when the flow continues: an event
            from outside led out of the state meanwhile, or somebody resumed it.

        Raises:
            CloudError: It could not be written. The flow is stopped all the same.
        """
        self._log(exc)
        visit = None if self.run is None else self.run.visit
        trouble = Trouble.of(exc, frozenset() if visit is None else visit.withdrawn, self.culprit)
        body = msgspec.json.encode(trouble).decode()
        await self.acquire_decided()
        try:
            if self.ended or (visit is not None and visit.left):
                return None
            again, self.again, self.lost_child = self.again, None, False
            try:
                if again is not None:
                    if trouble.withdrawn:  # the record carries them
                        await self.record("paused", trouble.kind, body, status="paused", trouble=body)
                    await self._resume(self.row.owner or "", repeat=self.repeating == self.row.id, why=again)
                    self.failures = {}  # as after a pause: counted anew
                    self.behind = True
                    return None
                await self.record("paused", trouble.kind, body, status="paused", trouble=body, owner=None)
            except BaseException:
                self.stopped, self.again = True, again
                raise
            self.stopped = True
        finally:
            self.lock.release()
        error = trouble.error(self.row)
        error.__cause__ = exc
        return error

    def _log(self, exc: BaseException) -> None:
        """The activity and the traceback of what stopped a flow, also of an error that was planned for."""
        flow, state = self.row.id, self.row.state
        what = f", in activity {self.culprit}" if self.culprit else ""
        if isinstance(exc, FlowParked):
            logger.debug("%s is paused in %s%s, with the flow %s", flow, state, what, exc.flow)
        elif isinstance(exc, CloudError):
            logger.info("%s is paused in %s%s: %s", flow, state, what, exc, exc_info=exc)
        else:
            logger.error("%s failed in %s with an unexpected error%s", flow, state, what, exc_info=exc)

    def outcome(self) -> Outcome:
        """How it ended."""
        return outcome_of(self.machine, self.row, self.context)

    def settle(self, failure: Exception | None) -> None:
        """Driving it here has stopped: `Engine.wait` returns, or raises `failure`."""
        self.failure = failure
        self.scratch.clear()  # whoever has the engine still keeps none of it
        self.settled.set()

    # --- the host of a visit --------------------------------------------------------------------------------------

    def current_context(self) -> Context:
        """The context after the last committed event."""
        return self.context

    def current_state(self) -> str:
        """The state after the last committed event."""
        return self.row.state

    def deliver(self, event: Event, incarnation: int) -> Awaitable[bool]:
        """An event from an activity."""
        return self.step(event, incarnation=incarnation)

    async def announce(self, effect: str, incarnation: int) -> Intent:
        """Commit the intent of an effect, unless an earlier process did.

        Raises:
            EffectUncertain: An earlier process did, and the state's policy is `ask`.
            UnexpectedFailure: The visit is over, or its state declares no effect.
            JournalError: It could not be written; nothing changed.
        """
        await self.acquire_decided()
        try:
            state = self.machine.states[self.row.state]
            self._refuse_over(incarnation, effect)
            if state.effect is None:
                raise UnexpectedFailure(f"{self.machine.name}: {state.name} declares no effect, and announces {effect}")
            key = f"{self.row.id}:{incarnation}:{effect}"
            if key in self.inherited:
                if state.resume is ResumePolicy.ASK:
                    raise EffectUncertain(
                        f"{state.effect}: it is not known whether it happened before the interruption"
                    )
                return Intent(key, uncertain=True)
            if key not in self.intents:
                await self.record("intent", key, NO_BODY)
                self.intents |= {key}
            return Intent(key, uncertain=False)
        finally:
            self.lock.release()

    def attempts(self, activity: str) -> Attempts:
        """What the current visit has behind it of a retried activity."""
        return self.failures.get(activity, Attempts())

    async def retry(
        self,
        activity: str,
        retry: Retry,
        exc: BaseException,
        incarnation: int,
        begun: frozenset[str],
        withdrawn: frozenset[str],
    ) -> datetime | None:
        """Commit a failure that is retried.

        Args:
            activity: The activity's name.
            retry: How often it is tried again.
            exc: What it raised.
            incarnation: The visit it belongs to.
            begun: The keys of the intents that the attempt had.
            withdrawn: Those of them whose effect did not happen.

        Returns:
            When the next attempt begins; None when there is none, or the visit is over.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing changed.
            JournalError: It could not be written; nothing changed.
        """
        async with self.lock:
            failures = self.attempts(activity).failures + 1
            if self.row.incarnation != incarnation or self.stopped or self.ended or failures > retry.times:
                return None
            seconds = retry.seconds(failures, self._chance())
            again = self.clock.now() + timedelta(seconds=seconds)
            trouble = Trouble.of(exc)
            body = Failed(
                trouble.kind, trouble.message, failures, retry.times, round(seconds, 6), moment_text(again), withdrawn
            )
            logger.info("%s: attempt %d of %s failed: %s", self.row.id, failures, activity, trouble.message)
            await self.record("retried", activity, msgspec.json.encode(body).decode())
            self.failures = {**self.failures, activity: Attempts(failures, again)}
            self.intents -= withdrawn
            self.inherited = (self.inherited | (begun & self.intents)) - withdrawn
            return again

    def _refuse_over(self, incarnation: int, what: str) -> None:
        if self.stopped or self.ended or self.row.incarnation != incarnation:
            raise UnexpectedFailure(f"visit {incarnation} is over; {what} is not begun any more")

    async def keep(self, name: str, secret: str) -> str:
        """Put a secret in the flow's vault. Raises `NotStorable` for one that is too large."""
        check_secret(name, secret)
        over = UnexpectedFailure(f"flow {self.row.id} is not driven any more; {name} is not kept")
        if self.stopped or self.ended:
            raise over
        reference = await self._vault.put(self.row.id, name, secret)
        if self.ended:
            await self._vault.discard(self.row.id)
            raise over
        return reference

    async def reveal(self, reference: str) -> str:
        """Get a secret out of the flow's vault."""
        return await self._vault.get(self.row.id, reference)

    async def holds(self, reference: str) -> bool:
        """Whether the flow's vault has this secret."""
        return await self._vault.has(self.row.id, reference)

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """The flows of a machine in the same store, this one among them, the newest first."""
        return await self._ledger.store.newest(machine, limit)

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk, in a worker thread."""
        return await self._disk.run(function, *args, **kwargs)

    async def run_child(self, visit: int, program: Program[Any], context: Context, key: str | None) -> Outcome:
        """Run or resume a child flow of one visit; not while the flow is being cancelled with its children."""
        await self.acquire_decided()
        self.lock.release()
        self._refuse_over(visit, program.machine.name)
        return await self._run_child(self, self.stay, program, context, key)

    def deadline(self) -> datetime | None:
        """When the current visit runs out."""
        return self._countdown.moment()
