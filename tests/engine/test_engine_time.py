"""Deadlines are moments, written down: neither a crash, nor a long night, nor going to and fro moves them unasked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, Context, DeadlinePassed, Event, State, Verdict, on
from systemprompt_cloud.engine.steps import Why
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock


class Trip(Context, frozen=True, kw_only=True):
    """How long the server may take, in seconds."""

    patience: float = 100.0


class Rested(Event, frozen=True):
    """Progress."""


class Restarted(Event, frozen=True):
    """The same state, anew."""


class Embarked(Event, frozen=True):
    """From waiting for a person to waiting for a server."""


class Changed(Event, frozen=True):
    """From one way of waiting for the server to the other."""


TRIP = Machine(
    "trip",
    version=1,
    initial="boarding",
    context=Trip,
    states=[
        State("boarding", "a person is needed", timeout=30.0, late="restart"),
        State("sailing", "the server works", timeout="patience", late="continue"),
        State("rowing", "the server works", timeout="patience", late="continue"),
        State("anchored", "no hurry"),
        State("late", "too late", verdict=Verdict.FAILURE),
    ],
    rows=[
        on(Rested, "boarding", STAY),
        on(Restarted, "boarding", "boarding"),
        on(Embarked, "boarding", "sailing"),
        on(Changed, "sailing", "rowing"),
        on(Changed, "rowing", "sailing"),
        on(Restarted, "sailing", "anchored"),
        on(Changed, "anchored", "sailing"),
        on(DeadlinePassed, ANY, "late"),
    ],
)
PROGRAM: Program[Any] = Program(TRIP, {name: [await_signal] for name in ("boarding", "sailing", "rowing", "anchored")})


def after(seconds: float) -> str:
    """The moment that long after New Year, as the journal writes it."""
    return moment_text(NEW_YEAR + timedelta(seconds=seconds))


async def started(engine: Engine, *events: Event, patience: float = 100.0) -> Flow:
    """A trip after these events."""
    flow = await engine.start(TRIP, Trip(patience=patience))
    for event in events:
        await flow.send(event)
    return flow


async def ends_at(flow: Flow, clock: VirtualClock, seconds: float) -> None:
    """Wait for the end, which comes exactly then."""
    outcome = await flow.wait()
    assert outcome.state == "late"
    assert timedelta(0) <= clock.now() - NEW_YEAR - timedelta(seconds=seconds) < timedelta(milliseconds=1)


async def test_a_state_runs_out_when_its_time_is_up(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Not before and not after; the moment stands in the row and in the history from the beginning."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine)
        assert flow.row.deadline == after(30)
        assert flow.history[0].deadline == after(30)
        await ends_at(flow, clock, 30)
        assert flow.row.deadline is None


async def test_progress_does_not_move_the_deadline(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Only entering a state gives it its time, re-entering too."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine)
        await trio.sleep(20)
        await flow.send(Rested())
        assert flow.row.deadline == after(30)
        await flow.send(Restarted())
        assert flow.row.deadline == after(50)
        await ends_at(flow, clock, 50)


async def test_states_that_share_a_deadline_do_not_start_it_anew(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """However often a flow goes from stream to polling and back, the whole takes no longer."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked())
        for _ in range(9):
            await trio.sleep(10)
            await flow.send(Changed())
            assert flow.row.deadline == after(100)
        await ends_at(flow, clock, 100)


async def test_a_state_between_ends_the_sharing(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Coming from a state without the deadline, the time begins again."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked())
        await trio.sleep(60)
        await flow.send(Restarted())
        assert flow.row.deadline is None
        await trio.sleep(1000)
        await flow.send(Changed())
        await ends_at(flow, clock, 1160)


@pytest.mark.parametrize("away", [5.0, 25.0, 36000.0], ids=["soon", "later", "next-morning"])
async def test_a_person_who_is_back_gets_the_whole_time(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, away: float
) -> None:
    """`restart`: however long the terminal was closed."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine)
        await trio.sleep(10)
    await trio.sleep(away)
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert flow.row.deadline == after(10 + away + 30)
        await ends_at(flow, clock, 10 + away + 30)


@pytest.mark.parametrize(("away", "end"), [(5.0, 100.0), (89.0, 100.0), (36000.0, 36010.0)])
async def test_a_server_that_went_on_working_gets_no_more(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, away: float, end: float
) -> None:
    """`continue`: the moment stays what it was; if it has passed, that is noticed at once."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked())
        await trio.sleep(10)
    await trio.sleep(away)
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        assert flow.row.deadline == after(100)
        await ends_at(flow, clock, end)


async def test_an_activity_knows_its_deadline_and_whether_it_was_resumed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A visit tells both; the state after a resumed one is not resumed."""
    seen: list[tuple[str, bool, str]] = []

    async def looks(visit: Visit[Trip]) -> None:
        assert visit.deadline is not None
        seen.append((visit.state, visit.resumed, moment_text(visit.deadline)))
        await trio.sleep_forever()

    program = Program(TRIP, {**PROGRAM.activities, "boarding": [looks], "sailing": [looks]})
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        flow = await started(engine)
        await trio.sleep(1)
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        flow = await engine.resume(flow.id)
        await trio.sleep(1)
        await flow.send(Embarked())
        await trio.sleep(1)
    assert seen == [
        ("boarding", False, after(30)),
        ("boarding", True, after(31)),
        ("sailing", False, after(102)),
    ]


async def test_thousands_of_seconds_take_none(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Skipping trio's clock moves the flow's deadlines with it: nothing here waits for real time."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked(), patience=600.0)
        await ends_at(flow, clock, 600)
        assert trio.current_time() == pytest.approx(600, abs=0.01)


@pytest.mark.parametrize("sent_at", [50.0, 200.0], ids=["before", "after"])
@pytest.mark.parametrize("why", ["person", "handover"])
async def test_what_waits_in_the_inbox_goes_before_a_deadline_that_has_passed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, sent_at: float, why: Why
) -> None:
    """When the flow is resumed its inbox is read first, whether the event was sent before the deadline or after it."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked())
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        await clock.sleep_until(NEW_YEAR + timedelta(seconds=sent_at))
        assert await engine.send(flow.id, Restarted()) is False
        await clock.sleep_until(NEW_YEAR + timedelta(seconds=300))
        assert engine.row(flow.id).deadline == after(100)
        flow = await engine.resume(flow.id, why=why)
        await clock.sleep_until(NEW_YEAR + timedelta(seconds=301))
        assert flow.state == "anchored"


async def test_only_the_engine_says_that_a_deadline_has_passed(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Sent from outside it is refused, driven here or by nobody, and nothing is written."""
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        flow = await started(engine, Embarked())
        with pytest.raises(EventNotAccepted, match="DeadlinePassed: only the engine sends it"):
            await flow.send(DeadlinePassed())
        assert flow.row.seq == 2
    async with open_engine(paths, [PROGRAM], clock=clock, inline=True) as engine:
        with pytest.raises(EventNotAccepted, match="DeadlinePassed: only the engine sends it"):
            await engine.send(flow.id, DeadlinePassed())
        assert engine.journal.signals(flow.id) == []
