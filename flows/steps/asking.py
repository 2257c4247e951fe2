"""Asking a server how far it is, again and again, until its own answer ends the wait.

Only the API ends a wait. An answer in a body the API made (`error.code`) refuses; a page of a proxy, a broken
connection or a body that cannot be read is a reason to ask again. Answers that end a wait badly have to come several
times in a row, as long after each other as the questions are (`counting.py`); any other answer starts the count anew.

Nothing bounds how often it is asked: the state's deadline is journaled, and when it passes the engine leaves the state
and with it every question and every wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Final, Literal, TypeVar

import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import ApiError, Network, StillPending, StreamLost, TooLarge, code_of
from ...machines.parts.progress import (
    AccessRefused,
    EndReported,
    ForeignEventDropped,
    ProgressContext,
    StatusNotAnswered,
    StepObserved,
    StreamReturned,
    WaitResumed,
    is_news,
    news,
    untold,
)
from ...machines.parts.progress import StreamLost as StreamWasLost
from ..outside import Timing
from .counting import IN_A_ROW, InARow
from .source import Pauses

logger = get_logger(__name__)

T = TypeVar("T")

Ask = Callable[[], Awaitable[Event | None]]
"""Asks once; gives an event that leads out, an observation, or None."""

Needed = Mapping[type[Any], int]
"""How often in a row each kind of event has to be answered before it is believed; once, where it is not listed."""

REFUSING: Final = frozenset({403, 404, 410})
"""Statuses with which the API says that something is not ours or not there. 401 is not among them: a login fixes it."""

QUIET: Final = 5.0
"""In units of the time between two questions: how long after its last event a stream counts as bringing news."""

SLOWER: Final = 2.5
"""How much more rarely is asked while it does: every 5 s instead of every 2 s."""

API_FAILURES: Final = (ApiError, Network, StreamLost, TooLarge)
"""What may happen to a question without meaning anything; 401 is none of them."""


def refusal(exc: CloudError) -> AccessRefused | None:
    """The API's own word that the thing is not ours or not there; None for everything else."""
    if isinstance(exc, ApiError) and exc.status in REFUSING and exc.code:
        return AccessRefused(exc.user_message, code_of(exc))
    return None


async def ask_firmly(timing: Timing, call: Callable[[], Awaitable[T]]) -> T:
    """Ask once, and again when the API refuses: only a refusal that comes several times in a row is raised.

    Args:
        timing: How long to wait in between.
        call: Asks once.

    Raises:
        ApiError: The refusal, or another failure, which is raised at once.
    """
    row = InARow()
    while True:
        try:
            return await call()
        except ApiError as exc:
            if refusal(exc) is None or row.count("refused") >= IN_A_ROW:
                raise
        await trio.sleep(timing.poll_seconds)


def _no() -> bool:
    return False


class Reports:
    """What a visit's sources report, written one after the other.

    Whether a report is new is decided and written in one turn: two sources that learn the same thing at the same moment
    make one row of it. The same trouble is one row, too, with a count: it is written when it is heard for the first,
    second, fourth, eighth … time, so that the history stays short.
    """

    def __init__(self, visit: Visit[Any]) -> None:
        self._visit = visit
        self._turn = trio.Lock()
        self._times: dict[tuple[str, str], int] = {}
        self._stream_lost = False
        self.answer_written_at = -float("inf")
        """When words of an answer were shown last."""

    async def write(
        self, observed: StepObserved, *, late: Callable[[], bool] = _no, current: Callable[[], bool] = _no
    ) -> bool:
        """Write what is new in a report, as `news`; whether anything was.

        Whether it is late or current is asked when its turn comes: the other source may have reported something since.
        """
        async with self._turn:
            new = news(self._visit.context, observed, late=late(), current=current())
            written = new is not None and await self._visit.send(new)
            if written and observed.source == "polling":
                self.answer_written_at = trio.current_time()
            return written

    async def write_end(self, reported: EndReported) -> bool:
        """Write what a stream says about the end, if it is new; whether it was."""
        async with self._turn:
            return is_news(self._visit.context, reported) and await self._visit.send(reported)

    async def note_foreign(self, dropped: ForeignEventDropped) -> None:
        """Note what an event that is not ours names, if it is new."""
        async with self._turn:
            if is_news(self._visit.context, dropped):
                await self._visit.send(dropped)

    async def note(self, what: Literal["stream", "status"], exc: CloudError) -> None:
        """Note what went wrong."""
        reason, brief = exc.message, exc.brief if exc.about else ""
        times = self._times[what, reason] = self._times.get((what, reason), 0) + 1
        if times & (times - 1) or len(self._times) > 100:
            return
        if what == "stream":
            self._stream_lost = await self._visit.send(StreamWasLost(reason, times, brief))
        else:
            await self._visit.send(StatusNotAnswered(reason, times, brief))

    async def note_stream(self) -> None:
        """Note that a stream whose loss was noted brings something again."""
        if self._stream_lost:
            self._stream_lost = False
            await self._visit.send(StreamReturned())


def words_of(event: Event) -> str:
    """What an answer says, for people."""
    return str(getattr(event, "message", "") or getattr(event, "problem", ""))


def subject_of(event: Event) -> Hashable:
    """What an answer is about: two that are about different tenants are not the same answer."""
    return type(event), getattr(event, "tenant_id", "")


class Asking:
    """Questions about one thing, in one visit.

    Args:
        visit: The visit that waits.
        timing: How often to ask.
        ask: Asks once.
        needed: How often in a row an event that ends the wait has to come.
        refusable: Whether a refusal of the API ends the wait; what is paid for is waited for all the same.
        pauses: What the server asked us to wait.
        reports: Where failures are noted.
    """

    def __init__(
        self,
        visit: Visit[Any],
        timing: Timing,
        ask: Ask,
        *,
        needed: Needed | None = None,
        refusable: bool = True,
        pauses: Pauses | None = None,
        reports: Reports | None = None,
    ) -> None:
        self._visit = visit
        self._seconds = timing.poll_seconds
        self._ask = ask
        self._refusable = refusable
        self._needed: Needed = {AccessRefused: IN_A_ROW, **(needed or {})}
        self._row = InARow()
        self._pauses = pauses or Pauses.of(visit)
        self._reports = reports or Reports(visit)
        self._news_at = -float("inf")
        self._now = trio.Event()
        self.silent_until = -float("inf")
        """Until when words of answers are not shown, because a stream has just been opened, or is being."""

    def heard_news(self) -> None:
        """A stream has brought something: it may be asked more rarely."""
        self._news_at = trio.current_time()

    def opening(self, *, opened: bool) -> None:
        """A stream is being opened, or was: its words go first, if it has any."""
        self.silent_until = trio.current_time() + self._seconds * (QUIET if opened else 1.0)

    def lost(self) -> None:
        """There is no stream now: the words of answers are shown at once."""
        self.silent_until = self._news_at = -float("inf")

    def ask_now(self) -> None:
        """Something was heard that the API has to be asked about at once."""
        self._news_at = -float("inf")
        self._now.set()

    @property
    def stream_has_news(self) -> bool:
        """Whether a stream has brought something lately: then it is the one whose words are shown."""
        return trio.current_time() - self._news_at < self._seconds * QUIET

    async def until_ended(self) -> Event:
        """Ask until an answer ends the wait, and return it.

        Raises:
            NotAuthenticated: The token is no longer accepted.
        """
        while True:
            await self._pauses.wait_over("status")
            asked, self._now = trio.current_time(), trio.Event()
            event = await self._once()
            ends = event is not None and not isinstance(event, StepObserved)
            if event is not None and ends:
                if self._row.count(subject_of(event)) >= self._needed.get(type(event), 1):
                    return untold(self._visit.context, event)
                await trio.sleep_until(asked + self._seconds)  # what is heard meanwhile brings the next one no nearer
                continue
            self._row.count(None)
            with trio.move_on_at(asked + self._seconds * (SLOWER if self.stream_has_news else 1.0)):
                await self._now.wait()
                # Never more often than this, however much is heard.
                await trio.sleep_until(asked + self._seconds / 2)

    async def _once(self) -> Event | None:
        """One answer, or None when there was none; what is new in a report is sent."""
        before: ProgressContext = self._visit.context
        try:
            event = await self._ask()
        except API_FAILURES as exc:
            if self._refusable and (refused := refusal(exc)) is not None:
                return refused
            logger.info("asking for the status failed: %s", exc)
            self._pauses.note("status", exc)
            await self._reports.note("status", exc)
            return None
        if isinstance(event, StepObserved):
            await self._write(event, before)
        return event

    async def _write(self, event: StepObserved, before: ProgressContext) -> None:
        def late() -> bool:
            """An answer that was on its way while the stream reported something newer is older than that."""
            context: ProgressContext = self._visit.context
            return (context.steps, context.messages) != (before.steps, before.messages)

        if not self.stream_has_news and trio.current_time() >= self.silent_until:
            await self._reports.write(event, late=late)


async def pause_until_resumed(visit: Visit[Any]) -> Event:
    """Pause the flow where its time ran out; wait on when it is resumed.

    Raises:
        StillPending: On the first visit; what the context says about it is the message.
    """
    if visit.resumed:
        return WaitResumed()
    context: ProgressContext = visit.context
    raise StillPending(context.problem)
