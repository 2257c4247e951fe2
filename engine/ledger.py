"""The one way anything is written: commit, then publish.

Nothing is shown before it is on disk, because only a commit publishes. Everything that writes (a driven flow, a claim,
a cancellation, the inbox) goes through the one ledger of its engine.
"""

from __future__ import annotations

from functools import partial

import msgspec

from ..base.clock import Clock
from ..base.moments import moment_text
from .feed import Feed
from .history import Change
from .journal.commits import Commits
from .journal.journal import Journal
from .journal.records import FlowRow, Record
from .machine.parts import Event


class Ledger:
    """The writing side of an open journal.

    Args:
        journal: The open journal.
        feed: Where changes are published.
        clock: The time of records.
        inline: Commit on the calling thread, for tests on a virtual clock.
    """

    def __init__(self, journal: Journal, feed: Feed, clock: Clock, *, inline: bool) -> None:
        self.journal = journal
        self.feed = feed
        self.clock = clock
        self.commits = Commits(journal, inline=inline)

    async def begin(self, row: FlowRow, record: Record) -> None:
        """A new flow. Raises `FlowExists` and `JournalError`; nothing was written then."""
        await self.commits.write(partial(self.journal.begin, row, record))
        self._publish(row, record)

    async def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        """One more record of a flow; the signal it came from leaves the inbox.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing was written.
            SignalTaken: The signal has left the inbox already; nothing was written.
            JournalError: It could not be written.
        """
        await self.commits.write(partial(self.journal.advance, before, after, record, signal))
        self._publish(after, record)

    async def migrate(self, before: FlowRow, after: FlowRow, record: Record) -> None:
        """A flow of an older table becomes one of today's. Raises as `advance`."""
        await self.commits.write(partial(self.journal.migrate, before, after, record))
        self._publish(after, record)

    async def claim(self, row: FlowRow, owner: str) -> None:
        """Make an owner of a flow, if nobody has moved or claimed it since `row` was read. Raises as `advance`."""
        await self.commits.write(partial(self.journal.claim, row, owner))

    async def post(self, flow: str, event: Event) -> None:
        """Leave an event in the inbox of a flow, for the process that drives it. Raises `JournalError`."""
        body, now = msgspec.json.encode(event).decode(), moment_text(self.clock.now())
        await self.commits.write(partial(self.journal.post_signal, flow, now, type(event).__name__, body))

    async def drop(self, signal: int) -> None:
        """Take a signal out of the inbox. Raises `JournalError`."""
        await self.commits.write(partial(self.journal.drop_signal, signal))

    def _publish(self, row: FlowRow, record: Record) -> None:
        if self.feed.heard:
            self.feed.publish(Change.of(row.machine, record))
