"""A run that stands still does something only while it is called."""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.testing.stillness import StillRun


async def say(word: str) -> str:
    await trio.lowlevel.checkpoint()
    return word


async def fail(seconds: float) -> None:
    await trio.sleep(seconds)
    raise LookupError("it failed")


def test_a_call_returns_what_the_function_returned_and_raises_what_it_raised() -> None:
    """One call after the other, in one run."""
    run = StillRun()
    try:
        assert [run.call(say, word) for word in ("one", "two")] == ["one", "two"]
        with pytest.raises(LookupError):
            run.call(fail, 0)
        assert run.call(say, "three") == "three"
    finally:
        run.close()


def test_time_passes_only_when_it_is_told_to_and_tasks_go_on_then() -> None:
    """A task that sleeps a minute wakes in the call that moves the clock."""
    run = StillRun()
    woken: list[float] = []

    async def sleeper() -> None:
        await trio.sleep(60)
        woken.append(trio.current_time())

    async def begin() -> None:
        await trio.lowlevel.checkpoint()
        run.nursery.start_soon(sleeper)

    async def jump() -> None:
        run.clock.jump(60)
        await trio.lowlevel.checkpoint()

    try:
        run.call(begin)
        run.call(say, "nothing yet")
        assert woken == []
        run.call(jump)
        assert woken == [60.0]
    finally:
        run.close()


def test_a_task_that_fails_ends_the_run_and_is_not_overlooked() -> None:
    """Whoever calls next is told; afterwards the run is over."""
    run = StillRun()

    async def begin() -> None:
        await trio.lowlevel.checkpoint()
        run.nursery.start_soon(fail, 1)

    async def jump() -> None:
        run.clock.jump(1)
        await trio.lowlevel.checkpoint()

    run.call(begin)
    with pytest.raises(ExceptionGroup):
        run.call(jump)
    with pytest.raises(RuntimeError, match="the run is over"):
        run.call(say, "too late")
    run.close()


def test_closing_cancels_what_still_runs() -> None:
    """Nothing is left, and closing twice is closing once."""
    run = StillRun()

    async def begin() -> None:
        await trio.lowlevel.checkpoint()
        run.nursery.start_soon(trio.sleep_forever)

    run.call(begin)
    run.close()
    run.close()
