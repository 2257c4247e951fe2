"""Following a server at work, by stream and by polling: what checkout and provisioning have in common.

While the stream lives it is the source, and asking beside it (`look_once`) only finds out whether all is over already.
When it is lost the machine moves to its polling state. There `poll` and the attempts to get the stream back run beside
each other (`poll_without_stream`), with full-jitter backoff, until the stream is back and the machine with it. Both
sources go through the same reducer (`machines/watching.py`), and an observation that is no news makes no event.

What they tell must not come out of order, although either may be quicker. So one of them tells, the one that is ahead:
a stream that is open again is listened to, while polling goes on, until it has come as far as what polling told last
(`_Following.has_caught_up`). And an answer that was on its way when a newer step became known is not told.

What the flow waits for is bounded by nothing here. Its deadline is journaled; when it passes, the engine leaves the
state and with it every question and every wait.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeVar

import msgspec
import trio

from ..errors import ApiError, CloudError, Network, StillPending, StreamLost, TooLarge
from ..io.log import logger, redact
from ..io.polling import LONGEST_RETRY_AFTER, Pace
from ..io.sse import EventStream, ServerSentEvent
from ..machines.machine import Event
from ..machines.watching import (
    MESSAGES_KEPT,
    ORDER,
    AccessRefused,
    StepObserved,
    StreamReturned,
    WaitResumed,
    WatchingContext,
    catch_up,
    has_come_to,
    news,
)
from ..machines.watching import StreamLost as StreamWasLost
from .services import Services
from .visit import Visit

T = TypeVar("T")
Ask = Callable[[], Awaitable[Event | None]]
"""Asks once; gives an event that leads out, an observation, or None."""
Connect = Callable[[str], AbstractAsyncContextManager[EventStream]]
"""Opens the stream after the event with this id ("" for all of it)."""
Interpret = Callable[[ServerSentEvent], Event | None]
"""What an event of the stream means; None for nothing."""

GONE = frozenset({403, 404, 410})
"""Statuses that waiting does not mend; 401 is not among them: a login mends it, so it parks the flow."""

OPEN_SECONDS = 2.0
"""How long the stream may take to open before polling answers: nobody shall wait longer for a first word."""

FINISH_SECONDS = 1.0
"""How long a stream may say nothing new of a story whose end is known, before it is taken not to tell the end."""

HEARTBEAT = "heartbeat"
"""The name of the events a server sends when it has nothing to tell (docs/reference/wire.md section 1)."""


def decode(sse: ServerSentEvent, names: frozenset[str], shape: type[T]) -> T | None:
    """The record in an event of one of these names; None for other events (heartbeats) and for bad JSON."""
    if sse.event not in names:
        return None
    try:
        return msgspec.json.decode(sse.data, type=shape)
    except (msgspec.DecodeError, RecursionError) as exc:
        logger.warning("an event of the stream was skipped, it is not what the API promises: {}", redact(str(exc)))
        return None


async def send_news(visit: Visit[Any], event: Event) -> bool:
    """Give the flow what is new of an observation; returns whether anything was. Other events are always new."""
    told = news(visit.context, event) if isinstance(event, StepObserved) else event
    return told is not None and await visit.send(told)


def refusal(exc: CloudError) -> Event | None:
    """The end of the wait, when the API says the thing is not ours or not there."""
    return AccessRefused(exc.user_message) if isinstance(exc, ApiError) and exc.status in GONE else None


class Pauses:
    """What a server asked us to wait (`Retry-After`), by flow: it holds on when the state is left and entered again.

    Only in this process: whoever starts the command again wants to know now.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, flow: str, seconds: float | None) -> None:
        """The server asked for so many seconds from now; None for nothing."""
        now = trio.current_time()
        self._until = {each: until for each, until in self._until.items() if until > now}
        if seconds is not None:
            self._until[flow] = now + min(seconds, LONGEST_RETRY_AFTER)

    async def wait_over(self, flow: str) -> None:
        """Wait until the server may be asked again."""
        await trio.sleep_until(max(self._until.get(flow, 0.0), trio.current_time()))


# --- the stream ----------------------------------------------------------------------------------------------------


class _Following:
    """The events of one connection, told apart from those before it.

    Attributes:
        stream: The events, once the connection is open.
        answers: How often polling was answered since the last step was told here.
    """

    stream: EventStream
    answers = 0

    def __init__(self, known: WatchingContext, interpret: Interpret) -> None:
        self._known = known  # when the connection was asked for
        self._interpret = interpret
        self._id = known.last_event_id
        self._heard_at = trio.current_time()
        self._spoke = self._idle = False
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
        # One that comes before anything else may be a greeting.
        self._idle = self._idle or (self._spoke and sse.event == HEARTBEAT)
        self._heard_at, self._spoke = trio.current_time(), True
        # An event without an id of its own carries on the one before it, and is not the same event.
        own = sse if sse.id != self._id else msgspec.structs.replace(sse, id="")
        self._id = sse.id
        return self._interpret(own)

    async def listen(self) -> None:
        """Take the next event in without telling it; raises as `next_meaning`."""
        event = await self.next_meaning()
        if isinstance(event, StepObserved):
            self._progress.append(event)
            self.answers = 0
        else:
            self._end = self._end or event

    def has_caught_up(self, context: WatchingContext) -> bool:
        """Whether what comes from here on is newer than anything told: the stream may tell it.

        It has told the end, or what polling told last. Or it never will: it has come to a heartbeat, so nothing is left
        of what happened before it was opened, and polling has nothing new beside it (the first answer's question may be
        older than the last step here).
        """
        if context.stream_silent and not self._spoke:
            return False  # it has been open and mute before: a proxy may be holding everything back
        nothing_left = self._idle and context.messages == self._known.messages
        never = nothing_left and (self.answers > 1 or not self._progress)
        return never or self._end is not None or has_come_to(context, self._progress)

    async def tell(self, visit: Visit[Any]) -> None:
        """Tell what was listened to: progress, as far as it is news, and then the end if it came to that."""
        for progress in catch_up(visit.context, self._progress):
            await visit.send(progress)
        if self._end is not None:
            await visit.send(self._end)

    def loss(self, exc: CloudError, services: Services) -> StreamWasLost:
        """The loss of the stream, as an event."""
        silent = isinstance(exc, StreamLost) and trio.current_time() - self._heard_at >= services.idle_seconds
        return StreamWasLost(exc.user_message, silent=silent)


async def follow_and_look(
    visit: Visit[Any], services: Services, connect: Connect, interpret: Interpret, ask: Ask, pauses: Pauses
) -> None:
    """Follow the stream from where it was left, until it is lost; and once it is open, ask whether all is over.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    opened = trio.Event()

    async def look() -> None:
        # Not before: what happens between an answer and the opening might be told by nobody.
        await opened.wait()
        if (end := await look_once(visit, ask, pauses)) is not None:
            await visit.send(end)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await visit.send(await follow_stream(visit, services, connect, interpret, opened))


async def follow_stream(
    visit: Visit[Any], services: Services, connect: Connect, interpret: Interpret, opened: trio.Event
) -> Event:
    """As `follow_and_look`, without asking; sets `opened` when the stream is, and returns its loss.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    context: WatchingContext = visit.context
    if context.overtaken:
        await trio.lowlevel.checkpoint()
        return StreamWasLost("polling is ahead of the event stream")
    following = _Following(context, interpret)
    try:
        async with AsyncExitStack() as stack:
            # Polling is waiting. Once it has been lost the stream is only opened here after it was opened beside
            # polling: however long that took is no news.
            with trio.fail_after(math.inf if context.stream_failures else OPEN_SECONDS):
                following.stream = await stack.enter_async_context(connect(context.last_event_id))
            opened.set()
            while True:
                if (event := await following.next_meaning()) is not None:
                    await send_news(visit, event)
    except trio.TooSlowError:
        return StreamWasLost(f"the event stream did not open within {OPEN_SECONDS:g} s")
    except (ApiError, Network, StreamLost, TooLarge) as exc:
        return refusal(exc) or following.loss(exc, services)


async def look_once(visit: Visit[Any], ask: Ask, pauses: Pauses) -> Event | None:
    """Ask once, beside a stream that lives: it may have nothing more to say about what happened before it was opened.

    Only the end counts. Progress is the stream's to tell, which may be about to tell what came before it.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    await pauses.wait_over(visit.flow)
    try:
        event = await ask()
    except (ApiError, Network) as exc:
        logger.info("asking for the status failed, the stream goes on: {}", exc)
        pauses.note(visit.flow, exc.retry_after if isinstance(exc, ApiError) else None)
        return None
    if event is None or isinstance(event, StepObserved):
        return None
    for _ in ORDER:
        # The stream may be about to tell the same end, and what led to it: as long as it does it is let finish.
        before = visit.context
        await trio.sleep(FINISH_SECONDS)
        if visit.context is before:
            break
    return event


# --- without it ----------------------------------------------------------------------------------------------------


async def poll_without_stream(
    visit: Visit[Any], services: Services, connect: Connect, interpret: Interpret, ask: Ask, pauses: Pauses
) -> None:
    """Poll, and beside that try to get the lost stream back, until one of them leads out of the state.

    Raises:
        NotAuthenticated: The token is no longer accepted.
        ApiError: What answers is not the API; polling longer will not help.
    """
    returning = _Returning(visit, services, connect, interpret)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(returning.get_stream_back)
        await visit.send(await poll(visit, services, ask, tell=returning.tell, pauses=pauses))


async def poll(
    visit: Visit[Any],
    services: Services,
    ask: Ask,
    *,
    tell: Callable[[Event, WatchingContext], Awaitable[bool]] | None = None,
    pauses: Pauses | None = None,
) -> Event:
    """Ask at once, and then again and again, until the answer ends the wait.

    Args:
        visit: The visit that waits.
        services: How often to ask.
        ask: Asks once; gives an event that leads out, an observation, or None.
        tell: Takes an observation and what was known when it was asked for, and says whether it was news; when there is
            no other source, every observation that is news is sent.
        pauses: What the server asked us to wait; of this visit alone when it is not given.

    Raises:
        NotAuthenticated: The token is no longer accepted.
        ApiError: What answers is not the API, or the question is wrong; asking again will not help.
    """
    pace, pauses, failures = Pace(services.poll_seconds, services.backoff.rng), pauses or Pauses(), 0
    while True:
        await pauses.wait_over(visit.flow)
        before: WatchingContext = visit.context
        try:
            event = await ask()
        except (ApiError, Network) as exc:
            if (over := refusal(exc)) is not None:
                return over
            if isinstance(exc, ApiError) and not exc.retryable:
                raise
            logger.info("asking for the status failed: {}", exc)
            failures += 1
            retry_after = exc.retry_after if isinstance(exc, ApiError) else None
            pauses.note(visit.flow, retry_after)
            await trio.sleep(max(pace.delay(news=False), services.backoff.delay(failures, retry_after)))
            continue
        failures = 0
        if event is not None and not isinstance(event, StepObserved):
            return event
        if event is None:
            was_news = False
        elif tell is None:
            was_news = await send_news(visit, event)
        else:
            was_news = await tell(event, before)
        await trio.sleep(pace.delay(news=was_news))


class _Returning:
    """A stream on its way back, and polling that waits its turn beside it."""

    def __init__(self, visit: Visit[Any], services: Services, connect: Connect, interpret: Interpret) -> None:
        self._visit = visit
        self._services = services
        self._connect = connect
        self._interpret = interpret
        self._turn = trio.Lock()
        self._following = _Following(visit.context, interpret)

    async def tell(self, event: Event, asked_when: WatchingContext) -> bool:
        """What polling learned, unless the stream has brought something newer since the question was asked."""
        async with self._turn:
            self._following.answers += 1
            context: WatchingContext = self._visit.context
            if (context.steps, context.messages) != (asked_when.steps, asked_when.messages):
                return False
            return await send_news(self._visit, event)

    async def get_stream_back(self) -> None:
        """Try to open the stream again and again, waiting longer each time, until it has caught up or is refused.

        Raises:
            NotAuthenticated: The token is no longer accepted.
        """
        visit, backoff = self._visit, self._services.backoff
        retry_after: float | None = None
        while not visit.left:
            await trio.sleep(backoff.delay(max(visit.context.stream_failures - 1, 0), retry_after))
            self._following = following = _Following(visit.context, self._interpret)
            try:
                await self._catch_up(following, visit.context.last_event_id)
            except (ApiError, Network, StreamLost, TooLarge) as exc:
                retry_after = exc.retry_after if isinstance(exc, ApiError) else None
                await visit.send(refusal(exc) or following.loss(exc, self._services))

    async def _catch_up(self, following: _Following, after: str) -> None:
        visit = self._visit
        async with self._connect(after) as following.stream:
            while True:
                async with self._turn:
                    if following.has_caught_up(visit.context):
                        await following.tell(visit)
                        # Still in this turn: what polling learns from here on is for the stream to tell.
                        await visit.send(StreamReturned())
                        return
                await following.listen()


# --- and when the time is up ---------------------------------------------------------------------------------------


async def stand_by(visit: Visit[Any]) -> Event:
    """Park the flow where the time ran out; go on waiting when somebody resumes it.

    Raises:
        StillPending: On the first visit; what the context says about it is the message.
    """
    if visit.resumed:
        return WaitResumed()
    context: WatchingContext = visit.context
    raise StillPending(context.problem)
