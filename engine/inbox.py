"""Signals between processes: an event left in the journal for whoever drives the flow.

A process that drives flows looks into the inbox ten times a second; under virtual time only after something was left
there, or a week of it would cost six million looks. A signal is taken out in the transaction of the step it leads to,
so it is neither lost nor taken twice. A flow nobody drives gets its signals when it is resumed. Each flow's signals are
taken by a task of their own: a flow that is slow to end delays no other.
"""

from __future__ import annotations

from collections import deque

import trio

from ..base.log import get_logger
from .driven import Driven
from .endings import Endings
from .errors import EventNotAccepted, NotStorable, TableFailed
from .gates import Gates
from .journal.records import CANCEL, Signal
from .live import LiveFlow
from .machine.parts import CancelRequested
from .nursery import AGAIN_SECONDS
from .store import Ownership

logger = get_logger(__name__)

INBOX_SECONDS = 0.1
"""How often a driving process looks."""


class Inbox:
    """The inbox of one journal, as one engine sees it.

    Args:
        store: Where it is.
        owner: This engine, as the journal names it.
        driven: The flows that are driven here.
        gates: Each flow's gate.
        endings: How a flow that was asked to end is ended.
        nursery: Where signals are taken.
    """

    def __init__(
        self, store: Ownership, owner: str, driven: Driven, gates: Gates, endings: Endings, nursery: trio.Nursery
    ) -> None:
        self._store = store
        self._owner = owner
        self._driven = driven
        self._gates = gates
        self._endings = endings
        self._nursery = nursery
        self._seen = 0
        self._waiting: dict[str, deque[Signal]] = {}

    async def watch(self) -> None:
        """Hand signals to the flows driven here, for as long as the engine is open."""
        more, heard = True, 0
        while True:
            if not more:
                heard = await self._store.posted(heard)
            await trio.sleep(INBOX_SECONDS)
            try:
                more = self._driven.any and await self._look()
            except Exception as exc:  # noqa: BLE001 the flows meet the same trouble with their next step
                logger.warning("the inbox cannot be read: %s", exc)
                more = True

    async def take_waiting(self, live: LiveFlow) -> None:
        """Take what waits in the inbox of a flow that was taken over, before anything is done in its state.

        Called again meanwhile, it tries the same events in the same order: each counts once.

        Raises:
            CloudError: It cannot be read or written.
        """
        for signal in await self._store.signals(live.row.id):
            if not await self._take(live, signal):
                return
        live.behind = False

    async def catch_up(self, flow: str) -> None:
        """Take what waits for a flow that was just taken over, before anything is sent to it: the oldest comes first.

        Not at the flow's gate, and not while the flow is being cancelled: that may wait for a child that sends to it.
        """
        while (live := self._driven.driven(flow)) is not None and live.behind and not live.cancelling:
            await self.take_waiting(live)

    async def asked_to_end(self, live: LiveFlow) -> str | None:
        """Why a flow that was paused is to be cancelled, when its inbox asks for that. Raises `CloudError`."""
        signals = await self._store.signals(live.row.id)
        return next((reason for each in signals if (reason := _reason(live, each)) is not None), None)

    async def _look(self) -> bool:
        """Whether there may be more."""
        newest = await self._store.newest_signal()
        found = await self._store.signals_for(self._owner, self._seen)
        for signal in found:
            self._seen = signal.id
            self.hand_over(signal)
        if not found:
            # Those of flows that nobody drives, or others: whoever takes such a flow over looks at its own.
            self._seen = max(self._seen, newest)
        return bool(found)

    def hand_over(self, signal: Signal) -> None:
        """Have a flow that is driven here take a signal, after those that wait already."""
        waiting = self._waiting.get(signal.flow)
        if waiting is not None:
            waiting.append(signal)
        else:
            self._waiting[signal.flow] = deque([signal])
            self._nursery.start_soon(self._hand_over, signal.flow)

    async def _hand_over(self, flow: str) -> None:
        waiting = self._waiting[flow]
        try:
            while waiting:
                live = self._driven.driven(flow) or await self._just_written(flow)
                if live is None:  # whoever resumes it takes them
                    return
                await live.decided.wait()
                try:
                    await self._take(live, waiting[0])
                except Exception as exc:  # noqa: BLE001 it is this flow's; the engine and the others go on
                    logger.warning("%s: the signal %s has to wait: %s", flow, waiting[0].name, exc)
                    await trio.sleep(AGAIN_SECONDS)
                else:
                    waiting.popleft()
        finally:
            del self._waiting[flow]

    async def _just_written(self, flow: str) -> LiveFlow | None:
        """The flow, if it was written as ours a moment ago and is about to be driven."""
        async with self._gates.flow(flow):
            return self._driven.driven(flow)

    async def _take(self, live: LiveFlow, signal: Signal) -> bool:
        """Take one signal; False when the flow is not driven here any more."""
        if signal.name != CANCEL:
            return await live.take(signal)
        if (reason := _reason(live, signal)) is None:
            return await live.take(signal)  # refused like any other that cannot be read
        try:
            return await self._endings.cancel_driven(live, reason, signal=signal.id)
        except (EventNotAccepted, NotStorable, TableFailed):
            return await live.take(signal)  # kept or refused like any other


def _reason(live: LiveFlow, signal: Signal) -> str | None:
    try:
        event = live.machine.decode_event(signal.body) if signal.name == CANCEL else None
    except Exception:  # noqa: BLE001 the machine's own types decide what cannot be read
        return None
    return event.reason if isinstance(event, CancelRequested) else None
