"""Calls that wait for the disk, kept off the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import trio

THREADS = 4
"""Calls at once."""

P = ParamSpec("P")
T = TypeVar("T")


class Disk:
    """Where blocking calls go.

    Args:
        inline: Call on the loop's own thread, for tests on a virtual clock.
    """

    def __init__(self, *, inline: bool) -> None:
        self.inline = inline
        # Of our own: activities may hold every thread of trio's, and wait in them for what is written here.
        self._threads = trio.CapacityLimiter(THREADS)

    def another(self) -> Disk:
        """The same with threads of its own."""
        return Disk(inline=self.inline)

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk, in a thread."""
        if self.inline:
            return function(*args, **kwargs)
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._threads)
