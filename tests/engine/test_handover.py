"""Why a flow is resumed decides about its deadline: a person gets the whole time, a crash puts nothing off."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import pytest
import trio
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    Late,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock
from typing_extensions import override


class Wait(Context, frozen=True, kw_only=True):
    """How long it may take, in seconds."""

    patience: float = 60.0


class Flipped(Event, frozen=True):
    """From one way of waiting to the other; they share a deadline."""


class ChildEnded(Event, frozen=True):
    """The child has ended."""


def waiting_machine(late: Late) -> Machine[Wait]:
    """Two states that share a deadline of a minute."""
    return Machine(
        f"waiting-{late}",
        version=1,
        initial="one",
        context=Wait,
        states=[
            State("one", "waits", timeout="patience", late=late),
            State("two", "waits too", timeout="patience", late=late),
            State("late", "too late", verdict=Verdict.FAILURE),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Flipped, "one", "two"),
            on(Flipped, "two", "one"),
            on(DeadlinePassed, "one", "late"),
            on(DeadlinePassed, "two", "late"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


MACHINES: dict[Late, Machine[Wait]] = {"restart": waiting_machine("restart"), "continue": waiting_machine("continue")}
PARENT = Machine(
    "waiting-parent",
    version=1,
    initial="delegating",
    context=Wait,
    states=[
        State("delegating", "a child waits", child="waiting-restart"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(ChildEnded, "delegating", "done"), on(CancelRequested, ANY, "cancelled")],
)


async def delegate(visit: Visit[Wait]) -> Event:
    """Run the child."""
    await visit.run_child(PROGRAMS[0], Wait())
    return ChildEnded()


PROGRAMS: list[Program[Any]] = [
    *(Program(machine, {"one": [await_signal], "two": [await_signal]}) for machine in MACHINES.values()),
    Program(PARENT, {"delegating": [delegate]}),
]


def left(engine: Engine, flow: str, clock: VirtualClock) -> float:
    """Seconds until the flow's deadline, as the journal has it."""
    return (parse_moment(engine.row(flow).deadline or "") - clock.now()).total_seconds()


@pytest.mark.parametrize("late", ["restart", "continue"])
@pytest.mark.parametrize("why", ["person", "handover"])
async def test_a_person_gets_the_whole_time_and_another_process_does_not(
    paths: CloudPaths,
    clock: VirtualClock,
    autojump_clock: MockClock,
    late: Late,
    why: Literal["person", "handover"],
) -> None:
    """Only a state that waits for a person starts its deadline again, and only when a person is back."""
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        flow = await engine.start(MACHINES[late], Wait())
    await trio.sleep(45)
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        await engine.resume(flow.id, why=why)
        whole = late == "restart" and why == "person"
        assert left(engine, flow.id, clock) == pytest.approx(60 if whole else 15)
        began = trio.current_time()
        assert (await engine.wait(flow.id)).state == "late"
        assert trio.current_time() - began == pytest.approx(60 if whole else 15)


@pytest.mark.parametrize("late", ["restart", "continue"])
async def test_crashes_put_a_deadline_off_for_no_one(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, late: Late
) -> None:
    """However often a process dies and the next one takes over: the time is up when it would have been."""
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        flow = await engine.start(MACHINES[late], Wait())
        began = trio.current_time()
    for _ in range(5):
        await trio.sleep(10)
        async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
            await engine.resume(flow.id, why="handover")
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        await engine.resume(flow.id, why="handover")
        assert (await engine.wait(flow.id)).state == "late"
        assert trio.current_time() - began == pytest.approx(60)


async def test_a_child_is_resumed_for_the_reason_of_its_parent(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A handover reaches the whole family; so does a person."""
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        flow = await engine.start(PARENT, Wait())
        await trio.testing.wait_all_tasks_blocked()
    child = f"{flow.id}.waiting-restart-1"
    for why, seconds in (("handover", 40), ("handover", 20), ("person", 60)):
        await trio.sleep(20)
        async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
            await engine.resume(flow.id, why=why)  # pyright: ignore[reportArgumentType]
            await trio.testing.wait_all_tasks_blocked()
            assert left(engine, child, clock) == pytest.approx(seconds)


# --- the wall clock is set ------------------------------------------------------------------------------------------


class SetClock(VirtualClock):
    """A clock whose wall time can be set while it runs, as NTP does."""

    def __init__(self) -> None:
        super().__init__(NEW_YEAR)
        self.wrong = timedelta(0)

    @override
    def now(self) -> datetime:
        return super().now() + self.wrong

    @override
    async def sleep_until(self, moment: datetime) -> None:
        end = self.elapsed() + (moment - self.now()).total_seconds()
        await trio.sleep_until(end)


JUMPS = [timedelta(hours=2), timedelta(hours=-2), timedelta(days=400), timedelta(seconds=30)]


@pytest.mark.parametrize("jump", JUMPS, ids=str)
@pytest.mark.parametrize("late", ["restart", "continue"])
@pytest.mark.parametrize("resumed", [False, True])
async def test_a_wall_clock_that_is_set_moves_no_deadline(
    paths: CloudPaths, autojump_clock: MockClock, jump: timedelta, late: Late, resumed: bool
) -> None:
    """Neither in its state nor in another that shares the deadline, before or after a resume."""
    clock = SetClock()
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        flow = await engine.start(MACHINES[late], Wait())
        began = trio.current_time()
        if not resumed:
            await _flip_and_end(engine, flow.id, clock, jump, began)
            return
    await trio.sleep(10)
    async with open_engine(paths, PROGRAMS, clock=clock, inline=True) as engine:
        await engine.resume(flow.id, why="handover")
        await _flip_and_end(engine, flow.id, clock, jump, began)


async def _flip_and_end(engine: Engine, flow: str, clock: SetClock, jump: timedelta, began: float) -> None:
    await trio.sleep(5)
    clock.wrong = jump
    for _ in range(3):
        await trio.sleep(5)
        assert await engine.send(flow, Flipped()) is True
    assert (await engine.wait(flow)).state == "late"
    assert trio.current_time() - began == pytest.approx(60)


@pytest.mark.parametrize("jump", JUMPS, ids=str)
async def test_a_wall_clock_that_is_set_moves_no_deadline_over_a_pause(
    paths: CloudPaths, autojump_clock: MockClock, jump: timedelta
) -> None:
    """The flow is resumed while it is being paused, after the clock was set: what was left is left."""
    clock, failed = SetClock(), [False]
    pausing, let_go = trio.Event(), trio.Event()

    async def fail(_visit: Visit[Wait]) -> Event | None:
        await trio.sleep(5)
        if not failed[0]:
            failed[0] = True
            raise OSError("broken")
        await trio.sleep_forever()

    async def cling(_visit: Visit[Wait]) -> Event | None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                pausing.set()
                await let_go.wait()

    machine = MACHINES["continue"]
    program = Program(machine, {"one": [fail, cling], "two": [await_signal]})
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        flow = await engine.start(machine, Wait())
        began = trio.current_time()
        await pausing.wait()
        clock.wrong = jump
        await engine.resume(flow.id)
        let_go.set()
        assert (await flow.wait()).state == "late"
        assert trio.current_time() - began == pytest.approx(60)
