"""One connection of the loopback server: bytes in, requests out, answers back. h11 decides, trio does the I/O.

Theory. h11 keeps the rules of HTTP/1.1 (RFC 9112) as two state machines, the peer's and ours; this file moves bytes
between them and a stream. A connection is a loop: read a head, let somebody answer it (an `Exchange`), and either start
over or close. It is bounded in every direction a peer can push:

- A **head** has `MAX_HEAD` bytes and `IDLE_SECONDS` to arrive. The size is checked before h11 reads the head, so that
  the answer does not depend on the packets the head arrived in.
- A **body** is read only if whoever answers reads it. A body that nobody has read when the answer starts ends the
  connection: the answer says `Connection: close`.
- **Pipelined** requests are answered one after the other. What is not looked at yet stays in the kernel's buffer.
- A **short answer** has `SEND_SECONDS` to be taken; a peer that does not read loses its connection.
- An **upgrade** is never accepted (RFC 9110 section 7.8 allows to ignore it); h11 then goes on as if it was not asked.

A connection that is closed while its peer is still sending would be reset, and the reset may delete our answer at the
peer. So it is closed in two steps (RFC 9112 section 9.6): our half first, then the rest when the peer has hung up, or
after `LINGER_SECONDS`.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from typing import Final

import h11
import msgspec
import trio

from ...base.log import get_logger
from .pages import error_page, page_headers

logger = get_logger(__name__)

IDLE_SECONDS: Final = 5
"""How long a connection may take for a complete request head before it is closed (half-open ones, preconnects)."""
SEND_SECONDS: Final = 5
"""How long a peer may take to read a short answer."""
LINGER_SECONDS: Final = 1
"""How long a peer may go on sending after its answer before the connection is closed."""
MAX_HEAD: Final = 128 * 1024
"""Bytes of request line and headers together; beyond it the answer is 431 and the connection is closed.

Cookies know no ports (RFC 6265 section 8.5): a browser sends a loopback server those of every other one.
"""
_RECEIVE: Final = 64 * 1024
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_HEAD_START: Final = re.compile(rb"([A-Z]+) ([\x21-\x7e]+)(?: HTTP/(1\.[01])\r?\n)?")
_REFUSED: Final = {
    431: ("This request is too large", "Your browser sent more than this address takes."),
    500: ("Something went wrong", "The program that answers here has a bug. See the terminal."),
    505: ("Not this way", "This address only takes HTTP/1."),
}
_NOT_HTTP: Final = ("Not a request", "What your browser sent is not HTTP. Open the address with http://, not https://.")
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Disconnected(Exception):  # a notice to whoever answers, never shown to a user
    """The peer hung up, or sent what is not HTTP, before its request was complete."""


class Request(msgspec.Struct, frozen=True):
    """The head of a request.

    Attributes:
        method: As it was sent: methods are case-sensitive.
        target: As it was sent; printable ASCII. Not always a path (RFC 9112 section 3.2).
        version: `1.1` or `1.0`.
        headers: Names in lower case.
    """

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The target up to the first question mark, not decoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target after the first question mark, not decoded."""
        return self.target.partition("?")[2]

    def values(self, name: str) -> list[str]:
        """Every value of a header; `name` in lower case."""
        return [value for each, value in self.headers if each == name]


class ShortAnswer(msgspec.Struct, frozen=True):
    """A short answer that is sent in one piece."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Idleness:
    """The waits that end at once when the server is left; an answer on its way is not one of them."""

    def __init__(self) -> None:
        self.over = False
        self._scopes: set[trio.CancelScope] = set()

    @contextmanager
    def limit(self, seconds: float) -> Generator[trio.CancelScope]:
        """Wait inside the block for at most this long, and no longer than the server is used."""
        with trio.move_on_after(0 if self.over else seconds) as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def end(self) -> None:
        """End every such wait, now and later."""
        self.over = True
        for scope in self._scopes:
            scope.cancel()


class Exchange:
    """One request and its answer.

    An answer is either one call of `respond`, or `start` followed by `send` until `end=True`. Once the peer has gone,
    sending does nothing; `wait_disconnected` reports it.

    Attributes:
        request: The head of the request.
    """

    def __init__(
        self, stream: trio.abc.HalfCloseableStream, http: h11.Connection, request: Request, idleness: Idleness
    ) -> None:
        self.request = request
        self._stream = stream
        self._http = http
        self._idleness = idleness
        self._status = 0

    @property
    def peer(self) -> tuple[str, int] | None:
        """The peer's address and port; None when it has gone already, or is not on a socket."""
        try:
            return self._stream.socket.getpeername() if isinstance(self._stream, trio.SocketStream) else None
        except OSError:
            return None

    async def read(self) -> bytes:
        """Return the next piece of the request's body, empty at its end.

        Raises:
            Disconnected: The peer hung up before the end, or sent what is not HTTP.
        """
        while self._http.their_state is h11.SEND_BODY:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as exc:
                raise Disconnected from exc
            if isinstance(event, h11.Data):
                return bytes(event.data)
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                await receive(self._stream, self._http)
        if self._http.their_state is h11.ERROR:
            raise Disconnected
        return b""

    async def wait_disconnected(self) -> None:
        """Wait until the peer has hung up, its half at least; call it when the body has been read.

        Once the peer has pipelined another request, this waits for ever: seeing what follows would mean to store it.
        """
        while True:
            waiting, closed = self._http.trailing_data
            if closed or self._http.their_state is h11.ERROR:
                return
            if waiting:
                await trio.sleep_forever()
            await receive(self._stream, self._http)

    async def respond(self, answer: ShortAnswer) -> None:
        """Send a whole answer; a peer that does not take it in `SEND_SECONDS` loses its connection."""
        fields = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = self._head(
            answer.status, [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
        )
        with trio.move_on_after(SEND_SECONDS):
            await self._write(head, *self._body(answer.status, answer.body, end=True))

    async def start(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of an answer; without a `Content-Length` the body's end is marked as HTTP allows."""
        self._status = status
        await self._write(self._head(status, headers))

    async def send(self, data: bytes, *, end: bool) -> None:
        """Send a piece of the body; `end` for the last one."""
        await self._write(*self._body(self._status, data, end=end))

    def reset(self) -> None:
        """Reset the connection (TCP RST); what was written and is not sent yet is lost."""
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._stream.socket.close()

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> h11.Response:
        fields = list(headers)
        if not any(name.lower() == b"date" for name, _ in headers):
            fields.append((b"date", formatdate(usegmt=True).encode()))
        # In every other state the request was read to its end.
        if self._idleness.over or self._http.their_state in {h11.IDLE, h11.SEND_BODY, h11.ERROR}:
            fields.append((b"connection", b"close"))
        return h11.Response(status_code=status, headers=fields)

    def _body(self, status: int, data: bytes, *, end: bool) -> list[h11.Event]:
        # The answer to HEAD has the headers of the answer to GET, and like these statuses no body.
        shown: list[h11.Event] = [] if self.request.method == "HEAD" or status in {204, 304} else [h11.Data(data=data)]
        return [*shown, h11.EndOfMessage()] if end else shown

    async def _write(self, *events: h11.Event) -> None:
        if self._http.our_state is h11.ERROR:  # the peer has gone
            await trio.lowlevel.checkpoint()
            return
        data = b"".join(self._http.send(event) or b"" for event in events)
        try:
            await self._stream.send_all(data)
        except _GONE:
            self._http.send_failed()
        except BaseException:  # cancelled: nobody knows how much was sent
            self._http.send_failed()
            raise


Serve = Callable[[Exchange], Awaitable[None]]
Refuse = Callable[[Request, int], ShortAnswer | None]
"""Answers a request that was not read to its end, from what was read of it and a status; None leaves that to us."""


def answering(answer: Callable[[Request], Awaitable[ShortAnswer]]) -> Serve:
    """Return what serves an exchange from a function of the head; no body is ever read."""

    async def serve(exchange: Exchange) -> None:
        await exchange.respond(await answer(exchange.request))

    return serve


async def receive(stream: trio.abc.HalfCloseableStream, http: h11.Connection) -> None:
    """Give h11 what arrives next; a broken connection is one that ended."""
    try:
        data = await stream.receive_some(_RECEIVE)
    except _GONE:
        data = b""
    http.receive_data(bytes(data))


class Connection:
    """A peer's connection, from its first byte to its end.

    Args:
        stream: The connection; whoever made it closes it.
        serve: Answers each request.
        idleness: Shared by all connections of a server.
        refuse: Answers what cannot be read.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        serve: Serve,
        idleness: Idleness,
        refuse: Refuse = lambda _request, _status: None,
    ) -> None:
        self._stream = stream
        self._refusal = refuse
        self._serve = serve
        self._idleness = idleness
        self._method = ""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def run(self) -> None:
        """Serve requests until the peer, the protocol or the server ends it."""
        while await self._answer_next():
            self._http.start_next_cycle()
        # Only after a whole answer: one that was broken off must look broken.
        if self._http.our_state in {h11.DONE, h11.MUST_CLOSE} and self._may_be_sending():
            await self._linger()

    async def _answer_next(self) -> bool:
        """Answer one request; True when the connection can take another."""
        http, request = self._http, None
        try:
            with self._idleness.limit(IDLE_SECONDS):
                request = await self._next_request()
        except h11.RemoteProtocolError as exc:
            await self._refuse(None, exc.error_status_hint)
        if request is None:
            return False
        exchange = Exchange(self._stream, http, request, self._idleness)
        try:
            await self._serve(exchange)
        except* Exception:
            logger.exception("the local web server met a bug while answering")
        if http.our_state is h11.SEND_RESPONSE:
            await self._refuse(request, 500)
        return http.our_state is h11.DONE and http.their_state is h11.DONE and not self._idleness.over

    async def _next_request(self) -> Request | None:
        self._method = ""
        while True:
            self._check_size()
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                break
            if event is not h11.NEED_DATA:
                return None
            await receive(self._stream, self._http)
        self._method = event.method.decode("ascii")
        if not event.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError("not HTTP/1", error_status_hint=505)
        if not _has_body(event):
            self._http.next_event()  # the end of the message
        return Request(
            self._method,
            event.target.decode("ascii"),
            event.http_version.decode("ascii"),
            tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers),
        )

    def _check_size(self) -> None:
        waiting, _ = self._http.trailing_data
        end = _HEAD_END.search(waiting)
        # What begins with a control character is refused by h11 as soon as its first byte is there, whatever its size.
        if (len(waiting) if end is None else end.end()) > MAX_HEAD and waiting[0] > 0x20:
            raise h11.RemoteProtocolError("head too large", error_status_hint=431)

    def _begun(self) -> Request:
        """What was read of a request before its head was refused: no more than its first line."""
        found = _HEAD_START.match(self._http.trailing_data[0])
        parts = [b"", b"", b""] if found is None else [part or b"" for part in found.groups()]
        method, target, version = (part.decode("ascii") for part in parts)
        return Request(method, target, version, ())

    async def _refuse(self, request: Request | None, status: int) -> None:
        """Answer in place of `serve`; `request` is None when its head was not read to its end."""
        answer = self._refusal(request or self._begun(), status)
        if answer is None:
            page = error_page(*_REFUSED.get(status, _NOT_HTTP))
            answer = ShortAnswer(status, page_headers(page), page.encode())
        # By the method h11 has seen, not the one that was begun: it counts the bytes of the body.
        seen = request or Request(self._method, "", "", ())
        await Exchange(self._stream, self._http, seen, self._idleness).respond(answer)

    def _may_be_sending(self) -> bool:
        done = {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}
        return self._http.their_state not in done or self._http.trailing_data[0] != b""

    async def _linger(self) -> None:
        try:
            with self._idleness.limit(LINGER_SECONDS):
                await self._stream.send_eof()
                while await self._stream.receive_some(_RECEIVE):
                    pass
        except _GONE:
            pass


def _has_body(request: h11.Request) -> bool:
    """Whether the head announces a body (RFC 9112 section 6.3); by the head alone, so that packets do not matter."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and int(value) > 0)
        for name, value in request.headers
    )
