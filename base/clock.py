"""Time, handed in: what time it is, and waiting until an absolute moment.

A deadline must be neither lost nor delayed by a laptop that sleeps or a wall clock that is corrected. So a wait is
measured on a clock that cannot be set and that runs on during suspend (`CLOCK_BOOTTIME` where there is one), which is
looked at often enough that waking up late is noticed soon (`alarms.py`). The wall clock only says how far away the
moment is when the wait begins.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Protocol

from trio.lowlevel import RunVar

from .alarms import Alarms


class Clock(Protocol):
    """The time, as flows use it."""

    def now(self) -> datetime:
        """The moment, in UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds on a clock that nobody can set; only differences mean something."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until `moment`; return at once if it has passed."""
        ...


def elapsed() -> float:
    """Seconds on a clock that cannot be set and, where the system has one, runs on while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


_ALARMS: Final[RunVar[Alarms]] = RunVar("alarms")
"""One for each trio run, whatever clocks are used in it: events of one run mean nothing in another."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The moment, in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Seconds since the machine was started, where the system tells, with the time it was suspended."""
        return elapsed()

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until `moment` as it is seen from now; later jumps of the wall clock change nothing."""
        try:
            alarms = _ALARMS.get()
        except LookupError:
            alarms = Alarms(elapsed)
            _ALARMS.set(alarms)
        await alarms.wait(elapsed() + (moment - self.now()).total_seconds())
