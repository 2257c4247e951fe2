"""A flow that is started for later is written at once as queued, and begins at its time, whoever drives it then."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.diagrams.text import draw_path
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy, FlowInterrupted, JournalCorrupted
from systemprompt_cloud.engine.fold import check_flow, fold
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.recordings import record_flow
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock

from tests.support.commits import WatchedCommits


class Noted(Event, frozen=True):
    """Progress."""


class Done(Event, frozen=True):
    """The end."""


class Unknown(Event, frozen=True):
    """No state that a queued flow can be in has a row for it."""


def job(version: int = 1, *, cleans_up: bool = False, migrations: tuple[Migration, ...] = ()) -> Machine[Context]:
    """A job with a deadline of 30 s; one that cleans up does something before a cancellation ends it."""
    return Machine(
        "job",
        version=version,
        initial="working",
        context=Context,
        states=[
            State("working", "being done", timeout=30.0, effect="orders", resume=ResumePolicy.RETRY, late="continue"),
            State("cleaning", "being cleaned up"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("late", "too late", verdict=Verdict.FAILURE),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Noted, "working", STAY),
            on(Done, "working", "done"),
            on(DeadlinePassed, "working", "late"),
            on(CancelRequested, "working", "cleaning" if cleans_up else "cancelled"),
            on(Unknown, "working", "cleaning", when=never),
            on(Done, "cleaning", "cancelled"),
        ],
        migrations=migrations,
    )


def never(_context: Context, _event: Unknown) -> bool:
    """Whatever happens."""
    return False


JOB = job()
ELSEWHERE = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))
"""An hour after New Year, in another time zone."""
BEGAN: list[float] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Nothing has begun."""
    BEGAN.clear()


def after(seconds: float) -> str:
    """The moment that long after New Year, as the journal writes it."""
    return moment_text(NEW_YEAR + timedelta(seconds=seconds))


async def work(visit: Visit[Any]) -> None:
    """Note when it begins, and wait."""
    BEGAN.append(round((visit.clock.now() - NEW_YEAR).total_seconds(), 3))
    await trio.sleep_forever()


async def clean(_visit: Visit[Any]) -> Event:
    """Done at once."""
    return Done()


def program(machine: Machine[Any] = JOB) -> Program[Any]:
    """The job, waiting for events."""
    return Program(machine, {"working": [work], "cleaning": [clean]})


@pytest.mark.parametrize(
    "when",
    [
        {"delay": 3600},
        {"at": NEW_YEAR + timedelta(hours=1)},
        {"at": datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=2)))},
    ],
    ids=["delay", "at", "at, in another zone"],
)
async def test_it_begins_at_its_time(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, when: dict[str, Any]
) -> None:
    """Written before, with the moment; its state has all of its time from then on."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), **when)
        assert (flow.row.status, flow.row.state, flow.row.deadline) == ("queued", "working", after(3600))
        assert [(change.kind, change.event, change.deadline) for change in flow.history] == [
            ("started", "queued", after(3600))
        ]
        assert "queued here, until" in draw_path(JOB, flow.history)
        await trio.sleep(3599)
        assert BEGAN == []
        assert audit_journal(engine.journal, [program()]) == []
        assert (await flow.wait()).state == "late"
        assert BEGAN == [3600]
        assert [(change.kind, change.deadline) for change in flow.history][1:] == [
            ("begun", after(3630)),
            ("event", None),
        ]
        assert audit_journal(engine.journal, [program()]) == []


@pytest.mark.parametrize("when", [{"delay": 0}, {"at": NEW_YEAR}, {"at": datetime(2020, 1, 1, tzinfo=UTC)}])
async def test_a_time_that_has_come_is_now(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, when: dict[str, Any]
) -> None:
    """As if none had been given."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), **when)
        assert (flow.row.status, flow.row.deadline) == ("running", after(30))
        assert [change.event for change in flow.history] == ["started"]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"delay": -1}, "delay=-1 is no number of seconds"),
        ({"delay": math.nan}, "delay=nan"),
        ({"delay": math.inf}, "delay=inf"),
        ({"delay": "5"}, "delay='5'"),
        ({"delay": True}, "delay=True"),
        ({"delay": 1e12}, "more than a hundred years"),
        ({"at": datetime(2027, 1, 1)}, "has no time zone"),  # noqa: DTZ001 that is what is refused
        ({"at": datetime(9000, 1, 1, tzinfo=UTC)}, "more than a hundred years"),
        ({"at": NEW_YEAR, "delay": 1}, "give one of them"),
    ],
)
async def test_what_is_no_time_is_refused(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, when: dict[str, Any], message: str
) -> None:
    """And nothing is started."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        with pytest.raises(ValueError, match=message):
            await engine.start(JOB, Context(), **when)
        assert engine.journal.flows() == []


@pytest.mark.parametrize(("away", "begins"), [(10.0, 100.0), (1000.0, 1010.0)], ids=["in time", "too late"])
@pytest.mark.parametrize("why", ["person", "handover"])
async def test_whoever_resumes_it_waits_on(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, away: float, begins: float, why: Any
) -> None:
    """After a restart it begins at the same moment, or at once where that has passed."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100, key="k")
        await trio.sleep(10)
    await trio.sleep(away)
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        with pytest.raises(FlowInterrupted, match="no process drives"):
            await engine.wait(flow.id)
        again = await (engine.resume(flow.id, why=why) if why == "handover" else engine.start(JOB, Context(), key="k"))
        assert again.id == flow.id
        assert (again.row.status, again.row.deadline) == ("queued", after(100))
        async with open_engine(paths, [program()], clock=clock, inline=True) as other:
            with pytest.raises(FlowBusy):
                await other.resume(flow.id)
        await again.wait()
        assert [begins] == BEGAN
        assert [change.kind for change in again.history] == ["started", "resumed", "begun", "event"]
        assert audit_journal(engine.journal, [program()]) == []


async def test_resuming_what_waits_here_changes_nothing(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """It is driven already."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100)
        await engine.resume(flow.id)
        assert [change.kind for change in flow.history] == ["started"]
        await trio.sleep(110)
        assert BEGAN == [100]


async def test_events_wait_until_it_begins(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """Sent here or from elsewhere, before or after a restart, they are taken in their order; others are refused."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100)
        assert await flow.send(Noted()) is False
        async with open_engine(paths, [program()], clock=clock, inline=True) as other:
            assert await other.send(flow.id, Noted()) is False
        await trio.sleep(5)
        assert [change.kind for change in flow.history] == ["started"]
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert await flow.send(Done()) is False
        assert (await flow.wait()).succeeded
        assert [change.event for change in flow.history][1:] == ["resumed", "begun", "Noted", "Noted", "Done"]
        assert flow.history[-1].at == after(100)
        assert BEGAN == []  # what waited led on before anything was done
        assert engine.journal.signals(flow.id) == []


async def test_an_event_for_no_state_is_refused_at_once(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """As by any flow."""

    class Strange(Event, frozen=True):
        pass

    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100)
        with pytest.raises(EventNotAccepted):
            await flow.send(Strange())


@pytest.mark.parametrize("driven", [True, False])
@pytest.mark.parametrize("cleans_up", [False, True])
async def test_it_can_be_cancelled_in_the_queue(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, driven: bool, cleans_up: bool
) -> None:
    """At once; a table that does something before it ends does that."""
    machine = job(cleans_up=cleans_up)
    async with open_engine(paths, [program(machine)], clock=clock, inline=True) as engine:
        flow = await engine.start(machine, Context(), delay=100)
        if driven:
            await flow.cancel("enough")
            assert (await flow.wait()).state == "cancelled"
    async with open_engine(paths, [program(machine)], clock=clock, inline=True) as engine:
        if not driven:
            await engine.cancel(flow.id, "enough")
            assert (await engine.wait(flow.id)).state == "cancelled"
        assert trio.current_time() < 1
        events = ["queued", "CancelRequested", *(["Done"] if cleans_up else [])]
        assert [change.event for change in engine.history(flow.id)] == events
        assert BEGAN == []
        assert audit_journal(engine.journal, [program(machine)]) == []
        await trio.sleep(200)
        assert BEGAN == []


async def test_a_cancel_that_waits_in_the_inbox_is_not_kept_until_it_begins(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The process that was asked has died before it looked: whoever resumes the flow ends it at once."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100)
        async with open_engine(paths, [program()], clock=clock, inline=True) as other:
            assert await other.cancel(flow.id, "enough") is False
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert (await flow.wait()).state == "cancelled"
        assert trio.current_time() < 1
        assert BEGAN == []


async def test_a_full_disk_delays_the_begin(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """It is not paused for that: it begins as soon as it can be written."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        commits = WatchedCommits(engine)
        flow = await engine.start(JOB, Context(), delay=10)
        commits.refused = 3
        await trio.sleep(15)
        assert BEGAN == [13]
        assert [change.kind for change in flow.history] == ["started", "begun"]
        assert flow.row.deadline == after(43)


async def test_a_migration_does_not_begin_it(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """A newer table takes it over as it is: queued, until the same moment."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=100)
    newer = job(2, migrations=(Migration(1),))
    async with open_engine(paths, [program(newer)], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert (flow.row.status, flow.row.deadline, flow.row.version) == ("queued", after(100), 2)
        assert audit_journal(engine.journal, [program(newer)]) == []
        assert (await flow.wait()).state == "late"
        assert BEGAN == [100]
        assert [change.kind for change in flow.history] == ["started", "migrated", "resumed", "begun", "event"]
        assert check_flow(engine.journal, [program(newer)], flow.row) == []


async def test_every_moment_of_its_history_can_be_replayed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A recording restores it as it was: queued before it began, running after."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=10)
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        await flow.wait()
        recorded = record_flow(engine.journal, JOB, flow.row)
        assert [recorded.after(count).status for count in (1, 2, 3, 4)] == ["queued", "queued", "running", "ended"]
        records = engine.journal.records(flow.id)
        assert [fold(JOB, records[:count]).status for count in (1, 2, 3, 4)] == ["queued", "queued", "running", "ended"]


async def test_a_record_of_beginning_needs_a_queued_flow(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A history in which a flow begins twice is damaged."""
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Context(), delay=10)
        await trio.sleep(20)
        *first, begun = engine.journal.records(flow.id)
        twice = msgspec.structs.replace(begun, seq=begun.seq + 1)
        with pytest.raises(JournalCorrupted, match="only a queued one begins"):
            fold(JOB, [*first, begun, twice])
