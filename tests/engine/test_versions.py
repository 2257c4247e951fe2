"""A flow that an older version of its machine wrote goes on in the newer one, or is refused and can be ended."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowBusy, FlowParked, IncompatibleFlow, JournalCorrupted, VaultMissing
from systemprompt_cloud.engine.fold import fold
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import record_between
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    Event,
    State,
    on,
)
from systemprompt_cloud.engine.versions import Begun, bring
from systemprompt_cloud.engine.visit import Intent, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock

from tests.support.trips import (
    DONE,
    NEW,
    OFF,
    OLD,
    TO_2,
    Arrived,
    Boarded,
    OldTrip,
    Seats,
    Trip,
    begun,
    new,
    new_program,
    old_program,
    problems,
)

# --- carried ---------------------------------------------------------------------------------------------------


async def test_an_older_flow_goes_on_in_the_newer_table(
    paths: CloudPaths, clock: VirtualClock, mock_clock: MockClock
) -> None:
    """Its state has its new name, its context its new shape; the history says so, and goes on to its end."""
    async with open_engine(paths, [old_program()], clock=clock) as engine:
        flow = await begun(engine)
    async with open_engine(paths, [new_program()], clock=clock) as engine:
        again = await engine.start(NEW, Trip(), key="home")
        assert again.id == flow.id
        assert (again.state, again.context) == ("on_foot", Trip(metres=3218))
        change = again.history[-2]
        assert (change.kind, change.event) == ("migrated", "version 1 to 2")
        assert (change.from_state, change.to_state) == ("walking", "on_foot")
        assert problems(paths, new_program()) == []
        await again.send(Boarded())
        await again.send(Arrived())
        assert (await again.wait()).result == {"problem": "", "metres": 3218}
    assert problems(paths, new_program()) == []
    with Journal(paths.journal) as journal:
        assert audit_journal(journal, [new_program()]) == []


async def test_it_is_carried_once(paths: CloudPaths) -> None:
    """The next process finds a flow of its own table."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine)
    kinds: list[str] = []
    for _ in range(3):
        async with open_engine(paths, [new_program()]) as engine:
            await engine.resume(flow.id)
            kinds = [change.kind for change in engine.history(flow.id)[3:]]
    assert kinds == ["migrated", "resumed", "resumed", "resumed"]


async def test_a_process_that_dies_right_after_leaves_a_flow_of_the_new_table(paths: CloudPaths) -> None:
    """The migration is one record in one transaction; what follows is an ordinary resume."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine)
    with Journal(paths.journal) as journal:
        row = journal.flow(flow.id)
        assert row is not None
        brought = bring(NEW, row, Begun(), NEW_YEAR)
        migrated = brought.record
        assert migrated is not None
        after = msgspec.structs.replace(brought.row, seq=brought.row.seq + 1)
        record = record_between(brought.row, after, "resumed", "resumed", "{}")
        journal.write([lambda: journal.migrate(row, after, migrated, record)])
    assert problems(paths, new_program()) == []
    async with open_engine(paths, [new_program()]) as engine:
        again = await engine.resume(flow.id)
        assert (again.state, again.history[-1].kind) == ("on_foot", "resumed")


async def test_an_announced_effect_keeps_its_key(paths: CloudPaths) -> None:
    """The same visit under another name: the effect comes back as uncertain and is not silently done again."""
    before, after = Seats(), Seats()
    async with open_engine(paths, [old_program(before)]) as engine:
        flow = await begun(engine, board=True)
    async with open_engine(paths, [new_program(seats=after)]) as engine:
        await engine.resume(flow.id)
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert after.intents == [Intent(before.intents[0].key, uncertain=True)]


async def test_a_deadline_goes_on_and_a_new_one_begins_now(paths: CloudPaths) -> None:
    """The moment that was set stays; a state that had no timeout gets its own from now."""
    clock = VirtualClock()
    async with open_engine(paths, [old_program()], clock=clock) as engine:
        seated = await begun(engine, board=True)
        deadline = seated.row.deadline
        await trio.lowlevel.checkpoint()
    async with open_engine(paths, [new_program()], clock=clock) as engine:
        assert (await engine.resume(seated.id)).row.deadline == deadline
        await engine.cancel(seated.id)
    async with open_engine(paths, [old_program()], clock=clock) as engine:
        walking = await begun(engine)
        assert walking.row.deadline is None
    with Journal(paths.journal) as journal:
        row = journal.flow(walking.id)
        assert row is not None
        assert bring(NEW, row, Begun(), NEW_YEAR).row.deadline == moment_text(NEW_YEAR + timedelta(seconds=50))


async def test_a_parked_flow_stays_parked_until_it_is_resumed(paths: CloudPaths) -> None:
    """Looking at it moves nothing; resuming carries it over and goes on."""
    async with open_engine(paths, [old_program(Seats(failing=True))]) as engine:
        flow = await engine.start(OLD, OldTrip())
        await flow.send(Boarded())
        with pytest.raises(FlowParked, match="no seat"):
            await flow.wait()
    async with open_engine(paths, [new_program()]) as engine:
        assert engine.context(flow.id) == Trip()
        with pytest.raises(FlowParked, match="no seat"):
            await engine.wait(flow.id)
        assert engine.row(flow.id).version == 1
        assert engine.history(flow.id)[-1].kind == "paused"
        again = await engine.resume(flow.id)
        assert (again.row.version, again.row.status, again.state) == (2, "running", "seated")
    assert problems(paths, new_program()) == []


async def test_a_flow_somebody_drives_is_not_carried_away(paths: CloudPaths) -> None:
    """A process of the older version that is at work keeps it; a newer one is told who, and can ask it to stop."""
    async with open_engine(paths, [old_program()]) as older:
        flow = await begun(older)
        async with open_engine(paths, [new_program()]) as newer:
            with pytest.raises(FlowBusy):
                await newer.resume(flow.id)
            assert not await newer.cancel(flow.id, "enough")
        assert (await flow.wait()).state == "off"


# --- refused ---------------------------------------------------------------------------------------------------


async def test_an_effect_is_not_lost_sight_of(paths: CloudPaths) -> None:
    """A state without an effect cannot account for what was announced: refused by name, untouched."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine, board=True)
    async with open_engine(paths, [new_program(new(TO_2, effect=None))]) as engine:
        with pytest.raises(IncompatibleFlow, match="it has announced seat, and seated has no effect"):
            await engine.resume(flow.id)
        assert engine.row(flow.id).version == 1


async def test_a_refused_flow_says_how_to_end_it(paths: CloudPaths) -> None:
    """The hint is a command that works."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine)
    program = new_program(new())
    async with open_engine(paths, [program]) as engine:
        with pytest.raises(IncompatibleFlow, match=f"flow {flow.id}: .*version 1 .*version 2") as caught:
            await engine.start(program.machine, Trip(), key="home")
        assert caught.value.remedy == Remedy("finish_or_cancel", {"flow": flow.id})
    assert problems(paths, program) == []


@pytest.mark.parametrize("known", [True, False])
async def test_a_refused_flow_can_be_ended(paths: CloudPaths, known: bool) -> None:
    """Without its table: its key is free, its secrets are gone, the history says why, and the journal is in order."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine)
    program = new_program(new())
    async with open_engine(paths, [program] if known else []) as engine:
        assert await engine.cancel(flow.id, "start again")
        row, last = engine.row(flow.id), engine.history(flow.id)[-1]
        assert (row.status, row.verdict, row.state) == ("ended", "cancelled", "walking")
        assert (last.kind, last.message) == ("abandoned", "start again")
        with pytest.raises(VaultMissing):
            engine.vault.get(flow.id, "vault:ticket")
        assert await engine.cancel(flow.id)
    assert problems(paths, program) == []
    assert problems(paths, old_program()) == []
    async with open_engine(paths, [program]) as engine:
        assert (await engine.start(program.machine, Trip(), key="home")).id != flow.id


# --- runs others -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "refused"),
    [(("left", "right"), ""), ("left", "right"), (None, "(left|right)"), (("right", "other"), "left")],
)
async def test_a_flow_with_children_is_carried_to_a_state_that_runs_them(
    paths: CloudPaths, declared: tuple[str, ...] | str | None, refused: str
) -> None:
    """Of several machines, too; what is missing is named, with the way to add it."""

    def table(name: str, version: int = 1, child: tuple[str, ...] | str | None = None) -> Machine[Context]:
        return Machine(
            name,
            version=version,
            initial="travelling",
            context=Context,
            states=[State("travelling", "on the way", child=child), DONE, OFF],
            rows=[on(Arrived, "travelling", "there"), on(CancelRequested, ANY, "off")],
            migrations=[Migration(1)] if version > 1 else [],
        )

    children = [Program(table(name), {"travelling": [await_signal]}) for name in ("left", "right")]

    async def travel(visit: Visit[Any]) -> None:
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(visit.run_child, child, Context())

    old, today = table("pair"), table("pair", 2, declared)
    async with open_engine(paths, [Program(old, {"travelling": [travel]}), *children]) as engine:
        flow = await engine.start(old, Context())
        while len(engine.journal.children(flow.id)) < len(children):
            await trio.lowlevel.checkpoint()
    async with open_engine(paths, [Program(today, {"travelling": [travel]}), *children]) as engine:
        if refused:
            with pytest.raises(IncompatibleFlow, match=f"and travelling runs no {refused}") as caught:
                await engine.resume(flow.id)
            assert re.search(f"name {refused} in the state's `child`", caught.value.recovery_hint)
        else:
            assert (await engine.resume(flow.id)).row.version == 2


async def test_the_children_of_a_refused_flow_end_first(paths: CloudPaths) -> None:
    """An older parent and its older child: both are abandoned, and no orphan stays."""
    child = old_program()
    parent = Machine(
        "holiday",
        version=1,
        initial="travelling",
        context=Context,
        states=[State("travelling", "on the way", child="trip"), DONE, OFF],
        rows=[on(Arrived, "travelling", "there"), on(CancelRequested, ANY, "off")],
    )

    async def travel(visit: Visit[Any]) -> Event:
        await visit.run_child(child, OldTrip())
        return Arrived()

    async with open_engine(paths, [child, Program(parent, {"travelling": [travel]})]) as engine:
        flow = await engine.start(parent, Context())
        while not engine.journal.children(flow.id):
            await trio.lowlevel.checkpoint()
    stays = Machine(
        "holiday",
        version=2,
        initial="resting",
        context=Context,
        states=[State("resting", "at home"), DONE, OFF],
        rows=[on(Arrived, "resting", "there"), on(CancelRequested, ANY, "off")],
        migrations=[Migration(1, states={"travelling": "resting"})],
    )
    async with open_engine(paths, [new_program(new()), Program(stays, {"resting": [await_signal]})]) as engine:
        with pytest.raises(IncompatibleFlow, match=r"it runs the flow .*, and resting runs no trip"):
            await engine.resume(flow.id)
        assert await engine.cancel(flow.id)
        assert {row.status for row in engine.journal.flows()} == {"ended"}


# --- what a history may not say --------------------------------------------------------------------------------


async def test_a_carried_history_is_checked_as_far_as_it_can_be(paths: CloudPaths) -> None:
    """Before the migration every record leads to the next; at it the table must be today's and the context readable."""
    async with open_engine(paths, [old_program()]) as engine:
        flow = await begun(engine)
    async with open_engine(paths, [new_program()]) as engine:
        await engine.resume(flow.id)
        records = engine.journal.records(flow.id)
    assert fold(NEW, records).context == Trip(metres=3218)
    with pytest.raises(JournalCorrupted, match="it leads to version 2"):
        fold(OLD, records)
    with pytest.raises(JournalCorrupted, match=r"record 4 .*: it follows record 2"):
        fold(NEW, [*records[:2], *records[3:]])
    with pytest.raises(JournalCorrupted, match="does not begin with its start"):
        fold(NEW, records[1:])
