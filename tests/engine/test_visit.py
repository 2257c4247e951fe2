"""A visit is a nursery: it runs until an event leads out, and nothing of it runs afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.errors import MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import STAY, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.run import Run, run_state
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.testing.clock import VirtualClock

from tests.support.parcel import Oops
from tests.support.visits import Leaving, Left, Memory, Seen, forever, leave, nothing, run_visit


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

    assert await run_visit(in_order, nothing) == ([Seen("a"), Seen("b"), Seen("c"), Left()], None)
    events, trouble = await run_visit(several, forever, timeout=None, host=Leaving(after=2))
    assert (events, trouble) == ([Seen("a"), Seen("b")], None)


async def test_leaving_cancels_and_awaits_everything() -> None:
    """When `run_state` returns, every activity has finished its cleaning up, shielded or not."""
    cleaned: list[str] = []

    async def tidies(_visit: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
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

    events, trouble = await run_visit(tidies, generates, soon)
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
        assert await run_visit(busy, host=Leaving(after=1)) == ([Seen()], None)
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
        assert await run_visit(clumsy, soon) == ([Left()], None)
        return
    host, clock = Memory(), VirtualClock()
    run = Run(Visit(host, flow="f", state="s", incarnation=1, resumed=False, deadline=None, clock=clock))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_state, run, [clumsy])
        await trio.testing.wait_all_tasks_blocked()
        run.leave()
    assert run.trouble is None


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

    assert await run_visit(insists, soon) == ([Left()], None)
    assert answers == [False]


async def test_a_visit_that_was_left_before_it_began_does_nothing() -> None:
    """Somebody outside may be that quick; the activities meet a cancelled nursery."""
    host, clock = Memory(), VirtualClock()
    host.run = Run(Visit(host, flow="f", state="s", incarnation=1, resumed=False, deadline=None, clock=clock))
    host.run.leave()
    reached: list[str] = []

    async def activity(_visit: Visit[Any]) -> Event:
        await trio.lowlevel.checkpoint()
        reached.append("beyond")
        return Seen()

    assert await run_state(host.run, [activity]) is None
    assert (reached, host.events) == ([], [])


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
