"""What is done to all flows of a journal: resumed after a restart, removed when they are old; and copies of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import trio

from ..base.clock import Clock
from ..base.errors import CloudError
from ..base.log import get_logger
from .disk import Disk
from .driven import Driven
from .elsewhere import Elsewhere
from .errors import EngineClosed, FlowBusy, JournalError
from .export import Export, document_of
from .feed import Feed
from .flow import Flow, FlowId
from .journal.housekeeping import Pruned, prune
from .journal.records import RESTING, UNFINISHED, FlowRow, Status
from .journal.store import SqliteStore
from .journal.vault import VaultFiles
from .loading import Loading
from .looking import Looking
from .machine.machine import Machine
from .observers import Observers
from .steps import Why

logger = get_logger(__name__)

AT_A_TIME: Final = 200
"""Flows that are resumed at the same time: so many share their writes."""


class Resumed(NamedTuple):
    """What became of the flows that no process drove.

    Attributes:
        flows: Those that are driven here now.
        left: Those that cannot be resumed, by their ids, with why: no program for their machine, say.
    """

    flows: Sequence[Flow]
    left: Mapping[str, CloudError]


class Keeping(Looking, ABC):
    """The part of an engine that keeps a journal's flows going, and the journal small.

    Args:
        store: See `Looking`.
        clock: See `Looking`.
        feed: See `Looking`.
        driven: See `Looking`.
        loading: See `Looking`.
        elsewhere: See `Looking`.
        observers: See `Looking`.
        vault: Where the flows' secrets are.
        disk: Where blocking calls go.
        wakes: Whether it wakes the flows that rest.
    """

    def __init__(
        self,
        store: SqliteStore,
        clock: Clock,
        feed: Feed,
        driven: Driven,
        loading: Loading,
        elsewhere: Elsewhere,
        observers: Observers,
        *,
        vault: VaultFiles,
        disk: Disk,
        wakes: bool,
    ) -> None:
        super().__init__(store, clock, feed, driven, loading, elsewhere, observers)
        self.wakes = wakes
        self.vault = vault
        self._disk = disk

    @abstractmethod
    async def resume(self, flow: FlowId, *, repeat: bool = False, why: Why = "person") -> Flow:
        """Continue a flow; see `Engine.resume`."""

    async def resume_all(
        self, machine: Machine[Any] | str | None = None, *, why: Why = "handover", paused: bool = False
    ) -> Resumed:
        """Resume every flow that no process drives; those that run inside others continue with them.

        Args:
            machine: Only this machine's, or the machine's with this name.
            why: See `resume`.
            paused: Also those that are paused: what they were paused for may have been fixed.

        Returns:
            The flows that were resumed, and those that cannot be.

        Raises:
            JournalError: It cannot be read or written; what was resumed before is driven.
            EngineClosed: The engine is closed.
        """

        flows: list[Flow] = []
        left: dict[str, CloudError] = {}
        statuses: Sequence[Status] = [
            each for each in UNFINISHED if (paused or each != "paused") and not (self.wakes and each == RESTING)
        ]

        async def resume_one(row: FlowRow) -> None:
            try:
                flows.append(await self.resume(row.id, why=why))
            except FlowBusy:
                pass  # another process was quicker
            except CloudError as exc:
                left[row.id] = exc

        before: str | None = None
        while True:
            page = await self.flows(status=statuses, machine=machine, parent=None, before=before, limit=AT_A_TIME)
            async with trio.open_nursery() as nursery:
                for row in page:
                    if self.driven(row.id) is None and not self._elsewhere.runs(row.owner):
                        nursery.start_soon(resume_one, row)
            for exc in left.values():
                if isinstance(exc, JournalError | EngineClosed):  # and so it is with every other flow
                    raise exc
            if len(page) < AT_A_TIME:
                break
            before = page[-1].id
        for flow, exc in left.items():
            logger.warning("flow %s cannot be resumed: %s", flow, exc)
        return Resumed(flows, left)

    async def export(self, flow: FlowId) -> Export:
        """A flow and every flow inside it as a document without secrets; `msgspec.json.encode` makes JSON of it.

        Raises:
            FlowNotFound: No flow has this id.
            JournalError: The journal cannot be read.
        """
        found = [(row, await self.records(row.id)) for row in await self.family(flow)]
        return await self._disk.run(document_of, found, self.vault, self.clock.now())

    async def prune(self, before: datetime, *, keep: int = 0, dry_run: bool = False) -> Pruned:
        """Remove flows that ended before a moment, with every flow inside them and their histories.

        Flows that have not ended are never touched, however old. Others may drive flows meanwhile.

        Args:
            before: Only what ended earlier; it must know its time zone.
            keep: The newest so many ended flows stay, however old they are.
            dry_run: Only count.

        Raises:
            ValueError: The moment has no time zone.
            JournalError: The journal cannot be read or written; what was removed so far stays removed.
            Io: A secret that was left cannot be removed; its flow stays.
        """
        self._elsewhere.refuse_closed()
        if before.tzinfo is None:
            raise ValueError(f"the moment {before} has no time zone")
        return await self._disk.run(prune, self.journal, self.vault, before, keep=keep, dry_run=dry_run)
