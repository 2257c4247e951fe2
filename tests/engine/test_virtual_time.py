"""Virtual time jumps: what waits for a week costs what waits for a second does."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.retries import Retry, activity
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.engine.wakeups import Wakeup
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.abc import Instrument
from trio.testing import MockClock
from typing_extensions import override

WEEK = timedelta(weeks=1).total_seconds()


class Go(Event, frozen=True):
    """A signal."""


WAIT: Machine[Context] = Machine(
    "wait",
    version=1,
    initial="waiting",
    context=Context,
    states=[
        State("waiting", "waits", timeout=WEEK, late="continue"),
        State("gone", "gone", verdict=Verdict.SUCCESS),
        State("late", "too late", verdict=Verdict.FAILURE),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Go, "waiting", "gone"),
        on(DeadlinePassed, "waiting", "late"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)
PROGRAM = Program(WAIT, {"waiting": [await_signal]})


class Turns(Instrument):
    """Counts what the event loop does."""

    many = 0

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more."""
        self.many += 1


async def fail(_visit: Visit[Context]) -> None:
    """Another attempt every day."""
    raise OSError("not yet")


@pytest.mark.parametrize("flows", [1, 5])
@pytest.mark.parametrize("retried", [False, True])
async def test_a_week_costs_a_few_turns_of_the_loop(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, flows: int, retried: bool
) -> None:
    """Not one for each look into an inbox that nobody writes to."""
    daily = Retry(30, 86_400, factor=1.0, longest=86_400, jitter=0)
    program = Program(WAIT, {"waiting": [activity(fail, retry=daily)]}) if retried else PROGRAM
    turns = Turns()
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        started = [await engine.start(WAIT, Context()) for _ in range(flows)]
        later = await engine.start(WAIT, Context(), delay=WEEK)
        trio.lowlevel.add_instrument(turns)
        for flow in started:
            assert (await flow.wait()).state == "late"
        assert (await later.wait()).state == "late"
        trio.lowlevel.remove_instrument(turns)
    assert (clock.now() - NEW_YEAR).total_seconds() == pytest.approx(2 * WEEK, abs=2)
    assert turns.many < 1000


async def test_signals_of_this_process_are_heard_all_the_same(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A tenth of a second later, as in real time: by another engine, after days without one, one after the other."""
    async with (
        open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine,
        open_engine(paths, [PROGRAM], clock=clock, inline=True) as other,
    ):
        for day in (1, 2, 3):
            flow = await engine.start(WAIT, Context())
            await trio.sleep(86_400)
            assert await other.send(flow.id, Go()) is False
            before = trio.current_time()
            assert (await flow.wait()).succeeded
            assert trio.current_time() - before < 0.5, day


async def test_a_wakeup_comes_from_any_thread() -> None:
    """Also after the loop that waits is over, where nobody hears it."""
    wakeup = Wakeup()
    thread = threading.Thread(target=wakeup.set)
    thread.start()
    await wakeup.wait()
    thread.join()
    wakeup.set()
    await wakeup.wait()


def test_a_wakeup_of_a_loop_that_is_over_does_nothing() -> None:
    """Whoever waited is gone."""

    async def make() -> Wakeup:
        await trio.lowlevel.checkpoint()
        return Wakeup()

    trio.run(make).set()
