"""The wall clock of a history, which operations set."""

from __future__ import annotations

from datetime import datetime, timedelta

import trio
from systemprompt_cloud.testing.clock import VirtualClock
from typing_extensions import override


class WallClock(VirtualClock):
    """The wall clock of a history: it can be set, which must move no deadline.

    It gains a millisecond with every reading, so that ids made one after the other are in that order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ahead = timedelta()

    @override
    def now(self) -> datetime:
        """The moment."""
        self._ahead += timedelta(milliseconds=1)
        return super().now() + self._ahead

    @override
    async def sleep_until(self, moment: datetime) -> None:
        """Wait until `moment`, as it is seen from now."""
        await trio.sleep(max(0.0, (moment - self.now()).total_seconds()))

    def set_forward(self, hours: int) -> None:
        """Set it forward, or back."""
        self._ahead += timedelta(hours=hours)
