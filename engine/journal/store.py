"""The SQLite store: one journal, written in groups, with a lock file for each process that drives its flows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..wakeups import Wakeup
from .commits import Commits
from .journal import Journal
from .owners import owner_is_alive
from .records import FlowRow, Record, Signal
from .selecting import FlowFilter


class _Heard:
    """Counts what this process writes to a journal: under virtual time nobody else writes anything.

    Attributes:
        writes: How many commits there were.
        posts: How many of them left events in an inbox.
    """

    def __init__(self, journal: Journal) -> None:
        self.writes = self.posts = 0
        self._wakeups: list[Wakeup] = []
        journal.listen(self)

    def tell(self, *, posted: bool) -> None:
        """Something was written."""
        self.writes += 1
        self.posts += posted
        for wakeup in tuple(self._wakeups):
            wakeup.set()

    async def wait(self, new: Callable[[], bool]) -> None:
        """Wait until what was written is new to the caller."""
        while True:
            wakeup = Wakeup()
            self._wakeups.append(wakeup)
            try:
                if new():  # after the line above: it may be told in another thread
                    return
                await wakeup.wait()
            finally:
                self._wakeups.remove(wakeup)


class SqliteStore:
    """An open journal as a store.

    What is written is handed on as it is, without a coroutine in between: there is one for each record of each flow.

    Args:
        journal: The open journal.
        owners: The directory of the lock files.
        inline: Commit on the calling thread, and look only when this process has written something:
            for tests on a virtual clock.
    """

    def __init__(self, journal: Journal, owners: Path, *, inline: bool = False) -> None:
        self.journal = journal
        self.commits = Commits(journal, inline=inline)
        self._owners = owners.absolute()
        self._heard = _Heard(journal) if inline else None

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

    async def records(self, flow: str, *, after: int = 0, limit: int | None = None) -> Sequence[Record]:
        """A flow's history, in order, or a part of it; see `Store.records`."""
        return self.journal.records(flow, after=after, limit=limit)

    async def first(self, flow: str) -> Record | None:
        """A flow's first record; None when the flow has been migrated since."""
        return None if self.journal.migrated(flow) else self.journal.record(flow, 1)

    async def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        """The idempotency keys announced during one visit of a state, and not withdrawn since."""
        return self.journal.intents(flow, incarnation)

    async def failures(self, flow: str, incarnation: int) -> Sequence[Record]:
        """What became of failed activities in one visit of a state; see `Store.failures`."""
        return self.journal.failures(flow, incarnation)

    async def children(self, flow: str) -> Sequence[FlowRow]:
        """The child flows of a flow, the oldest first."""
        return self.journal.children(flow)

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

    async def rest(self, row: FlowRow, kept: int) -> bool:
        """Have a flow rest; see `Ownership.rest`."""
        rested: list[bool] = []  # a group that fails is tried again one by one: the last one counts
        await self.commits.write(lambda: rested.append(self.journal.rest(row, kept)))
        return rested[-1]

    async def due(self, machines: Collection[str], until: str, limit: int) -> Sequence[FlowRow]:
        """Resting flows whose deadline has passed; see `Ownership.due`."""
        return self.journal.due(machines, until, limit)

    async def next_due(self, machines: Collection[str], after: str) -> str | None:
        """The earliest deadline above `after` of the flows of some machines that rest."""
        return self.journal.next_due(machines, after)

    async def signals_to_resting(self, machines: Collection[str], after: int) -> Sequence[Signal]:
        """Signals to resting flows of some machines, numbered above `after`."""
        return self.journal.signals_to_resting(machines, after)

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

    async def posted(self, seen: int) -> int:
        """Wait for more events in the inbox; see `Ownership.posted`."""
        heard = self._heard
        if heard is None:
            return seen
        await heard.wait(lambda: heard.posts != seen)
        return heard.posts

    async def newest_signal(self) -> int:
        """The number of the newest signal that waits."""
        return self.journal.newest_signal()

    async def signals_for(self, owner: str, after: int) -> Sequence[Signal]:
        """New signals to the flows of an owner; see `Ownership.signals_for`."""
        return self.journal.signals_for(owner, after)

    async def orphans(self) -> Sequence[FlowRow]:
        """The unfinished children of flows that have ended."""
        return self.journal.orphans()

    # --- looking ----------------------------------------------------------------------------------------------------

    async def select(self, wanted: FlowFilter) -> Sequence[FlowRow]:
        """The flows that are wanted, the newest first."""
        return self.journal.select(wanted)

    async def find(self, prefix: str) -> FlowRow:
        """The flow whose id is, or begins with, `prefix`. Raises `FlowNotFound`."""
        return self.journal.find(prefix)

    async def stamp(self) -> int:
        """A number that differs from the last one if anything was written since."""
        return self.journal.data_version() if self._heard is None else self._heard.writes

    async def written(self, stamp: int) -> None:
        """Wait until something may have been written since; see `Ownership.written`."""
        heard = self._heard
        if heard is not None:
            await heard.wait(lambda: heard.writes != stamp)
