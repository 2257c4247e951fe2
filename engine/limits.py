"""How many flows of a program may run at once, and how fast they begin: `Program(..., limit=Limit(concurrent=10))`.

A limit is one line of places, like `trio.CapacityLimiter`: whoever was given the same `Limit` shares it, several
programs, several engines, and engines in several threads. It counts what this process drives.

Flows that find no place are `queued` in the journal, and begin in the order in which they were started (a delayed one
in that of its moment), as far as they wait in this process. The order is by what the journal has of them, so it is the
same after a restart. A flow that has begun is never put back: when it is resumed it has a place at once, also where
that is one more than the limit; new flows then wait until there is room.
"""

from __future__ import annotations

import math
import threading
from bisect import insort
from datetime import timedelta
from typing import Final, TypeAlias, cast

from ..base.clock import Clock
from .errors import MachineInvalid
from .wakeups import Wakeup

Order: TypeAlias = tuple[str, str]
"""A flow's place in the line: the moment since which it may begin, and its id."""

_INSTANT: Final = 1e-6
"""Seconds that a clock of microseconds cannot wait."""


class Limit:
    """What flows share that may not all run at once.

    Args:
        concurrent: The most flows that are driven at once; no limit when not given.
        per_second: The most flows that begin in a second, evenly spread; no limit when not given. A fraction is
            slower: 0.1 lets one begin every ten seconds.

    Raises:
        MachineInvalid: Neither is given, or one is no number above zero.
    """

    def __init__(self, *, concurrent: int | None = None, per_second: float | None = None) -> None:
        if concurrent is None and per_second is None:
            raise MachineInvalid("Limit(): it limits nothing", hint="Give it `concurrent=` or `per_second=`.")
        if concurrent is not None and not (type(concurrent) is int and concurrent > 0):
            raise MachineInvalid(f"Limit(concurrent={concurrent!r}): it must be a whole number from 1 on")
        if per_second is not None and not _is_rate(per_second):
            raise MachineInvalid(f"Limit(per_second={per_second!r}): it must be a number above 0")
        self.concurrent, self.per_second = concurrent, per_second
        self._gap = 0.0 if per_second is None else 1.0 / per_second
        self._lock = threading.Lock()
        self._taken = 0
        self._last: float | None = None
        self._line: list[Ticket] = []

    @property
    def taken(self) -> int:
        """How many flows have a place."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many flows stand in line for one."""
        return len(self._line)

    def take_if_free(self, clock: Clock) -> Seat | None:
        """A place, if there is one at this moment and nobody stands in line for it."""
        with self._lock:
            now = clock.elapsed()
            return None if self._line or self._left(now) != 0 else self._take(now)

    def take(self) -> Seat:
        """A place, whether or not there is room: for a flow that has begun."""
        with self._lock:
            return self._take(None)

    def join(self, order: Order) -> Ticket:
        """Stand in line for a place.

        Args:
            order: The flow's place in the line.
        """
        ticket = Ticket(self, order)
        with self._lock:
            insort(self._line, ticket, key=_order_of)
        return ticket

    def take_if_first(self, ticket: Ticket, now: float) -> Seat | float | None:
        """The place of who stands in line, if its turn has come; `Ticket.wait` calls it.

        Returns:
            The place; or the seconds until its turn comes; or None when it is not first or there is no room, and it is
            called then.
        """
        with self._lock:
            left = self._left(now) if self._line[0] is ticket else None
            if left == 0:
                return self._take(now)
            ticket.called = Wakeup()
            return left

    def leave(self, ticket: Ticket) -> None:
        """Stand in line no more; `Ticket.leave` calls it once."""
        with self._lock:
            self._line.remove(ticket)
            self._call_first()

    def release(self) -> None:
        """A place is free again; `Seat.release` calls it once."""
        with self._lock:
            self._taken -= 1
            self._call_first()

    def _take(self, now: float | None) -> Seat:
        self._taken += 1
        if now is not None:
            self._last = now
        return Seat(self)

    def _left(self, now: float) -> float | None:
        """Seconds until the first in line may begin; None for as long as there is no room."""
        if self.concurrent is not None and self._taken >= self.concurrent:
            return None
        if self._last is None:
            return 0.0
        left = self._last + self._gap - now
        # More than one gap is a moment of another clock: a test's, or that of an event loop that is over.
        return left if _INSTANT < left <= self._gap + _INSTANT else 0.0

    def _call_first(self) -> None:
        if self._line:
            self._line[0].call()


class Seat:
    """One flow's place under a limit."""

    __slots__ = ("_released", "limit")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._released = False

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        if not self._released:
            self._released = True
            self.limit.release()


class Ticket:
    """Standing in line under a limit; made by `Limit.join`."""

    __slots__ = ("_limit", "called", "order")

    def __init__(self, limit: Limit, order: Order) -> None:
        self._limit: Limit | None = limit
        self.order = order
        self.called = Wakeup()

    async def wait(self, clock: Clock) -> Seat:
        """Wait for a place, and leave the line with it. Cancelled, it has taken none and has left as well."""
        try:
            while self._limit is not None:
                found = self._limit.take_if_first(self, clock.elapsed())
                if isinstance(found, Seat):
                    return found
                if found is None:
                    await self.called.wait()
                else:
                    await clock.sleep_until(clock.now() + timedelta(seconds=found))
            raise RuntimeError("it has left the line")
        finally:
            self.leave()

    def leave(self) -> None:
        """Leave the line; a second time does nothing."""
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.leave(self)

    def call(self) -> None:
        """Have it look again; callable from any thread."""
        self.called.set()


def _order_of(ticket: Ticket) -> Order:
    return ticket.order


def _is_rate(value: object) -> bool:
    return type(value) in {int, float} and 0 < cast("float", value) < math.inf
