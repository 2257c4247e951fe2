"""Many waits, one that looks at the clock: none ends early, none is lost, most sleep undisturbed. Time is trio's."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.alarms import FEW, SLICE, Alarms
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

# What can happen to a wait: it begins after so many seconds, takes so many, and may be cancelled after so many.
WAITS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60))), min_size=1, max_size=12
)


class Steps(trio.abc.Instrument):
    """Counts how often tasks of a name are run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.count = 0

    @override
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name == self._name


async def test_of_ten_thousand_waits_one_looks_at_the_clock(autojump_clock: MockClock) -> None:
    """For an hour: each task runs when it begins and when it ends; only one of them each `SLICE` seconds."""
    alarms = Alarms(trio.current_time)
    steps = Steps("waiter")
    trio.lowlevel.add_instrument(steps)
    async with trio.open_nursery() as nursery:
        for _ in range(10_000):
            nursery.start_soon(alarms.wait, 3600.0, name="waiter")
        await wait_all_tasks_blocked()
        begun = steps.count
        await trio.sleep(3599)
        assert steps.count - begun <= 3600 / SLICE + 1
    trio.lowlevel.remove_instrument(steps)
    assert trio.current_time() == 3600
    assert alarms.held == 0


async def test_a_suspend_is_noticed_within_a_slice(autojump_clock: MockClock) -> None:
    """The clock runs on while trio's stands still: long waits end with the next look, all that are due."""
    asleep = 0.0
    alarms = Alarms(lambda: trio.current_time() + asleep)
    async with trio.open_nursery() as nursery:
        for end in (3600.0, 3000.0, 2000.0):
            nursery.start_soon(alarms.wait, end)
        await trio.sleep(5)
        asleep = 7200.0
    assert trio.current_time() <= SLICE


async def test_waits_that_are_given_up_leave_the_heap(autojump_clock: MockClock) -> None:
    """A flow that enters state after state, each with a deadline in a week, holds one entry and not one for each."""
    alarms = Alarms(trio.current_time)
    for _ in range(10 * FEW):
        with trio.move_on_after(1):
            await alarms.wait(1e6)
    assert alarms.held <= FEW + 1


@given(WAITS)
def test_each_ends_at_its_moment(waits: list[tuple[int, int, int | None]]) -> None:
    """Whatever begins, ends and is cancelled around it, the one that watches for the others included."""

    async def main() -> None:
        alarms = Alarms(trio.current_time)

        async def wait(begin: int, length: int, patience: int | None) -> None:
            await trio.sleep(begin)
            with trio.move_on_after(float("inf") if patience is None else patience):
                await alarms.wait(begin + length)
            expected = begin + length if patience is None else begin + min(length, patience)
            assert trio.current_time() == expected, (begin, length, patience)

        async with trio.open_nursery() as nursery:
            for each in waits:
                nursery.start_soon(wait, *each)
        assert alarms.held <= FEW + 1

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
