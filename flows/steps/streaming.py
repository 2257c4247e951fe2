"""Following a server at work by its event stream, and getting the stream back when it is lost.

While the stream lives it is the source (`follow_and_look`). When it is lost the machine moves to its polling state.
There polling and the attempts to get the stream back run beside each other (`poll_without_stream`), with full-jitter
backoff, until the stream is back and the machine with it.

What the two tell must not come out of order, although either may be quicker. So one of them tells, the one that is
ahead: a stream that is open again is listened to, while polling goes on, until it has come as far as what polling told
last. It may never do so, if its words are others; so when neither has had anything new for a while it tells on all the
same, and what it told until then is recorded as past. And an answer that was on its way when a newer step became known
is not told.
"""

from __future__ import annotations

from collections import deque
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec
import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...base.redaction import redact
from ...engine.machine.parts import Event
from ...errors import ApiError, Network, StreamLost, TooLarge
from ...io.sse.decoder import EventStream, ServerSentEvent
from ...machines.parts.watching import (
    MESSAGES_KEPT,
    StepObserved,
    StreamReturned,
    WatchingContext,
    catch_up,
    has_come_to,
)
from ...machines.parts.watching import StreamLost as StreamWasLost
from .source import Source
from .watching import look_once, poll, refusal, send_news

logger = get_logger(__name__)

T = TypeVar("T")

OPEN_SECONDS = 1.5
"""How long the stream may take to open before polling answers: the first message should not take two seconds."""

REOPEN_SECONDS = 5.0
"""The same for one that was opened beside polling just now, however long that took: it may be a slow one."""

CATCH_UP_SECONDS = 10.0
"""How long a stream that is open again, and has not come as far as polling, is waited for while neither says anything
new: then it is taken not to come there, and tells on from where it is."""


def decode(sse: ServerSentEvent, names: frozenset[str], shape: type[T]) -> T | None:
    """The record in an event of one of these names; None for other events (heartbeats) and for bad JSON."""
    if sse.event not in names:
        return None
    try:
        return msgspec.json.decode(sse.data, type=shape)
    except (msgspec.DecodeError, RecursionError) as exc:
        logger.warning("an event of the stream was skipped, it is not what the API promises: %s", redact(str(exc)))
        return None


class _StreamConnection:
    """The events of one connection, told apart from those before it.

    Attributes:
        stream: The events, once the connection is open.
    """

    stream: EventStream

    def __init__(self, source: Source[Any], after: str) -> None:
        self._source = source
        self._id = after
        self._heard_at = trio.current_time()
        self._progress: deque[StepObserved] = deque(maxlen=MESSAGES_KEPT)
        self._end: Event | None = None

    async def next_meaning(self) -> Event | None:
        """What the next event means; None for one that only proves life.

        Raises:
            StreamLost: The stream ended, broke or fell silent.
            TooLarge: An event is over its bound.
        """
        try:
            sse = await anext(self.stream)
        except StopAsyncIteration:
            raise StreamLost("the server ended the event stream") from None
        self._heard_at = trio.current_time()
        # An event without an id of its own carries on the one before it, and is not the same event.
        own = sse if sse.id != self._id else msgspec.structs.replace(sse, id="")
        self._id = sse.id
        return self._source.interpret(own)

    async def listen(self) -> bool:
        """Take the next event in without telling it, and say whether it meant anything; raises as `next_meaning`."""
        event = await self.next_meaning()
        if isinstance(event, StepObserved):
            self._progress.append(event)
        else:
            self._end = self._end or event
        return event is not None

    def has_caught_up(self) -> bool:
        """Whether it has told the end, or what polling told last: what comes now is newer than anything told."""
        return self._end is not None or has_come_to(self._source.context, self._progress)

    async def tell(self) -> None:
        """Tell what was listened to: progress, as far as it is news, and then the end if it came to that.

        What it has not caught up with is recorded as past: nobody reads it late.
        """
        visit = self._source.visit
        for progress in catch_up(visit.context, self._progress):
            await visit.send(progress)
        if self._end is not None:
            await send_news(visit, self._end)

    def loss(self, exc: CloudError) -> StreamWasLost:
        """The loss of the stream, as an event."""
        idle_seconds = self._source.timing.idle_seconds
        silent = isinstance(exc, StreamLost) and trio.current_time() - self._heard_at >= idle_seconds
        return StreamWasLost(exc.user_message, silent=silent)


async def follow_and_look(source: Source[Any]) -> None:
    """Follow the stream from where it was left, until it is lost; and once it is open, ask whether all is over.

    A stream that takes long to open is not waited for: it is asked meanwhile, too.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    opened = trio.Event()

    async def look() -> None:
        end = None
        while end is None:
            with trio.move_on_after(OPEN_SECONDS):
                await opened.wait()
            is_open = opened.is_set()
            end = await look_once(source)
            if is_open:  # what happens between an answer and the opening might be told by nobody
                break
        if end is not None:
            await send_news(source.visit, end)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await source.visit.send(await follow_stream(source, opened))


async def follow_stream(source: Source[Any], opened: trio.Event) -> Event:
    """As `follow_and_look`, without asking; sets `opened` when the stream is, and returns its loss.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    visit, context = source.visit, source.context
    if context.overtaken:
        await trio.lowlevel.checkpoint()
        return StreamWasLost("polling is ahead of the event stream")
    connection = _StreamConnection(source, context.last_event_id)
    patience = REOPEN_SECONDS if context.stream_failures and not visit.resumed else OPEN_SECONDS
    try:
        async with AsyncExitStack() as stack:
            with trio.fail_after(patience):  # polling is waiting
                connection.stream = await stack.enter_async_context(source.open(context.last_event_id))
            opened.set()
            while True:
                if (event := await connection.next_meaning()) is not None:
                    await send_news(visit, event)
    except trio.TooSlowError:
        return StreamWasLost(f"the event stream did not open within {patience:g} s")
    except (ApiError, Network, StreamLost, TooLarge) as exc:
        source.pauses.note("stream", exc)
        return refusal(exc) or connection.loss(exc)


# --- without it ----------------------------------------------------------------------------------------------------


async def poll_without_stream(source: Source[Any]) -> None:
    """Poll, and beside that try to get the lost stream back, until one of them leads out of the state.

    Raises:
        NotAuthenticated: The token is no longer accepted.
        ApiError: What answers is not the API; polling longer will not help.
    """
    returning = _Returning(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(returning.get_stream_back)
        end = await poll(source.visit, source.timing, source.ask, tell=returning.tell, pauses=source.pauses)
        await returning.end_with(end)


class _Returning:
    """A stream on its way back, and polling that waits its turn beside it."""

    def __init__(self, source: Source[Any]) -> None:
        self._source = source
        self._turn = trio.Lock()
        self._connection = _StreamConnection(source, "")
        self._patience = trio.CancelScope()

    async def tell(self, event: Event, asked_when: WatchingContext) -> bool:
        """What polling learned, unless the stream has brought something newer since the question was asked."""
        async with self._turn:
            context: WatchingContext = self._source.context
            if (context.steps, context.messages) != (asked_when.steps, asked_when.messages):
                return False
            if was_news := await send_news(self._source.visit, event):
                self._patience.deadline = trio.current_time() + CATCH_UP_SECONDS
            return was_news

    async def end_with(self, end: Event) -> None:
        """The end, as polling learned of it; what the stream has told before it is recorded."""
        async with self._turn:
            await self._connection.tell()
            await send_news(self._source.visit, end)

    async def get_stream_back(self) -> None:
        """Try to open the stream again and again, waiting longer each time, until it has caught up or is refused.

        Raises:
            NotAuthenticated: The token is no longer accepted.
        """
        source = self._source
        while not source.visit.left:
            failures, pause = source.context.stream_failures, source.pauses.left("stream")
            await trio.sleep(source.timing.backoff.delay(max(failures - 1, 0), pause))
            after = source.context.last_event_id
            self._connection = connection = _StreamConnection(source, after)
            try:
                await self._catch_up(connection, after)
            except (ApiError, Network, StreamLost, TooLarge) as exc:
                source.pauses.note("stream", exc)
                async with self._turn:
                    await connection.tell()
                    await source.visit.send(refusal(exc) or connection.loss(exc))

    async def _catch_up(self, connection: _StreamConnection, after: str) -> None:
        source = self._source
        async with source.open(after) as connection.stream:
            if source.context.stream_silent or not connection.has_caught_up():
                # That it is open proves nothing: a proxy may be holding everything back. Polling goes on meanwhile.
                await connection.listen()
            self._patience = trio.CancelScope(deadline=trio.current_time() + CATCH_UP_SECONDS)
            while True:
                async with self._turn:
                    if self._patience.cancelled_caught or connection.has_caught_up():
                        await connection.tell()
                        # Still in this turn: what polling learns from here on is for the stream to tell.
                        await source.visit.send(StreamReturned())
                        return
                self._patience = trio.CancelScope(deadline=self._patience.deadline)
                with self._patience:
                    if await connection.listen():
                        self._patience.deadline = trio.current_time() + CATCH_UP_SECONDS
