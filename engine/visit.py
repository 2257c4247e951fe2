"""One visit of a flow to a state: what an activity is given, and what it may do.

An activity (`activities.py`) returns an event or yields several; it may `send` when something must follow right after
the event is durable; or it raises. Everything it started is cancelled and awaited when the state is left.

What makes things durable is behind `Host`; what runs the activities is `run.Run`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import msgspec
import trio

from ..base.clock import Clock
from ..base.log import get_logger
from .activities import await_signal as await_signal  # noqa: PLC0414 its users find it here
from .activities import check_activities, is_retried
from .errors import MachineInvalid, NotStorable, UnexpectedFailure, UsedTwice
from .given import check_is
from .history import Outcome
from .journal.records import FlowRow
from .limits import Limit
from .machine.machine import Machine
from .machine.parts import AnyC, C, C_co, Context, Event
from .retries import Attempts, Retry

logger = get_logger(__name__)

_EFFECT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")

begun_in_attempt: Final = ContextVar[set[str] | None]("begun_in_attempt", default=None)
"""What the attempt of a retried activity has begun, in whichever of its tasks: the next attempt may begin it again."""

D = TypeVar("D", bound=Context)
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
    """What is behind a visit and makes things durable."""

    @property
    def scratch(self) -> dict[str, Any]:
        """What the flow's activities remember while this process drives it."""
        ...

    def current_context(self) -> Context:
        """The context after the last committed event."""
        ...

    def current_state(self) -> str:
        """The state after the last committed event."""
        ...

    def deliver(self, event: Event, incarnation: int) -> Awaitable[bool]:
        """Make the event durable and follow it; False when the visit it comes from is over."""
        ...

    async def announce(self, effect: str, incarnation: int) -> Intent:
        """Commit the intent of an effect of one visit."""
        ...

    def attempts(self, activity: str) -> Attempts:
        """What this visit has behind it of a retried activity, by its name."""
        ...

    async def retry(
        self,
        activity: str,
        retry: Retry,
        exc: BaseException,
        incarnation: int,
        begun: frozenset[str],
        withdrawn: frozenset[str],
    ) -> datetime | None:
        """Commit a failure that is retried; when the next attempt begins, or None when there is none."""
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

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """The flows of a machine in the same store, the newest first."""
        ...

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk."""
        ...

    async def run_child(self, visit: int, program: Program[Any], context: Context, key: str | None) -> Outcome[Any]:
        """Run or resume a child flow of one visit."""
        ...


class Visit(Generic[C_co]):
    """What an activity is given: the flow's state, and how to send it events.

    Attributes:
        flow: The flow's id.
        state: The state being visited.
        incarnation: The number of this visit; events of older visits are dropped.
        resumed: True when the state was entered by an earlier process.
        deadline: When the visit runs out, or None.
        clock: The time.
        left: True once an event led out of the state; events sent after that are dropped.
        withdrawn: The keys of the intents withdrawn in this visit.
        ran_children: Whether child flows were run in this visit.
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
    ) -> None:
        self._host = host
        self.flow = flow
        self.state = state
        self.incarnation = incarnation
        self.resumed = resumed
        self.deadline = deadline
        self.clock = clock
        self.left = False
        self.ran_children = False
        self._begun: set[str] = set()
        self.withdrawn: frozenset[str] = frozenset()

    @property
    def context(self) -> C_co:
        """What the flow knows now: it changes while the state is visited, with every event that stays."""
        return cast("C_co", self._host.current_context())

    @property
    def current_state(self) -> str:
        """The state the flow is in now: once `left`, the one that comes after this visit."""
        return self._host.current_state()

    @property
    def scratch(self) -> dict[str, Any]:
        """What this flow's activities remember from visit to visit while this process drives it; never on disk."""
        return self._host.scratch

    async def send(self, event: Event) -> bool:
        """Give the flow an event; returns when it is durable.

        Returns False, and drops the event, when this visit is over already.

        Raises:
            EventNotAccepted: The table has no row for it here: a bug in the activity.
            JournalError: It could not be written; nothing changed.
        """
        if self.left:
            logger.debug("%s dropped %s: the visit of %s is over", self.flow, type(event).__name__, self.state)
            await trio.lowlevel.checkpoint()
            return False
        await trio.lowlevel.checkpoint_if_cancelled()
        return await self._host.deliver(event, self.incarnation)

    async def announce(self, effect: str, item: str | None = None) -> Intent:
        """Record that an outward effect is about to happen, before it does.

        Args:
            effect: A short name for it, unique within the state.
            item: What it is done to, where it is done to several: an order's number, say.

        Raises:
            EffectUncertain: The state's policy is `ask`, and an earlier process announced it and died.
            UsedTwice: This visit has announced it already, and not withdrawn it.
            NotStorable: The name or the item is no text of up to 200 printable ASCII characters.
            JournalError: It could not be written; do not perform the effect.
        """
        name = effect if item is None else f"{effect}:{item}"
        if ":" in effect or not _EFFECT.fullmatch(name):
            raise NotStorable(
                f"{self.state} announces the effect {name!r}; it is sent as part of an idempotency key",
                field="effect",
                hint="Use 1 to 200 printable ASCII characters, and no colon in the effect's name.",
            )
        await self._refuse_if_left(name)
        if name in self._begun:
            raise UsedTwice(f"{self.state} announces {name} twice in one visit")
        self._begin(name)
        try:
            intent = await self._host.announce(name, self.incarnation)
        except BaseException:
            self._begun.discard(name)
            raise
        self.withdrawn -= {intent.key}
        return intent

    def withdraw(self, intent: Intent) -> None:
        """Take an intent back, when the error that is about to pause the flow proves that the effect did not happen.

        The `paused` record carries it, so a resumed flow announces the effect again. Until that record is written the
        intent holds: a process that dies in between leaves the effect uncertain.
        """
        self.withdrawn |= {intent.key}
        self._begun.discard(intent.key.removeprefix(f"{self.flow}:{self.incarnation}:"))

    async def keep(self, name: str, secret: str) -> str:
        """Put a secret in the vault, durably, and return the reference an event may carry. Raises `Io`."""
        return await self._host.keep(name, secret)

    async def reveal(self, reference: str) -> str:
        """The secret a reference stands for. Raises `VaultMissing` if it is gone."""
        return await self._host.reveal(reference)

    async def holds(self, reference: str) -> bool:
        """Whether the vault has the secret a reference stands for."""
        return await self._host.holds(reference)

    async def other_flows(self, machine: str, *, limit: int = 1000) -> list[FlowRow]:
        """The other flows of a machine, whoever drives them, the newest first: what must not be done twice.

        What happens to them afterwards is not known here. Their contexts are as they were written, by any version.

        Args:
            machine: The machine's name.
            limit: How many are looked at, at most.
        """
        return [row for row in await self._host.newest(machine, limit) if row.id != self.flow]

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk without holding up other flows."""
        return await self._host.on_disk(function, *args, **kwargs)

    async def run_child(self, program: Program[D], context: D, *, key: str | None = None) -> Outcome[D]:
        """Run a child flow to its end, or resume the one this visit started in an earlier process.

        Args:
            program: Its machine and activities.
            context: What it knows at its start.
            key: Which child it is, where a visit runs several of one machine: any text.

        Raises:
            FlowParked: The child is paused; let it propagate, so that the parent is paused with it.
            UsedTwice: This visit has started a child of this machine already, and neither has a key.
            KeyInUse: It was started with another context in an earlier process.
            NotStorable: The context cannot be written and read back.
            TypeError: The program is no `Program`.
        """
        check_is(program, Program, "run_child")
        machine = program.machine.name
        await self._refuse_if_left(machine)
        self.ran_children = True
        if key is not None:
            return await self._host.run_child(self.incarnation, program, context, key)
        child = f"\0a child of {machine}"  # no effect has this name
        if child in self._begun:
            raise UsedTwice(f"{self.state} starts a child of {machine} twice in one visit")
        self._begin(child)
        try:
            return await self._host.run_child(self.incarnation, program, context, None)
        except BaseException:  # paused, say: its activity may run it on
            self._begun.discard(child)
            raise

    # --- for whatever runs the activities: `run.py` -------------------------------------------------------------------

    def attempts(self, activity: str) -> Attempts:
        """What this visit has behind it of a retried activity, by its name."""
        return self._host.attempts(activity)

    async def retry(self, activity: str, retry: Retry, exc: BaseException, begun: set[str]) -> datetime | None:
        """A retried activity has failed: record it, if it is tried again.

        Args:
            activity: Its name.
            retry: How often it is tried again.
            exc: What it raised.
            begun: What it has begun; the next attempt may begin it again.

        Returns:
            When the next attempt begins; None when there is none, or the visit is over.

        Raises:
            JournalError: It could not be written; nothing changed.
        """
        keys = frozenset(f"{self.flow}:{self.incarnation}:{name}" for name in begun if not name.startswith("\0"))
        withdrawn = keys & self.withdrawn
        again = await self._host.retry(activity, retry, exc, self.incarnation, keys, withdrawn)
        if again is not None:
            self._begun -= begun
            self.withdrawn -= withdrawn
        return again

    def _begin(self, name: str) -> None:
        self._begun.add(name)
        attempt = begun_in_attempt.get()
        if attempt is not None:
            attempt.add(name)

    async def _refuse_if_left(self, what: str) -> None:
        # A visit can be over before its activities have taken their first step. What they begin then would belong to
        # the next visit, and nothing would cancel it.
        if self.left:
            await trio.lowlevel.checkpoint()  # raises Cancelled here, unless the activity is shielded
            raise UnexpectedFailure(f"{self.state} was left; {what} is not begun any more")


Activity: TypeAlias = Callable[[Visit[AnyC]], Awaitable[Event | None] | AsyncGenerator[Event, None]]
"""What is done in a state of a machine with this context: a coroutine function, or an async generator function.

`Activity[Context]` takes a visit of any context and fits every machine; `Activity` alone is one of some context, which
is not checked.
"""


class Program(Generic[C]):
    """A machine and the activities that run in each of its states.

    Args:
        machine: The table.
        activities: For every state that is not final, what runs while the flow is in it.
        limit: How many of its flows may run at once, and how fast they begin; the others are queued. Programs that are
            given the same one share it.

    Raises:
        MachineInvalid: A state has no activities, or activities are given for an unknown or final state; or what is
            given is no list of coroutine functions or async generator functions of one parameter.
        TypeError: The machine is no `Machine`.
    """

    def __init__(
        self, machine: Machine[C], activities: Mapping[str, Sequence[Activity[C]]], *, limit: Limit | None = None
    ) -> None:
        check_is(machine, Machine, "Program")
        check_activities(machine, activities)
        if not isinstance(limit, (Limit, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(f"machine {machine.name}: {limit!r} is no limit", hint="Write Limit(concurrent=10).")
        self.machine = machine
        self.limit = limit
        self.activities = {name: tuple(listed) for name, listed in activities.items()}
        self.retrying = frozenset(name for name, listed in self.activities.items() if any(map(is_retried, listed)))
        """The states that have an activity that is tried again when it fails."""
        self.waiting = frozenset(name for name, listed in self.activities.items() if set(listed) == {await_signal})
        """The states in which nothing is done but to wait."""
