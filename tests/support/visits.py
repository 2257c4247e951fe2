"""A state visited by itself, without an engine or a journal: to try its activities.

    events, trouble = await run_visit(one_activity, another, timeout=60)

Behind the visit stands `Memory`: it takes every event, and lets the first one that is not `Seen` lead out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import trio
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.engine.machine.parts import Context, Event
from systemprompt_cloud.engine.retries import Attempts, Retry
from systemprompt_cloud.engine.run import Run, run_state
from systemprompt_cloud.engine.visit import Activity, Intent, Program, Visit
from systemprompt_cloud.testing.clock import VirtualClock
from typing_extensions import override

P = ParamSpec("P")
T = TypeVar("T")


class Seen(Event, frozen=True):
    """Progress."""

    what: str = ""


class Left(Event, frozen=True):
    """The way out."""


class Memory:
    """A host without a journal: another runner could stand behind a visit just like this."""

    def __init__(self, *, takes: float = 0) -> None:
        self.events: list[Event] = []
        self.takes = takes
        self.scratch: dict[str, Any] = {}
        self.run: Run

    def current_context(self) -> Context:
        """How much was seen, in words."""
        return Context(problem=f"{len(self.events)} events")

    def current_state(self) -> str:
        """Always the one that is visited."""
        return self.run.visit.state

    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Take it, and lead out when it is the way out."""
        assert incarnation == self.run.visit.incarnation
        with trio.CancelScope(shield=True):
            await trio.sleep(self.takes)
        self.events.append(event)
        if not isinstance(event, Seen):
            self.run.leave()
        return True

    async def announce(self, effect: str, incarnation: int) -> Intent:
        """Nothing was announced before."""
        assert incarnation == self.run.visit.incarnation
        return Intent(effect, uncertain=False)

    def attempts(self, activity: str) -> Attempts:
        """None."""
        assert activity
        return Attempts()

    async def retry(
        self,
        activity: str,
        retry: Retry,
        exc: BaseException,
        incarnation: int,
        begun: frozenset[str],
        withdrawn: frozenset[str],
    ) -> datetime | None:
        """Nothing is tried again."""

    async def keep(self, name: str, secret: str) -> str:
        """Nowhere."""
        return f"vault:{name}" if secret else ""

    async def reveal(self, reference: str) -> str:
        """Nothing."""
        return reference

    async def holds(self, reference: str) -> bool:
        """Nothing."""
        return bool(reference)

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """None."""
        found: list[FlowRow] = []
        return found[:limit] if machine else found

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """At once."""
        return function(*args, **kwargs)

    async def run_child(self, visit: int, program: Program[Any], context: Context, key: str | None) -> Outcome:
        """There are no children."""
        raise NotImplementedError


class Leaving(Memory):
    """A host that is led out from outside after some events."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    @override
    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Take it; then somebody else leads out."""
        await super().deliver(event, incarnation)
        if len(self.events) == self.after:
            self.run.leave()
        return True


async def run_visit(
    *activities: Activity, timeout: float | None = None, host: Memory | None = None
) -> tuple[Sequence[Event], BaseException | None]:
    """Visit a state with these activities.

    Args:
        activities: What is done there.
        timeout: Seconds until its deadline, on trio's clock; None for none.
        host: What stands behind it; a new `Memory` when not given.

    Returns:
        The events it gave, and what stopped it: None when it was left.
    """
    host, clock = host or Memory(), VirtualClock()
    visit: Visit[Any] = Visit(
        host,
        flow="f",
        state="here",
        incarnation=3,
        resumed=False,
        deadline=None if timeout is None else clock.now() + timedelta(seconds=timeout),
        clock=clock,
    )
    with trio.fail_after(1000):
        host.run = Run(visit)
        trouble = await run_state(host.run, activities)
    return host.events, trouble


async def leave(_visit: Visit[Any]) -> Event:
    """The way out, at once."""
    return Left()


async def forever(_visit: Visit[Any]) -> None:
    """Something to do without end."""
    await trio.sleep_forever()


async def nothing(_visit: Visit[Any]) -> None:
    """Nothing more to do, at once."""
    await trio.lowlevel.checkpoint()
