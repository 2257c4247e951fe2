"""An ASGI app on the loopback server: what serves the local cloud, and the scripted servers of tests.

Why not hypercorn, which would serve the same app: a peer that never reads keeps its `serve` from ending, because it
shields every write; an error in one connection ends them all; and an app cannot reach its connection to reset it, which
the fault `reset` is. The loopback server has these promises already, and ASGI on top of it is this file.

Only the `http` scope: an app here has no startup or shutdown of its own (`lifespan`), and an upgrade to `websocket` is
ignored, so the app sees a plain GET.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from ..io.loopback.exchange import Disconnected, Exchange
from ..io.loopback.serving import MAX_CONNECTIONS, serve_loopback

_exchange: Final[ContextVar[Exchange]] = ContextVar("exchange")
"""The request that is being answered: an app is run in the context of its connection."""


def reset_connection() -> None:
    """Reset the connection whose request is being answered (TCP RST), as a proxy that dies does.

    What was written and is not sent yet is lost.
    """
    _exchange.get().reset()


def serve_app(
    app: ASGIApp, *, port: int = 0, grace: float = 2.0, connections: int = MAX_CONNECTIONS
) -> AbstractAsyncContextManager[int]:
    """Serve an ASGI app on 127.0.0.1 while inside the `async with`; arguments and errors are `serve_loopback`'s."""

    async def serve(exchange: Exchange) -> None:
        _exchange.set(exchange)  # each connection is a task, and has a context of its own
        body_read = False

        async def receive() -> Message:
            nonlocal body_read
            try:
                if not body_read:
                    chunk = await exchange.read()
                    body_read = not chunk
                    return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}
                await exchange.wait_disconnected()
            except Disconnected:
                pass
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await exchange.start(message["status"], message.get("headers", ()))
            else:
                await exchange.send(message.get("body", b""), end=not message.get("more_body", False))

        await app(_scope(exchange), receive, send)

    return serve_loopback(serve, port=port, grace=grace, connections=connections)


def _scope(exchange: Exchange) -> dict[str, Any]:
    request = exchange.request
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version,
        "method": request.method.upper(),
        "scheme": "http",
        "path": unquote(request.path),
        "raw_path": request.path.encode("ascii"),
        "query_string": request.query.encode("ascii"),
        "root_path": "",
        "headers": [(name.encode("ascii"), value.encode("latin-1")) for name, value in request.headers],
        "client": exchange.peer,
        "server": None,
    }
