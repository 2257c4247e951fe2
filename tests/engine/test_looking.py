"""What an embedder asks an engine about its flows: pages, families, documents; and what is done to all of them."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EngineClosed, FlowNotFound, FlowParked, IncompatibleFlow, JournalError
from systemprompt_cloud.engine.export import FORMAT
from systemprompt_cloud.engine.journal.housekeeping import Pruned
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import UNFINISHED, FlowRow
from systemprompt_cloud.engine.journal.selecting import FlowFilter, queries
from systemprompt_cloud.engine.looking import STATUSES
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, DeadlinePassed, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock

from tests.support.parcel import PARCEL, Fails, Oops, Packed, Parcel, Stamped, deliver, parcel
from tests.support.rows import begin_flow

BOX = Machine(
    "box",
    version=1,
    initial="closed",
    context=Context,
    formerly=("crate",),
    states=[State("closed", "closed", timeout=300.0), State("gone", "gone", verdict=Verdict.CANCELLED)],
    rows=[on(DeadlinePassed, "closed", "gone"), on(CancelRequested, ANY, "gone")],
)
"""A machine that was called otherwise before."""


def box() -> Program[Context]:
    """It only waits."""
    return Program(BOX, {"closed": [await_signal]})


async def paused(engine: Engine) -> str:
    """The id of a new parcel that is paused."""
    flow = await engine.start(PARCEL, Parcel())
    with pytest.raises(FlowParked):
        await flow.wait()
    return flow.id


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_flows_are_found_by_what_is_asked_for(paths: CloudPaths) -> None:
    """By status, machine, key and parent, alone and together, the newest first."""
    with Journal(paths.journal) as journal:
        begin_flow(journal, "c", machine="parcel", status="ended", key="k")
        begin_flow(journal, "d", machine="parcel", key="k")
        begin_flow(journal, "a", machine="crate", status="paused")
        begin_flow(journal, "c.parcel-1", machine="parcel", parent="c", status="ended")
        begin_flow(journal, "b", machine="box", key="k")
    async with open_engine(paths, [parcel(), box()]) as engine:

        async def found(**wanted: Any) -> str:
            return " ".join(row.id for row in await engine.flows(**wanted))

        assert await found() == "b c.parcel-1 a d c"
        assert await found(status="ended") == "c.parcel-1 c"
        assert await found(status=UNFINISHED) == "b a d"
        assert await found(machine="parcel", status=["running"]) == "d"
        assert await found(machine=PARCEL, status="ended") == "c.parcel-1 c"
        assert await found(machine=BOX) == await found(machine="box") == "b a", "under its former name, too"
        assert await found(machine="unheard-of") == ""
        assert await found(key="k") == "b d c"
        assert await found(key="k", machine="parcel", status="running") == "d"
        assert await found(parent=None) == "b a d c"
        assert await found(parent="c") == "c.parcel-1"
        assert await found(parent="c", key="k") == ""
        assert await found(before="a", limit=1) == "d"
        with pytest.raises(ValueError, match="'asleep'"):
            await found(status="asleep")
        with pytest.raises(ValueError, match="not 0"):
            await found(limit=0)
        with pytest.raises(FlowNotFound):
            await found(before="e")


@given(data=st.data(), limit=st.integers(1, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_pages_have_every_flow_once(journal: Journal, data: st.DataObject, limit: int) -> None:
    """Whatever is asked for, the pages together are what a look at all flows finds, in the order they were started."""
    if journal.flow("00") is None:
        for number, (machine, status, key, child) in enumerate(product("mn", STATUSES, (None, "k"), (False, True))):
            row = {"machine": machine, "status": status, "parent": "00" if child else None}
            unique = key and f"{key}{number if status != 'ended' else ''}"
            begin_flow(journal, f"{number * 37 % 100:02}", key=unique, **row)
    everything = journal.flows(limit=1000)
    wanted = FlowFilter(
        statuses=data.draw(st.lists(st.sampled_from(STATUSES), unique=True)),
        machines=data.draw(st.lists(st.sampled_from(["m", "n", "o"]), unique=True)),
        key=data.draw(st.sampled_from([None, "k", "k2"])),
        parent=data.draw(st.sampled_from([msgspec.UNSET, None, "00"])),
        limit=limit,
    )
    expected = [row for row in everything if fits(row, wanted)]
    found: list[FlowRow] = []
    while page := journal.select(msgspec.structs.replace(wanted, before=found[-1].id if found else None)):
        assert len(page) <= limit
        found += page
    assert found == expected


def fits(row: FlowRow, wanted: FlowFilter) -> bool:
    """Whether a flow is wanted."""
    return (
        (not wanted.statuses or row.status in wanted.statuses)
        and (not wanted.machines or row.machine in wanted.machines)
        and wanted.key in (None, row.key)
        and (wanted.parent is msgspec.UNSET or row.parent == wanted.parent)
    )


def plan(journal: Journal, wanted: FlowFilter, before: int | None) -> list[str]:
    """How SQLite finds the flows that are wanted."""
    steps: list[str] = []
    for where, values in queries(wanted, before):
        sql = f"EXPLAIN QUERY PLAN SELECT * FROM flows {where}"  # noqa: S608 our own words
        steps += [row[3] for row in journal._read(sql, values)]  # pyright: ignore[reportPrivateUsage]
    return steps


@pytest.mark.parametrize("before", [None, 7])
def test_a_page_is_read_from_an_index_in_its_order(journal: Journal, before: int | None) -> None:
    """No flow is read that is not on the page, or hardly; nothing is sorted."""
    used = {
        "SCAN flows" if before is None else "INTEGER PRIMARY KEY": FlowFilter(),
        "flows_unfinished": FlowFilter(statuses=("running", "paused"), machines=("m", "n")),
        "flows_by_machine": FlowFilter(statuses=("ended",), machines=("m", "n")),
        "flows_with_key": FlowFilter(statuses=STATUSES, machines=("m",), key="k"),
    }
    for index, wanted in used.items():
        for step in plan(journal, wanted, before):
            assert index in step, (step, wanted)  # and no step that sorts
    (search,) = plan(journal, FlowFilter(parent="p", machines=("m",), statuses=("ended",)), before)
    assert "flows_by_parent" in search


# --- one flow ---------------------------------------------------------------------------------------------------------


async def test_a_flow_is_found_by_the_beginning_of_its_id(paths: CloudPaths) -> None:
    """As on the command line; none and several are refused."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        assert (await engine.find(flow.id[:-1])).id == flow.id
        for beginning in ("", "nothing"):
            with pytest.raises(FlowNotFound):
                await engine.find(beginning)


async def test_a_part_of_a_history_is_read(paths: CloudPaths) -> None:
    """What comes after a number, and no more than is wanted."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for _ in range(3):
            await flow.send(Stamped())
        assert [record.seq for record in await engine.records(flow.id)] == [1, 2, 3, 4]
        assert [record.seq for record in await engine.records(flow.id, after=1, limit=2)] == [2, 3]
        assert await engine.records(flow.id, after=4) == []


async def test_a_flow_is_exported_while_it_runs(paths: CloudPaths) -> None:
    """With its history, and without its secrets."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(label="vault:pin"), secrets={"pin": "sesame-opens-it"})
        await flow.send(Stamped())
        document = await engine.export(flow.id)
        with pytest.raises(FlowNotFound):
            await engine.export("nothing")
    assert document.format == FORMAT
    (exported,) = document.flows
    assert [record.name for record in exported.records] == ["started", "Stamped"]
    assert "sesame-opens-it" not in msgspec.json.encode(document).decode()


async def test_a_flow_says_what_it_is(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """Machine, id, state, how it is driven, what is left of its time; never an error."""
    fails = Fails(Oops("no tape"))
    async with open_engine(paths, [parcel(fails), box()], clock=clock, inline=True) as engine:
        waits = await engine.start(BOX, Context())
        await trio.sleep(29)
        assert repr(waits) == f"<box {waits.id} closed, 4:31 left>"
        async with open_engine(paths, [parcel(), box()], clock=clock, inline=True) as other:
            assert other.describe(waits.id) == f"box {waits.id} closed, driven by another process, 4:31 left"
            assert other.describe("nothing").startswith("flow nothing: no flow has the id")
        stopped = await paused(engine)
        assert engine.describe(stopped) == f"parcel {stopped} packing, paused: Oops: no tape"
        await waits.cancel()
        assert repr(waits) == f"<box {waits.id} gone, ended: cancelled>"
        left = await engine.start(BOX, Context())
    assert repr(left) == f"<flow {left.id}: the engine is closed>"
    assert engine.describe(stopped) == f"flow {stopped}: the engine is closed"
    async with open_engine(paths, [box()], clock=clock, inline=True) as engine:
        assert engine.describe(left.id) == f"box {left.id} closed, not driven, 5:00 left"


async def test_a_closed_engine_says_so(paths: CloudPaths) -> None:
    """Whatever it is asked, it names the reason, and nothing about a file."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
    for ask in (
        lambda: engine.flows(),
        lambda: engine.find(flow.id),
        lambda: engine.family(flow.id),
        lambda: engine.records(flow.id),
        lambda: engine.export(flow.id),
        lambda: engine.prune(NEW_YEAR),
        lambda: engine.resume_all(),
        lambda: anext(engine.changes(flow.id)),
    ):
        with pytest.raises(EngineClosed, match="the engine is closed"):
            await ask()
    with pytest.raises(EngineClosed, match="the engine is closed"):
        _ = engine.row("another")


# --- all flows --------------------------------------------------------------------------------------------------------


async def test_all_flows_that_nobody_drives_are_resumed(paths: CloudPaths) -> None:
    """Not those of another process, nor those driven here; paused ones only when that is asked for."""
    fails = Fails(Oops())
    async with open_engine(paths, [parcel()]) as other:
        busy = await other.start(PARCEL, Parcel())
        async with open_engine(paths, [parcel(fails), box()]) as engine:
            stopped = await paused(engine)
            fails.failure = None
            left = [(await engine.start(BOX, Context())).id for _ in range(3)]
        async with open_engine(paths, [parcel(travelling=deliver), box()]) as engine:
            here = await engine.start(BOX, Context())
            resumed = await engine.resume_all()
            assert sorted(flow.id for flow in resumed.flows) == sorted(left)
            assert resumed.left == {}
            assert [change.event for change in engine.history(left[0])] == ["started", "handover"]
            assert (await engine.resume_all()).flows == []
            (again,) = (await engine.resume_all(PARCEL, why="person", paused=True)).flows
            assert again.id == stopped
            assert [change.event for change in again.history][-1] == "resumed"
            assert [change.kind for change in here.history] == ["started"]
            assert busy.row.owner != here.row.owner
            assert [change.kind for change in engine.history(busy.id)] == ["started"]


async def test_what_cannot_be_resumed_stops_no_other(paths: CloudPaths, warned: list[str]) -> None:
    """A flow whose machine is not known here is named, with why; every other one goes on."""
    async with open_engine(paths, [parcel(), box()]) as engine:
        strange = await engine.start(BOX, Context())
        known = await engine.start(PARCEL, Parcel())
    async with open_engine(paths, [parcel()]) as engine:
        resumed = await engine.resume_all()
        assert [flow.id for flow in resumed.flows] == [known.id]
        assert {flow: type(exc) for flow, exc in resumed.left.items()} == {strange.id: IncompatibleFlow}
        assert (await engine.resume_all(machine="parcel")).left == {}
    assert [line for line in warned if strange.id in line]


async def test_more_flows_than_a_page_are_resumed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every one of them, once."""
    monkeypatch.setattr("systemprompt_cloud.engine.keeping.AT_A_TIME", 4)
    async with open_engine(paths, [box()], clock=clock, inline=True) as engine:
        flows = [(await engine.start(BOX, Context())).id for _ in range(13)]
    async with open_engine(paths, [box()], clock=clock, inline=True) as engine:
        resumed = await engine.resume_all()
        assert sorted(flow.id for flow in resumed.flows) == sorted(flows)
        assert {len(await engine.records(flow)) for flow in flows} == {2}


async def test_a_journal_that_cannot_be_written_ends_resuming_all(
    paths: CloudPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trouble is every flow's, so it is raised, and not listed for each."""
    async with open_engine(paths, [box()]) as engine:
        await engine.start(BOX, Context())

    def fail(*_: object, **__: object) -> None:
        raise JournalError("the disk is full")

    async with open_engine(paths, [box()]) as engine:
        monkeypatch.setattr(engine.journal, "write", fail)
        with pytest.raises(JournalError, match="the disk is full"):
            await engine.resume_all()


async def test_flows_that_ended_long_ago_are_removed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """While others are driven; counted first, when that is wanted."""
    async with open_engine(paths, [parcel(travelling=deliver), box()], clock=clock, inline=True) as engine:
        running = await engine.start(BOX, Context())
        ended = await engine.start(PARCEL, Parcel())
        await ended.send(Packed())
        await ended.wait()
        later = clock.now() + timedelta(seconds=1)
        gone = Pruned(flows=1, records=3)
        assert await engine.prune(NEW_YEAR) == Pruned()
        assert await engine.prune(later, dry_run=True) == gone
        assert await engine.prune(later, keep=1) == Pruned()
        assert await engine.prune(later) == gone
        assert [row.id for row in await engine.flows()] == [running.id]
        with pytest.raises(ValueError, match="time zone"):
            await engine.prune(later.replace(tzinfo=None))
