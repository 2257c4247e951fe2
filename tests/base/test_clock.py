"""Waiting for a moment: neither early nor late, whatever the wall clock does meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import freezegun
import pytest
import trio
from systemprompt_cloud.base.clock import Clock, SystemClock, elapsed
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock


def test_now_is_in_utc() -> None:
    """A moment in the journal means the same everywhere."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.utcoffset() == timedelta(0)


def test_elapsed_only_grows() -> None:
    """It is what a wait is measured on."""
    readings = [elapsed() for _ in range(100)]
    assert readings == sorted(readings)


async def test_a_wait_ends_when_the_moment_has_come() -> None:
    """Not a moment before."""
    clock = SystemClock()
    moment = clock.now() + timedelta(seconds=0.05)
    with trio.fail_after(5):
        await clock.sleep_until(moment)
    assert clock.now() >= moment


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()], ids=["system", "virtual"])
async def test_a_moment_that_has_passed_is_not_waited_for(clock: Clock) -> None:
    """It returns at once, though never without a checkpoint: a loop over it can be cancelled."""
    with trio.fail_after(5):
        await clock.sleep_until(clock.now() - timedelta(days=400))
    with trio.CancelScope() as scope:
        scope.cancel()
        await clock.sleep_until(clock.now() - timedelta(seconds=1))
    assert scope.cancelled_caught


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1)], ids=["back", "ahead"])
async def test_a_wall_clock_put_right_changes_nothing(jump: timedelta) -> None:
    """A wait that has begun is measured on a clock nobody sets: it is neither lost nor doubled."""
    clock, woken = SystemClock(), trio.Event()

    async def wait() -> None:
        await clock.sleep_until(clock.now() + timedelta(seconds=0.1))
        woken.set()

    start = elapsed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        wrong = datetime.now(UTC) + jump
        with freezegun.freeze_time(wrong, real_asyncio=True, ignore=["trio"]), trio.fail_after(5):
            await woken.wait()
    assert 0.1 <= elapsed() - start < 5


async def test_a_virtual_clock_follows_trio(mock_clock: MockClock) -> None:
    """What trio skips, it skips."""
    clock = VirtualClock()
    assert clock.now() == NEW_YEAR
    mock_clock.jump(3600)
    assert clock.now() == NEW_YEAR + timedelta(hours=1)


async def test_a_virtual_wait_takes_no_time(autojump_clock: MockClock) -> None:
    """A week passes at once, to the microsecond."""
    clock = VirtualClock(datetime(2030, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=1))))
    moment = datetime(2030, 1, 8, 0, 0, 0, 123457, tzinfo=UTC)
    await clock.sleep_until(moment)
    assert timedelta(0) <= clock.now() - moment <= timedelta(microseconds=2)
    assert trio.current_time() == pytest.approx(7 * 86400 + 0.123457)


def test_a_virtual_clock_wants_to_know_the_time_zone() -> None:
    """A moment without one is a different moment on every machine."""
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2026, 1, 1))  # noqa: DTZ001 that is the point
