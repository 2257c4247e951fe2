"""What was acknowledged is durable, and what is left is gone before anything else begins."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy, TableFailed
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.parcel import PARCEL, Delivered, Oops, Packed, Parcel, Refused, Stamped, deliver, pack, parcel


def rows(engine: Engine, flow: Flow) -> list[tuple[str, str, int]]:
    """What another process would read of the flow."""
    with closing(sqlite3.connect(engine.journal.path)) as plain:
        found = plain.execute("SELECT state, status, seq FROM flows WHERE id = ?", (flow.id,)).fetchall()
        events = plain.execute("SELECT count(*) FROM events WHERE flow = ?", (flow.id,)).fetchone()
    assert found[0][2] == events[0]
    return found


# --- an event counts only when it is durable -----------------------------------------------------------


async def test_a_flow_runs_to_its_end(paths: CloudPaths) -> None:
    """Its outcome says how, its history every step."""
    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=2))
        with trio.fail_after(10):
            outcome = await flow.wait()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("delivered", "success", "")
        assert outcome.succeeded
        assert outcome.result == {"problem": "", "stamps": 2, "label": ""}
        assert outcome.context == flow.context == Parcel(stamps=2)
        assert [(change.seq, change.event, change.to_state) for change in flow.history] == [
            (1, "started", "packing"),
            (2, "Packed", "travelling"),
            (3, "Delivered", "delivered"),
        ]
        assert flow.row.owner is None


async def test_send_returns_when_the_event_is_on_disk(paths: CloudPaths) -> None:
    """Another process reads it at once; so does whoever follows the flow, and not before."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for number in range(1, 6):
            await flow.send(Stamped())
            assert rows(engine, flow) == [("packing", "running", 1 + number)]
            assert flow.context == Parcel(stamps=number)
        await flow.send(Packed())
        assert rows(engine, flow) == [("travelling", "running", 7)]


async def test_nobody_sees_an_event_before_its_commit(paths: CloudPaths) -> None:
    """Every change a follower is given stands in the file already."""
    seen: list[bool] = []
    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            async for change in flow.changes():
                with closing(sqlite3.connect(engine.journal.path)) as plain:
                    where = (change.flow, change.seq)
                    found = plain.execute("SELECT name FROM events WHERE flow = ? AND seq = ?", where).fetchone()
                seen.append(found == (change.event,))
    assert seen == [True, True, True]


class NeverHeardOf(Event, frozen=True):
    """No machine here knows it."""


async def test_an_event_that_is_not_accepted_changes_nothing(paths: CloudPaths) -> None:
    """Neither does an update with a bug; the flow goes on."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=1))
        with pytest.raises(EventNotAccepted, match="parcel in state packing does not accept NeverHeardOf"):
            await flow.send(NeverHeardOf())
        with pytest.raises(TableFailed, match="cannot take Refused: its table raised Oops") as caught:
            await flow.send(Refused())
        assert isinstance(caught.value.__cause__, Oops)
        assert rows(engine, flow) == [("packing", "running", 1)]
        await flow.send(Stamped())
        assert flow.context == Parcel(stamps=2)


async def test_events_of_many_senders_are_taken_one_at_a_time(paths: CloudPaths) -> None:
    """None is lost, none counts twice, and the history has no gap."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(flow.send, Stamped())
        assert flow.context == Parcel(stamps=50)
        assert [change.seq for change in flow.history] == list(range(1, 52))


async def test_cancelling_the_sender_does_not_tear_the_event(paths: CloudPaths) -> None:
    """It happened on disk and in memory, or in neither."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for _ in range(30):
            before = flow.row.seq
            with trio.move_on_after(0.0005):
                await flow.send(Stamped())
            assert rows(engine, flow) == [("packing", "running", flow.row.seq)]
            assert flow.row.seq in (before, before + 1)
        await flow.send(Packed())


# --- leaving a state -----------------------------------------------------------------------------------


async def test_the_next_state_begins_when_the_last_one_is_empty(paths: CloudPaths) -> None:
    """Leaving cancels what ran there and waits for it, shielded cleaning up included."""
    order: list[str] = []

    async def beside(_visit: Visit[Parcel]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            order.append("packing is empty")

    async def travel(_visit: Visit[Parcel]) -> Event:
        order.append("travelling begins")
        return Delivered()

    async with open_engine(paths, [parcel(beside, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await trio.testing.wait_all_tasks_blocked()
        await flow.send(Packed())
        order.append("the event is durable")
        with trio.fail_after(10):
            await flow.wait()
    assert order == ["the event is durable", "packing is empty", "travelling begins"]


async def test_progress_does_not_disturb_what_runs(paths: CloudPaths) -> None:
    """A row that stays leaves the nursery alone; one that re-enters starts it anew, with a new number."""
    begin, begun = trio.open_memory_channel[int](10)

    async def travel(visit: Visit[Parcel]) -> None:
        await begin.send(visit.incarnation)
        await trio.sleep_forever()

    async def stamps(visit: Visit[Parcel]) -> AsyncGenerator[Event]:
        await begin.send(visit.incarnation)
        yield Stamped()
        yield Stamped()
        yield Packed()

    async with open_engine(paths, [parcel(stamps, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            assert [await begun.receive(), await begun.receive()] == [1, 2]
            await flow.send(Stamped())
            assert await begun.receive() == 3
        assert begun.statistics().current_buffer_used == 0
        assert flow.context == Parcel(stamps=3)


async def test_an_event_of_an_older_visit_is_dropped_and_logged(paths: CloudPaths, logged: list[str]) -> None:
    """Whatever an activity of a visit that is over still sends changes nothing, even where the table would take it."""
    old: list[Visit[Parcel]] = []
    travelling = trio.Event()

    async def travel(visit: Visit[Parcel]) -> None:
        old.append(visit)
        travelling.set()
        await trio.sleep_forever()

    async with open_engine(paths, [parcel(pack, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            await travelling.wait()
        await flow.send(Stamped())
        before = flow.row
        assert await old[0].send(Stamped()) is False
        live_door = old[0]._host  # pyright: ignore[reportPrivateUsage] a sender that was already on its way
        assert await live_door.deliver(Stamped(), old[0].incarnation) is False
        assert flow.row == before
    assert sum("dropped Stamped" in line for line in logged) == 2


async def test_relative_paths_mean_what_they_meant_when_they_were_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process goes to another directory: what is written, kept and locked stays where it was."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    async with open_engine(EnginePaths.inside(Path("state")), [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        monkeypatch.chdir(elsewhere)
        other = await engine.start(PARCEL, Parcel(), secrets={"token": "opaque-value"})
        assert await other.send(Packed()) is True
        async with open_engine(EnginePaths.inside(tmp_path / "state"), [parcel()]) as second:
            with pytest.raises(FlowBusy):
                await second.resume(flow.id)
        assert engine.vault.has(other.id, "vault:token")
    assert list(elsewhere.iterdir()) == []
    assert list((tmp_path / "state" / "owners").iterdir()) == []
