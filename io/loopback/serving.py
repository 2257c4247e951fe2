"""Serving on loopback: HTTP on 127.0.0.1, for exactly as long as the `async with` is entered.

Two parts of this package need a small web server: the callback listener, to which a browser on this computer is sent
back (RFC 8252 section 7.3), and the embedded local cloud. Both need the same four promises, so they are kept here once:

1. **Loopback only.** The socket is bound to the address 127.0.0.1, never to all interfaces and never to the name
   `localhost`, which a hosts file may point elsewhere (RFC 8252 section 8.3).
2. **Bound before anything happens.** A taken port is `PortBusy` on entering, before a browser opens.
3. **Bounded shutdown.** On leaving, listening stops at once; an answer on its way may finish for `grace` seconds,
   also when the surrounding scope was cancelled; then every connection is closed, whatever it is in the middle of.
4. **One connection is one failure.** What a peer sends, however broken, ends at most its own connection.

This file accepts and ends connections; `exchange` is what happens on one. There is no TLS and no HTTP/2: no browser
speaks HTTP/2 without TLS, and a certificate for 127.0.0.1 would have to be trusted first.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, cast

import trio

from ...base.errors import Io
from ...base.log import get_logger
from ...errors import PortBusy
from .exchange import Connection, Idleness, Refuse, Serve

logger = get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"
MAX_CONNECTIONS: Final = 128
"""Connections held at once; more wait in the kernel's queue, so that a flood cannot use up our file descriptors."""
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class HandOver:
    """Keeps a port open between two servers of one owner: who connects in between is answered by the second one.

    Without it a browser that comes back in the few milliseconds between them is refused. What is kept and not taken is
    closed by `close`, or with this object.
    """

    def __init__(self) -> None:
        # Not a socket object: collected together with its owner, that one would warn that nobody closed it.
        self._kept: int | None = None

    def keep(self, sock: socket.socket) -> None:
        """Keep a listening socket open when its server closes it."""
        self.close()
        self._kept = sock.dup().detach()

    def take(self, port: int) -> socket.socket | None:
        """The socket that was kept; None when there is none of this port."""
        if self._kept is None:
            return None
        sock, self._kept = socket.socket(fileno=self._kept), None
        if sock.getsockname()[1] == port:
            return sock
        sock.close()
        return None

    def close(self) -> None:
        """Close what was kept."""
        if self._kept is not None:
            socket.close(self._kept)
            self._kept = None

    def __del__(self) -> None:
        self.close()


def serve_loopback(
    serve: Serve,
    *,
    port: int = 0,
    grace: float = 2.0,
    connections: int = MAX_CONNECTIONS,
    hand_over: HandOver | None = None,
    follows: Callable[[], bool] = bool,
    refuse: Refuse = lambda _request, _status: None,
) -> AbstractAsyncContextManager[int]:
    """Serve HTTP/1.1 on 127.0.0.1 while inside the `async with`; gives the bound port.

    Args:
        serve: Answers one exchange; `answering` makes it from a function of the request's head.
        port: The port, 0 for any free one.
        grace: Seconds an answer on its way may still take when leaving. Idle connections are closed at once.
        connections: Held at once; more wait until one of these has ended.
        hand_over: Where the socket comes from, and goes to when this server ends and another one follows.
        follows: Asked when this server ends: whether another one follows.
        refuse: Answers what cannot be read.

    Raises:
        PortBusy: On entering, when the port is taken or not ours to use. Nothing was started; choose another.
        Io: On entering, when the system gives no socket at all.
    """
    return _Serving(serve, port, grace, connections, hand_over, follows, refuse)


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


class _Serving:
    """The context manager: one nursery that holds one shielded server.

    A class and not a generator, because a generator would have to pass the body's exception through the nursery, which
    wraps it in a group; callers should get the `PortBusy` or `ApiError` they raised.
    """

    def __init__(
        self,
        serve: Serve,
        port: int,
        grace: float,
        connections: int,
        hand_over: HandOver | None,
        follows: Callable[[], bool],
        refuse: Refuse,
    ) -> None:
        self._refuse = refuse
        self._hand_over = hand_over
        self._follows = follows
        self._serve = serve
        self._port = port
        self._grace = grace
        self._idleness = Idleness()
        self._accepting = trio.CancelScope()
        # Shielded: a cancellation around the `async with` must not tear an answer; `__aexit__` bounds it instead.
        self._serving = trio.CancelScope(shield=True)
        self._room = trio.Semaphore(connections)
        self._done = trio.Event()

    async def __aenter__(self) -> int:
        kept = self._hand_over.take(self._port) if self._hand_over is not None else None
        self._socket = sock = kept if kept is not None else bind_loopback(self._port)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        nursery.start_soon(self._run, listener)
        return cast("int", sock.getsockname()[1])

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):
            if self._hand_over is not None and self._follows() and self._socket.fileno() != -1:
                self._hand_over.keep(self._socket)
            self._accepting.cancel()
            self._idleness.end()  # idle connections close at once, busy ones after their answer
            with trio.move_on_after(self._grace):
                await self._done.wait()
            self._serving.cancel()
            await self._done.wait()
        await self._manager.__aexit__(None, None, None)

    async def _run(self, listener: trio.SocketListener) -> None:
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
        try:
            await Connection(stream, self._serve, self._idleness, self._refuse).run()
        except* Exception:
            logger.exception("a connection to the local web server met a bug")
        finally:
            self._room.release()
            await trio.aclose_forcefully(stream)
