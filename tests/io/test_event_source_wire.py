"""The event source on real sockets: what it writes and reads byte for byte, and how fast it lets go.

Servers here do exactly what a test says, which no framework would.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from starlette.responses import Response
from systemprompt_cloud.errors import ApiError
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.sse.event_source import Closed, Connecting, EventSource, Waiting
from systemprompt_cloud.testing.scripted import event_stream, serve_scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
AT_ONCE = Backoff(base=0.0)
Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def serve(*handlers: Handler) -> AsyncGenerator[str]:
    """Hand each connection to the next handler, the last one stays; gives the URL."""
    left = list(handlers)

    async def handle(stream: trio.SocketStream) -> None:
        handler = left.pop(0) if len(left) > 1 else left[0]
        # A reader that has let go breaks the connection: that is what these tests are about.
        with suppress(trio.BrokenResourceError):
            async with stream:
                await handler(stream)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/events"
        nursery.cancel_scope.cancel()


def says(*pieces: bytes, asked: list[bytes] | None = None, hold: bool = False) -> Handler:
    """A handler that reads a request and sends these bytes, each on its own; then it closes, or stays silent."""

    async def handle(stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while b"\r\n\r\n" not in received:
            received += bytes(await stream.receive_some())
        if asked is not None:
            asked.append(received)
        for piece in pieces:
            await stream.send_all(piece)
            await trio.lowlevel.checkpoint()
        if hold:
            await trio.sleep_forever()

    return handle


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_the_request_is_what_the_specification_asks_for() -> None:
    """The whole head of the request, byte for byte, but for the id of the try."""
    asked: list[bytes] = []
    async with (
        serve(says(DONE, asked=asked)) as url,
        httpx.AsyncClient() as client,
        EventSource.at(client, url, last_event_id="é 1", headers={"X-Mine": "1"}) as source,
    ):
        assert [event async for event in source] == []
    lines = [line for line in asked[0].split(b"\r\n") if not line.lower().startswith((b"user-agent", b"x-request-id"))]
    assert lines == [
        b"GET /events HTTP/1.1",
        b"Host: " + url.split("/")[2].encode(),
        b"Connection: keep-alive",
        b"X-Mine: 1",
        b"Accept: text/event-stream",
        b"Cache-Control: no-store",
        b"Last-Event-ID: " + "é 1".encode(),
        b"Accept-Encoding: identity",
        b"",
        b"",
    ]


async def test_bytes_that_come_one_by_one_and_connections_that_are_cut_lose_nothing() -> None:
    """A stream torn in the middle of a chunk is gone on with after its last whole event."""
    asked: list[bytes] = []
    first = HEAD + chunk("id: 1\r\ndata: é\r\n\r\nid: 2\ndata: b".encode())
    torn = HEAD + b"ff\r\nid: 2\ndata: b\n\nid: 3\nda"
    rest = HEAD + chunk(b"id: 3\ndata: c\n\n") + b"0\r\n\r\n"
    single = [first[at : at + 1] for at in range(len(first))]
    handlers = says(*single, asked=asked), says(torn, asked=asked), says(rest, asked=asked), says(DONE, asked=asked)
    async with (
        serve(*handlers) as url,
        httpx.AsyncClient() as client,
        EventSource.at(client, url, backoff=AT_ONCE) as source,
    ):
        assert [(event.id, event.data) async for event in source] == [("1", "é"), ("2", "b"), ("3", "c")]
    sent = [next((line for line in each.split(b"\r\n") if line.startswith(b"Last-Event-ID")), b"") for each in asked]
    assert sent == [b"", b"Last-Event-ID: 1", b"Last-Event-ID: 2", b"Last-Event-ID: 3"]


async def test_a_server_that_is_away_is_waited_for() -> None:
    """A refused connection is a wait with the operating system's reason, and then another try."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    async with httpx.AsyncClient() as client, EventSource.at(client, url, backoff=AT_ONCE) as source:
        states = source.with_states()
        assert await anext(states) == Connecting()
        waiting = await anext(states)
        assert isinstance(waiting, Waiting)
        assert "Connection refused" in waiting.reason
        assert await anext(states) == Connecting()


# --- letting go ----------------------------------------------------------------------------------------


async def never_reads(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def read_forever(url: str) -> None:
    async with httpx.AsyncClient() as client, EventSource.at(client, url, backoff=Backoff(base=0.0)) as source:
        async for _ in source:
            pass


async def nothing_moves() -> None:
    """Wait until everybody waits; not for ever, for a flood never ends."""
    with trio.move_on_after(0.1):
        await trio.testing.wait_all_tasks_blocked(0.02)


async def seconds_to_let_go(url: str) -> float:
    """How long a reader that is cancelled takes to be gone, its connection closed; the best of three."""
    best = float("inf")
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_forever, url)
            await nothing_moves()
            cancelled = trio.current_time()
            nursery.cancel_scope.cancel()
        best = min(best, trio.current_time() - cancelled)
    return best


BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n"
LATE = {
    "for a head": says(hold=True),
    "for the rest of a head": says(HEAD[:30], hold=True),
    "of a server that does not read": never_reads,
    "for a first event": says(HEAD, hold=True),
    "in the middle of a line": says(HEAD + chunk(b"data: \xe2\x82"), hold=True),
    "between connections": says(BUSY),
    "in a flood": says(HEAD, *[chunk(b"data: a\n\n" * 1000)] * 100_000),
    "in the body of an error": says(b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n", hold=True),
}


@pytest.mark.parametrize("waits", LATE)
async def test_a_cancelled_reader_is_gone_within_100_ms(waits: str) -> None:
    """Wherever it waits, nothing it waits for keeps it."""
    async with serve(LATE[waits]) as url:
        assert await seconds_to_let_go(url) < 0.1


async def test_a_reader_that_is_still_connecting_is_gone_within_100_ms() -> None:
    """A listener whose queue is full answers no handshake: the connection is not there yet."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with trio.open_nursery() as full:
            for _ in range(3):
                full.start_soon(read_forever, url)
            await nothing_moves()
            assert await seconds_to_let_go(url) < 0.1
            full.cancel_scope.cancel()


async def test_a_reader_that_is_cancelled_while_it_closes_is_gone_within_100_ms() -> None:
    """The end of the block is under the cancellation, too; the server neither reads nor says goodbye."""
    taken: list[float] = []
    async with serve(says(HEAD + chunk(b"data: a\n\n"), hold=True)) as url, httpx.AsyncClient() as client:
        for _ in range(3):
            source = EventSource.at(client, url)
            with trio.CancelScope() as scope:
                async with source:
                    await anext(source)
                    scope.cancel()
                    began = trio.current_time()
                taken.append(trio.current_time() - began)
            assert source.state == Closed("its reader has left")
    assert min(taken) < 0.1


# --- the API's streams ---------------------------------------------------------------------------------


async def test_the_api_clients_streams_go_on_by_themselves() -> None:
    """`follow_tenant` and `follow_checkout` carry the token and the last id to every connection."""
    async with serve_scripted() as server, CloudApiClient(server.url, "t0ken") as client:
        for follow, path in ((client.follow_tenant, "tenants"), (client.follow_checkout, "checkout")):
            server.requests.clear()
            server.plan(
                event_stream(b"id: 1\ndata: a\n\n"), event_stream(b"id: 2\ndata: b\n\n"), Response(status_code=204)
            )
            async with follow("x y", backoff=AT_ONCE) as source:
                assert [event.data async for event in source] == ["a", "b"]
            assert {request.url.path for request in server.requests} == {f"/api/v1/{path}/x y/events"}
            assert [request.headers.get("last-event-id") for request in server.requests] == [None, "1", "2"]
            assert {request.headers["authorization"] for request in server.requests} == {"Bearer t0ken"}


async def test_the_api_clients_streams_follow_no_redirect() -> None:
    """SECURITY 7: wherever it leads, also within the origin, the token does not go there."""
    async with serve_scripted() as server, CloudApiClient(server.url, "t0ken") as client:
        server.plan(Response(status_code=307, headers={"Location": "/elsewhere"}))
        async with client.follow_tenant("t") as source:
            with pytest.raises(ApiError, match="redirects are not followed"):
                await anext(source)
        assert len(server.requests) == 1


async def test_states_of_a_real_stream() -> None:
    """The same four states as in memory."""
    async with (
        serve(says(HEAD + chunk(b"data: a\n\n") + b"0\r\n\r\n"), says(DONE)) as url,
        httpx.AsyncClient() as client,
        EventSource.at(client, url, backoff=AT_ONCE) as source,
    ):
        seen = [type(each).__name__ async for each in source.with_states()]
    assert seen == ["Connecting", "Open", "ServerSentEvent", "Waiting", "Connecting", "Closed"]
