"""An event stream read from a bare socket, event by event: what a server sends, without any client of ours between."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec
import trio


class Event(msgspec.Struct, frozen=True):
    """One event as it was read; a comment has the name `:`."""

    name: str
    id: str
    data: str

    @property
    def record(self) -> dict[str, Any]:
        """Its data, as JSON."""
        return json.loads(self.data)


class Reader:
    """Reads one stream from a bare socket, event by event.

    Not through httpx: its nested generators cannot be left half-read under trio without a warning, and a break in the
    middle of the answer is seen more exactly here.
    """

    def __init__(self, socket: trio.SocketStream) -> None:
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT)
        self._text = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def open(self, url: str, headers: dict[str, str]) -> None:
        """Send the request and read the answer's head."""
        parts = urlsplit(url)
        request = h11.Request(method="GET", target=parts.path, headers=[*headers.items(), ("Host", parts.netloc)])
        await self._socket.send_all((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        answer = await self._receive()
        assert isinstance(answer, h11.Response)
        self.status = answer.status_code
        self.headers = {name.decode(): value.decode() for name, value in answer.headers}

    async def _receive(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            with trio.fail_after(5):
                self._http.receive_data(await self._socket.receive_some())
        return event

    async def next(self) -> Event | None:
        """The next event or comment; None when the stream ended well.

        Raises:
            h11.RemoteProtocolError: The connection broke in the middle of the answer.
        """
        while True:
            while "\n\n" not in self._text:
                received = await self._receive()
                if not isinstance(received, h11.Data):
                    assert isinstance(received, h11.EndOfMessage)
                    assert self._text == ""
                    return None
                self._text += bytes(received.data).decode()
            block, _, self._text = self._text.partition("\n\n")
            lines = block.split("\n")
            if lines[0].startswith(":"):
                return Event(":", "", lines[0][1:].strip())
            fields = dict(line.split(": ", 1) for line in lines)
            return Event(fields.get("event", "message"), fields.get("id", ""), fields["data"])

    async def next_event(self) -> Event | None:
        """The next event that is no sign of life."""
        while (event := await self.next()) and event.name in {":", "heartbeat"}:
            pass
        return event

    async def rest(self) -> list[Event]:
        """All further events until the end, without the signs of life."""
        events: list[Event] = []
        while event := await self.next_event():
            events.append(event)
        return events


@asynccontextmanager
async def reading(url: str, headers: dict[str, str], after: str | None = None) -> AsyncGenerator[Reader, None]:
    """Open a stream."""
    extra = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
    async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as socket:
        reader = Reader(socket)
        await reader.open(url, headers | extra)
        assert reader.status == 200
        yield reader


async def read_to_the_end(url: str, headers: dict[str, str], after: str | None = None) -> list[Event]:
    """Every event of a stream that ends well."""
    async with reading(url, headers, after) as stream:
        return await stream.rest()


async def read_to_the_break(url: str, headers: dict[str, str], after: str | None = None) -> list[str]:
    """The ids of every event of a stream that must break."""
    ids: list[str] = []
    async with reading(url, headers, after) as stream:
        try:
            while event := await stream.next_event():
                ids.append(event.id)
        except h11.RemoteProtocolError:
            return ids
    raise AssertionError("the stream ended well")
