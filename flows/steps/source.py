"""What is followed: a server at its work, as one visit of a flow sees it.

A machine that follows a server says three things of it, in a `Source` of its own: how its event stream is opened, what
an event of that stream means, and what is asked. What is done with that is the same for all (`following.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec
import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import ApiError
from ...io.http.polling import LONGEST_RETRY_AFTER
from ...io.http.texts import is_word, shown
from ...io.sse.decoder import EventStream, ServerSentEvent
from ...machines.parts.progress import ProgressContext
from ..outside import Timing
from .counting import IN_A_ROW, InARow

logger = get_logger(__name__)

W = TypeVar("W", bound=ProgressContext)
T = TypeVar("T")

Wanted = Literal["status", "stream"]
"""What a server is asked for: an answer, or its event stream. It may put us off for the one and not for the other."""


class Pauses:
    """What a server asked a flow to wait (`Retry-After`): it holds on when the state is left and entered again.

    Only in this process: whoever starts the command again wants to know now.
    """

    def __init__(self) -> None:
        self._until: dict[Wanted, float] = {}

    @classmethod
    def of(cls, visit: Visit[Any]) -> Pauses:
        """The pauses of a visit's flow."""
        return cast("Pauses", visit.scratch.setdefault("pauses", cls()))

    def note(self, wanted: Wanted, exc: CloudError) -> float | None:
        """What the server answered to a question; the seconds it asked for, if it did."""
        if not isinstance(exc, ApiError) or exc.retry_after is None:
            return None
        seconds = min(exc.retry_after, LONGEST_RETRY_AFTER)
        self._until[wanted] = trio.current_time() + seconds
        return seconds

    def left(self, wanted: Wanted) -> float | None:
        """The seconds until the server may be asked again; None when it may."""
        until = self._until.get(wanted, 0.0) - trio.current_time()
        return until if until > 0 else None

    async def wait_over(self, wanted: Wanted) -> None:
        """Wait until the server may be asked again."""
        await trio.sleep(self.left(wanted) or 0.0)


class Source(ABC, Generic[W]):
    """A server at its work, followed in one visit.

    Args:
        visit: The visit that follows it.
        timing: How long is waited.
        pauses: What the server asked us to wait; the flow's when not given.
    """

    def __init__(self, visit: Visit[W], timing: Timing, pauses: Pauses | None = None) -> None:
        self.visit = visit
        self.timing = timing
        self.pauses = pauses or Pauses.of(visit)

    @property
    def context(self) -> W:
        """What is known at this moment."""
        return self.visit.context

    @abstractmethod
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        """Open the event stream after the event with this id ("" for all of it)."""

    @abstractmethod
    def interpret(self, sse: ServerSentEvent) -> Sequence[Event] | None:
        """What an event of the stream means, in facts for the table; None for one that only proves life."""

    @abstractmethod
    async def ask(self) -> Event | None:
        """Ask how far the server is: an event that leads out, an observation, or None for nothing."""


class Agreed:
    """Whether the API does not contradict what a stream reports and the status has no word for.

    A tenant that is built and waits for its first image may be "still working" for the status call, whose words are
    no more than three. So this one step is the stream's word: the report counts when the API has answered "still
    working" several times in a row after it. Readiness and failure are never believed like this.
    """

    def __init__(self) -> None:
        self._row = InARow()

    def takes(self, agrees: bool) -> bool:
        """Take the next answer in; whether the report counts by now."""
        return self._row.count("agreed" if agrees else None) >= IN_A_ROW


def id_of(sse: ServerSentEvent) -> str:
    """An event's id, if it can be journaled as it came and sent back in a header; else the one before it is kept."""
    return sse.id if is_word(sse.id) and sse.id.isascii() else ""


def decode(sse: ServerSentEvent, names: frozenset[str], shape: type[T]) -> T | None:
    """The record in an event of one of these names; None for other events (heartbeats) and for bad JSON."""
    if sse.event not in names:
        return None
    try:
        return msgspec.json.decode(sse.data, type=shape)
    except (msgspec.DecodeError, RecursionError) as exc:
        logger.warning("an event of the stream was skipped, it is not what the API promises: %s", shown(str(exc)))
        return None
