"""When a flow begins: at once, at its time, or when its program's limit has room for it.

A flow that does not begin at once is written all the same, as `queued`: its first record has that name, and the moment
before which it does not begin as its deadline. It is driven like any other, only that its driver waits before the first
visit; then a record of kind `begun` follows, and with it the deadline of the first state. Whoever resumes it waits on.
Events for it are kept until it begins; a cancellation ends it in the queue.
"""

from __future__ import annotations

from typing import Any

import trio

from ..base.clock import Clock
from ..base.log import get_logger
from .driven import Driven
from .errors import JournalError
from .limits import Limit, Order, Seat, Ticket
from .live import LiveFlow
from .program import Program

logger = get_logger(__name__)

AGAIN_SECONDS = 1.0
"""How long a flow waits whose begin could not be written."""


class Turns:
    """The turns of one engine's flows.

    Args:
        driven: The flows that are driven here.
        clock: The time.
    """

    def __init__(self, driven: Driven, clock: Clock) -> None:
        self._driven = driven
        self._clock = clock

    def ask(self, program: Program[Any], parent: str | None, order: Order) -> Seat | Ticket | None:
        """What a new flow has under its program's limit: a place, a stand in line for one, or None where it needs none.

        Args:
            program: Its machine and activities.
            parent: The flow that runs it.
            order: Its place in the line.
        """
        limit = program.limit
        if limit is None or self._is_inside(parent, limit):
            return None
        return limit.take_if_free(self._clock) or limit.join(order)

    def line_up(self, live: LiveFlow) -> None:
        """Give a queued flow that may begin already its stand in line, before its task waits for anything."""
        moment, limit = live.deadline(), live.program.limit
        if not live.queued or limit is None or live.ticket is not None or self._is_inside(live.row.parent, limit):
            return
        if moment is None or moment <= self._clock.now():
            live.ticket = self._join(live, limit)

    async def wait(self, live: LiveFlow) -> None:
        """Return when the flow may be driven: when it has begun, or was ended or moved on while it waited.

        Raises:
            FlowBusy: Another process moved it meanwhile.
        """
        if live.queued:
            with trio.CancelScope() as live.waiting:
                await self._wait(live)
            live.waiting = None
        limit = live.program.limit
        if limit is not None and live.place is None and not live.ended and not self._is_inside(live.row.parent, limit):
            live.place = limit.take()  # it has begun before

    async def _wait(self, live: LiveFlow) -> None:
        moment, limit, row = live.deadline(), live.program.limit, live.row
        if moment is not None:
            await self._clock.sleep_until(moment)
        if limit is not None and not self._is_inside(row.parent, limit):
            live.ticket = live.ticket or self._join(live, limit)
            live.place = await live.ticket.wait(self._clock)
        while True:
            try:
                return await live.begin()
            except JournalError as exc:
                logger.warning("%s cannot begin yet: %s", row.id, exc)
                await trio.sleep(AGAIN_SECONDS)

    def _join(self, live: LiveFlow, limit: Limit) -> Ticket:
        return limit.join((live.row.deadline or live.row.created, live.row.id))

    def over(self, live: LiveFlow) -> None:
        """The flow is driven no more: its place is free, or its stand in line."""
        if live.ticket is not None:
            live.ticket.leave()
            live.ticket = None
        if live.place is not None:
            live.place.release()
            live.place = None

    def _is_inside(self, parent: str | None, limit: Limit) -> bool:
        """Whether a flow runs inside one that has a place under the same limit: that would wait for itself."""
        while parent is not None and (outer := self._driven.known(parent)) is not None:
            if outer.place is not None and outer.place.limit is limit:
                return True
            parent = outer.row.parent
        return False
