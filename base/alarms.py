"""Wait until a moment on a clock that cannot be set; one task watches it for all that wait.

Such a clock runs on while the machine is suspended, and no system timer wakes a task by it: a task has to look, at
least every `SLICE` seconds. Ten thousand deadlines that each looked for themselves would take a noticeable part of a
core. So the moments waited for are in one heap, and one of the waiting tasks looks for all of them. When that one is
done, or is cancelled, the next one takes over; there is no task besides those that wait.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

import trio

SLICE: Final = 10.0
"""Seconds until the clock is looked at again, at the most; also how late a wait may end after a suspend."""
FEW: Final = 64
"""Entries of waits that were cancelled that may always stay."""


class _Wait:
    __slots__ = ("end", "number", "over", "woken")

    def __init__(self, end: float, number: int) -> None:
        self.end = end
        self.number = number
        self.over = False
        self.woken = trio.Event()

    def __lt__(self, other: _Wait) -> bool:
        return (self.end, self.number) < (other.end, other.number)


class Alarms:
    """The moments that the tasks of one trio run wait for.

    Args:
        elapsed: The clock, in seconds.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._numbers = count()
        self._heap: list[_Wait] = []
        self._watching: _Wait | None = None
        self._given_up = 0

    @property
    def held(self) -> int:
        """Entries in the heap, those that were given up and not yet removed included."""
        return len(self._heap)

    async def wait(self, end: float) -> None:
        """Wait until the clock shows `end`; at once when it does already, though never without a checkpoint."""
        if end <= self._elapsed():
            await trio.lowlevel.checkpoint()
            return
        mine = _Wait(end, next(self._numbers))
        heappush(self._heap, mine)
        if self._watching is not None and self._heap[0] is mine:
            self._watching.woken.set()  # it sleeps for too long
        try:
            while not mine.over:
                if self._watching is None:
                    self._watching = mine
                if self._watching is mine:
                    await self._watch(mine)
                else:
                    await mine.woken.wait()
                    mine.woken = trio.Event()
        finally:
            if not mine.over:
                mine.over = True
                self._give_up()
            if self._watching is mine:
                self._watching = None
            if self._watching is None:  # also when it was just handed to us, and we were cancelled
                self._hand_on()

    async def _watch(self, mine: _Wait) -> None:
        """Wake whose moment has come, until it is our own."""
        while not mine.over:
            first = self._first()
            if first is None or (left := first.end - self._elapsed()) <= 0:
                self._ring()
                continue
            mine.woken = trio.Event()
            with trio.move_on_after(min(left, SLICE)):
                await mine.woken.wait()

    def _ring(self) -> None:
        now = self._elapsed()
        while (first := self._first()) is not None and first.end <= now:
            heappop(self._heap)
            first.over = True
            first.woken.set()

    def _first(self) -> _Wait | None:
        """The next moment; entries before it that were given up are removed."""
        while self._heap and self._heap[0].over:
            heappop(self._heap)
            self._given_up -= 1
        return self._heap[0] if self._heap else None

    def _give_up(self) -> None:
        self._given_up += 1
        if self._given_up > max(FEW, len(self._heap) // 2):
            self._heap = [each for each in self._heap if not each.over]
            heapify(self._heap)
            self._given_up = 0

    def _hand_on(self) -> None:
        first = self._first()
        if first is not None:
            first.woken.set()
