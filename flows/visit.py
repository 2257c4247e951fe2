"""One visit of a flow to a state, and the nursery it is.

`run_state` is the seam between what a flow does and what makes it durable: it runs a state's activities until one event
leads out, and knows nothing of journals. Whoever is behind `Host` (here the engine) makes events durable; another
runner may stand there instead.

An activity is an async function of the visit. It returns an event, or None when it had only something to do; it may be
an async generator that yields several; it may `send` when something must follow right after the event is durable; or it
raises. Everything it started is cancelled and awaited when the state is left.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import msgspec
import trio

from ..errors import ActivitiesRanDry, CloudError, MachineInvalid, UnexpectedFailure
from ..io.log import logger
from ..machines.machine import Context, DeadlinePassed, Event, Machine

if TYPE_CHECKING:
    from ..io.clock import Clock
    from .flow import Outcome

C = TypeVar("C", bound=Context)
P = ParamSpec("P")
T = TypeVar("T")


class Intent(msgspec.Struct, frozen=True):
    """An outward effect that was announced in the journal.

    Attributes:
        key: Its idempotency key, `<flow>:<incarnation>:<name>`; the same however often the process dies.
        uncertain: True when an earlier process announced it and died, or was stopped, before its result was recorded.
    """

    key: str
    uncertain: bool


class Host(Protocol):
    """What stands behind a visit and makes things durable."""

    def current_context(self) -> Context:
        """The context after the last committed event."""
        ...

    def deliver(self, event: Event, incarnation: int) -> Awaitable[bool]:
        """Make the event durable and follow it; False when the visit it comes from is over."""
        ...

    async def announce(self, effect: str) -> Intent:
        """Commit the intent of an effect."""
        ...

    async def keep(self, name: str, secret: str) -> str:
        """Put a secret in the flow's vault."""
        ...

    async def reveal(self, reference: str) -> str:
        """Get a secret out of the flow's vault."""
        ...

    async def holds(self, reference: str) -> bool:
        """Whether the flow's vault has this secret."""
        ...

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk."""
        ...

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        """Run, or go on with, the child flow of this visit."""
        ...


class Visit(Generic[C]):
    """What an activity is given: where the flow stands, and how to move it.

    Attributes:
        flow: The flow's id.
        state: The state being visited.
        incarnation: The number of this visit; events of older visits are dropped.
        resumed: True when the state was entered by an earlier process.
        deadline: When the visit runs out, or None.
        clock: The time.
        scope: What the caller runs the visit in, and nothing else; `run_state` opens one when not given. A visit that
            has to be cut short may cancel it. One that was not cancelled can serve the next visit: opening and closing
            a scope for each is a quarter of what a transition costs.
    """

    def __init__(
        self,
        host: Host,
        *,
        flow: str,
        state: str,
        incarnation: int,
        resumed: bool,
        deadline: datetime | None,
        clock: Clock,
        scope: trio.CancelScope | None = None,
    ) -> None:
        self._host = host
        self.flow = flow
        self.state = state
        self.incarnation = incarnation
        self.resumed = resumed
        self.deadline = deadline
        self.clock = clock
        self.scope = scope
        self.left = False
        self.trouble: Exception | None = None
        self.withdrawn: frozenset[str] = frozenset()
        self._scope: trio.CancelScope | None = None
        self._activities: Sequence[Activity] = ()
        self._at_work = 0

    @property
    def context(self) -> C:
        """What the flow knows now: it changes while the state is visited, with every event that stays."""
        return cast("C", self._host.current_context())

    async def send(self, event: Event) -> bool:
        """Give the flow an event; returns when it is durable.

        Returns False, and drops the event, when this visit is over already.

        Raises:
            EventNotAccepted: The table has no row for it here: a bug in the activity.
            JournalError: It could not be written; nothing changed.
        """
        if self.left:
            logger.debug("{} dropped {}: the visit of {} is over", self.flow, type(event).__name__, self.state)
            return False
        return await self._host.deliver(event, self.incarnation)

    async def announce(self, effect: str) -> Intent:
        """Write down that an outward effect is about to happen, before it does.

        Args:
            effect: A short name for it, unique within the state.

        Raises:
            EffectUncertain: The state's policy is `ask`, and an earlier process announced it and died.
        """
        await self._must_go_on(effect)
        intent = await self._host.announce(effect)
        self.withdrawn -= {intent.key}
        return intent

    def withdraw(self, intent: Intent) -> None:
        """Take an announcement back: what is about to park the flow proves that the effect did not happen.

        It is written down with why the flow is parked, so whoever resumes it announces anew. Until then it counts as
        announced: a process that dies in between leaves the effect uncertain.
        """
        self.withdrawn |= {intent.key}

    async def keep(self, name: str, secret: str) -> str:
        """Put a secret in the vault, durably, and get the reference an event may carry."""
        return await self._host.keep(name, secret)

    async def reveal(self, reference: str) -> str:
        """The secret a reference stands for. Raises `VaultMissing` if it is gone."""
        return await self._host.reveal(reference)

    async def holds(self, reference: str) -> bool:
        """Whether the vault has the secret a reference stands for."""
        return await self._host.holds(reference)

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk without holding up other flows."""
        return await self._host.on_disk(function, *args, **kwargs)

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        """Run a child flow to its end, or go on with the one this visit started in an earlier process.

        Raises:
            FlowParked: The child cannot go on; the parent is parked with it.
        """
        await self._must_go_on(program.machine.name)
        return await self._host.run_child(program, context)

    async def _must_go_on(self, what: str) -> None:
        # A visit can be over before its activities have taken their first step. What they begin then would belong to
        # the next visit, and nobody would end it.
        if self.left:
            await trio.lowlevel.checkpoint()  # where they end, unless they shield themselves
            raise UnexpectedFailure(f"{self.state} was left; {what} is not begun any more")

    def enter(self, scope: trio.CancelScope, activities: Sequence[Activity]) -> None:
        """Called by `run_state` before it starts the activities in the scope."""
        self._scope = scope
        self._activities = activities
        self._at_work = len(activities)
        if self.left:
            scope.cancel()

    def release(self) -> None:
        """Called by `run_state` when the only activity has returned: leaving has nobody to cancel any more."""
        self._scope = None

    def leave(self) -> None:
        """Called by the host after the commit of the event that led out."""
        self.left = True
        if self._scope is not None:
            self._scope.cancel()

    def finish(self) -> None:
        """Called by `run_state` when an activity has come to its end; the last one must have led out."""
        self._at_work -= 1
        if not self._at_work and not self.left:
            names = ", ".join(getattr(each, "__name__", repr(each)) for each in self._activities)
            self.fail(ActivitiesRanDry(f"nothing is left to do in {self.state} and nothing led out of it: {names}"))

    def fail(self, trouble: Exception) -> None:
        """Called by `run_state` when an activity raised."""
        if self.left:
            logger.debug("{} ignored, {} is left: {!r}", self.flow, self.state, trouble)
        elif self.trouble is None:
            self.trouble = trouble
            if self._scope is not None:
                self._scope.cancel()


Activity: TypeAlias = Callable[[Visit[Any]], Awaitable[Event | None] | AsyncGenerator[Event, None]]


async def await_signal(_visit: Visit[Any]) -> None:
    """The activity of a state that does nothing but wait for somebody to send it an event."""
    await trio.sleep_forever()


class Program(Generic[C]):
    """A machine with what is to be done in each of its states.

    Args:
        machine: The table.
        activities: For every state that is not final, what runs while the flow is in it.

    Raises:
        MachineInvalid: A state has no activities, or activities are given for a state there is not.
    """

    def __init__(self, machine: Machine[C], activities: Mapping[str, Sequence[Activity]]) -> None:
        wanted = {name for name, state in machine.states.items() if not state.final}
        if missing := sorted(name for name in wanted if not activities.get(name)):
            raise MachineInvalid(
                f"machine {machine.name}: nothing is done in {', '.join(missing)}",
                hint="Give each an activity; `await_signal` for one that only waits to be sent an event.",
            )
        if extra := sorted(set(activities) - wanted):
            raise MachineInvalid(f"machine {machine.name}: activities for {', '.join(extra)}, which can do nothing")
        self.machine = machine
        self.activities = {name: tuple(listed) for name, listed in activities.items()}


async def run_state(visit: Visit[Any], activities: Sequence[Activity]) -> Exception | None:
    """Run a state's activities in one nursery until an event leads out, and wait until all of them are gone.

    Returns:
        None when the state was left; otherwise what stopped it from being left.
    """
    if visit.scope is None:
        with trio.CancelScope() as visit.scope:
            await run_state(visit, activities)
        return None if visit.left else visit.trouble
    if len(activities) > 1 or visit.deadline is not None:
        async with trio.open_nursery() as nursery:
            visit.enter(nursery.cancel_scope, activities)
            for activity in activities:
                nursery.start_soon(_run_activity, activity, visit)
            if visit.deadline is not None:
                nursery.start_soon(_watch_deadline, visit, visit.deadline)
    else:
        # Cancelled by the event that led out, this unwinds to where the caller opened the scope.
        visit.enter(visit.scope, activities)
        await _run_activity(activities[0], visit, alone=True)
    return None if visit.left else visit.trouble


async def _run_activity(activity: Activity, visit: Visit[Any], *, alone: bool = False) -> None:
    try:
        doing = activity(visit)
        if inspect.isasyncgen(doing):
            async with aclosing(cast("AsyncGenerator[Event, None]", doing)) as events:
                async for event in events:
                    await visit.send(event)
        elif (event := await cast("Awaitable[Event | None]", doing)) is not None:
            if alone:
                visit.release()
            await visit.send(event)
    except* Exception as group:  # noqa: BLE001 whatever an activity raises parks its flow, and no other
        visit.fail(_one(group))  # also what came together with a cancellation, which goes on its own way
    else:
        visit.finish()


async def _watch_deadline(visit: Visit[Any], deadline: datetime) -> None:
    await visit.clock.sleep_until(deadline)
    try:
        await visit.send(DeadlinePassed())
    except Exception as exc:  # noqa: BLE001 a deadline that cannot be written parks the flow like any activity
        visit.fail(exc)


def _one(exc: Exception) -> Exception:
    # An activity with a nursery of its own raises groups; the error that says what to do is the one to show.
    if not isinstance(exc, ExceptionGroup):
        return exc
    group = cast("ExceptionGroup[Exception]", exc)
    leaves = [_one(each) for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, CloudError)), leaves[0] if len(leaves) == 1 else group)
