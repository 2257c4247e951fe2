"""Time that a test moves: a flow's clock that follows trio's.

Under trio's `MockClock` a five-minute deadline passes in no time. The flow's clock must then tell the same story as
trio's, or a deadline written as a moment would never be reached; so this one is nothing but trio's, with a date.

Worker threads do not stop an autojumping `MockClock` from jumping: open the engine with `inline=True` beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import trio

NEW_YEAR: Final = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """A flow's clock (`base.clock.Clock`) over `trio.current_time()`.

    One clock may be handed to several engines, one after the other: it goes on where it stood.

    Args:
        start: The moment it shows when it is first looked at; it must know its time zone.

    Raises:
        ValueError: `start` has no time zone.
    """

    def __init__(self, start: datetime = NEW_YEAR) -> None:
        if start.tzinfo is None:
            raise ValueError(f"the moment {start} has no time zone")
        self.start = start.astimezone(UTC)
        self._zero: float | None = None

    def now(self) -> datetime:
        """The moment, in UTC. Called inside `trio.run` only."""
        if self._zero is None:
            self._zero = trio.current_time()
        return self.start + timedelta(seconds=trio.current_time() - self._zero)

    def elapsed(self) -> float:
        """trio's time."""
        return trio.current_time()

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until `moment`; return at once if it has passed."""
        # More than once only when a float's last digit leaves a microsecond over.
        while (left := (moment - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 nothing but time is waited for
            await trio.sleep(left)
        await trio.lowlevel.checkpoint()


class WorldClock:
    """A local cloud's time (`serve_sandbox(now=…)`) that stands until a test moves it.

    Attributes:
        time: Seconds.
    """

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.time
