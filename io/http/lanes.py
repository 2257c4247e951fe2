"""The connections of a client: lanes of so many requests each, and another lane when they are full.

Theory: one httpx pool is enough for a command. For a thousand event streams at once it is not, because of what its
bookkeeping is (httpcore 1.0). It walks over every connection whenever a request begins or ends, so that many streams
cost the square of their number. Over HTTP/2 it sends everything down one connection; a server takes a bounded number
of requests there, usually 100 (RFC 9113 section 6.5.2), and whatever is over that waits in silence until its deadline.
And a request that is given up over HTTP/2 is not reset: the server goes on sending it, and goes on counting it.

So requests are spread over lanes. A lane is an httpx client of its own that carries at most `LANE_WIDTH` requests, well
under what servers take: one connection over HTTP/2, as many as it has requests over HTTP/1.1. The first lane with room
is taken, so that a few calls share the connections of one. A lane in which a request was given up over HTTP/2 is
*retired*: it takes no more, and its connection is closed when the last of its requests has ended, which is what tells
the server about the one that was given up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

import httpx
import trio

LANE_WIDTH: Final = 32
CLOSING_TIME: Final = 1.0
"""Seconds that closing connections may take, all of them together."""


class Lane:
    """One httpx client and how many requests it carries.

    Attributes:
        http: What sends.
        carries: Requests begun and not ended.
        retired: Whether it takes no more.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http: Final = http
        self.carries = 0
        self.retired = False


class Lanes:
    """The open lanes.

    Args:
        make: Makes the httpx client of another lane; what it raises comes out of `lane`.
        width: Requests at once in one lane.
    """

    def __init__(self, make: Callable[[], httpx.AsyncClient], *, width: int = LANE_WIDTH) -> None:
        self._make: Final = make
        self._width: Final = width
        # Retired ones apart: the search for room stays short, however many streams have been given up.
        self._open: list[Lane] = [Lane(make())]
        self._retired: set[Lane] = set()

    def __len__(self) -> int:
        return len(self._open) + len(self._retired)

    @asynccontextmanager
    async def lane(self, *, fresh: bool = False) -> AsyncGenerator[Lane]:
        """Reserve a place for one request, for as long as the block lasts.

        Args:
            fresh: In a lane of its own, on a new connection that is closed afterwards.
        """
        found = (each for each in self._open if each.carries < self._width and not each.retired)
        lane = None if fresh else next(found, None)
        if lane is None:
            lane = Lane(self._make())
            lane.retired = fresh
            (self._retired.add if fresh else self._open.append)(lane)
        lane.carries += 1
        try:
            yield lane
        finally:
            lane.carries -= 1
            if lane.retired and lane in self._open:
                self._open.remove(lane)
                self._retired.add(lane)
            if not lane.carries:
                await self._clear(lane)

    async def _clear(self, emptied: Lane) -> None:
        """Close an emptied lane that is retired, and all empty ones but the first: requests come back to that one."""
        if emptied.retired:
            self._retired.discard(emptied)
            surplus = [emptied]
        else:
            _, *surplus = [each for each in self._open if not each.carries] or [emptied]
            self._open = [each for each in self._open if each not in surplus]
        if surplus:
            await _close(surplus)

    async def aclose(self) -> None:
        """Close every connection, whatever it is in the middle of."""
        lanes = [*self._open, *self._retired]
        self._open.clear()
        self._retired.clear()
        await _close(lanes)


async def _close(lanes: Iterable[Lane]) -> None:
    with trio.move_on_after(CLOSING_TIME, shield=True):
        async with trio.open_nursery() as nursery:
            for lane in lanes:
                nursery.start_soon(lane.http.aclose)
