"""Asking a server how far it is, again and again or once: what watching its work comes down to without a stream.

While the event stream lives it is the source (`streaming.py`), and asking beside it (`look_once`) only finds out
whether all is over already. When it is lost the machine moves to its polling state, where `poll` is the source. Both go
through the same reducer (`machines/parts/watching.py`), and an observation that is no news makes no event.

What the flow waits for is bounded by nothing here. Its deadline is journaled; when it passes, the engine leaves the
state and with it every question and every wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import ApiError, Network, StillPending, code_of
from ...io.http.polling import Pace
from ...machines.parts.watching import ORDER, AccessRefused, StepObserved, WaitResumed, WatchingContext, news, untold
from ..outside import Timing
from .source import Pauses, Source

logger = get_logger(__name__)

Ask = Callable[[], Awaitable[Event | None]]
"""Asks once; gives an event that leads out, an observation, or None."""

GONE = frozenset({403, 404, 410})
"""Statuses that waiting does not fix; 401 is not among them: a login fixes it, so it pauses the flow."""

FINISH_SECONDS = 1.0
"""How long a stream may say nothing new of a story whose end is known, before it is taken not to tell the end."""


async def send_news(visit: Visit[Any], event: Event) -> bool:
    """Give the flow what is new of an event at this moment; returns whether anything was. An end always is."""
    told = news(visit.context, event) if isinstance(event, StepObserved) else untold(visit.context, event)
    return told is not None and await visit.send(told)


def refusal(exc: CloudError) -> Event | None:
    """The end of the wait, when the API says the thing is not ours or not there."""
    return AccessRefused(exc.user_message, code_of(exc)) if isinstance(exc, ApiError) and exc.status in GONE else None


async def pause_after(
    exc: ApiError | Network,
    failures: int,
    timing: Timing,
    pauses: Pauses,
    *,
    at_least: float = 0.0,
) -> None:
    """Wait after so many questions in a row that failed, and let everybody else wait whom the server asked to."""
    retry_after = pauses.note("status", exc)
    await trio.sleep(max(at_least, timing.backoff.delay(failures, retry_after)))


async def look_once(source: Source[Any]) -> Event | None:
    """Get one answer, beside a stream that lives: it may have nothing more to say about what happened before.

    Only the end counts. Progress is the stream's to tell, which may be about to tell what came before it.

    Raises:
        NotAuthenticated: The token is no longer accepted.
    """
    visit, event, failures = source.visit, None, 0
    while True:
        await source.pauses.wait_over("status")
        try:
            event = await source.ask()
            break
        except (ApiError, Network) as exc:
            logger.info("asking for the status failed, the stream goes on: %s", exc)
            if not exc.retryable:
                break
            failures += 1
            await pause_after(exc, failures, source.timing, source.pauses)
    if event is None or isinstance(event, StepObserved):
        return None
    for _ in ORDER:
        # The stream may be about to tell the same end, and what led to it: as long as it does it is let finish.
        before = visit.context
        await trio.sleep(FINISH_SECONDS)
        if visit.context is before:
            break
    return event


async def poll(
    visit: Visit[Any],
    timing: Timing,
    ask: Ask,
    *,
    tell: Callable[[Event, WatchingContext], Awaitable[bool]] | None = None,
    pauses: Pauses | None = None,
) -> Event:
    """Ask at once, and then again and again, until the answer ends the wait.

    Args:
        visit: The visit that waits.
        timing: How often to ask.
        ask: Asks once; gives an event that leads out, an observation, or None.
        tell: Takes an observation and what was known when it was asked for, and says whether it was news; when there is
            no other source, every observation that is news is sent.
        pauses: What the server asked us to wait; of this visit alone when it is not given.

    Raises:
        NotAuthenticated: The token is no longer accepted.
        ApiError: What answers is not the API, or the question is wrong; asking again will not help.
    """
    pace, pauses, failures = Pace(timing.poll_seconds, timing.backoff.rng), pauses or Pauses(), 0
    while True:
        await pauses.wait_over("status")
        before: WatchingContext = visit.context
        try:
            event = await ask()
        except (ApiError, Network) as exc:
            if (over := refusal(exc)) is not None:
                return over
            if isinstance(exc, ApiError) and not exc.retryable:
                raise
            logger.info("asking for the status failed: %s", exc)
            failures += 1
            await pause_after(exc, failures, timing, pauses, at_least=pace.delay(news=False))
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


async def stand_by(visit: Visit[Any]) -> Event:
    """Pause the flow where the time ran out; go on waiting when it is resumed.

    Raises:
        StillPending: On the first visit; what the context says about it is the message.
    """
    if visit.resumed:
        return WaitResumed()
    context: WatchingContext = visit.context
    raise StillPending(context.problem)
