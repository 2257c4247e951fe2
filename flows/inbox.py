"""Signals between processes: an event left in the journal for whoever drives the flow.

A process that drives flows looks into the inbox ten times a second; a signal is taken out in the transaction of the
step it leads to, so it is neither lost nor taken twice. A flow nobody drives gets its signals when it is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from ..errors import CloudError, EventNotAccepted
from ..io.log import logger
from ..io.records import Signal, moment_text
from ..machines.machine import CancelRequested, Event

if TYPE_CHECKING:
    from .engine import Engine
    from .live import LiveFlow

INBOX_SECONDS = 0.1
"""How often a driving process looks."""


class Inbox:
    """The inbox of one journal, as one engine sees it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def post(self, flow: str, event: Event) -> None:
        """Leave an event for the process that drives the flow; returns when it is on disk.

        Raises:
            JournalError: It could not be written.
        """
        engine = self._engine
        body, now = msgspec.json.encode(event).decode(), moment_text(engine.clock.now())
        await engine.commits.write(lambda: engine.journal.post_signal(flow, now, type(event).__name__, body))

    async def watch(self) -> None:
        """Hand signals to the flows driven here, for as long as the engine is open."""
        while True:
            await trio.sleep(INBOX_SECONDS)
            if self._engine.driving:
                try:
                    await self._look()
                except CloudError as exc:  # the flows meet the same trouble with their next step, and say so
                    logger.warning("the inbox cannot be read: {}", exc)

    async def _look(self) -> None:
        for signal in self._engine.journal.signals(owner=self._engine.claims.owner.name):
            if (live := self._engine.driven(signal.flow)) is not None:
                await self._take(live, signal)
            elif (row := self._engine.journal.flow(signal.flow)) is None or row.status == "ended":
                await self._drop(signal)

    async def _take(self, live: LiveFlow, signal: Signal) -> None:
        try:
            event = live.machine.decode_event(signal.body)
            if isinstance(event, CancelRequested):
                await self._engine.endings.cancel_driven(live, event.reason, signal=signal.id)
                if live.ended:  # perhaps by what became of its child, and then the signal is still there
                    await self._drop(signal)
            else:
                await live.step(event, signal=signal.id)
        except EventNotAccepted as exc:
            await self._refuse(live, signal, exc)
        except (
            CloudError
        ) as exc:  # this flow cannot be written just now; its signal stays, and the next one has its turn
            logger.warning("{}: the signal {} has to wait: {}", live.row.id, signal.name, exc)
        except Exception as exc:  # noqa: BLE001 not an event, or a table whose update cannot take it: no other flow suffers
            await self._refuse(live, signal, exc)

    async def _refuse(self, live: LiveFlow, signal: Signal, exc: Exception) -> None:
        logger.warning("{}: the signal {} was not taken: {}", live.row.id, signal.name, exc)
        await self._drop(signal)

    async def _drop(self, signal: Signal) -> None:
        journal = self._engine.journal
        await self._engine.commits.write(lambda: journal.drop_signal(signal.id))
