"""One stream over many connections: it goes on after the last event, waits as it is told to, and says where it stands.

In memory, on a clock that jumps: every wait is looked at to the second.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio
from systemprompt_cloud.errors import ApiError, Network, TooLarge, UnsafeUrl
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.sse.decoder import ServerSentEvent
from systemprompt_cloud.io.sse.event_source import Closed, Connecting, EventSource, Open, SourceState, Waiting
from systemprompt_cloud.testing.streams import ScriptedAnswer, ScriptedTransport, answer, events
from trio.testing import MockClock

URL = "https://stream.test/events"


class Latest(random.Random):
    """Chance at its upper end: full jitter waits its whole bound."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@asynccontextmanager
async def follow(*answers: ScriptedAnswer, **options: Any) -> AsyncGenerator[tuple[EventSource, ScriptedTransport]]:
    """A source whose connections get these answers; its backoff is 1, 2, 4 … 32 seconds."""
    transport = ScriptedTransport(*answers)
    options = {"backoff": Backoff(base=1.0, cap=32.0, rng=Latest())} | options
    async with (
        httpx.AsyncClient(transport=transport) as client,
        EventSource.at(client, URL, **options) as source,
    ):
        yield source, transport


def ids(transport: ScriptedTransport) -> list[str | None]:
    return [request.headers.get("last-event-id") for request in transport.requests]


async def test_it_goes_on_after_the_last_event_until_the_server_says_that_was_all(autojump_clock: MockClock) -> None:
    """Every reconnection says what was had; 204 ends the loop like the end of a list."""
    answers = events(b"id: 1\ndata: a\n\n"), events(b"data: b\n\nid: 3\n\n"), events(b"id\n\n"), 204
    async with follow(*answers) as (source, transport):
        assert [(event.data, event.id) async for event in source] == [("a", "1"), ("b", "1")]
        assert isinstance(source.state, Closed)
        assert "204" in source.state.reason
        assert [event async for event in source] == []
    assert ids(transport) == [None, "1", "3", None]
    assert transport.requests[0].headers["accept"] == "text/event-stream"
    assert transport.requests[0].headers["cache-control"] == "no-store"


async def test_it_begins_where_it_is_told_to(autojump_clock: MockClock) -> None:
    """A reader that comes back after a restart of its own goes on, too; an id no header can carry is left out."""
    async with follow(204, last_event_id="é7") as (source, transport):
        assert [event async for event in source] == []
    assert ids(transport) == ["é7"]
    async with follow(204, last_event_id="a\nb") as (source, transport):
        assert [event async for event in source] == []
    assert ids(transport) == [None]


async def test_states_are_told_in_order_among_the_events(autojump_clock: MockClock) -> None:
    """Whoever shows the state sees each one, with its wait and its reason, in the loop that reads the events."""
    async with follow(events(b"data: a\n\n"), 503, events(b"data: b\n\n"), 404) as (source, _):
        seen: list[ServerSentEvent | SourceState] = []
        with suppress(ApiError):
            async for each in source.with_states():
                seen.append(each)
                assert isinstance(each, ServerSentEvent) or source.state == each
    shapes: list[object] = [each.data if isinstance(each, ServerSentEvent) else type(each) for each in seen]
    lost, failed = [Connecting, Open, "a", Waiting], [Connecting, Waiting]
    assert shapes == [*lost, *failed, Connecting, Open, "b", Waiting, Connecting, Closed]
    waits = [(each.seconds, each.reason) for each in seen if isinstance(each, Waiting)]
    assert [seconds for seconds, _ in waits] == [1.0, 2.0, 4.0]
    assert "the event stream was lost: the server ended it" in waits[0][1]
    assert "503" in waits[1][1]


async def test_waits_double_until_a_connection_was_healthy(autojump_clock: MockClock) -> None:
    """Failures in a row wait longer each time; ten seconds of an open stream end the row, nine do not."""
    healthy, short = events(b"data: a\n\n", 10.0), events(b"data: a\n\n", 9.0)
    refused = httpx.ConnectError("refused")
    async with follow(refused, 500, short, refused, healthy, refused, 204) as (source, transport):
        assert len([event async for event in source]) == 2
    assert transport.at == [0.0, 1.0, 3.0, 3 + 9 + 4.0, 16 + 8.0, 24 + 10 + 1.0, 35 + 2.0]


async def test_waits_are_capped_and_spread(autojump_clock: MockClock) -> None:
    """No wait is over the cap, and two sources do not come back together."""

    async def waits(seed: int) -> list[float]:
        chance = random.Random(seed)  # noqa: S311 -- jitter is no secret
        backoff = Backoff(base=1.0, cap=4.0, rng=chance)
        async with follow(*[500] * 12, 204, backoff=backoff) as (source, transport):
            assert [event async for event in source] == []
        return [b - a for a, b in zip(transport.at, transport.at[1:], strict=False)]

    one, other = await waits(1), await waits(2)
    assert max(one + other) <= 4.0
    assert one != other


async def test_the_reconnection_time_of_the_server_is_kept(autojump_clock: MockClock) -> None:
    """`retry` holds for every later reconnection; backoff comes on top of it."""
    async with follow(events(b"retry: 5000\n\n"), events(b"data: a\n\n"), 204) as (source, transport):
        assert len([event async for event in source]) == 1
    assert transport.at == [0.0, 6.0, 6 + 5 + 2.0]


async def test_an_absurd_reconnection_time_is_cut_down(autojump_clock: MockClock) -> None:
    """A server that says `retry: 99999999999999999999999` has a bug; five minutes are enough."""
    async with follow(events(b"retry: " + b"9" * 30 + b"\n"), 204) as (source, transport):
        assert [event async for event in source] == []
    assert transport.at == [0.0, 301.0]


async def test_retry_after_is_not_undercut(autojump_clock: MockClock) -> None:
    """What a busy server asks for is waited, in seconds or as a date by its own clock."""
    now, later = "Mon, 23 Nov 2026 10:00:00 GMT", "Mon, 23 Nov 2026 10:00:40 GMT"
    busy = answer(429, headers={"Retry-After": "20"})
    down = answer(503, headers={"Retry-After": later, "Date": now})
    async with follow(busy, down, 204) as (source, transport):
        assert [event async for event in source] == []
    assert transport.at == [0.0, 21.0, 21 + 41.0]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599])
async def test_a_status_that_may_mend_itself_is_tried_again(status: int, autojump_clock: MockClock) -> None:
    """The server is busy or broken: the stream waits."""
    async with follow(status, events(b"data: a\n\n"), 204) as (source, _):
        assert [event.data async for event in source] == ["a"]


@pytest.mark.parametrize("status", [201, 202, 206, 300, 301, 304, 400, 401, 403, 404, 405, 410, 418])
async def test_any_other_status_is_final(status: int, autojump_clock: MockClock) -> None:
    """Asking again would get the same answer: it is raised once, and the source is closed."""
    async with follow(status) as (source, transport):
        with pytest.raises(ApiError) as refused:
            await anext(source)
        assert refused.value.status == status
        assert source.state == Closed(refused.value.user_message)
        with pytest.raises(StopAsyncIteration):
            await anext(source)
    assert len(transport.requests) == 1


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream;charset=latin-1", "text/event-stream ; x=y"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(kind: str, autojump_clock: MockClock) -> None:
    """It is UTF-8, whatever the charset says (9.2.5)."""
    async with follow(events("data: é\n\n".encode(), headers={"Content-Type": kind}), 204) as (source, _):
        assert [event.data async for event in source] == ["é"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Type": "text/html"}, "an HTML page"),
        ({"Content-Type": "text/plain"}, "'text/plain', where an event stream was asked for"),
        ({"Content-Type": ""}, "no content type"),
        ({"Content-Type": "text/event-stream-ish"}, "where an event stream was asked for"),
        ({"Content-Encoding": "br"}, "encoded as 'br'"),
        ({"Content-Encoding": "gzip, deflate"}, "encoded as 'gzip, deflate'"),
    ],
    ids=["html", "text", "none", "longer", "brotli", "twice"],
)
async def test_what_is_no_stream_is_said_clearly(headers: dict[str, str], said: str, autojump_clock: MockClock) -> None:
    """A 200 that is something else ends it, instead of looking like a stream in which nothing happens."""
    body = events(b"data: a\n\n", headers=headers)
    async with follow(body) as (source, _):
        with pytest.raises(ApiError, match=said):
            await anext(source)
        assert body.extensions["script"].closed


async def test_a_silent_connection_is_given_up_and_comments_keep_it(autojump_clock: MockClock) -> None:
    """Any byte feeds the watchdog; without one the connection is dropped and made again."""
    quiet = events(25.0, b":\n", 25.0, b":\n", 25.0, b"data: a\n\n", 3600.0)
    async with follow(quiet, 204, idle_timeout=30.0) as (source, transport):
        assert [event.data async for event in source] == ["a"]
    assert transport.at == [0.0, 75 + 30 + 1.0]
    assert quiet.extensions["script"].closed


async def test_an_answer_that_does_not_come_is_given_up(autojump_clock: MockClock) -> None:
    """The head of an answer has its own deadline; waiting for the stream's first byte has another."""
    async with follow(3600.0, 204, open_timeout=5.0) as (source, transport):
        seen = [each async for each in source.with_states() if isinstance(each, Waiting)]
    assert ["no answer within 5 s" in each.reason for each in seen] == [True]
    assert transport.at[1] == 6.0


async def test_a_flood_is_refused_after_the_good_events(autojump_clock: MockClock) -> None:
    """A line over the bound is no stream to reconnect to; what came before it is handed out."""
    async with follow(events(b"data: a\n\ndata: " + b"x" * 100), max_line=50) as (source, transport):
        assert (await anext(source)).data == "a"
        with pytest.raises(TooLarge):
            await anext(source)
        assert isinstance(source.state, Closed)
    assert len(transport.requests) == 1


def untrusted() -> httpx.ConnectError:
    """As httpx raises it: what OpenSSL found is the cause of what cannot connect."""
    failed = httpx.ConnectError("")
    failed.__cause__ = ssl.SSLCertVerificationError(1, "self-signed")
    return failed


@pytest.mark.parametrize(
    "failure",
    [httpx.LocalProtocolError("bad header"), untrusted()],
    ids=["unsendable", "certificate"],
)
async def test_a_connection_that_cannot_mend_itself_is_final(failure: Exception, autojump_clock: MockClock) -> None:
    """A certificate nobody trusts is not trusted a second later."""
    async with follow(failure) as (source, _):
        with pytest.raises(Network):
            await anext(source)


@pytest.mark.parametrize(
    "url", ["ftp://stream.test/", "/events", "http://", "https://stream.test:port/", "https://a..test/"]
)
async def test_an_address_that_is_none_is_final(url: str, autojump_clock: MockClock) -> None:
    """Nothing is sent, and nothing is tried again."""
    async with httpx.AsyncClient(transport=ScriptedTransport()) as client, EventSource.at(client, url) as source:
        with pytest.raises(UnsafeUrl):
            await anext(source)


async def test_a_cancelled_wait_for_an_event_goes_on_with_a_new_connection(autojump_clock: MockClock) -> None:
    """Nothing that was handed out comes again, nothing that was not is lost, and no failure is counted."""
    first = events(b"id: 1\ndata: a\n\nid: 2\nda", 20.0, b"ta: b\n\n")
    async with follow(first, events(b"id: 2\ndata: b\n\n"), 204) as (source, transport):
        assert (await anext(source)).data == "a"
        with trio.move_on_after(5):
            await anext(source)
        assert source.state == Connecting()
        assert first.extensions["script"].closed
        assert (await anext(source)).data == "b"
        assert transport.at == [0.0, 5.0]
    assert ids(transport) == [None, "1"]


async def test_a_cancelled_wait_between_connections_is_not_begun_anew(autojump_clock: MockClock) -> None:
    """Somebody who looks in every second does not keep the source from connecting."""
    async with follow(answer(503, headers={"Retry-After": "10"}), 204) as (source, transport):
        for _ in range(5):
            with trio.move_on_after(1):
                await anext(source)
        assert isinstance(source.state, Waiting)
        assert [event async for event in source] == []
    assert transport.at == [0.0, 11.0]


async def test_leaving_the_block_closes_the_connection_and_the_source(autojump_clock: MockClock) -> None:
    """`break` and then the end of the block: nothing stays open, and nothing comes after."""
    body = events(b"data: a\n\ndata: b\n\n", 3600.0)
    async with follow(body) as (source, _):
        async for event in source:
            assert event.data == "a"
            break
    assert body.extensions["script"].closed
    assert source.state == Closed("its reader has left")
    with pytest.raises(StopAsyncIteration):
        await anext(source)


async def test_outside_its_block_it_does_not_connect(autojump_clock: MockClock) -> None:
    """No connection is opened that nobody would close."""
    async with httpx.AsyncClient(transport=ScriptedTransport()) as client:
        with pytest.raises(RuntimeError, match="async with"):
            await anext(EventSource.at(client, URL))


async def test_an_error_that_is_not_ours_passes_through(autojump_clock: MockClock) -> None:
    """What the source does not understand it does not treat: the caller gets it as it is."""
    async with follow(KeyError("a bug of the transport")) as (source, _):
        with pytest.raises(KeyError):
            await anext(source)
        assert not isinstance(source.state, Closed)


async def test_reasons_hold_no_query(autojump_clock: MockClock) -> None:
    """What is shown of the address leaves out what may be a secret."""
    transport = ScriptedTransport(500, 404)
    async with (
        httpx.AsyncClient(transport=transport) as client,
        EventSource.at(client, f"{URL}?token=s3cret") as source,
    ):
        with pytest.raises(ApiError) as refused:
            _ = [each async for each in source]
        assert isinstance(source.state, Closed)
        assert "s3cret" not in f"{source.state} {refused.value}"
    assert str(transport.requests[0].url) == f"{URL}?token=s3cret"
