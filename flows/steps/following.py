"""Following a server at its work: its event stream and questions, side by side, until its own answer ends the wait.

The stream is quick and may break, be held back by a proxy, or not be there at all. Questions are slow and robust. Both
report, and the table joins what they report (`machines/parts/progress.py`), so neither waits for the other. Questions
never stop: every 2 s, and every 5 s while the stream has brought something within the last 10 s. What the stream says
about the end, well or badly, is recorded and asked about at once; only the answer ends the wait.

A stream that is lost is opened again with backoff. One that the server does not have (`NO_STREAM`) is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from ...base.log import get_logger
from ...engine.machine.parts import Event
from ...errors import ApiError, NotAuthenticated, StreamLost
from ...io.sse.decoder import ServerSentEvent
from ...machines.parts.progress import EndReported, ForeignEventDropped, StepObserved
from .asking import API_FAILURES, Asking, Needed, Reports
from .source import Source

logger = get_logger(__name__)

NO_STREAM: Final = frozenset({204, 404, 405, 406, 410, 501})
"""Answers that say that there is no such stream, now or later."""

CATCH_UP_SECONDS: Final = 10.0
"""A stream that is behind polling and silent for so long has told what it had: what comes then is new."""


async def follow(
    source: Source[Any],
    needed: Needed | None = None,
    *,
    refusable: bool = True,
    listens: bool = True,
) -> Event:
    """Follow a server until its own answer ends the wait, and return that.

    Args:
        source: What is followed.
        needed: How often in a row an event that ends the wait has to come.
        refusable: Whether a refusal of the API ends the wait.
        listens: False where there is no stream to open.

    Raises:
        NotAuthenticated: The status call no longer accepts the token.
    """
    reports = Reports(source.visit)
    asking = Asking(
        source.visit,
        source.timing,
        source.ask,
        needed=needed,
        refusable=refusable,
        pauses=source.pauses,
        reports=reports,
    )
    async with trio.open_nursery() as nursery:
        if listens:
            nursery.start_soon(Listening(source, reports, asking).run)
        end = await asking.until_ended()
        nursery.cancel_scope.cancel()
    return end


class Listening:
    """The stream of a source, across as many connections as it takes.

    Args:
        source: What is followed.
        reports: Where losses are noted.
        asking: The questions beside it, if any are asked.
    """

    def __init__(self, source: Source[Any], reports: Reports, asking: Asking | None = None) -> None:
        self._source = source
        self._reports = reports
        self._asking = asking
        self._heard_at = float("inf")
        self._beat_at = -float("inf")
        self._opened_at = float("inf")

    async def run(self) -> None:
        """Open the stream and take its events in, again and again; returns when the server has none."""
        source, failures = self._source, 0
        if self._asking is not None:
            self._asking.opening(opened=False)
        while True:
            try:
                if await self._one_connection():
                    failures = 0
            except NotAuthenticated as exc:
                # Whether the token is still good is the status call's to say; a listener must not close over this.
                logger.info("the event stream refused the token: %s", exc)
                await self._reports.note("stream", exc)
                self._ask_now()
            except API_FAILURES as exc:
                source.pauses.note("stream", exc)
                await self._reports.note("stream", exc)
                if isinstance(exc, ApiError) and exc.status in NO_STREAM:
                    return
            await trio.sleep(source.timing.backoff.delay(failures, source.pauses.left("stream")))
            failures += 1

    async def _one_connection(self) -> bool:
        """Take the events of one connection in, until it is lost; whether it brought anything new."""
        source, brought = self._source, False
        last_id, self._heard_at, self._beat_at = source.context.last_event_id, float("inf"), -float("inf")
        try:
            async with source.open(last_id) as stream:
                self._opened_at = trio.current_time()
                if self._asking is not None:
                    self._asking.opening(opened=True)
                async for sse in stream:
                    # An event without an id of its own carries on the one before it, and is not the same event.
                    own = sse if sse.id != last_id else msgspec.structs.replace(sse, id="")
                    last_id = sse.id
                    brought = await self._take(own) or brought
                raise StreamLost("the server ended it", about="the event stream was lost:")
        except API_FAILURES as exc:
            if not brought or isinstance(exc, ApiError):
                raise
            source.pauses.note("stream", exc)
            await self._reports.note("stream", exc)
            return True
        finally:
            if self._asking is not None:
                self._asking.lost()

    async def _take(self, sse: ServerSentEvent) -> bool:
        """Send what an event means, as far as it is new; whether anything was."""
        events = self._source.interpret(sse)
        if events is None:
            # Not a greeting: what a new connection repeats of the past comes after it.
            if trio.current_time() - self._opened_at >= self._source.timing.poll_seconds:
                self._beat_at = trio.current_time()
            return False
        before, self._heard_at = self._heard_at, trio.current_time()

        def quiet() -> bool:
            written_at = self._reports.answer_written_at
            # Sent after the last answer of polling, a sign of life shows that nothing older is still on its way.
            return self._beat_at > written_at or trio.current_time() - max(before, written_at) >= CATCH_UP_SECONDS

        if self._asking is not None and any(not isinstance(event, ForeignEventDropped) for event in events):
            self._asking.heard_news()
        await self._reports.note_stream()
        return any([await self._send(event, quiet=quiet) for event in events])

    async def _send(self, event: Event, *, quiet: Callable[[], bool]) -> bool:
        """Send an event if it is new; whether it was, and ours."""
        if isinstance(event, StepObserved):
            return await self._reports.write(event, current=quiet)
        if isinstance(event, EndReported):
            if written := await self._reports.write_end(event):
                self._ask_now()
            return written
        if isinstance(event, ForeignEventDropped):
            await self._reports.note_foreign(event)
            return False
        return await self._source.visit.send(event)

    def _ask_now(self) -> None:
        if self._asking is not None:
            self._asking.ask_now()
