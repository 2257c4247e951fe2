"""A visit is a nursery: it runs until an event leads out, and nothing of it runs afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import pytest
import trio
from systemprompt_cloud.errors import ActivitiesRanDry, MachineInvalid, Network, NotAuthenticated
from systemprompt_cloud.flows.flow import Outcome
from systemprompt_cloud.flows.visit import Activity, Intent, Program, Visit, await_signal, run_state
from systemprompt_cloud.machines.machine import STAY, Context, DeadlinePassed, Event, Machine, State, Verdict, on
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

P = ParamSpec("P")
T = TypeVar("T")


class Seen(Event, frozen=True):
    """Progress."""

    what: str = ""


class Left(Event, frozen=True):
    """The way out."""


class Oops(Exception):
    """A bug in an activity."""


class Memory:
    """A host without a journal: another runner could stand behind a visit just like this."""

    def __init__(self, *, takes: float = 0) -> None:
        self.events: list[Event] = []
        self.takes = takes
        self.visit: Visit[Any] | None = None

    def current_context(self) -> Context:
        """How much was seen, in words."""
        return Context(problem=f"{len(self.events)} events")

    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Take it, and lead out when it is the way out."""
        assert self.visit is not None
        assert incarnation == self.visit.incarnation
        with trio.CancelScope(shield=True):
            await trio.sleep(self.takes)
        self.events.append(event)
        if not isinstance(event, Seen):
            self.visit.leave()
        return True

    async def announce(self, effect: str) -> Intent:
        """Nothing was announced before."""
        return Intent(effect, uncertain=False)

    async def keep(self, name: str, secret: str) -> str:
        """Nowhere."""
        return f"vault:{name}" if secret else ""

    async def reveal(self, reference: str) -> str:
        """Nothing."""
        return reference

    async def holds(self, reference: str) -> bool:
        """Nothing."""
        return bool(reference)

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """At once."""
        return function(*args, **kwargs)

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        """There are no children."""
        raise NotImplementedError


async def run(
    *activities: Activity, timeout: float | None = None, host: Memory | None = None
) -> tuple[Sequence[Event], Exception | None]:
    """Visit a state with these activities; the events it gave and what stopped it."""
    host, clock = host or Memory(), VirtualClock()
    host.visit = Visit(
        host,
        flow="f",
        state="here",
        incarnation=3,
        resumed=False,
        deadline=None if timeout is None else clock.now() + timedelta(seconds=timeout),
        clock=clock,
    )
    with trio.fail_after(1000):
        trouble = await run_state(host.visit, activities)
    return host.events, trouble


# --- what an activity may do ---------------------------------------------------------------------------


async def leave(_visit: Visit[Any]) -> Event:
    return Left()


async def forever(_visit: Visit[Any]) -> None:
    await trio.sleep_forever()


async def nothing(_visit: Visit[Any]) -> None:
    await trio.lowlevel.checkpoint()


async def test_an_activity_may_return_yield_or_send() -> None:
    """Each is one way to say what happened; None says nothing."""

    async def several(_visit: Visit[Any]) -> AsyncGenerator[Event]:
        for what in "ab":
            yield Seen(what)

    async def sends(visit: Visit[Any]) -> None:
        assert await visit.send(Seen("c"))
        assert visit.context.problem == "3 events"

    async def in_order(visit: Visit[Any]) -> Event:
        async for event in several(visit):
            await visit.send(event)
        await sends(visit)
        return Left()

    assert await run(in_order, nothing) == ([Seen("a"), Seen("b"), Seen("c"), Left()], None)
    events, trouble = await run(several, forever, timeout=None, host=Leaving(after=2))
    assert (events, trouble) == ([Seen("a"), Seen("b")], None)


class Leaving(Memory):
    """A host that is led out from outside after some events."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Take it; then somebody else leads out."""
        await super().deliver(event, incarnation)
        assert self.visit is not None
        if len(self.events) == self.after:
            self.visit.leave()
        return True


async def test_leaving_cancels_and_awaits_everything() -> None:
    """When `run_state` returns, every activity has finished its cleaning up, shielded or not."""
    cleaned: list[str] = []

    async def tidies(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            cleaned.append("tidies")

    async def generates(_visit: Visit[Any]) -> AsyncGenerator[Event]:
        try:
            yield Seen()
            await trio.sleep_forever()
        finally:
            cleaned.append("generates")

    async def soon(visit: Visit[Any]) -> Event:
        await trio.testing.wait_all_tasks_blocked()
        return Left()

    events, trouble = await run(tidies, generates, soon)
    assert (events, trouble) == ([Seen(), Left()], None)
    assert sorted(cleaned) == ["generates", "tidies"]


async def test_an_only_activity_with_tasks_of_its_own_runs_once() -> None:
    """Left from outside, its tasks are cancelled in a group; the visit is over all the same."""
    begun: list[str] = []

    async def busy(visit: Visit[Any]) -> None:
        begun.append("busy")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await visit.send(Seen())
            await trio.sleep_forever()

    with trio.fail_after(10):
        assert await run(busy, host=Leaving(after=1)) == ([Seen()], None)
    assert begun == ["busy"]


async def clumsy(_visit: Visit[Any]) -> None:
    """Has tasks of its own, one of which fails as it is cancelled."""

    async def tidy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tidy)
        nursery.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_failure_while_a_state_is_left_reaches_nobody(others: int) -> None:
    """Its activities are cancelled, and one that cannot clean up brings down neither its flow nor any other."""

    async def soon(visit: Visit[Any]) -> Event:
        await trio.testing.wait_all_tasks_blocked()
        return Left()

    if others:
        assert await run(clumsy, soon) == ([Left()], None)
        return
    host, clock = Memory(), VirtualClock()
    visit: Visit[Any] = Visit(host, flow="f", state="s", incarnation=1, resumed=False, deadline=None, clock=clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_state, visit, [clumsy])
        await trio.testing.wait_all_tasks_blocked()
        visit.leave()
    assert visit.trouble is None


async def test_nothing_is_taken_after_the_way_out() -> None:
    """What an activity still sends while it is being cancelled is dropped, and it is told so."""
    answers: list[bool] = []

    async def insists(visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                answers.append(await visit.send(Seen("too late")))

    async def soon(visit: Visit[Any]) -> Event:
        await trio.testing.wait_all_tasks_blocked()
        return Left()

    assert await run(insists, soon) == ([Left()], None)
    assert answers == [False]


async def test_a_visit_that_was_left_before_it_began_does_nothing() -> None:
    """Somebody outside may be that quick; the activities meet a cancelled nursery."""
    host, clock = Memory(), VirtualClock()
    visit: Visit[Any] = Visit(host, flow="f", state="s", incarnation=1, resumed=False, deadline=None, clock=clock)
    host.visit = visit
    visit.leave()
    reached: list[str] = []

    async def activity(_visit: Visit[Any]) -> Event:
        await trio.lowlevel.checkpoint()
        reached.append("beyond")
        return Seen()

    assert await run_state(visit, [activity]) is None
    assert (reached, host.events) == ([], [])


# --- what stops it -------------------------------------------------------------------------------------


async def test_activities_that_run_dry_are_named() -> None:
    """Never a silent hang: the error has the state and every activity that had nothing more to do."""

    async def says(_visit: Visit[Any]) -> Event:
        return Seen()

    events, trouble = await run(nothing, says)
    assert events == [Seen()]
    assert isinstance(trouble, ActivitiesRanDry)
    assert trouble.user_message == "nothing is left to do in here and nothing led out of it: nothing, says"


async def test_a_deadline_does_not_hide_that_everything_ran_dry(autojump_clock: MockClock) -> None:
    """Waiting for the deadline with nothing to do is not doing something."""
    events, trouble = await run(nothing, timeout=60)
    assert (events, type(trouble)) == ([], ActivitiesRanDry)
    assert trio.current_time() < 60


async def test_a_failure_stops_the_others_and_waits_for_them() -> None:
    """The exception comes back as it is; what ran beside it has ended."""
    ended: list[str] = []

    async def beside(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("beside")

    async def fails(_visit: Visit[Any]) -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise Oops("one")

    events, trouble = await run(beside, fails)
    assert events == []
    assert isinstance(trouble, Oops)
    assert ended == ["beside"]


async def test_an_error_that_comes_after_the_way_out_is_no_trouble() -> None:
    """The event counts; a connection that breaks while it is being closed does not park the flow."""

    async def breaks(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async def soon(_visit: Visit[Any]) -> Event:
        await trio.testing.wait_all_tasks_blocked()
        return Left()

    assert await run(breaks, soon) == ([Left()], None)


async def test_the_first_failure_is_the_one_told() -> None:
    """What breaks because of the cancelling is not shown instead of what was the matter."""

    async def second(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops("second")

    async def first(_visit: Visit[Any]) -> None:
        await trio.testing.wait_all_tasks_blocked()
        raise NotAuthenticated("first")

    _, trouble = await run(second, first)
    assert isinstance(trouble, NotAuthenticated)


async def test_of_a_group_the_error_that_says_what_to_do_is_told() -> None:
    """An activity with a nursery of its own raises groups, however deep; a lone error comes out of its group."""

    async def group(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [Oops("a"), ExceptionGroup("inner", [Network("down"), Oops("b")])])

    async def lone(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [Oops("a")])])

    async def bugs(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [Oops("a"), Oops("b")])

    assert [type((await run(activity))[1]) for activity in (group, lone, bugs)] == [Network, Oops, ExceptionGroup]


async def test_cancelling_from_outside_is_not_swallowed() -> None:
    """Ctrl-C, or the engine closing: the visit ends with it, and its state was not left."""
    with trio.CancelScope() as scope:

        async def cancels(_visit: Visit[Any]) -> None:
            scope.cancel()
            await trio.sleep_forever()

        await run(cancels, forever)
    assert scope.cancelled_caught


# --- deadlines -----------------------------------------------------------------------------------------


async def test_the_deadline_is_an_event_like_any_other(autojump_clock: MockClock) -> None:
    """It comes when the moment has come, and leads out."""
    assert await run(forever, timeout=300) == ([DeadlinePassed()], None)
    assert trio.current_time() == pytest.approx(300, abs=1e-3)


async def test_a_deadline_that_passed_long_ago_comes_at_once(autojump_clock: MockClock) -> None:
    """As after a night with the laptop closed."""
    assert await run(forever, timeout=-36000) == ([DeadlinePassed()], None)
    assert trio.current_time() < 1


async def test_an_event_being_written_is_not_overtaken_by_the_deadline(autojump_clock: MockClock) -> None:
    """Of two ways out, the one that began first is taken to its end; the other is dropped."""

    async def late(_visit: Visit[Any]) -> Event:
        await trio.sleep(59.9)
        return Left()

    events, trouble = await run(late, timeout=60, host=Memory(takes=0.05))
    assert (events, trouble) == ([Left()], None)


# --- programs ------------------------------------------------------------------------------------------

MACHINE = Machine(
    "m",
    version=1,
    initial="a",
    context=Context,
    states=[State("a", "x"), State("b", "x"), State("end", "x", verdict=Verdict.SUCCESS)],
    rows=[on(Seen, "a", STAY), on(Left, "a", "b"), on(Left, "b", "end")],
)


@pytest.mark.parametrize(
    ("activities", "why"),
    [
        ({"a": [leave]}, "nothing is done in b"),
        ({"a": [leave], "b": []}, "nothing is done in b"),
        ({"a": [leave], "b": [leave], "end": [leave]}, "activities for end"),
        ({"a": [leave], "b": [leave], "c": [leave]}, "activities for c"),
    ],
)
def test_a_program_does_something_in_every_state_and_nothing_else(
    activities: dict[str, list[Activity]], why: str
) -> None:
    """A state nobody acts in would wait for ever; that is found when the program is made."""
    with pytest.raises(MachineInvalid, match=f"machine m: {why}"):
        Program(MACHINE, activities)


def test_waiting_to_be_told_is_something_to_do() -> None:
    """`await_signal` is for states that only wait for a person."""
    program = Program(MACHINE, {"a": [await_signal], "b": [leave]})
    assert program.activities["a"] == (await_signal,)
