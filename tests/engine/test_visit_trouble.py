"""What stops a visit, and when its time is up: one error is told, and everything has ended by then."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.errors import ActivitiesRanDry
from systemprompt_cloud.engine.machine.parts import DeadlinePassed, Event
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.errors import Network, NotAuthenticated
from trio.testing import MockClock

from tests.support.parcel import Oops
from tests.support.visits import Left, Memory, Seen, forever, nothing, run_visit


async def test_activities_that_run_dry_are_named() -> None:
    """Never a silent hang: the error has the state and every activity that had nothing more to do."""

    async def says(_visit: Visit[Any]) -> Event:
        return Seen()

    events, trouble = await run_visit(nothing, says)
    assert events == [Seen()]
    assert isinstance(trouble, ActivitiesRanDry)
    assert trouble.user_message == "nothing is left to do in here and nothing led out of it: nothing, says"


async def test_a_deadline_does_not_hide_that_everything_ran_dry(autojump_clock: MockClock) -> None:
    """Waiting for the deadline with nothing to do is not doing something."""
    events, trouble = await run_visit(nothing, timeout=60)
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

    events, trouble = await run_visit(beside, fails)
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

    assert await run_visit(breaks, soon) == ([Left()], None)


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

    _, trouble = await run_visit(second, first)
    assert isinstance(trouble, NotAuthenticated)


async def test_of_a_group_the_error_that_says_what_to_do_is_told() -> None:
    """An activity with a nursery of its own raises groups, however deep; a lone error comes out of its group."""

    async def group(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [Oops("a"), ExceptionGroup("inner", [Network("down"), Oops("b")])])

    async def lone(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [Oops("a")])])

    async def bugs(_visit: Visit[Any]) -> None:
        raise ExceptionGroup("outer", [Oops("a"), Oops("b")])

    assert [type((await run_visit(activity))[1]) for activity in (group, lone, bugs)] == [Network, Oops, ExceptionGroup]


async def test_cancelling_from_outside_is_not_swallowed() -> None:
    """Ctrl-C, or the engine closing: the visit ends with it, and its state was not left."""
    with trio.CancelScope() as scope:

        async def cancels(_visit: Visit[Any]) -> None:
            scope.cancel()
            await trio.sleep_forever()

        await run_visit(cancels, forever)
    assert scope.cancelled_caught


# --- deadlines -----------------------------------------------------------------------------------------


async def test_the_deadline_is_an_event_like_any_other(autojump_clock: MockClock) -> None:
    """It comes when the moment has come, and leads out."""
    assert await run_visit(forever, timeout=300) == ([DeadlinePassed()], None)
    assert trio.current_time() == pytest.approx(300, abs=1e-3)


async def test_a_deadline_that_passed_long_ago_comes_at_once(autojump_clock: MockClock) -> None:
    """As after a night with the laptop closed."""
    assert await run_visit(forever, timeout=-36000) == ([DeadlinePassed()], None)
    assert trio.current_time() < 1


async def test_an_event_being_written_is_not_overtaken_by_the_deadline(autojump_clock: MockClock) -> None:
    """Of two ways out, the one that began first is taken to its end; the other is dropped."""

    async def late(_visit: Visit[Any]) -> Event:
        await trio.sleep(59.9)
        return Left()

    events, trouble = await run_visit(late, timeout=60, host=Memory(takes=0.05))
    assert (events, trouble) == ([Left()], None)
