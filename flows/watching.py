"""Following a server at work, by stream and by polling: what checkout and provisioning have in common.

While the stream lives it is the source. When it is lost the machine moves to its polling state; there `get_stream_back`
tries again beside the polling, with full-jitter backoff, and moves the machine back as soon as the stream gives a sign
of life. Both sources go through the same reducer (`machines/watching.py`), and an observation that is no news makes no
event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import msgspec
import trio

from ..errors import ApiError, CloudError, Network, StillPending, StreamLost, TooLarge
from ..io.log import logger, redact
from ..io.sse import EventStream, ServerSentEvent
from ..machines.machine import Event
from ..machines.watching import (
    AccessRefused,
    StepObserved,
    StreamReturned,
    WaitResumed,
    WatchingContext,
    is_news,
)
from ..machines.watching import StreamLost as StreamWasLost
from .services import Services
from .visit import Visit

T = TypeVar("T")
Connect = Callable[[str], AbstractAsyncContextManager[EventStream]]
"""Opens the stream after the event with this id ("" for all of it)."""
Interpret = Callable[[ServerSentEvent], Event | None]
"""What an event of the stream means; None for nothing."""

GONE = frozenset({403, 404, 410})
"""Statuses that waiting does not mend; 401 is not among them: a login mends it, so it parks the flow."""

ALIVE_SECONDS = 2.0
"""A stream that is open this long without an event is back, too: the server may have nothing to say yet."""


def decode(sse: ServerSentEvent, names: frozenset[str], shape: type[T]) -> T | None:
    """The record in an event of one of these names; None for other events (heartbeats) and for bad JSON."""
    if sse.event not in names:
        return None
    try:
        return msgspec.json.decode(sse.data, type=shape)
    except (msgspec.DecodeError, RecursionError) as exc:
        logger.warning("an event of the stream was skipped, it is not what the API promises: {}", redact(str(exc)))
        return None


async def send_news(visit: Visit[Any], event: Event) -> None:
    """Give the flow an observation, unless it knows it already."""
    context: WatchingContext = visit.context
    if not isinstance(event, StepObserved) or is_news(context, event):
        await visit.send(event)


def refusal(exc: CloudError) -> Event | None:
    """The end of the wait, when the API says the thing is not ours or not there."""
    return AccessRefused(exc.user_message) if isinstance(exc, ApiError) and exc.status in GONE else None


async def follow_stream(visit: Visit[Any], connect: Connect, interpret: Interpret) -> Event:
    """Follow the stream from where it was left, until it is lost.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    context: WatchingContext = visit.context
    try:
        async with connect(context.last_event_id) as stream:
            async for sse in stream:
                if (event := interpret(sse)) is not None:
                    await send_news(visit, event)
    except (ApiError, Network, StreamLost, TooLarge) as exc:
        return refusal(exc) or StreamWasLost(exc.user_message)
    return StreamWasLost("the server ended the event stream")


async def get_stream_back(visit: Visit[Any], services: Services, connect: Connect) -> Event:
    """Try to open the lost stream again and again, waiting longer each time, until it shows a sign of life.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    retry_after: float | None = None
    while True:
        context: WatchingContext = visit.context
        await trio.sleep(services.backoff.delay(max(context.stream_failures - 1, 0), retry_after))
        try:
            async with connect(context.last_event_id) as stream:
                with trio.move_on_after(ALIVE_SECONDS):
                    await anext(stream)
            return StreamReturned()
        except (ApiError, Network, StreamLost, TooLarge) as exc:
            if (over := refusal(exc)) is not None:
                return over
            retry_after = exc.retry_after if isinstance(exc, ApiError) else None
            await visit.send(StreamWasLost(exc.user_message))


async def poll(visit: Visit[Any], services: Services, ask: Callable[[], Any]) -> Event:
    """Ask at once, and then again and again, until the answer ends the wait.

    Args:
        visit: The visit that waits.
        services: How often to ask.
        ask: Asks once; gives an event that leads out, an observation, or None.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    failures = 0
    while True:
        retry_after: float | None = None
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
            await trio.sleep(services.poll_seconds + services.backoff.delay(failures, retry_after))
            continue
        failures = 0
        if event is not None and not isinstance(event, StepObserved):
            return event
        if event is not None:
            await send_news(visit, event)
        await trio.sleep(services.poll_seconds)


async def look_once(visit: Visit[Any], ask: Callable[[], Any]) -> Event | None:
    """Ask once, beside a stream that lives: it may have nothing more to say about what happened before it was opened.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    try:
        event = await ask()
    except (ApiError, Network) as exc:
        logger.info("asking for the status failed, the stream goes on: {}", exc)
        return None
    if isinstance(event, StepObserved):
        await send_news(visit, event)
        return None
    return event


async def stand_by(visit: Visit[Any]) -> Event:
    """Park the flow where the time ran out; go on waiting when somebody resumes it.

    Raises:
        StillPending: On the first visit; what the context says about it is the message.
    """
    if visit.resumed:
        return WaitResumed()
    context: WatchingContext = visit.context
    raise StillPending(context.problem)
