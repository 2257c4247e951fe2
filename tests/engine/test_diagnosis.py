"""A blocked loop and an ignored cancellation are told by the flow, the state, the activity and the line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest
import trio
from systemprompt_cloud.engine.diagnosis import BLOCKED_SECONDS, CLINGING_SECONDS, LOOK_SECONDS, LoopWatch
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.retries import Retry, activity
from systemprompt_cloud.engine.visit import Activity, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock
from typing_extensions import override

from tests.support.parcel import PARCEL, Packed, Parcel, deliver, parcel


class Heard(logging.Handler):
    """Sets an event when a warning comes, in whichever thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.came = threading.Event()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.came.set()


@contextmanager
def heard() -> Generator[Heard]:
    """What the diagnosis says within the block."""
    logger, handler = logging.getLogger("systemprompt_cloud.engine.diagnosis"), Heard()
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


# --- a blocked loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["alone", "beside another", "retried"])
async def test_who_blocks_the_loop_is_named(paths: CloudPaths, how: str) -> None:
    """While it does: the activity goes on only once it has been told."""
    with heard() as warnings:

        async def compute(_visit: Visit[Parcel]) -> Event:
            assert warnings.came.wait(timeout=60)
            return Packed()

        listed: dict[str, Sequence[Activity]] = {
            "alone": [compute],
            "beside another": [await_signal, compute],
            "retried": [activity(compute, retry=Retry(times=1))],
        }
        async with open_engine(paths, [parcel(*listed[how], travelling=deliver)], diagnose=True) as engine:
            flow = await engine.start(PARCEL, Parcel())
            assert (await flow.wait()).succeeded
    line = warnings.lines[0]
    assert f"flow {flow.id}: in the state packing the activity compute blocks the loop" in line
    assert f"{__file__}:" in line
    assert "in compute;" in line
    assert len([each for each in warnings.lines if "compute" in each]) == 1, "once, however long it takes"


def a_watch(*moments: float) -> LoopWatch:
    """A watch whose clock shows these moments."""
    times = iter(moments)
    return LoopWatch(lambda: next(times))


async def test_a_step_that_held_everything_is_told_afterwards() -> None:
    """A call that lets no other thread run; and a task that is none of an activity has its own name."""
    task = trio.lowlevel.current_task()
    with heard() as warnings:
        watch = a_watch(10.0, 10.0 + BLOCKED_SECONDS * 2)
        watch.before_task_step(task)
        watch.after_task_step(task)
    (line,) = warnings.lines
    assert "the loop is blocked for 500 ms by the task" in line


async def test_quick_steps_are_not_told() -> None:
    """Neither while they last nor afterwards; and nothing between two steps."""
    task = trio.lowlevel.current_task()
    with heard() as warnings:
        watch = a_watch(10.0, 10.0 + BLOCKED_SECONDS, 10.0 + BLOCKED_SECONDS)
        watch.look()
        watch.before_task_step(task)
        watch.look()
        watch.after_task_step(task)
        watch.look()
    assert warnings.lines == []


async def test_a_long_step_is_told_once() -> None:
    """By the thread, and not again when it ends."""
    task = trio.lowlevel.current_task()
    with heard() as warnings:
        watch = a_watch(10.0, 11.0, 12.0, 13.0)
        watch.before_task_step(task)
        watch.look()
        watch.look()
        watch.after_task_step(task)
    assert len(warnings.lines) == 1


# --- a cancellation ignored -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "cancelled", "closed"])
async def test_who_does_not_let_go_is_named(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, how: str
) -> None:
    """After five seconds, once: when its state was left, its flow cancelled, or the engine closed."""
    with heard() as warnings:

        async def cling(_visit: Visit[Parcel]) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(CLINGING_SECONDS + 3 * LOOK_SECONDS)

        programs = [parcel(await_signal, cling, travelling=deliver)]
        async with open_engine(paths, programs, clock=clock, inline=True, diagnose=True) as engine:
            flow = await engine.start(PARCEL, Parcel())
            await trio.sleep(20)
            assert warnings.lines == []
            if how == "left":
                await flow.send(Packed())
            elif how == "cancelled":
                await flow.cancel()
            if how != "closed":
                await flow.wait()
    (line,) = warnings.lines
    assert f"flow {flow.id}: the activity cling does not end" in line
    assert "cancelled in the state packing" in line
    assert f"it is at {__file__}:" in line


async def test_who_takes_a_moment_is_not_told(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Four seconds to put things away are no bug; nor are many states in a row."""
    with heard() as warnings:

        async def tidy(_visit: Visit[Parcel]) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(CLINGING_SECONDS - LOOK_SECONDS)

        programs = [parcel(tidy, travelling=tidy)]
        async with open_engine(paths, programs, clock=clock, inline=True, diagnose=True) as engine:
            flow = await engine.start(PARCEL, Parcel())
            await trio.sleep(1)
            await flow.send(Packed())
    assert warnings.lines == []


async def test_closing_waits_for_nothing_of_the_diagnosis(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """An engine whose flows let go at once closes at once."""
    async with open_engine(paths, [parcel()], clock=clock, inline=True, diagnose=True) as engine:
        await engine.start(PARCEL, Parcel())
        began = trio.current_time()
    assert trio.current_time() == began
