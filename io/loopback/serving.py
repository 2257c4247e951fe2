"""Serving on loopback: an ASGI app on 127.0.0.1, for exactly as long as somebody stands in the `async with`.

Two rooms need a small web server: the callback listener, to which a browser on this computer is sent back
(RFC 8252 section 7.3), and the embedded local cloud. Both need the same four promises, so they are kept here once:

1. **Loopback only.** The socket is bound to the address 127.0.0.1, never to all interfaces and never to the name
   `localhost`, which a hosts file may point elsewhere (RFC 8252 section 8.3).
2. **Bound before anything happens.** A taken port is `PortBusy` on entering, before a browser opens.
3. **Bounded shutdown.** On leaving, listening stops at once; an answer on its way may finish for `grace` seconds,
   also when the surrounding scope was cancelled; then every connection is closed, whatever it is in the middle of.
4. **One connection is one failure.** What a peer sends, however broken, ends at most its own connection.

Why not `hypercorn.trio.serve`: its tasks die with the surrounding cancellation, so the last page would be torn off; its
writes are shielded, so one client that never reads would keep it from ever ending; and an error in one connection
ends them all. What is used is hypercorn's trio connection, `TCPServer`; accepting and ending are the lines below.
There is no lifespan protocol (an app served here has no startup or shutdown of its own) and no HTTP/2: no browser
speaks it without TLS.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Final, cast

import h11
import trio
import wsproto.utilities
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import UnexpectedMessageError
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from ...base.errors import Io
from ...base.log import get_logger
from ...errors import PortBusy

logger = get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"
MAX_CONNECTIONS: Final = 128
"""Connections held at once; more wait in the kernel's queue, so that a flood cannot eat our file descriptors."""
IDLE_SECONDS: Final = 5
"""How long a connection may stay without a complete request before it is closed (half-open ones, preconnects)."""
MAX_HEAD: Final = 16 * 1024
"""Bytes of request line and headers together; beyond it the answer is 431 and the connection is closed."""

# What hypercorn's connection lets through when the peer misbehaves or goes away in the middle of something.
_PEER_FAULTS: Final = (
    h11.ProtocolError,
    wsproto.utilities.ProtocolError,
    UnexpectedMessageError,
    H2CProtocolRequiredError,
    H2ProtocolAssumedError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.BusyResourceError,  # seen: an error answer while another task of the connection is closing it
    OSError,
)
# What a bug in there would raise. Promise 4 again: a bug that a peer can reach must not end a login; it is logged.
_BUGS: Final = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


_connection: ContextVar[trio.SocketStream] = ContextVar("connection")
"""The connection whose request is being answered: an app is run in the context of its connection."""


def reset_connection() -> None:
    """Reset the connection whose request is being answered (TCP RST), as a proxy that dies does; for the local cloud.

    What was written and is not sent yet is lost.
    """
    sock = _connection.get().socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def serve_loopback(
    app: ASGIApp, *, port: int = 0, grace: float = 2.0, connections: int = MAX_CONNECTIONS
) -> AbstractAsyncContextManager[int]:
    """Serve an ASGI app on 127.0.0.1 while inside the `async with`; gives the bound port.

    Args:
        app: A starlette or other ASGI app. It gets `http` and `websocket` scopes, no `lifespan`.
        port: The port, 0 for any free one.
        grace: Seconds an answer on its way may still take when leaving. Idle connections are closed at once.
        connections: Held at once; more wait until one of these has ended.

    Raises:
        PortBusy: On entering, when the port is taken or not ours to use. Nothing was started; choose another.
        Io: On entering, when the system gives no socket at all.
    """
    return _Serving(app, port, grace, connections)


def bind_loopback(port: int) -> socket.socket:
    """Return a listening socket on 127.0.0.1.

    SO_REUSEADDR lets a second run bind while connections of the first linger in TIME_WAIT (SECURITY 2). On Windows the
    same option would let anybody share the port, so there its opposite is set.

    Args:
        port: The port, 0 for any free one.

    Raises:
        PortBusy: The port is taken, reserved for the system, or no port at all.
        Io: The system gives no socket.
    """
    if not 0 <= port <= 65535:
        raise PortBusy(f"{port} is not a port: they go from 0 to 65535")
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as exc:
        raise Io(
            f"no socket to be had: {exc.strerror}", hint="Close other programs or connections, then retry."
        ) from exc
    try:
        exclusive = socket.SO_REUSEADDR if os.name == "posix" else cast("int", vars(socket)["SO_EXCLUSIVEADDRUSE"])
        sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(MAX_CONNECTIONS)
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise PortBusy(f"port {port} on {LOOPBACK} is taken, by another program or a flow of yours") from exc
        raise PortBusy(f"port {port} on {LOOPBACK} cannot be used: {exc.strerror}") from exc
    return sock


def _bounded(app: ASGIApp) -> ASGIApp:
    """Return the app behind the bound on the head: h11 applies it only to a head that comes in several pieces."""

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        headers = cast("list[tuple[bytes, bytes]]", scope["headers"])
        size = (
            len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in headers)
        )
        if size > MAX_HEAD and scope["type"] == "http":
            await Response(status_code=431)(scope, receive, send)
        elif size > MAX_HEAD:
            await send({"type": "websocket.close"})
        else:
            await app(scope, receive, send)

    return check


class _ToOurLog(logging.Handler):
    """Carries hypercorn's error log to ours, which redacts; hypercorn's own handlers would print to stderr."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        logger.error("local web server: %s", record.getMessage(), exc_info=record.exc_info)


def _configuration() -> Config:
    said = logging.Logger("systemprompt_cloud.serving", logging.WARNING)
    said.addHandler(_ToOurLog())
    config = Config()
    config.accesslog = None
    config.errorlog = said
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECONDS
    config.h11_max_incomplete_size = MAX_HEAD
    config.websocket_max_message_size = MAX_HEAD
    return config


class _Connection(TCPServer):
    """hypercorn's connection, kept to HTTP/1: a request to change to HTTP/2 ends it."""

    @override
    async def _read_data(self) -> None:
        # The wrapper's only work is to answer the two HTTP/2 exceptions with an HTTP/2 connection.
        self.protocol = cast("ProtocolWrapper", self.protocol.protocol)
        await super()._read_data()
        # The peer has said all it will; without this its idle timer would keep the connection for its full time.
        await self.idle_task.stop()


class _Serving:
    """The context manager: one nursery that holds one shielded server.

    A class and not a generator, because a generator would have to pass the body's exception through the nursery, which
    wraps it in a group; callers should meet the `PortBusy` or `ApiError` they raised.
    """

    def __init__(self, app: ASGIApp, port: int, grace: float, connections: int) -> None:
        self._app = ASGIWrapper(cast("ASGIFramework", _bounded(app)))
        self._port = port
        self._grace = grace
        self._config = _configuration()
        self._context = WorkerContext(None)
        self._accepting = trio.CancelScope()
        # Shielded: a cancellation around the `async with` must not tear an answer; `__aexit__` bounds it instead.
        self._serving = trio.CancelScope(shield=True)
        self._room = trio.Semaphore(connections)
        self._streams: set[trio.SocketStream] = set()
        self._done = trio.Event()

    async def __aenter__(self) -> int:
        sock = bind_loopback(self._port)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        nursery.start_soon(self._serve, listener)
        return cast("int", sock.getsockname()[1])

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            self._accepting.cancel()
            await self._context.terminated.set()  # idle connections close themselves, busy ones after their answer
            with trio.move_on_after(self._grace):
                await self._done.wait()
            self._serving.cancel()
            # A write to a peer that does not read is shielded inside hypercorn; only closing its socket ends it.
            for stream in tuple(self._streams):
                stream.socket.close()
            await self._done.wait()
        await self._manager.__aexit__(None, None, None)

    async def _serve(self, listener: trio.SocketListener) -> None:
        try:
            with self._serving:
                async with trio.open_nursery() as connections:
                    with self._accepting:
                        async with listener:
                            await self._accept(listener, connections)
        finally:
            self._done.set()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            await self._room.acquire()
            try:
                stream = await listener.accept()
            except OSError as exc:
                self._room.release()
                if exc.errno not in _OUT_OF_RESOURCES:
                    raise
                logger.warning("the local web server cannot accept a connection: %s", exc.strerror)
                await trio.sleep(0.1)
                continue
            connections.start_soon(self._handle, stream)

    async def _handle(self, stream: trio.SocketStream) -> None:
        self._streams.add(stream)
        _connection.set(stream)  # each connection is a task, and has a context of its own
        try:
            # hypercorn names its TLS stream here and handles both.
            tls_or_not = cast("trio.SSLStream[trio.SocketStream]", cast("object", stream))
            await _Connection(self._app, self._config, self._context, ConnectionState({}), tls_or_not).run()
        except* _PEER_FAULTS as faults:
            # Only the kinds: what the peer sent may hold a token.
            kinds = sorted({type(fault).__name__ for fault in faults.exceptions})
            logger.debug("a connection to the local web server ended badly: %s", ", ".join(kinds))
        except* _BUGS:
            logger.exception("a connection to the local web server met a bug")
        finally:
            self._streams.discard(stream)
            self._room.release()
            await trio.aclose_forcefully(stream)
