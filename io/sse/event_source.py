"""An event stream that goes on: the `EventSource` of the web platform, made for trio.

Theory (WHATWG HTML, section 9.2.3, "Processing model"): one stream is many connections. When one ends, breaks or falls
silent, the reader waits and connects again, saying which event it had last; the server goes on after it. `EventSource`
is that as a machine of four states:

    Connecting ── 200, text/event-stream ──→ Open
    Connecting ── 408, 425, 429, 5xx, nobody reached ──→ Waiting
    Connecting ── 204, any other answer ──→ Closed
    Open ── the stream ended, broke or fell silent ──→ Waiting
    Open ── a line or event over its bound ──→ Closed
    Waiting ── the wait is over ──→ Connecting
    any ── the block is left ──→ Closed

It has no task of its own. Whoever iterates it drives it: reading, waiting and connecting happen in the caller's task,
under the caller's deadline, and stop when the caller stops asking. So nothing is read that nobody takes, an error
arrives where it can be handled, and cancelling is what it always is in trio. A cancelled wait for an event gives the
connection up (half a line may have been read); asking again connects again, after the last event that was handed out.

How long it waits: the reconnection time the server set by `retry`, none by default (9.2.6), and on top of it
full-jitter backoff over the failures in a row, never less than `Retry-After` asks. A connection that lived
`healthy_after` seconds ends the row. Nothing is deduplicated: what the server sends again, the caller sees again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Self

import httpx
import msgspec
import trio
from typing_extensions import override

from ...base.errors import CloudError
from ...base.log import get_logger
from ...errors import ApiError
from ..http.polling import LONGEST_RETRY_AFTER, Backoff
from .decoder import MAX_EVENT, MAX_LINE, EventStream, ServerSentEvent
from .opening import open_stream

logger = get_logger(__name__)

Connect = Callable[[str], AbstractAsyncContextManager[EventStream]]
"""Opens the stream once, after the event with this id ("" for all of it)."""

_NO_MORE: Final = 204


class Connecting(msgspec.Struct, frozen=True):
    """A connection is being made; the state before the first, too."""


class Open(msgspec.Struct, frozen=True):
    """The server has answered with a stream."""


class Waiting(msgspec.Struct, frozen=True):
    """Until the next try.

    Attributes:
        seconds: How long, from when the state was entered.
        reason: What became of the connection before, in words that hold no secret.
    """

    seconds: float
    reason: str


class Closed(msgspec.Struct, frozen=True):
    """There will be no more events.

    Attributes:
        reason: Why: the server said so, an error that trying again does not fix, or the block was left.
    """

    reason: str


SourceState = Connecting | Open | Waiting | Closed


class EventSource:
    """The events of a stream, across as many connections as it takes.

    An asynchronous context manager and iterator, for one reader:

        async with EventSource.at(client, "https://example.com/events") as source:
            async for event in source:
                ...

    The loop ends when the server says that there is no more (204). It raises what trying again does not fix: ApiError
    for a refusal (401, 403, 404, 410 and every status but 408, 425, 429 and 5xx) and for an answer that is no stream,
    UnsafeUrl for an address that is none or a redirect that must not be followed, TooLarge for a line or event over its
    bound, Network for a certificate that is not trusted; and NotAuthenticated, when `connect` does. After that it is
    closed, and iterating it ends.

    Args:
        connect: Opens the stream once; its errors say by `retryable` whether it is tried again. `EventSource.at` makes
            one of a URL, `CloudApiClient.follow_tenant` and `.follow_checkout` of the API's streams.
        last_event_id: Where to go on; "" for all of it.
        backoff: The waits between tries; full jitter from 0.5 s up to 30 s by default.
        healthy_after: Seconds a connection must have been open for its loss to count as the first failure again.

    Attributes:
        last_event_id: What the next connection says it had last: the id of the last event that was handed out.
    """

    def __init__(
        self, connect: Connect, *, last_event_id: str = "", backoff: Backoff | None = None, healthy_after: float = 10.0
    ) -> None:
        self.last_event_id = last_event_id
        self._connect: Final = connect
        self._backoff: Final = backoff or Backoff()
        self._healthy_after: Final = healthy_after
        self._entered = False
        self._state: SourceState = Connecting()
        self._untold = True
        self._error: CloudError | None = None
        self._failures = 0
        self._reconnection_time = 0.0
        self._since = 0.0
        self._connection: AbstractAsyncContextManager[EventStream] | None = None
        self._stream: EventStream | None = None

    @classmethod
    def at(
        cls,
        client: httpx.AsyncClient,
        url: httpx.URL | str,
        *,
        headers: Mapping[str, str] | None = None,
        last_event_id: str = "",
        connect_timeout: float = 10.0,
        open_timeout: float = 30.0,
        idle_timeout: float = 30.0,
        max_line: int = MAX_LINE,
        max_event: int = MAX_EVENT,
        backoff: Backoff | None = None,
        healthy_after: float = 10.0,
    ) -> Self:
        """Follow the event stream at a URL.

        Redirects are followed, at most ten, every time from `url` on. `headers`, the client's own headers, cookies and
        `auth`, and a user in the URL are sent to the URL's origin only.

        Args:
            client: Any client; stays the caller's, and has to outlive the source.
            url: http or https; relative when the client has a `base_url`.
            headers: What to send besides.
            last_event_id: Where to go on; "" for all of it.
            connect_timeout: Seconds for making one connection.
            open_timeout: Seconds for the answer's head, redirects included.
            idle_timeout: Seconds without a byte after which the connection counts as dead. Comments and heartbeats are
                bytes; 9.2.7 asks servers for one every 15 seconds or so.
            max_line: Bytes in one line.
            max_event: Characters of data in one event.
            backoff: As `EventSource`.
            healthy_after: As `EventSource`.
        """

        def connect(known: str) -> AbstractAsyncContextManager[EventStream]:
            return open_stream(
                client,
                url,
                headers=headers or {},
                last_event_id=known,
                connect_timeout=connect_timeout,
                open_timeout=open_timeout,
                idle_timeout=idle_timeout,
                max_line=max_line,
                max_event=max_event,
            )

        return cls(connect, last_event_id=last_event_id, backoff=backoff, healthy_after=healthy_after)

    @property
    def state(self) -> SourceState:
        """The current state. It changes only while somebody iterates, or leaves the block."""
        return self._state

    def with_states(self) -> AsyncIterator[ServerSentEvent | SourceState]:
        """Iterate over events and over every state as it is entered, `Connecting` first, in the order they happen.

        It takes the place of iterating the source itself; errors are raised after the `Closed` that tells of them.
        """
        return _Everything(self._advance)

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered = False
        if not isinstance(self._state, Closed):
            self._enter(Closed("its reader has left"))
        await self._hang_up()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        """Wait for the next event, over as many connections as it takes; errors are those of the class."""
        while True:
            seen = await self._advance()
            if isinstance(seen, ServerSentEvent):
                return seen

    async def _advance(self) -> ServerSentEvent | SourceState:
        """Do what the state asks for until there is something to tell."""
        if not self._entered and not isinstance(self._state, Closed):
            raise RuntimeError("the event source is used outside its `async with` block")
        while not self._untold:
            if isinstance(self._state, Closed):
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            if isinstance(self._state, Waiting):
                await trio.sleep_until(self._since + self._state.seconds)
                self._enter(Connecting())
            elif self._stream is None:
                await self._open()
            elif (event := await self._read(self._stream)) is not None:
                return event
        self._untold = False
        return self._state

    async def _open(self) -> None:
        connection = self._connect(self.last_event_id)
        try:
            self._stream = await connection.__aenter__()
        except CloudError as exc:
            self._fail(exc)
        else:
            self._connection = connection
            self._enter(Open())

    async def _read(self, stream: EventStream) -> ServerSentEvent | None:
        """The next event of the open connection; None when it was lost instead."""
        try:
            event = await anext(stream)
        except CloudError as exc:
            self._note(stream)
            if trio.current_time() - self._since >= self._healthy_after:
                self._failures = 0
            self._fail(exc)
            await self._hang_up()
            return None
        except BaseException:
            # Cancelled in the middle of a line: this connection cannot be read on.
            self._note(stream)
            self._enter(Connecting())
            await self._hang_up()
            raise
        self._note(stream)
        return event

    def _note(self, stream: EventStream) -> None:
        """Keep what outlives a connection (9.2.3): the last event id and the reconnection time."""
        self.last_event_id = stream.last_event_id
        if stream.retry_ms is not None:
            self._reconnection_time = min(stream.retry_ms / 1000, LONGEST_RETRY_AFTER)

    def _fail(self, exc: CloudError) -> None:
        """Decide what a failure leads to."""
        status = exc.status if isinstance(exc, ApiError) else None
        if status == _NO_MORE or not exc.retryable:
            self._error = None if status == _NO_MORE else exc
            self._enter(Closed(exc.user_message))
            return
        asked = exc.retry_after if isinstance(exc, ApiError) else None
        seconds = self._reconnection_time + self._backoff.delay(self._failures, asked)
        self._failures += 1
        logger.debug("%s; connecting again in %.1f s", exc, seconds)
        self._enter(Waiting(seconds, exc.user_message))

    def _enter(self, state: SourceState) -> None:
        self._state = state
        self._since = trio.current_time()
        self._untold = True

    async def _hang_up(self) -> None:
        connection, self._connection, self._stream = self._connection, None, None
        if connection is not None:
            await connection.__aexit__(None, None, None)


class _Everything(AsyncIterator[ServerSentEvent | SourceState]):
    """Not a generator: one that is left half-way has to be closed, and there is nothing here to close."""

    def __init__(self, advance: Callable[[], Awaitable[ServerSentEvent | SourceState]]) -> None:
        self._advance: Final = advance

    @override
    async def __anext__(self) -> ServerSentEvent | SourceState:
        return await self._advance()
