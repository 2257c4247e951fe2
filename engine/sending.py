"""Events that are sent to a flow: taken at once where it is driven here, else left in its inbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from ..base.clock import Clock
from ..base.moments import moment_text
from .claims import Claims
from .driven import Driven
from .errors import EventNotAccepted
from .gates import Gates
from .inbox import Inbox
from .journal.records import RESTING, Signal
from .machine.parts import Event
from .resting import Resting
from .signals import inbox_text, refuse_own
from .store import Ownership


class Sending:
    """How one engine sends events.

    Args:
        store: Where the flows are.
        claims: Which flows and machines are known here.
        driven: The flows that are driven here.
        gates: Each flow's gate.
        inbox: What waits for them.
        clock: The time.
        resting: Wakes flows that rest; None where this engine wakes none.
    """

    def __init__(
        self,
        store: Ownership,
        claims: Claims,
        driven: Driven,
        gates: Gates,
        inbox: Inbox,
        clock: Clock,
        resting: Resting | None,
    ) -> None:
        self._store = store
        self._claims = claims
        self._driven = driven
        self._gates = gates
        self._inbox = inbox
        self._clock = clock
        self._resting = resting

    async def send(self, flow: str, event: Event) -> bool:
        """Send a flow an event; see `Engine.send`."""
        await trio.lowlevel.checkpoint_if_cancelled()

        async def keep(text: str) -> Signal:
            return await self._store.post(flow, moment_text(self._clock.now()), type(event).__name__, text)

        await self._inbox.catch_up(flow)
        if (taken := await self._offer(flow, event, keep)) is not None:
            return taken
        async with self._gates.flow(flow):
            if (taken := await self._offer(flow, event, keep)) is not None:
                return taken
            row = await self._claims.existing(flow)
            if self._resting is not None and row.status == RESTING:
                if (taken := await self._resting.send(flow, event, keep)) is not None:
                    return taken
                row = await self._claims.existing(flow)
            machine = self._claims.program(row.machine, flow).machine
            if machine.events.get(type(event).__name__) is not type(event):
                raise machine.refusal(row.state, event)
            await keep(inbox_text(machine, row, event))
            return False

    async def _offer(self, flow: str, event: Event, keep: Callable[[str], Awaitable[Signal]]) -> bool | None:
        """Offer an event to a flow that is driven here, and has taken what waits for it; None where it is not."""
        live = self._driven.driven(flow)
        if live is None or live.behind:
            return None
        refuse_own(live.machine.name, live.row.state, event)
        try:
            return await live.offer(event, keep)
        except EventNotAccepted:
            if live.ended:  # the reason that is given for an end is another
                return None
            raise
