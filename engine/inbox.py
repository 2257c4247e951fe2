"""Signals between processes: an event left in the journal for whoever drives the flow.

A process that drives flows looks into the inbox ten times a second; a signal is taken out in the transaction of the
step it leads to, so it is neither lost nor taken twice. A flow nobody drives gets its signals when it is resumed.
"""

from __future__ import annotations

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .driven import Driven
from .endings import Endings
from .errors import EventNotAccepted
from .journal.records import Signal
from .live import LiveFlow
from .machine.parts import CancelRequested
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
        endings: How a flow that was asked to end is ended.
    """

    def __init__(self, store: Ownership, owner: str, driven: Driven, endings: Endings) -> None:
        self._store = store
        self._owner = owner
        self._driven = driven
        self._endings = endings

    async def watch(self) -> None:
        """Hand signals to the flows driven here, for as long as the engine is open."""
        while True:
            await trio.sleep(INBOX_SECONDS)
            if self._driven.any:
                try:
                    await self._look()
                except CloudError as exc:  # the flows meet the same trouble with their next step, and say so
                    logger.warning("the inbox cannot be read: %s", exc)

    async def _look(self) -> None:
        for signal in await self._store.signals(self._owner):
            if (live := self._driven.driven(signal.flow)) is not None:
                await self._take(live, signal)
            elif (row := await self._store.flow(signal.flow)) is None or row.status == "ended":
                await self._drop(signal)

    async def _take(self, live: LiveFlow, signal: Signal) -> None:
        try:
            event = live.machine.decode_event(signal.body)
            if isinstance(event, CancelRequested):
                await self._endings.cancel_driven(live, event.reason, signal=signal.id)
                if live.ended:  # perhaps by what became of its child, and then the signal is still there
                    await self._drop(signal)
            else:
                await live.step(event, signal=signal.id)
        except EventNotAccepted as exc:
            await self._refuse(live, signal, exc)
        except (
            CloudError
        ) as exc:  # this flow cannot be written just now; its signal stays, and the next one has its turn
            logger.warning("%s: the signal %s has to wait: %s", live.row.id, signal.name, exc)
        except Exception as exc:  # noqa: BLE001 not an event, or a table whose update cannot take it: no other flow suffers
            await self._refuse(live, signal, exc)

    async def _refuse(self, live: LiveFlow, signal: Signal, exc: Exception) -> None:
        logger.warning("%s: the signal %s was not taken: %s", live.row.id, signal.name, exc)
        await self._drop(signal)

    async def _drop(self, signal: Signal) -> None:
        await self._store.drop(signal.id)
