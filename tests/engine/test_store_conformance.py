"""What every store must keep: the records of flows, then the ownership of flows, then secrets.

A new store gets a line in `STORES`, or in `OWNED` too when its flows are claimed by the processes that drive them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.clock import SystemClock
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.drive import drive, take_up
from systemprompt_cloud.engine.errors import (
    EventNotAccepted,
    FlowBusy,
    FlowExists,
    FlowNotFound,
    SignalTaken,
    VaultMissing,
)
from systemprompt_cloud.engine.history import Outcome, first_lines
from systemprompt_cloud.engine.journal.file_vault import FileVault
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.journal.records import KEPT_AT_MOST, FlowRow, Record
from systemprompt_cloud.engine.journal.selecting import FlowFilter
from systemprompt_cloud.engine.journal.store import SqliteStore
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.ledger import Ledger
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.loading import Loading
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, Event
from systemprompt_cloud.engine.store import Ownership, Store, Vault
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from typing_extensions import override

from tests.support.memory_store import MemoryStore, MemoryVault
from tests.support.parcel import PARCEL, Delivered, Packed, Parcel, Stamped, parcel
from tests.support.rows import flow_record, flow_row

Opens: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Store]]
OpensOwned: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Ownership]]


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncGenerator[Ownership]:
    """A journal on disk."""
    with Journal(directory / "state" / "journal.sqlite3") as journal:
        yield SqliteStore(journal, directory / "state" / "owners")


@asynccontextmanager
async def memory(_directory: Path) -> AsyncGenerator[Ownership]:
    """A dictionary."""
    yield MemoryStore()


OWNED: dict[str, OpensOwned] = {"sqlite": sqlite, "memory": memory}
STORES: dict[str, Opens] = {**OWNED}


@pytest.fixture(params=OWNED)
async def owned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Ownership]:
    """A new store whose flows are claimed."""
    async with OWNED[request.param](tmp_path) as store:
        yield store


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Store]:
    """A new store."""
    async with STORES[request.param](tmp_path) as opened:
        yield opened


async def begun(store: Store, flow: str = "f", **changes: Any) -> FlowRow:
    """A flow that has just begun."""
    row = flow_row(flow, **changes)
    await store.begin(row, flow_record(flow))
    return row


def moved(row: FlowRow, **changes: Any) -> tuple[FlowRow, Record]:
    """The flow after one more event, and the record of it."""
    after = msgspec.structs.replace(row, seq=row.seq + 1, **changes)
    return after, flow_record(row.id, after.seq, to_state=after.state, incarnation=after.incarnation)


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
    lines = [("intent", "f:1:a", "{}"), ("intent", "f:1:b", "{}"), ("parked", "Network", '{"withdrawn":["f:1:a"]}')]
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
    lines = [(1, "retried", "old"), (2, "event", "Entered"), (2, "retried", "a"), (2, "parked", "Network")]
    lines += [(2, "resumed", "resumed"), (2, "retried", "b")]
    for visit, kind, name in lines:
        after, record = moved(row, incarnation=visit)
        await store.advance(row, after, msgspec.structs.replace(record, kind=kind, name=name))
        row = after
    found = await store.failures("f", 2)
    assert [(each.kind, each.name) for each in found] == [("retried", "a"), ("parked", "Network"), ("retried", "b")]
    assert list(await store.failures("f", 3)) == []
    assert list(await store.failures("g", 1)) == []


async def test_children_are_listed_in_the_order_they_were_started(store: Store) -> None:
    """Only those of this flow; whatever a clock that was set back made of their times."""
    await begun(store, "p")
    for name, created in (("p.b", "2026-01-03T00:00:00.000000Z"), ("p.a", "2026-01-02T00:00:00.000000Z")):
        await begun(store, name, parent="p", created=created)
    await begun(store, "q")
    assert [each.id for each in await store.children("p")] == ["p.b", "p.a"]
    assert list(await store.children("q")) == []
    b = await store.flow("p.b")
    assert b is not None
    assert [each.id for each in await store.unfinished_children("p")] == ["p.b", "p.a"]
    await store.advance(b, *moved(b, status="ended", verdict="success"))
    assert [each.id for each in await store.unfinished_children("p")] == ["p.a"]
    assert [each.id for each in await store.children("p")] == ["p.b", "p.a"]


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

    def enliven(
        program: Program[Any], row: FlowRow, context: Context, migrated: tuple[FlowRow, Record] | None
    ) -> LiveFlow:
        assert migrated is None
        return LiveFlow(program, row, context, ledger=ledger, vault=vault, disk=Disk(inline=True), run_child=no_child)

    live = await Loading(store, ledger, [program], enliven).load(row)
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
    assert (live.row.status, live.row.state, live.ended) == ("parked", "travelling", False)
    broken = False
    live = await run(store, vault, program, "f", resumed=True)
    assert live.outcome().succeeded
    row = await store.flow("f")
    assert row is not None
    assert (row.status, row.seq) == ("ended", len(await store.records("f")))
    kinds = [each.kind for each in await store.records("f")]
    assert kinds == ["started", "event", "event", "parked", "resumed", "event"]
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


# --- ownership: stores whose flows are claimed -----------------------------------------------------------------------


async def test_a_flow_is_claimed_by_one(owned: Ownership) -> None:
    """Of two that saw the same owner one gets the flow; writes of the other are refused from then on."""
    row = await begun(owned, owner="a:1:here")
    await owned.claim(row, "b:2:here")
    with pytest.raises(FlowBusy) as caught:
        await owned.claim(row, "c:3:here")
    assert caught.value.pid == 2
    with pytest.raises(FlowBusy):
        await owned.advance(row, *moved(row))
    now = await owned.flow("f")
    assert now is not None
    assert (now.owner, now.seq) == ("b:2:here", 1)


async def test_the_flow_of_a_key_is_found_until_it_ends(owned: Ownership) -> None:
    """By machine and key."""
    row = await begun(owned, key="k")
    assert await owned.unfinished_with_key("m", "k") == row
    assert await owned.unfinished_with_key("n", "k") is None
    await owned.advance(row, *moved(row, status="ended", verdict="failure"))
    assert await owned.unfinished_with_key("m", "k") is None


async def test_a_signal_is_taken_once(owned: Ownership) -> None:
    """It leaves the inbox in the write of the step it led to; a second step of it changes nothing."""
    row = await begun(owned, owner="me:1:here")
    await owned.post("f", row.created, "Poked", '{"event":"Poked"}')
    (signal,) = await owned.signals("f")
    assert (signal.flow, signal.name, signal.body) == ("f", "Poked", '{"event":"Poked"}')
    after, record = moved(row, state="b")
    await owned.advance(row, after, record, signal.id)
    assert list(await owned.signals("f")) == []
    with pytest.raises(SignalTaken):
        await owned.advance(after, *moved(after, state="c"), signal.id)
    assert await owned.flow("f") == after
    assert len(await owned.records("f")) == 2


async def test_signals_wait_for_the_driver_of_their_flow(owned: Ownership) -> None:
    """In order, from any number on; those of a flow that nobody drives wait for whoever resumes it."""
    for flow, owner in (("mine", "me:1:here"), ("theirs", "them:2:here"), ("idle", None)):
        await begun(owned, flow, owner=owner)
    for number, flow in enumerate(("theirs", "mine", "idle", "mine")):
        await owned.post(flow, f"2026-01-01T00:00:0{number}.000000Z", f"E{number}", "{}")
    mine = list(await owned.signals_for("me:1:here", 0))
    assert await owned.newest_signal() == mine[-1].id
    assert [each.name for each in mine] == ["E1", "E3"]
    assert [each.name for each in await owned.signals_for("me:1:here", mine[0].id)] == ["E3"]
    for each in mine:
        row = await owned.flow("mine")
        assert row is not None
        await owned.advance(row, *moved(row, owner="me:1:here"), each.id)
    assert list(await owned.signals_for("me:1:here", 0)) == []
    assert [each.name for each in await owned.signals_for("them:2:here", 0)] == ["E0"]
    assert [each.name for each in await owned.signals("idle")] == ["E2"]


async def test_what_nobody_will_take_is_not_posted(owned: Ownership) -> None:
    """To a flow that has ended or never was, and to one whose inbox is full; an end takes the inbox along."""
    row = await begun(owned)
    with pytest.raises(FlowNotFound):
        await owned.post("never", row.created, "Poked", "{}")
    for number in range(KEPT_AT_MOST):
        await owned.post("f", row.created, f"E{number}", "{}")
    with pytest.raises(EventNotAccepted, match=f"{KEPT_AT_MOST} events wait"):
        await owned.post("f", row.created, "Poked", "{}")
    for _ in range(2):
        await owned.post("f", row.created, "CancelRequested", "{}")  # always has a place, and one is enough
    assert len(await owned.signals("f")) == KEPT_AT_MOST + 1
    await owned.advance(row, *moved(row, status="ended", verdict="success"))
    assert list(await owned.signals("f")) == []
    with pytest.raises(EventNotAccepted):
        await owned.post("f", row.created, "Poked", "{}")


async def test_the_newest_flow_of_a_key_is_found_after_its_end(owned: Ownership) -> None:
    """By machine and key, the one that was started last, also where its id, of a clock that was set back, is lower."""
    for flow in ("b", "c", "a"):
        row = await begun(owned, flow, key="k")
        assert await owned.newest_with_key("m", "k") == row
        after, record = moved(row, status="ended", verdict="failure")
        await owned.advance(row, after, record)
        row = after
        assert await owned.newest_with_key("m", "k") == row
    assert await owned.newest_with_key("n", "k") is None


async def test_orphans_are_children_whose_parents_have_ended(owned: Ownership) -> None:
    """They are found until they end, too."""
    parent, child = await begun(owned, "p"), await begun(owned, "p.c", parent="p")
    assert list(await owned.orphans()) == []
    await owned.advance(parent, *moved(parent, status="ended", verdict="success"))
    assert [each.id for each in await owned.orphans()] == ["p.c"]
    await owned.advance(child, *moved(child, status="ended", verdict="cancelled"))
    assert list(await owned.orphans()) == []


async def test_an_owner_is_alive_until_its_process_lets_go(tmp_path: Path) -> None:
    """For the SQLite store that is a lock file; an owner that never was is not alive."""
    async with sqlite(tmp_path) as store:
        owner = Owner(tmp_path / "state" / "owners")
        assert store.is_alive(owner.name)
        owner.release()
        assert not store.is_alive(owner.name)
        assert not store.is_alive("0123:1:nowhere")


Operation: TypeAlias = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "advance", "claim", "end", "post", "take"]),
        st.integers(0, 2),
        st.integers(0, 1),
    ),
    max_size=25,
)


async def play(store: Ownership, operations: list[Operation]) -> list[object]:
    """Do these things one after the other; what came of each."""
    seen: list[object] = []
    for what, number, way in operations:
        flow, owner = f"f{number}", f"{way}:{way}:here"
        row = await store.flow(flow)
        try:
            match what:
                case "begin":
                    await begun(store, flow, key=f"k{way}", owner=owner)
                case "post":
                    await store.post(flow, flow_row(flow).created, f"E{way}", "{}")
                case "take":
                    signals = list(await store.signals_for(owner, way))
                    seen.append([(each.flow, each.name) for each in signals])
                    if signals and row is not None:
                        await store.advance(row, *moved(row), signals[-1].id)
                case "claim" if row is not None:
                    await store.claim(row if way else msgspec.structs.replace(row, seq=row.seq + 1), owner)
                case "advance" if row is not None:
                    await store.advance(
                        row if way else msgspec.structs.replace(row, seq=0), *moved(row, state=f"s{way}")
                    )
                case "end" if row is not None:
                    await store.advance(row, *moved(row, status="ended", verdict="success", owner=None))
                case _:
                    pass
        except CloudError as exc:
            seen.append(type(exc).__name__)
        seen.append(await store.flow(flow))
        seen.append(len(await store.records(flow)))
        seen.append(await store.unfinished_with_key("m", f"k{way}"))
    return seen


@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_stores_cannot_be_told_apart(operations: list[Operation], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is done to them, in whatever order, they answer alike."""

    async def main() -> None:
        answers: list[list[object]] = []
        for opens in OWNED.values():
            async with opens(tmp_path_factory.mktemp("store")) as store:
                answers.append(await play(store, operations))
        assert answers[0] == answers[1]

    trio.run(main)


async def test_flows_are_selected_page_by_page(owned: Ownership) -> None:
    """By what is wanted, the newest first, each page after the last flow of the one before it."""
    await begun(owned, "c", status="ended", key="k")
    await begun(owned, "a", key="k")
    await begun(owned, "d", machine="n", status="parked", key="k")
    await begun(owned, "d.m-1", parent="d")

    async def selected(**wanted: Any) -> list[str]:
        return [row.id for row in await owned.select(FlowFilter(**wanted))]

    assert await selected() == ["d.m-1", "d", "a", "c"]
    assert await selected(limit=2) == ["d.m-1", "d"]
    assert await selected(limit=2, before="d") == ["a", "c"]
    assert await selected(statuses=("running", "parked")) == ["d.m-1", "d", "a"]
    assert await selected(statuses=("ended",), machines=("m",)) == ["c"]
    assert await selected(machines=("m", "n"), parent=None) == ["d", "a", "c"]
    assert await selected(machines=("x",)) == []
    assert await selected(key="k") == ["d", "a", "c"]
    assert await selected(key="k", machines=("m",), statuses=("running",)) == ["a"]
    assert await selected(parent="d") == ["d.m-1"]
    with pytest.raises(FlowNotFound):
        await selected(before="e")


async def test_a_flow_is_found_by_the_beginning_of_its_id(owned: Ownership) -> None:
    """A flow goes before its own children; none and several are refused."""
    for flow, parent in (("ab", None), ("ab.m-1", "ab"), ("ac", None)):
        await begun(owned, flow, parent=parent)
    assert (await owned.find("ab")).id == (await owned.find("ab")).id == "ab"
    assert (await owned.find("ab.")).id == "ab.m-1"
    for beginning in ("a", "x", ""):
        with pytest.raises(FlowNotFound):
            await owned.find(beginning)


async def test_the_stamp_tells_whether_anything_was_written(owned: Ownership) -> None:
    """It differs after each kind of write, and stays the same while nothing is."""
    stamps = [await owned.stamp()]
    row = await begun(owned)
    stamps.append(await owned.stamp())
    after, record = moved(row, state="b")
    await owned.advance(row, after, record)
    stamps.append(await owned.stamp())
    await owned.claim(after, "a:1:here")
    stamps.append(await owned.stamp())
    assert len(set(stamps)) == len(stamps)
    await owned.flow("f")
    await owned.records("f")
    assert await owned.stamp() == stamps[-1]


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["files", "memory"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    """A new vault."""
    files = partial(FileVault, VaultFiles(tmp_path / "vault"), Disk(inline=True))
    return files() if request.param == "files" else MemoryVault()


async def test_a_secret_is_held_until_its_flow_is_discarded(vault: Vault) -> None:
    """By flow and name; a second one of the same name replaces the first."""
    assert await vault.put("f", "token", "first-secret") == "vault:token"
    await vault.put("f", "token", "second-secret")
    await vault.put("g", "token", "another-secret")
    assert await vault.get("f", "vault:token") == "second-secret"
    await vault.discard("f")
    assert not await vault.has("f", "vault:token")
    with pytest.raises(VaultMissing):
        await vault.get("f", "vault:token")
    assert await vault.has("g", "vault:token")
    await vault.discard("f")


async def test_a_reference_is_what_put_returned(vault: Vault) -> None:
    """Anything else stands for no secret."""
    await vault.put("f", "token", "a-secret-value")
    for reference in ("token", "vault:other", "a-secret-value", ""):
        assert not await vault.has("f", reference)
