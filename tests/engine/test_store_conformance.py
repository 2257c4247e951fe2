"""What every store must keep: the records of flows. Stores whose flows are claimed: `test_store_ownership.py`.

A new store gets a line in `STORES` of `tests/support/stores.py`, or in `OWNED` too when its flows are claimed by the
processes that drive them.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from systemprompt_cloud.base.clock import SystemClock
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.drive import drive, take_up
from systemprompt_cloud.engine.errors import (
    FlowBusy,
    FlowExists,
)
from systemprompt_cloud.engine.history import Outcome, first_lines
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.ledger import Ledger
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.loading import Loading
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, Event
from systemprompt_cloud.engine.store import Store, Vault
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from typing_extensions import override

from tests.support.memory_store import MemoryStore, MemoryVault
from tests.support.parcel import PARCEL, Delivered, Packed, Parcel, Stamped, parcel
from tests.support.rows import flow_record
from tests.support.stores import begun, moved

# --- records: every runner -------------------------------------------------------------------------------------------


async def test_what_was_begun_is_read_back(store: Store) -> None:
    """The flow and its first record, field by field; what was not begun is not there."""
    row = await begun(store, key="k", context='{"n":1}')
    assert await store.flow("f") == row
    assert list(await store.records("f")) == [flow_record("f")]
    assert await store.flow("g") is None
    assert list(await store.records("g")) == []


async def test_a_key_is_begun_once_while_its_flow_is_unfinished(store: Store) -> None:
    """The second start is told which flow there is; another machine, or after the end, the key is free."""
    row = await begun(store, "f", key="k")
    with pytest.raises(FlowExists) as caught:
        await begun(store, "g", key="k")
    assert caught.value.flow == "f"
    with pytest.raises(FlowExists):
        await begun(store, "f")
    await begun(store, "h", key="k", machine="another")
    await store.advance(row, *moved(row, status="ended", verdict="success"))
    await begun(store, "i", key="k")
    assert await store.flow("g") is None


async def test_a_flow_advances_only_from_where_it_is(store: Store) -> None:
    """Of two that saw the same flow one advances it; the other one changes nothing."""
    row = await begun(store)
    after, record = moved(row, state="b", incarnation=2, context='{"n":2}', deadline="2026-01-02T00:00:00.000000Z")
    await store.advance(row, after, record)
    with pytest.raises(FlowBusy):
        await store.advance(row, *moved(row, state="c"))
    assert await store.flow("f") == after
    assert list(await store.records("f")) == [flow_record("f"), record]


async def test_a_flow_becomes_one_of_another_table(store: Store) -> None:
    """Machine, version and fingerprint change with the record that says so and the one after it, or not at all."""
    row = await begun(store, key="k")
    middle, migrated = moved(row, machine="n", version=2, fingerprint="g", context='{"m":1}')
    after, record = moved(middle, state="b")
    await store.migrate(row, after, migrated, record)
    assert await store.flow("f") == after
    assert list(await store.records("f")) == [flow_record("f"), migrated, record]
    with pytest.raises(FlowBusy):
        await store.migrate(row, after, migrated, record)
    other = await begun(store, "g", key="k")
    with pytest.raises(FlowExists):
        await store.migrate(other, msgspec.structs.replace(other, machine="n", seq=3), migrated, record)
    assert await store.flow("g") == other


async def test_intents_belong_to_a_visit_and_may_be_withdrawn(store: Store) -> None:
    """Those of other visits, and those that came to nothing, do not count."""
    row = await begun(store)
    lines = [("intent", "f:1:a", "{}"), ("intent", "f:1:b", "{}"), ("paused", "Network", '{"withdrawn":["f:1:a"]}')]
    lines += [("intent", "f:1:c", "{}"), ("retried", "call", '{"withdrawn":["f:1:c"]}')]
    for kind, name, body in lines:
        after, record = moved(row)
        await store.advance(row, after, msgspec.structs.replace(record, kind=kind, name=name, body=body))
        row = after
    assert await store.intents("f", 1) == {"f:1:b"}
    assert await store.intents("f", 2) == frozenset()


async def test_failures_belong_to_the_newest_visit(store: Store) -> None:
    """Retried ones and those that paused the flow, in their order; nothing of the visits before."""
    row = await begun(store)
    lines = [(1, "retried", "old"), (2, "event", "Entered"), (2, "retried", "a"), (2, "paused", "Network")]
    lines += [(2, "resumed", "resumed"), (2, "retried", "b")]
    for visit, kind, name in lines:
        after, record = moved(row, incarnation=visit)
        await store.advance(row, after, msgspec.structs.replace(record, kind=kind, name=name))
        row = after
    found = await store.failures("f", 2)
    assert [(each.kind, each.name) for each in found] == [("retried", "a"), ("paused", "Network"), ("retried", "b")]
    assert list(await store.failures("f", 3)) == []
    assert list(await store.failures("g", 1)) == []


async def test_children_are_listed_in_the_order_they_were_started_until_they_end(store: Store) -> None:
    """Only those of this flow; whatever a clock that was set back made of their times."""
    await begun(store, "p")
    for name, created in (("p.b", "2026-01-03T00:00:00.000000Z"), ("p.a", "2026-01-02T00:00:00.000000Z")):
        await begun(store, name, parent="p", created=created)
    await begun(store, "q")
    assert [each.id for each in await store.unfinished_children("p")] == ["p.b", "p.a"]
    assert list(await store.unfinished_children("q")) == []
    b = await store.flow("p.b")
    assert b is not None
    await store.advance(b, *moved(b, status="ended", verdict="success"))
    assert [each.id for each in await store.unfinished_children("p")] == ["p.a"]


async def test_the_newest_flows_of_a_machine_come_first(store: Store) -> None:
    """Children too, ended or not; those of other machines do not count, and there is a limit."""
    for name in ("a", "b", "c"):
        await begun(store, name, parent="a" if name == "b" else None)
    await begun(store, "d", machine="other")
    assert [each.id for each in await store.newest("m", 10)] == ["c", "b", "a"]
    assert [each.id for each in await store.newest("m", 2)] == ["c", "b"]
    assert list(await store.newest("unknown", 10)) == []


async def test_many_flows_are_written_at_once(store: Store) -> None:
    """Concurrent writers do not disturb each other; one that is refused takes no neighbour with it."""
    refused: list[str] = []

    async def live(number: int) -> None:
        row = await begun(store, f"f{number}")
        for _ in range(5):
            after, record = moved(row)
            await store.advance(row, after, record)
            try:
                await store.advance(row, *moved(row, state="wrong"))
            except FlowBusy:
                refused.append(row.id)
            row = after

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(live, number)
    assert len(refused) == 200
    for number in range(40):
        row = await store.flow(f"f{number}")
        assert row is not None
        assert (row.seq, row.state) == (6, "a")
        assert [each.seq for each in await store.records(row.id)] == [1, 2, 3, 4, 5, 6]


async def test_a_cancelled_write_is_there_whole_or_not_at_all(store: Store) -> None:
    """Cancelled at the moment it begins: the flow and its record agree."""
    row = await begun(store)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.advance(row, *moved(row, state="b"))
    now, records = await store.flow("f"), list(await store.records("f"))
    assert now is not None
    assert now.seq == len(records)
    assert now.state == ("b" if len(records) == 2 else "a")


# --- a runner that owns nothing: `drive` on a store ------------------------------------------------------------------


async def run(store: Store, vault: Vault, program: Program[Any], flow: str, *, resumed: bool = False) -> LiveFlow:
    """Drive a flow as another runner would, without claims or an inbox, until it ends or is parked."""
    clock, shown = SystemClock(), list[tuple[int, str]]()

    async def no_child(*_: object, **__: object) -> Outcome:
        raise NotImplementedError

    async def cancel(_flow: str, _reason: str) -> None:
        raise NotImplementedError

    ledger = Ledger(store, clock, lambda row, record: shown.append((row.seq, record.name)))
    if (row := await store.flow(flow)) is None:
        row, record = first_lines(flow, program.machine, Parcel(), now=clock.now(), key=None, parent=None, owner=None)
        await ledger.begin(row, record)

    def make_live(
        program: Program[Any], row: FlowRow, context: Context, migrated: tuple[FlowRow, Record] | None
    ) -> LiveFlow:
        assert migrated is None
        return LiveFlow(program, row, context, ledger=ledger, vault=vault, disk=Disk(inline=True), run_child=no_child)

    live = await Loading(store, ledger, [program], make_live).load(row)
    if resumed:
        await take_up(live, vault, "another runner")
    with trio.fail_after(10):
        await drive(live, store, cancel, resumed=resumed)
    assert [number for number, _ in shown] == sorted(number for number, _ in shown)
    return live


async def test_any_runner_can_drive_a_flow(store: Store) -> None:
    """To where it is parked; another runner takes it from there to its end, with the secrets of the first."""
    vault = MemoryVault()
    broken = True

    async def pack(visit: Visit[Parcel]) -> Event:
        await visit.keep("label", "a-secret-label")
        await visit.send(Stamped())
        return Packed()

    async def travel(visit: Visit[Parcel]) -> Event:
        if broken:
            raise CloudError("no road")
        assert await visit.reveal("vault:label") == "a-secret-label"
        return Delivered()

    program = parcel(pack, travelling=travel)
    live = await run(store, vault, program, "f")
    assert (live.row.status, live.row.state, live.ended) == ("paused", "travelling", False)
    broken = False
    live = await run(store, vault, program, "f", resumed=True)
    assert live.outcome().succeeded
    row = await store.flow("f")
    assert row is not None
    assert (row.status, row.seq) == ("ended", len(await store.records("f")))
    kinds = [each.kind for each in await store.records("f")]
    assert kinds == ["started", "event", "event", "paused", "resumed", "event"]
    assert PARCEL.decode_context(row.context).stamps == 1


class SlowStore(MemoryStore):
    """A store whose next write waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go = trio.Event(), trio.Event()

    @override
    async def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        self.reached.set()
        await self.go.wait()
        await super().advance(before, after, record, signal)


@pytest.mark.parametrize(
    ("event", "state", "kinds"), [(CancelRequested(), "cancelled", 2), (Packed(), "travelling", 3)]
)
async def test_a_flow_that_moves_while_it_is_resumed_is_resumed_where_it_is(
    event: Event, state: str, kinds: int
) -> None:
    """An event from the inbox is taken at the same moment: nothing is written over it, and an end stays the end."""
    store, vault = SlowStore(), MemoryVault()
    row, record = first_lines("f", PARCEL, Parcel(), now=SystemClock().now(), key=None, parent=None, owner=None)
    await store.begin(row, record)
    ledger = Ledger(store, SystemClock(), lambda _row, _record: None)

    async def no_child(*_: object, **__: object) -> Outcome:
        raise NotImplementedError

    program, disk = parcel(await_signal, travelling=await_signal), Disk(inline=True)
    live = LiveFlow(program, row, Parcel(), ledger=ledger, vault=vault, disk=disk, run_child=no_child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.step, event)
        await store.reached.wait()
        nursery.start_soon(live.resume, "me")
        await trio.testing.wait_all_tasks_blocked()
        store.go.set()
    now, records = await store.flow("f"), await store.records("f")
    assert now is not None
    assert (now.state, now.seq, len(records)) == (state, kinds, kinds)
    assert (now.status, records[-1].kind) == (("ended", "event") if live.ended else ("running", "resumed"))


async def test_a_part_of_a_history_is_read(store: Store) -> None:
    """What is numbered above a number, and no more than is wanted, in order."""
    row = await begun(store)
    for _ in range(3):
        row, record = moved(before := row)
        await store.advance(before, row, record)
    assert [record.seq for record in await store.records("f", after=1)] == [2, 3, 4]
    assert [record.seq for record in await store.records("f", after=1, limit=2)] == [2, 3]
    assert list(await store.records("f", after=4)) == []
