"""What makes flows durable, as protocols: another runner implements these, and everything above works on it.

`Store` holds records: every runner has one. `Ownership` is what a store adds whose flows are claimed by the processes
that drive them; a runner with its own way of assigning work needs none. `Vault` holds secrets.

The SQLite store is in `journal/store.py`. A new store has to pass `tests/engine/test_store_conformance.py`, one whose
flows are claimed also `test_store_ownership.py`, and a new vault `test_vault_conformance.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Sequence
from typing import Protocol

from .journal.records import FlowRow, Record, Signal
from .journal.selecting import FlowFilter


class Store(Protocol):
    """Flows and their records. A write has returned when it is durable, and is never torn by cancellation."""

    @property
    def place(self) -> str:
        """Where it is, for messages: a path or the like, without secrets."""
        ...

    def begin(self, row: FlowRow, record: Record) -> Awaitable[None]:
        """A new flow with its first record.

        Raises:
            FlowExists: An unfinished flow of this machine has the same key, or a flow has the same id.
            JournalError: It could not be written; nothing happened.
        """
        ...

    def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> Awaitable[None]:
        """One more record, and the flow as it is after it; the signal it came from leaves the inbox.

        Raises:
            FlowBusy: The flow is not as `before` has it any more; nothing happened.
            SignalTaken: The signal has left the inbox already; nothing happened.
            JournalError: It could not be written; nothing happened. A store may have other kinds of `CloudError` too:
                they end the drive, and the flow is as it was.
        """
        ...

    def migrate(
        self, before: FlowRow, after: FlowRow, migrated: Record, record: Record, signal: int | None = None
    ) -> Awaitable[None]:
        """A flow of an older table becomes one of today's and advances, both or nothing.

        Args:
            before: The flow as it is stored.
            after: The flow after both records; its machine, version and fingerprint are today's.
            migrated: How it became one of today's.
            record: What happened then.
            signal: The signal that came from, which leaves the inbox.

        Raises:
            FlowExists: Its machine has another name today, and an unfinished flow of that one has the same key.
            CloudError: As `advance`.
        """
        ...

    async def flow(self, flow: str) -> FlowRow | None:
        """The flow with exactly this id."""
        ...

    async def records(self, flow: str, *, after: int = 0, limit: int | None = None) -> Sequence[Record]:
        """A flow's history, in order: what is numbered above `after`, and at most `limit` of it where that is given."""
        ...

    async def first(self, flow: str) -> Record | None:
        """A flow's first record, for what it was started with; None when the flow has been migrated since.

        This must not cost more with each record of the flow.
        """
        ...

    async def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        """The idempotency keys announced during one visit of a state, and not withdrawn since."""
        ...

    async def failures(self, flow: str, incarnation: int) -> Sequence[Record]:
        """The records of kind `retried` and `paused` of a flow's newest visit, given by its number, in order."""
        ...

    async def children(self, flow: str) -> Sequence[FlowRow]:
        """The child flows of a flow, the oldest first."""
        ...

    async def unfinished_children(self, flow: str) -> Sequence[FlowRow]:
        """Those of them that have not ended, the oldest first; this must not cost more with each that has ended."""
        ...

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """The flows of a machine, children included, the newest first, at most so many."""
        ...


class Ownership(Store, Protocol):
    """A store whose flows are claimed by the processes that drive them, and reached by the others through an inbox."""

    async def unfinished_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The one flow of this machine and key that has not ended."""
        ...

    async def newest_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The flow of this machine and key that was started last, whether or not it has ended."""
        ...

    def claim(self, row: FlowRow, owner: str | None) -> Awaitable[None]:
        """Change a flow's owner, if it was neither moved nor claimed since `row` was read. Raises `FlowBusy`."""
        ...

    def is_alive(self, owner: str) -> bool:
        """Whether the process that an owner's name stands for still runs."""
        ...

    async def post(self, flow: str, at: str, name: str, body: str) -> Signal:
        """Leave an event in the inbox of a flow, for the process that drives it; the signal it is now.

        Raises:
            FlowNotFound: There is no such flow.
            EventNotAccepted: The flow has ended, or `KEPT_AT_MOST` events wait already; nothing happened.
            JournalError: It could not be written; nothing happened.
        """
        ...

    async def signals(self, flow: str) -> Sequence[Signal]:
        """The signals a flow has not taken, the oldest first; an ended flow has none."""
        ...

    async def posted(self, seen: int) -> int:
        """Return when there may be new events in the inbox; at once where only looking tells.

        Args:
            seen: What this returned last; 0 at first.
        """
        ...

    def rest(self, row: FlowRow, kept: int) -> Awaitable[bool]:
        """Have a flow rest, if its inbox has no more events than those it keeps: no owner, status `resting`.

        Args:
            row: The flow, as its owner knows it.
            kept: How many events it keeps for later states.

        Returns:
            False when more events wait; nothing happened.

        Raises:
            FlowBusy: The flow is not as `row` has it any more; nothing happened.
            JournalError: It could not be written; nothing happened.
        """
        ...

    async def due(self, machines: Collection[str], until: str, limit: int) -> Sequence[FlowRow]:
        """Resting flows of some machines whose deadline has passed, the earliest first.

        This, `next_due` and `signals_to_resting` must not cost more with each flow that rests, or is of another
        machine.

        Args:
            machines: The names that their machines are stored under.
            until: The moment (RFC 3339).
            limit: At most so many.
        """
        ...

    async def next_due(self, machines: Collection[str], after: str) -> str | None:
        """The earliest deadline after a moment of the flows of some machines that rest; None when none has one."""
        ...

    async def signals_to_resting(self, machines: Collection[str], after: int) -> Sequence[Signal]:
        """Signals to resting flows of some machines, numbered above `after`, the oldest first; a bounded number."""
        ...

    async def newest_signal(self) -> int:
        """The number of the newest signal that waits, to whatever flow; 0 when none does."""
        ...

    async def signals_for(self, owner: str, after: int) -> Sequence[Signal]:
        """Signals to the flows that `owner` drives, numbered above `after`, the oldest first; a bounded number."""
        ...

    async def orphans(self) -> Sequence[FlowRow]:
        """The unfinished children of flows that have ended."""
        ...

    async def select(self, wanted: FlowFilter) -> Sequence[FlowRow]:
        """The flows that are wanted, the one that was started last first; a page must not cost a look at all of them.

        Raises:
            FlowNotFound: There is no flow that the page is to come before.
        """
        ...

    async def find(self, prefix: str) -> FlowRow:
        """The flow whose id is, or begins with, `prefix`; a flow goes before its own children.

        Raises:
            FlowNotFound: None does, or several do.
        """
        ...

    async def stamp(self) -> int:
        """A number that differs from the last one if anything was written since, by this process or another.

        It is asked for ten times a second while somebody waits for a flow that another process drives.
        """
        ...

    async def written(self, stamp: int) -> None:
        """Return when something may have been written since a stamp; at once where only looking tells."""
        ...


class Vault(Protocol):
    """The secrets of flows: records carry only references to them."""

    async def put(self, flow: str, name: str, secret: str) -> str:
        """Keep a secret, durably; the reference `vault:<name>`."""
        ...

    async def get(self, flow: str, reference: str) -> str:
        """The secret a reference stands for. Raises `VaultMissing`."""
        ...

    async def has(self, flow: str, reference: str) -> bool:
        """Whether `get` would return a secret."""
        ...

    async def make_known(self, flow: str) -> None:
        """Have the redactor hide every secret of a flow: a server may quote one that no activity will ask for."""
        ...

    async def discard(self, flow: str) -> None:
        """Forget every secret of a flow, also during a cancellation; it is no error when there are none."""
        ...
