"""A real HTTP server on loopback that gives planned answers and records the requests.

For answers that no well-behaved server gives: errors in a given order, bodies that never end, bytes that are not HTTP.
`systemprompt_cloud.sandbox` is a complete simulated cloud.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import jwt
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from typing_extensions import override

from ..io.cloud.api import CloudApiClient
from ..io.http.polling import Backoff
from ..sandbox.serving import serve_app

Handler = Callable[[Request], Awaitable[Response]]

ME: Final = {"user": {"id": "u1", "email": "ada@example.com"}}
"""The answer of `/auth/me` for an account without tenants."""


FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A moment that no run of a test reaches."""


def make_token(**claims: Any) -> str:
    """A token of `ME`, valid until `FAR`; `claims` replace or add claims."""
    payload = {"sub": "u1", "exp": FAR} | claims
    return jwt.encode(payload, "a-key-that-is-long-enough-for-hs256")


TOKEN: Final = make_token()


def api_error(status: int, code: str = "oops", message: str = "it broke", **headers: str) -> JSONResponse:
    """An error as the API itself answers it."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


class Endless(AsyncIterator[bytes]):
    """A body without an end. Not a generator: a server drops it half-read, and trio warns about generators left so.

    Args:
        chunk: What is sent again and again.
        every: Seconds between two chunks.
    """

    def __init__(self, chunk: bytes, every: float = 0.0) -> None:
        self._chunk = chunk
        self._every = every

    @override
    async def __anext__(self) -> bytes:
        await trio.sleep(self._every)
        return self._chunk


class ScriptedServer:
    """Gives each request the next planned answer; the last one is repeated.

    Attributes:
        url: Where it listens.
        requests: Every request, in order.
        bodies: Their bodies.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self._answers: list[Response | Handler] = []

    def plan(self, *answers: Response | Handler) -> None:
        """Replace what is planned: responses, or functions of the request that make one."""
        self._answers = list(answers)

    async def answer(self, request: Request) -> Response:
        """Give a request the next answer."""
        self.requests.append(request)
        self.bodies.append(await request.body())
        planned = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return planned if isinstance(planned, Response) else await planned(request)


def client_of(
    server: ScriptedServer, token: str | None = TOKEN, *, timeout: float = 5.0, **options: Any
) -> CloudApiClient:
    """A client of the server without delays between attempts; other `options` are those of `CloudApiClient`."""
    return CloudApiClient(server.url, token, timeout=timeout, backoff=Backoff(base=0.0), **options)


@asynccontextmanager
async def serve_scripted() -> AsyncGenerator[ScriptedServer]:
    """Serve a `ScriptedServer` on a free port of 127.0.0.1 while inside the block."""
    server = ScriptedServer()
    app = Starlette(routes=[Route("/{path:path}", server.answer, methods=["GET", "POST", "PUT", "DELETE"])])
    async with serve_app(app, grace=0.2) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


def event_stream(
    *chunks: bytes, hold: bool = False, every: float = 0.0, media: str = "text/event-stream; charset=utf-8"
) -> Handler:
    """An answer that sends these chunks, one every `every` seconds, then ends, or with `hold` stays open and silent."""

    async def handle(_request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes]:
            for chunk in chunks:
                yield chunk
                await trio.sleep(every)
            if hold:
                await trio.sleep_forever()

        return StreamingResponse(body(), headers={"Content-Type": media})

    return handle


@asynccontextmanager
async def serve_bytes(answer: bytes, asked: list[bytes] | None = None) -> AsyncGenerator[str]:
    """Answer every connection with these bytes and close it: for what no framework would send.

    Args:
        answer: Sent as it is once something has been received.
        asked: Collects what was received.

    Returns:
        The URL to call.
    """

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            received = bytes(await stream.receive_some())
            if asked is not None:
                asked.append(received)
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
