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
from .signals import take
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
                await take(live, signal, end=self._endings.cancel_driven, drop=self._store.drop)
            elif (row := await self._store.flow(signal.flow)) is None or row.status == "ended":
                await self._store.drop(signal.id)
