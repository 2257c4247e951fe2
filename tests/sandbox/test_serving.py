"""ASGI apps on the loopback server: what an app may count on, and what it cannot break."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio
import trio.testing
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from systemprompt_cloud.sandbox.serving import reset_connection, serve_app
from systemprompt_cloud.testing.scripted import Endless

GOOD = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def app(handler: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """A starlette app with one handler for every path."""
    return Starlette(routes=[Route("/{path:path}", handler, methods=["GET", "POST"])])


async def exchange(port: int, *pieces: bytes, hang_up: bool = False) -> bytes:
    """Send raw bytes, each once the last have been dealt with; everything that comes back until the server closes."""
    got = b""
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked(0.01)
            if hang_up:
                await stream.send_eof()
            async for chunk in stream:
                got += bytes(chunk)
    return got


async def test_the_request_is_seen_as_it_was_sent() -> None:
    """Method, path, query, headers and body, and who asks."""

    async def show(request: Request) -> Response:
        scope = request.scope
        assert scope["client"][0] == "127.0.0.1"
        raw = [scope["raw_path"].decode(), scope["query_string"].decode(), scope["http_version"]]
        body = (await request.body()).decode()
        return JSONResponse([request.method, request.url.path, *raw, request.headers.getlist("x"), body])

    async with serve_app(app(show)) as port, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{port}/a%2Fb%20c?d=%C3%A9"
        answer = await client.post(url, content="body", headers=[("X", "one"), ("X", "two")])
    seen = ["POST", "/a/b c", "/a%2Fb%20c", "d=%C3%A9", "1.1", ["one", "two"], "body"]
    assert answer.json() == seen
    assert "server" not in answer.headers


async def test_a_body_comes_in_pieces_and_its_end_is_known() -> None:
    """A client that asks whether to send it is told to (RFC 9110 section 10.1.1)."""
    pieces: list[bytes] = []

    async def read(request: Request) -> Response:
        pieces.extend([piece async for piece in request.stream()])
        return PlainTextResponse("read")

    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
    async with serve_app(app(read)) as port:
        answer = await exchange(port, head, b"ab", b"cd")
    assert pieces == [b"ab", b"cd", b""]
    assert answer.startswith(b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 200")


async def test_a_body_that_breaks_off_is_a_disconnect() -> None:
    """The app decides what it answers."""

    async def read(request: Request) -> Response:
        try:
            await request.body()
        except ClientDisconnect:
            return PlainTextResponse("incomplete", 400)
        raise AssertionError("it was complete")

    async with serve_app(app(read)) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
        assert (await exchange(port, head, b"ab", hang_up=True)).startswith(b"HTTP/1.1 400")


async def test_a_stream_ends_when_its_client_goes() -> None:
    """The app is told, and the connection is free for somebody else."""

    async def stream_on(_: Request) -> Response:
        return StreamingResponse(Endless(b"x", every=0.01))

    async with serve_app(app(stream_on), connections=1) as port:
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(GOOD)
                with trio.fail_after(2):
                    assert b"200" in await stream.receive_some()


@pytest.mark.parametrize("started", [False, True])
async def test_a_bug_in_the_app_ends_its_own_request(started: bool) -> None:
    """Before the answer it is a 500; in the middle of it, the answer breaks off."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise RuntimeError("a bug")

    async with serve_app(broken) as port:
        for _ in range(2):
            answer = await exchange(port, GOOD)
            assert answer.startswith(b"HTTP/1.1 200" if started else b"HTTP/1.1 500")
            assert not answer.endswith(b"0\r\n\r\n")


async def test_an_app_that_answers_more_than_it_promised_ends_its_own_connection() -> None:
    """What was promised is sent, what was not is not."""

    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"cd"})

    async with serve_app(wrong) as port:
        for _ in range(2):
            assert (await exchange(port, GOOD)).endswith(b"\r\n\r\nab")


async def test_a_connection_can_be_reset() -> None:
    """The client sees a reset, not an end."""

    async def reset(request: Request) -> Response:
        reset_connection()
        return PlainTextResponse("nobody reads this")

    async with serve_app(app(reset)) as port:
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await exchange(port, GOOD)


async def test_an_upgrade_to_a_web_socket_is_a_plain_request() -> None:
    """There is no scope of that kind here."""

    async def show(request: Request) -> Response:
        return PlainTextResponse(request.scope["type"])

    async with serve_app(app(show)) as port:
        asked = GOOD.replace(b"Connection: close", b"Connection: Upgrade, close\r\nUpgrade: websocket")
        assert (await exchange(port, asked)).endswith(b"\r\n\r\nhttp")


async def test_a_peer_that_never_reads_does_not_hold_the_end_up() -> None:
    """An app that is stuck in a write is ended by the bound."""

    async def huge(_: Request) -> Response:
        return PlainTextResponse(b"x" * 64_000_000)

    with trio.fail_after(5):
        async with serve_app(app(huge), grace=0.05) as port:
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(GOOD)
            assert (await stream.receive_some(12)).endswith(b"200")
        await stream.aclose()
