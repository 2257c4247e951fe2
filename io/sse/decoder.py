"""Server-sent events: a decoder that only decodes, and a stream that notices when it has gone quiet.

Theory (WHATWG HTML, section 9.2, "Server-sent events"): a stream is UTF-8 text in lines; a line is a field, a comment
or empty; an empty line dispatches what the fields since the last one have collected. The format has many special cases:
CR, LF and CRLF all end a line, also when CR and LF arrive in two chunks; one BOM is dropped, at the very start; `data`
without a colon is an empty line of data; an event without data is not dispatched but does set the last event id; an id
with a NULL is ignored; `retry` takes ASCII digits only; an event the stream ends in the middle of never happened.
`EventDecoder` is that algorithm and nothing else: no I/O, no clock, one `feed`. It deviates in one place: 9.2.6 starts
every stream with an empty last event id, and an event without an id would then make the next reconnection begin at the
beginning. Browsers carry the id on from connection to connection, and so does it.

It is fast because the interpreter's C code does the walking. Bytes are searched for the last line end, everything
before it is decoded at once, and one regular expression takes the text apart: its first alternative is the event
nearly every server sends (an optional id and event name, lines of data, an empty line), its second a single line,
which goes through the plain algorithm. What is said about one line in the specification is thus written down once, in
`_take_line`. It is linear because unfinished lines wait in one growing buffer and are looked at again only when their
end has come.

`EventStream` reads a decoder's bytes from an HTTP response. A connection can die without a sign, so any byte, comments
and heartbeats included, resets a watchdog; when it expires, or the stream ends or breaks, `StreamLost` is raised and
says which.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from typing import Final, Self

import httpx
import msgspec
import trio

from ...errors import StreamLost, TooLarge
from ..http.answers import network_reason
from ..http.broken import broken
from ..http.inflating import Damaged, Inflater
from ..http.reading import unwind

MAX_LINE: Final = 8 * 1024 * 1024
MAX_EVENT: Final = 16 * 1024 * 1024

# A larger chunk is taken in pieces, so that what is held at once does not grow with what a caller hands over.
_PIECE: Final = 256 * 1024
# So many short lines of one unfinished event are joined: a list of tiny strings is ten times their text.
_JOIN_AT: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = 0x0A
_CR: Final = 0x0D


def _shape(colon: str) -> re.Pattern[str]:
    """The event nearly every server sends, its fields written with this colon; else lines of data; else one line.

    Possessive throughout: where the common shape does not fit, it gives up at once instead of trying shorter values.
    Lines of data that no empty line follows are taken together, or each of them would begin the search for it anew.
    Empty ids and names, which reset, are left to the plain algorithm: findall cannot tell an empty group from an
    absent one. `.` is any character but LF, the only line end that is left here.
    """
    return re.compile(
        rf"(?:id{colon}(.++)\n|)(?:event{colon}(.++)\n|)(?:id{colon}(.++)\n|)"
        rf"data{colon}(.*+)(?:\n\n|\n((?:data{colon}.*+\n)++)\n)"
        rf"|((?:data{colon}.*+\n)++|.*+\n)"
    )


_SPACED: Final = _shape(": ")
_TIGHT: Final = _shape(":(?! )")
_DIGITS: Final = re.compile(r"[0-9]+")


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One dispatched event.

    Attributes:
        event: Its type; "message" when the stream named none.
        data: Its lines of data, joined with LF.
        id: The last event id as of this event: what to send as `Last-Event-ID` to go on after it. Empty when there is
            none.
    """

    event: str
    data: str
    id: str


class EventDecoder:
    """The event stream interpretation of HTML section 9.2.6, incrementally.

    The same bytes give the same events however they are cut into chunks.

    Args:
        last_event_id: What a reconnecting reader already had: events without an id of their own carry it on.
        max_line: Bytes in one line, its end not counted.
        max_event: Characters of data in one event.

    Attributes:
        last_event_id: The id to reconnect with: that of the last dispatched event, or set by an empty one.
        retry_ms: Milliseconds the server asked to wait before reconnecting; None until it does.
    """

    def __init__(self, last_event_id: str = "", *, max_line: int = MAX_LINE, max_event: int = MAX_EVENT) -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._max_line: Final = max_line
        self._max_event: Final = max_event
        self._tail = bytearray()
        self._at_start = True
        self._ended_in_cr = False
        self._id = last_event_id
        self._type = ""
        self._data: list[str] = []
        self._joined: list[str] = []
        self._size = 0
        self._refusal: tuple[str, str] | None = None  # not the error: its traceback holds what was fed

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes of the stream.

        Args:
            chunk: Any number of bytes, cut anywhere.

        Returns:
            The events these bytes complete, in order.

        Raises:
            TooLarge: A line or event is over its bound. Events completed before it in the same chunk are returned
                first and the next call raises. The decoder is spent: give the stream up.
        """
        if self._refusal is not None:
            message, about = self._refusal
            raise TooLarge(message, about=about)
        events: list[ServerSentEvent] = []
        try:
            if len(chunk) <= _PIECE:
                self._take_chunk(chunk, events)
            else:
                for start in range(0, len(chunk), _PIECE):
                    self._take_chunk(chunk[start : start + _PIECE], events)
        except TooLarge as exc:
            self._refusal = exc.brief, exc.about
            self._tail.clear()
            self._forget_event()
            if not events:
                raise
        return events

    def _take_chunk(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        """Cut off the complete lines and pass them on as LF-ended text."""
        if self._ended_in_cr and chunk:
            # The line was ended by the CR; an LF that follows it, in this chunk, belongs to the same end.
            self._ended_in_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        last_cr = chunk.rfind(b"\r")
        end = max(chunk.rfind(b"\n"), last_cr) + 1
        if not end:
            self._tail += chunk
            self._check_tail()
            return
        self._ended_in_cr = end == len(chunk) and chunk[-1] == _CR
        if self._tail:
            block = bytes(self._tail) + chunk[:end]
            self._tail.clear()
        else:
            block = chunk[:end]
        self._tail += chunk[end:]
        if last_cr >= 0:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if len(block) > self._max_line:
            self._take_long_block(block, events)
        else:
            self._take_text(self._decode(block), events)
        self._check_tail()

    def _decode(self, block: bytes) -> str:
        """UTF-8 decode (Encoding Standard): one leading BOM goes, invalid bytes become U+FFFD.

        Whole lines may be decoded apart from each other, since no part of a multi-byte sequence looks like CR or LF.
        """
        if self._at_start:
            self._at_start = False
            block = block.removeprefix(_BOM)
        return block.decode("utf-8", "replace")

    def _take_long_block(self, block: bytes, events: list[ServerSentEvent]) -> None:
        """As `_take_text`, where a line may be over the bound: one line at a time."""
        for line in block.split(b"\n")[:-1]:
            if len(line) > self._max_line:
                raise self._line_too_long(len(line))
            self._take_line(self._decode(line), events)

    def _take_text(self, text: str, events: list[ServerSentEvent]) -> None:
        """Interpret complete lines, each ended by LF."""
        if "\0" in text:
            # An id with NULL does not count, and the fast way does not look at values.
            for line in text.split("\n")[:-1]:
                self._take_line(line, events)
            return
        shape, seam = (_SPACED, "\ndata: ") if "data: " in text else (_TIGHT, "\ndata:")
        found: list[tuple[str, str, str, str, str, str]] = shape.findall(text)
        # Decided for the whole text: an event cannot have more data than was left over plus what came.
        fits = self._size + len(text) <= self._max_event
        clean = fits and not self._type and not self._size
        current, append = self._id, events.append
        for id_before, kind, id_after, data, more, lines in found:
            if not lines and clean:
                if more:
                    data = f"{data}\n{more}"[:-1].replace(seam, "\n")
                current = id_after or id_before or current
                append(ServerSentEvent(kind or "message", data, current))
                self.last_event_id = current
                continue
            self._id = current
            if lines:
                for line in lines[:-1].split("\n"):
                    self._take_line(line, events)
            else:
                for name, value in (("id", id_after or id_before), ("event", kind), ("data", data)):
                    if value or name == "data":
                        self._take_field(name, value)
                for each in more.split("\n"):
                    # The last one is empty: it dispatches.
                    self._take_line(each, events)
            current = self._id
            clean = fits and not self._type and not self._size
        self._id = current

    def _take_line(self, line: str, events: list[ServerSentEvent]) -> None:
        """Process one line (9.2.6, "the steps to process the line")."""
        if not line:
            self._dispatch(events)
        elif line[0] != ":":
            name, _, value = line.partition(":")
            self._take_field(name, value[1:] if value[:1] == " " else value)

    def _take_field(self, name: str, value: str) -> None:
        """Process one field (9.2.6, "the steps to process the field"); unknown names are ignored."""
        if name == "data":
            self._size += len(value) + 1
            if self._size - 1 > self._max_event:
                raise TooLarge(
                    f"sent an event of at least {self._size - 1} characters; at most {self._max_event} are taken",
                    about="the event stream",
                )
            self._data.append(value)
            if len(self._data) >= _JOIN_AT:
                self._joined.append("\n".join(self._data))
                self._data.clear()
        elif name == "event":
            self._type = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            # Every wait is capped far below; past 18 digits only int()'s own limit on digits would be met.
            digits = value.lstrip("0") or "0"
            self.retry_ms = int(digits) if len(digits) <= 18 else sys.maxsize

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        """Dispatch the event (9.2.6): the id counts even when there is no data and so no event."""
        self.last_event_id = self._id
        if self._size:
            data = "\n".join([*self._joined, *self._data])
            events.append(ServerSentEvent(self._type or "message", data, self._id))
        self._forget_event()

    def _forget_event(self) -> None:
        self._type = ""
        self._size = 0
        # New lists, not cleared ones: nothing is freed or built in the common case of an event of one line.
        if self._data:
            self._data = []
        if self._joined:
            self._joined = []

    def _check_tail(self) -> None:
        if len(self._tail) > self._max_line:
            raise self._line_too_long(len(self._tail))

    def _line_too_long(self, size: int) -> TooLarge:
        return TooLarge(
            f"sent a line of at least {size} bytes; at most {self._max_line} are taken", about="the event stream"
        )


class EventStream:
    """The events of one open response, until it ends, breaks or falls silent.

    Made by `CloudApiClient.checkout_events` and `.tenant_events`, which have checked the response and close it.

    Args:
        response: An open streaming response with status 200 and content type `text/event-stream`.
        where: The request in words, for messages; without a query.
        last_event_id: What the request sent as `Last-Event-ID`.
        idle_timeout: Seconds without a single byte after which the stream counts as dead.
        max_line: Bytes in one line.
        max_event: Characters of data in one event.
        inflater: Decompresses a stream that a proxy has compressed.

    Attributes:
        last_event_id: What to send as `Last-Event-ID` to go on after the last event that was handed out.
    """

    def __init__(
        self,
        response: httpx.Response,
        *,
        where: str,
        last_event_id: str = "",
        idle_timeout: float = 30.0,
        max_line: int = MAX_LINE,
        max_event: int = MAX_EVENT,
        inflater: Inflater | None = None,
    ) -> None:
        self.last_event_id = last_event_id
        self._inflater: Final = inflater
        self._chunks: Final = aiter(response.aiter_raw())
        self._where: Final = where
        self._idle_timeout: Final = idle_timeout
        self._decoder: Final = EventDecoder(last_event_id, max_line=max_line, max_event=max_event)
        self._pending: Final[deque[ServerSentEvent]] = deque()

    @property
    def retry_ms(self) -> int | None:
        """Milliseconds the server asked to wait before reconnecting; None until it does."""
        return self._decoder.retry_ms

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        """Wait for the next event.

        Raises:
            StreamLost: The stream ended, broke or sent nothing for `idle_timeout` seconds; reconnect with
                `last_event_id`, or poll.
            TooLarge: A line or event is over its bound; the API sends no such thing.
        """
        while not self._pending:
            # An empty chunk lets the decoder raise what it held back behind the events that came before.
            self._pending.extend(self._decoder.feed(b""))
            self.last_event_id = self._decoder.last_event_id
            self._pending.extend(self._decoder.feed(await self._wait_chunk()))
        event = self._pending.popleft()
        self.last_event_id = event.id if self._pending else self._decoder.last_event_id
        return event

    async def aclose(self) -> None:
        """Let go of the response's readers; the response itself is closed by whoever opened it."""
        await unwind(self._chunks)

    async def _wait_chunk(self) -> bytes:
        """The next bytes of the stream, decompressed; a piece at a time, so that a bomb meets the decoder's bounds."""
        if self._inflater is None:
            return await self._wait_raw()
        try:
            piece = self._inflater.take()
            if piece:
                await trio.lowlevel.checkpoint()  # there may be gigabytes of comments in a few bytes
                return piece
            self._inflater.feed(await self._wait_raw())
            return self._inflater.take()
        except Damaged as exc:
            raise StreamLost(
                f"is compressed, and cannot be read: {exc}", about=f"{self._where}: the event stream"
            ) from exc

    async def _wait_raw(self) -> bytes:
        with trio.move_on_after(self._idle_timeout):
            try:
                return await anext(self._chunks)
            except StopAsyncIteration:
                raise self._lost("the server ended it") from None
            except broken() as exc:
                raise self._lost(network_reason(exc)) from exc
        raise self._lost(f"no data for {self._idle_timeout:g} s")

    def _lost(self, cause: str) -> StreamLost:
        return StreamLost(cause, about=f"{self._where}: the event stream was lost:")
