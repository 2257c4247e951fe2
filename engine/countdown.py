"""What is left of a flow's deadline while a process drives it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from ..base.clock import Clock
from ..base.moments import parse_moment


class BothClocks(NamedTuple):
    """Both clocks at one moment."""

    now: datetime
    elapsed: float


def read_clocks(clock: Clock) -> BothClocks:
    """Both clocks now."""
    return BothClocks(clock.now(), clock.elapsed())


class Countdown:
    """Counts on a clock that nobody can set, from when the deadline was decided or read.

    The journal has a moment of the wall clock, the only one that means something to another process.

    Args:
        clock: The time.
    """

    __slots__ = ("_clock", "_end", "_text")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text: str | None = None
        self._end = 0.0

    def follow(self, deadline: str | None, read: BothClocks | None = None) -> None:
        """The flow's deadline is now this one, as the journal writes it; the same one goes on counting.

        Args:
            deadline: RFC 3339, or None for never.
            read: Both clocks when the deadline was decided, if that was before: the wall clock may be set in between.
        """
        if deadline != self._text:
            if deadline is not None:
                at = read or read_clocks(self._clock)
                self._end = at.elapsed + (parse_moment(deadline) - at.now).total_seconds()
            self._text = deadline

    def moment(self) -> datetime | None:
        """When it passes, as the wall clock shows now; None for never."""
        if self._text is None:
            return None
        return self._clock.now() + timedelta(seconds=self._end - self._clock.elapsed())
