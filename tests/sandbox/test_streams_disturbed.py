"""Tests of sandbox/streams.py: what a fault does to the bytes of a stream, over real HTTP."""

from __future__ import annotations

import json

import httpx
import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.testing.clock import WorldClock

from tests.support.bare_stream import read_to_the_break, read_to_the_end, reading

from .conftest import Bearer, Paid, events_url


async def test_drop_stream_breaks_after_the_event_and_replay_mends_it(bearer: Bearer, paid: Paid) -> None:
    """Three events, then a broken connection; with the last id the rest comes, nothing twice and nothing lost."""
    async with serve_sandbox(step_seconds=0.01, faults=["drop-stream:after=3"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        ids = await read_to_the_break(url, headers)
        assert ids == ["1", "2", "3"]
        ids += [event.id for event in await read_to_the_end(url, headers, after=ids[-1])]
    assert ids == [str(number) for number in range(1, 11)]


async def test_drop_stream_may_strike_more_than_once(bearer: Bearer, paid: Paid) -> None:
    """`after` counts each connection's own events, so two drops of four leave two events for the third."""
    async with serve_sandbox(step_seconds=0, faults=["drop-stream:after=4,times=2"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        got = [await read_to_the_break(url, headers)]
        got.append(await read_to_the_break(url, headers, after="4"))
        got.append([event.id for event in await read_to_the_end(url, headers, after="8")])
    assert got == [["1", "2", "3", "4"], ["5", "6", "7", "8"], ["9", "10"]]


async def test_a_doubled_and_a_held_back_event(bearer: Bearer, paid: Paid) -> None:
    """`duplicate` sends one twice, `reorder` one after the next; the last event of a story is not kept back."""
    faults = ["duplicate:after=1", "reorder:after=3", "reorder:after=9"]
    async with serve_sandbox(step_seconds=0, faults=faults) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
    assert [event.id for event in events] == ["1", "2", "2", "3", "5", "4", "6", "7", "8", "9", "10"]


async def test_a_stream_told_from_the_beginning(bearer: Bearer, paid: Paid) -> None:
    """`replay-all` ignores the last id once; without an id there is nothing to ignore."""
    async with serve_sandbox(step_seconds=0, faults=["replay-all"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        told = [len(await read_to_the_end(url, headers, after=after)) for after in (None, "8", "8")]
    assert told == [10, 10, 2]


async def test_an_outage_refuses_streams_and_nothing_else(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """For the seconds after the drop streams answer 503 while the status call works; then they are back."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=0, now=clock, faults=["drop-stream:after=0,outage=5"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        url = events_url(sandbox, tenant)
        assert await read_to_the_break(url, headers) == []
        clock.time += 4.9
        assert (await http.get(url, headers=headers)).json()["error"]["code"] == "stream_outage"
        assert (await http.get(url.replace("/events", "/status"), headers=headers)).status_code == 200
        clock.time += 0.2
        assert len(await read_to_the_end(url, headers)) == 10


async def test_silence_keeps_the_connection_and_says_nothing(bearer: Bearer, paid: Paid) -> None:
    """After one event neither events nor heartbeats come, though the connection stands; the next one is well."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["silence:after=1"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        async with reading(events_url(sandbox, tenant), headers) as stream:
            clock.time += 1.0
            sandbox.cloud.wake()
            event = await stream.next_event()
            assert event is not None
            assert event.id == "1"
            clock.time += 100.0
            sandbox.cloud.wake()
            with trio.move_on_after(0.2) as heard_nothing:
                await stream.next()
            assert heard_nothing.cancelled_caught
        assert len(await read_to_the_end(events_url(sandbox, tenant), headers, after="1")) == 9


async def test_malformed_is_one_bad_event_among_good_ones(bearer: Bearer, paid: Paid) -> None:
    """It carries no id and no JSON, and all ten real events still come."""
    async with serve_sandbox(step_seconds=0, faults=["malformed:after=2"]) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
    assert [event.id for event in events] == ["1", "2", "", *(str(number) for number in range(3, 11))]
    with pytest.raises(json.JSONDecodeError):
        _ = events[2].record


async def test_malformed_for_ever_is_one_per_event(bearer: Bearer, paid: Paid) -> None:
    """Without a limit there is a bad event before each good one, and the stream still ends."""
    async with serve_sandbox(step_seconds=0, faults=["malformed:after=0,times=0"]) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
        assert len([event for event in events if event.id]) == 10


async def test_a_stream_fault_keeps_to_its_path(bearer: Bearer, paid: Paid) -> None:
    """A fault for checkouts leaves tenants' streams alone."""
    async with serve_sandbox(step_seconds=0, faults=["drop-stream:after=0,path=/checkout/"]) as sandbox:
        assert len(await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))) == 10
