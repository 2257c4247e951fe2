"""A store in memory: what the protocols ask for and nothing else, to hold the SQLite one against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count

import msgspec
import trio
from systemprompt_cloud.base.redaction import register_secret
from systemprompt_cloud.engine.errors import (
    EventNotAccepted,
    FlowBusy,
    FlowExists,
    FlowNotFound,
    SignalTaken,
    VaultMissing,
)
from systemprompt_cloud.engine.journal.owners import OwnerName
from systemprompt_cloud.engine.journal.records import CANCEL, KEPT_AT_MOST, FlowRow, Record, Signal, open_intents
from systemprompt_cloud.engine.journal.selecting import FlowFilter


class MemoryStore:
    """Flows, records and an inbox.

    Attributes:
        living: The owners whose processes run.
    """

    def __init__(self) -> None:
        self.living: set[str] = set()
        self._flows: dict[str, FlowRow] = {}
        self._records: dict[str, list[Record]] = {}
        self._inbox: dict[int, Signal] = {}
        self._ids = count(1)
        self._written = 0

    @property
    def place(self) -> str:
        """Where it is."""
        return "memory"

    async def begin(self, row: FlowRow, record: Record) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        same = await self.unfinished_with_key(row.machine, row.key) if row.key is not None else None
        if found := self._flows.get(row.id, same):
            raise FlowExists(found.id)
        self._flows[row.id], self._records[row.id] = row, [record]
        self._written += 1

    async def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        self._move(before, after)
        if signal is not None and self._inbox.pop(signal, None) is None:
            self._flows[before.id] = before
            raise SignalTaken(f"flow {before.id} has taken {record.name} already")
        self._records[before.id].append(record)
        if after.status == "ended":
            self._inbox = {number: each for number, each in self._inbox.items() if each.flow != after.id}

    async def migrate(
        self, before: FlowRow, after: FlowRow, migrated: Record, record: Record, signal: int | None = None
    ) -> None:
        if after.machine != before.machine and after.key is not None and after.status != "ended":
            same = await self.unfinished_with_key(after.machine, after.key)
            if same is not None and same.id != after.id:
                raise FlowExists(same.id)
        await self.advance(before, after, record, signal)
        self._records[before.id].insert(-1, migrated)

    async def flow(self, flow: str) -> FlowRow | None:
        return self._flows.get(flow)

    async def records(self, flow: str, *, after: int = 0, limit: int | None = None) -> Sequence[Record]:
        return [each for each in self._records.get(flow, ()) if each.seq > after][:limit]

    async def first(self, flow: str) -> Record | None:
        records = self._records.get(flow, [])
        return None if any(each.kind == "migrated" for each in records) else next(iter(records), None)

    async def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        return open_intents(each for each in self._records.get(flow, ()) if each.incarnation == incarnation)

    async def failures(self, flow: str, incarnation: int) -> Sequence[Record]:
        visit = (each for each in self._records.get(flow, ()) if each.incarnation == incarnation)
        return [each for each in visit if each.kind in {"retried", "paused"}]

    async def children(self, flow: str) -> Sequence[FlowRow]:
        return [each for each in self._flows.values() if each.parent == flow]

    async def unfinished_children(self, flow: str) -> Sequence[FlowRow]:
        return [each for each in self._flows.values() if each.parent == flow and each.status != "ended"]

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        found = [each for each in self._flows.values() if each.machine == machine]
        return sorted(found, key=lambda row: row.id, reverse=True)[:limit]

    async def unfinished_with_key(self, machine: str, key: str) -> FlowRow | None:
        wanted = (each for each in self._flows.values() if (each.machine, each.key) == (machine, key))
        return next((each for each in wanted if each.status != "ended"), None)

    async def newest_with_key(self, machine: str, key: str) -> FlowRow | None:
        found = (each for each in self._flows.values() if (each.machine, each.key) == (machine, key))
        return next(reversed(list(found)), None)

    async def claim(self, row: FlowRow, owner: str | None) -> None:
        self._move(row, msgspec.structs.replace(self._existing(row.id), owner=owner))

    async def rest(self, row: FlowRow, kept: int) -> bool:
        if len(await self.signals(row.id)) != kept:
            return False
        self._move(row, msgspec.structs.replace(self._existing(row.id), owner=None, status="resting"))
        return True

    async def due(self, machines: Collection[str], until: str, limit: int) -> Sequence[FlowRow]:
        found = [each for each in self._resting(machines) if each.deadline is not None and each.deadline <= until]
        return sorted(found, key=lambda each: each.deadline or "")[:limit]

    async def next_due(self, machines: Collection[str], after: str) -> str | None:
        deadlines = (each.deadline for each in self._resting(machines) if each.deadline is not None)
        return min((each for each in deadlines if each > after), default=None)

    async def signals_to_resting(self, machines: Collection[str], after: int) -> Sequence[Signal]:
        resting = {each.id for each in self._resting(machines)}
        return [each for each in self._inbox.values() if each.id > after and each.flow in resting]

    def _resting(self, machines: Collection[str]) -> list[FlowRow]:
        return [each for each in self._flows.values() if each.status == "resting" and each.machine in machines]

    def is_alive(self, owner: str) -> bool:
        return owner in self.living

    async def post(self, flow: str, at: str, name: str, body: str) -> Signal:
        row = self._existing(flow)
        if name == CANCEL:
            self._inbox = {n: each for n, each in self._inbox.items() if (each.flow, each.name) != (flow, name)}
        waiting = len(await self.signals(flow))
        if row.status == "ended" or (waiting >= KEPT_AT_MOST and name != CANCEL):
            raise EventNotAccepted(row.state, name, machine=row.machine, waiting=waiting)
        number = next(self._ids)
        self._written += 1
        self._inbox[number] = Signal(id=number, flow=flow, at=at, name=name, body=body)
        return self._inbox[number]

    async def signals(self, flow: str) -> Sequence[Signal]:
        return [each for each in self._inbox.values() if each.flow == flow]

    async def newest_signal(self) -> int:
        return max(self._inbox, default=0)

    async def posted(self, seen: int) -> int:
        """At once."""
        return seen

    async def signals_for(self, owner: str, after: int) -> Sequence[Signal]:
        return [each for each in self._inbox.values() if each.id > after and self._flows[each.flow].owner == owner]

    async def orphans(self) -> Sequence[FlowRow]:
        found = (each for each in self._flows.values() if each.parent is not None and each.status != "ended")
        return [each for each in found if each.parent in self._flows and self._flows[each.parent].status == "ended"]

    async def select(self, wanted: FlowFilter) -> Sequence[FlowRow]:
        def fits(row: FlowRow) -> bool:
            return (
                (not wanted.statuses or row.status in wanted.statuses)
                and (not wanted.machines or row.machine in wanted.machines)
                and wanted.key in (None, row.key)
                and (isinstance(wanted.parent, msgspec.UnsetType) or row.parent == wanted.parent)
            )

        ids = list(self._flows)
        if wanted.before is not None:
            ids = ids[: ids.index(self._existing(wanted.before).id)]
        return list(filter(fits, (self._flows[flow] for flow in reversed(ids))))[: wanted.limit]

    async def find(self, prefix: str) -> FlowRow:
        if row := self._flows.get(prefix):
            return row
        found = [row for row in self._flows.values() if prefix and row.id.startswith(prefix)]
        roots = [row for row in found if row.parent is None] or found
        if len(roots) != 1:
            raise FlowNotFound(f"{len(roots)} flows have an id that begins with {prefix!r} in {self.place}")
        return roots[0]

    async def stamp(self) -> int:
        return self._written

    async def written(self, stamp: int) -> None:
        """At once."""

    def _existing(self, flow: str) -> FlowRow:
        if flow not in self._flows:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.place}")
        return self._flows[flow]

    def _move(self, before: FlowRow, after: FlowRow) -> None:
        now = self._existing(before.id)
        if (now.seq, now.owner) != (before.seq, before.owner):
            owner = OwnerName.parse(now.owner) if now.owner else None
            raise FlowBusy(before.id, pid=owner.pid if owner else None, host=owner.host if owner else "")
        self._flows[before.id] = after
        self._written += 1


class MemoryVault:
    """Secrets in a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, str]] = {}

    async def put(self, flow: str, name: str, secret: str) -> str:
        self.held.setdefault(flow, {})[name] = secret
        return f"vault:{name}"

    async def get(self, flow: str, reference: str) -> str:
        secret = (
            self.held.get(flow, {}).get(reference.removeprefix("vault:")) if reference.startswith("vault:") else None
        )
        if secret is None:
            raise VaultMissing(f"flow {flow} refers to {reference}, which is not there")
        return secret

    async def has(self, flow: str, reference: str) -> bool:
        try:
            await self.get(flow, reference)
        except VaultMissing:
            return False
        return True

    async def make_known(self, flow: str) -> None:
        for secret in self.held.get(flow, {}).values():
            register_secret(secret, flow)

    async def discard(self, flow: str) -> None:
        self.held.pop(flow, None)
