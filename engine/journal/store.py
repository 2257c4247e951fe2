"""The SQLite store: one journal, written in groups, with a lock file for each process that drives its flows."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .commits import Commits
from .journal import Journal
from .owners import owner_is_alive
from .records import FlowRow, Record, Signal


class SqliteStore:
    """An open journal as a store.

    What is written is handed on as it is, without a coroutine in between: there is one for each record of each flow.

    Args:
        journal: The open journal.
        owners: The directory of the lock files.
        inline: Commit on the calling thread, for tests on a virtual clock.
    """

    def __init__(self, journal: Journal, owners: Path, *, inline: bool = False) -> None:
        self.journal = journal
        self.commits = Commits(journal, inline=inline)
        self._owners = owners.absolute()

    @property
    def place(self) -> str:
        """The journal's path."""
        return str(self.journal.path)

    # --- records ----------------------------------------------------------------------------------------------------

    def begin(self, row: FlowRow, record: Record) -> Coroutine[Any, Any, None]:
        """A new flow with its first record; see `Store.begin`."""
        return self.commits.write(partial(self.journal.begin, row, record))

    def advance(
        self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None
    ) -> Coroutine[Any, Any, None]:
        """One more record; see `Store.advance`."""
        return self.commits.write(partial(self.journal.advance, before, after, record, signal))

    def migrate(
        self, before: FlowRow, after: FlowRow, migrated: Record, record: Record, signal: int | None = None
    ) -> Coroutine[Any, Any, None]:
        """A flow of an older table becomes one of today's; see `Store.migrate`."""
        return self.commits.write(partial(self.journal.migrate, before, after, migrated, record, signal))

    async def flow(self, flow: str) -> FlowRow | None:
        """The flow with exactly this id."""
        return self.journal.flow(flow)

    async def records(self, flow: str) -> Sequence[Record]:
        """A flow's whole history, in order."""
        return self.journal.records(flow)

    async def first(self, flow: str) -> Record | None:
        """A flow's first record; None when the flow has been migrated since."""
        return None if self.journal.migrated(flow) else self.journal.record(flow, 1)

    async def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        """The idempotency keys announced during one visit of a state, and not withdrawn since."""
        return self.journal.intents(flow, incarnation)

    async def unfinished_children(self, flow: str) -> Sequence[FlowRow]:
        """The child flows of a flow that have not ended, the oldest first."""
        return self.journal.unfinished_children(flow)

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """The flows of a machine, the newest first; see `Store.newest`."""
        return self.journal.flows(machine=machine, limit=limit)

    # --- ownership --------------------------------------------------------------------------------------------------

    async def unfinished_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The one flow of this machine and key that has not ended."""
        return self.journal.unfinished_with_key(machine, key)

    async def newest_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The flow of this machine and key that was started last."""
        return self.journal.newest_with_key(machine, key)

    def claim(self, row: FlowRow, owner: str | None) -> Coroutine[Any, Any, None]:
        """Change a flow's owner; see `Ownership.claim`."""
        return self.commits.write(partial(self.journal.claim, row, owner))

    def is_alive(self, owner: str) -> bool:
        """Whether the process that an owner's name stands for still runs. Raises `Io`."""
        return owner_is_alive(self._owners, owner)

    async def post(self, flow: str, at: str, name: str, body: str) -> Signal:
        """Leave an event in the inbox of a flow; see `Ownership.post`."""
        numbers: list[int] = []  # a group that fails is tried again one by one: the last one counts
        await self.commits.write(lambda: numbers.append(self.journal.post_signal(flow, at, name, body)))
        return Signal(id=numbers[-1], flow=flow, at=at, name=name, body=body)

    async def signals(self, flow: str) -> Sequence[Signal]:
        """The signals a flow has not taken, the oldest first."""
        return self.journal.signals(flow)

    async def newest_signal(self) -> int:
        """The number of the newest signal that waits."""
        return self.journal.newest_signal()

    async def signals_for(self, owner: str, after: int) -> Sequence[Signal]:
        """New signals to the flows of an owner; see `Ownership.signals_for`."""
        return self.journal.signals_for(owner, after)

    async def orphans(self) -> Sequence[FlowRow]:
        """The unfinished children of flows that have ended."""
        return self.journal.orphans()
