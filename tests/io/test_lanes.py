"""Requests are spread over lanes, share the first ones, and leave none behind."""

from __future__ import annotations

from contextlib import AsyncExitStack

import httpx
import pytest
import trio
from systemprompt_cloud.io.http.lanes import CLOSING_TIME, LANE_WIDTH, Lane, Lanes
from trio.testing import MockClock
from typing_extensions import override


class Client(httpx.AsyncClient):
    """A client that sends nothing in these tests."""


async def test_requests_share_a_lane_until_it_is_full() -> None:
    """The first lane with room is taken; the next one over its width opens another."""
    lanes = Lanes(Client, width=2)
    async with lanes.lane() as first, lanes.lane() as second, lanes.lane() as third:
        assert first is second
        assert third is not first
        assert len(lanes) == 2
    async with lanes.lane() as again:
        assert again is first
    await lanes.aclose()
    assert first.http.is_closed


async def test_one_empty_lane_stays_warm_and_no_more() -> None:
    """After a rush connections are not kept for nobody."""
    lanes = Lanes(Client, width=1)
    async with lanes.lane() as first, lanes.lane() as second, lanes.lane() as third:
        assert len(lanes) == 3
    assert len(lanes) == 1
    assert sorted(each.http.is_closed for each in (first, second, third)) == [False, True, True]
    await lanes.aclose()


async def test_a_retired_lane_takes_no_more_and_goes_with_its_last_request() -> None:
    """What was given up in it ends when its neighbours have; they are not disturbed."""
    lanes = Lanes(Client, width=3)
    async with lanes.lane() as neighbour:
        async with lanes.lane() as given_up:
            assert given_up is neighbour
            given_up.retired = True
        assert not neighbour.http.is_closed
        async with lanes.lane() as later:
            assert later is not neighbour
    assert neighbour.http.is_closed
    assert not later.http.is_closed
    assert len(lanes) == 1
    await lanes.aclose()


async def test_closing_closes_lanes_in_use_once() -> None:
    """A request that ends after the close finds nothing left to do."""
    lanes = Lanes(Client, width=1)
    async with lanes.lane() as first, lanes.lane() as second:
        second.retired = True
        await lanes.aclose()
        assert len(lanes) == 0
    assert first.http.is_closed
    assert second.http.is_closed
    assert len(lanes) == 0


async def test_lanes_say_goodbye_all_at_once_and_not_for_long(autojump_clock: MockClock) -> None:
    """A thousand streams have sixteen lanes; servers that do not answer hold up the end for a second, not sixteen."""

    class Mute(Client):
        @override
        async def aclose(self) -> None:
            await trio.sleep_forever()

    lanes = Lanes(Mute, width=1)
    async with AsyncExitStack() as held:
        for _ in range(16):
            await held.enter_async_context(lanes.lane())
        began = trio.current_time()
        await lanes.aclose()
        assert trio.current_time() - began == CLOSING_TIME


async def test_a_cancelled_request_gives_its_place_back() -> None:
    """Nothing is counted that is not there."""
    lanes = Lanes(Client)
    with trio.CancelScope() as scope:
        async with lanes.lane():
            scope.cancel()
            await trio.sleep_forever()
    async with lanes.lane() as next_one:
        assert next_one.carries == 1
    await lanes.aclose()


def test_a_lane_is_narrower_than_what_servers_take() -> None:
    """RFC 9113 section 6.5.2 asks servers for at least 100 streams; some given-up ones may still be counted."""
    assert LANE_WIDTH < 100
    assert not Lane(Client()).retired


async def test_what_making_a_lane_raises_comes_out() -> None:
    """Settings nobody can use are found when the first lane is made."""

    def fail() -> httpx.AsyncClient:
        raise ValueError("Unknown scheme for proxy URL")

    with pytest.raises(ValueError, match="proxy"):
        Lanes(fail)
