"""The one way anything is written: commit, then publish.

Nothing is shown before it is durable, because only a commit publishes. Everything that writes the history of flows (a
driven flow, a claim, a cancellation) goes through the one ledger of its engine.
"""

from __future__ import annotations

from collections.abc import Callable

from ..base.clock import Clock
from .journal.records import FlowRow, Record
from .store import Store


class Ledger:
    """The writing side of a store.

    Args:
        store: What makes records durable.
        clock: The time of records.
        committed: Called with the flow as it now is, and its new record, after each commit.
    """

    def __init__(self, store: Store, clock: Clock, committed: Callable[[FlowRow, Record], None]) -> None:
        self.store = store
        self.clock = clock
        self._committed = committed

    async def begin(self, row: FlowRow, record: Record) -> None:
        """A new flow. Raises `FlowExists` and `JournalError`; nothing was written then."""
        await self.store.begin(row, record)
        self._committed(row, record)

    async def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        """One more record of a flow; the signal it came from leaves the inbox.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing was written.
            SignalTaken: The signal has left the inbox already; nothing was written.
            JournalError: It could not be written.
        """
        await self.store.advance(before, after, record, signal)
        self._committed(after, record)

    async def migrate(
        self, before: FlowRow, after: FlowRow, migrated: Record, record: Record, signal: int | None = None
    ) -> None:
        """A flow of an older table becomes one of today's and advances. Raises as `Store.migrate`."""
        await self.store.migrate(before, after, migrated, record, signal)
        self._committed(after, migrated)
        self._committed(after, record)
