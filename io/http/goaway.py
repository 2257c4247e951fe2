"""A server that ends an HTTP/2 connection in an orderly way, and what httpcore is told of it.

Theory (RFC 9113 section 6.8): GOAWAY says that the connection takes no new streams. Streams up to the id it names are
finished as if nothing had happened; those above it surely were not processed, whatever the error code is. httpcore 1.0
fails all of them, so an answer that is on its way is lost, and nobody knows whether the request was worked on.

So such a frame is kept from httpcore. The lane takes no further requests, the streams up to the id go on, and for each
stream above it httpcore gets the RST_STREAM with REFUSED_STREAM that means the same (section 8.7). Everything else goes
through as it came. A GOAWAY with an error code goes through, too, after the resets: the streams up to its id may not be
finished. With the id 0 there are none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REFUSED_STREAM: Final = 7
_HEAD: Final = 9
_HEADERS, _RST_STREAM, _GOAWAY = 1, 3, 7
_NO_ERROR: Final = 0
_LONGEST_GOAWAY: Final = 1 << 14


class Frames:
    """The frames of one direction of a connection, as they come in pieces.

    Args:
        replace: Called with each whole frame of type `wanted`, header and payload; returns what goes on in its place.
        wanted: The type of the frames that are held until they are whole; all others go through as they come.
    """

    def __init__(self, wanted: int, replace: Callable[[bytes], bytes]) -> None:
        self._wanted = wanted
        self._replace = replace
        self._held: bytes = b""
        self._passing = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next piece in; returns what goes on."""
        out = bytearray()
        data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            if self._passing:
                piece = data[at : at + self._passing]
                out += piece
                self._passing -= len(piece)
                at += len(piece)
                continue
            head = data[at : at + _HEAD]
            if len(head) < _HEAD:
                self._held = head
                break
            length = int.from_bytes(head[:3])
            if head[3] != self._wanted or length > _LONGEST_GOAWAY:
                self._passing = _HEAD + length
                continue
            frame = data[at : at + _HEAD + length]
            if len(frame) < _HEAD + length:
                self._held = frame
                break
            out += self._replace(frame)
            at += len(frame)
        return bytes(out)


class OrderlyEnd:
    """Watches one HTTP/2 connection for its orderly end.

    Args:
        retire: Called when the server announces it: no further request may be sent here.
    """

    def __init__(self, retire: Callable[[], None]) -> None:
        self._retire = retire
        self._opened: set[int] = set()
        self._begun = False
        self._sent = Frames(_HEADERS, self._note)
        self._received = Frames(_GOAWAY, self._judge)

    def sent(self, data: bytes) -> None:
        """What is about to be sent."""
        if not self._begun:
            self._begun = True
            data = data.removeprefix(PREFACE)
        self._sent.feed(data)

    def received(self, data: bytes) -> bytes:
        """What was received; returns what httpcore gets."""
        return self._received.feed(data)

    def _note(self, frame: bytes) -> bytes:
        self._opened.add(int.from_bytes(frame[5:_HEAD]) & 0x7FFFFFFF)
        return frame

    def _judge(self, frame: bytes) -> bytes:
        if len(frame) < _HEAD + 8:
            return frame
        self._retire()
        last = int.from_bytes(frame[_HEAD : _HEAD + 4]) & 0x7FFFFFFF
        refused = sorted(stream for stream in self._opened if stream > last)
        self._opened.difference_update(refused)
        broken = last and int.from_bytes(frame[_HEAD + 4 : _HEAD + 8]) != _NO_ERROR
        return b"".join(_reset(stream) for stream in refused) + (frame if broken else b"")


def _reset(stream: int) -> bytes:
    return (4).to_bytes(3) + bytes([_RST_STREAM, 0]) + stream.to_bytes(4) + REFUSED_STREAM.to_bytes(4)


def watch(stream: Any, retire: Callable[[], None]) -> None:
    """Watch a connection on which HTTP/2 was agreed; any other is left alone.

    Args:
        stream: httpcore's network stream, after TLS, before anything was sent on it.
        retire: As `OrderlyEnd`.
    """
    secured = stream.get_extra_info("ssl_object")
    if secured is None or secured.selected_alpn_protocol() != "h2":
        return
    end = OrderlyEnd(retire)
    read: Callable[..., Awaitable[bytes]] = stream.read
    write: Callable[..., Awaitable[None]] = stream.write

    async def read_on(max_bytes: int, timeout: float | None = None) -> bytes:
        kept = b""
        while not kept:  # nothing means that the connection has ended: a frame that was kept must not look like that
            data = await read(max_bytes, timeout)
            if not data:
                break
            kept = end.received(data)
        return kept

    async def write_on(buffer: bytes, timeout: float | None = None) -> None:
        end.sent(buffer)
        await write(buffer, timeout)

    stream.read, stream.write = read_on, write_on


def surely_refused(exc: BaseException) -> bool:
    """Whether a request failed because its stream was refused before it was processed (RFC 9113 section 8.7)."""
    found: BaseException | None = exc
    for _ in range(8):
        if found is None:
            return False
        for each in found.args:
            if type(each).__name__ == "StreamReset" and getattr(each, "error_code", None) == REFUSED_STREAM:
                return True
        found = found.__cause__ or found.__context__
    return False
