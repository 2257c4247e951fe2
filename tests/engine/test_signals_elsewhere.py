"""Events from other processes follow the rule of `send`: kept, taken or refused; also over restarts and migrations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.journey import (
    JOURNEY,
    Arrived,
    Boarded,
    Journey,
    Left,
    Noted,
    Opened,
    events,
    journey,
    journey_machine,
    until,
    waiting,
)

SENDER = """
import sys
from pathlib import Path

import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.io.local.paths import CloudPaths

sys.path.insert(0, sys.argv[3])
from tests.support.journey import *


async def main():
    directory = Path(sys.argv[1])
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    async with open_engine(paths, [journey()]) as engine:
        for event in (Noted("afar"), Boarded(seat=2), Left()):
            print(await engine.send(sys.argv[2], event))
        try:
            await engine.send(sys.argv[2], Opened(open="no"))
        except Exception as exc:
            print(type(exc).__name__)


trio.run(main)
"""


async def test_a_process_of_its_own_follows_the_same_rule(paths: CloudPaths) -> None:
    """Everything is left in the inbox: the driver takes what its state takes, and keeps the rest until later."""
    root = Path(__file__).parents[2]
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        sent: Any = await trio.run_process(
            [sys.executable, "-c", SENDER, str(paths.directory), flow.id, str(root)], capture_stdout=True
        )
        assert sent.stdout.decode().split() == ["False", "False", "False", "NotStorable"]
        await until(lambda: flow.context == Journey(seat=2, notes=("afar",)))
        assert events(flow) == ["started", "Left", "Boarded", "Noted"]
        assert waiting(engine, flow) == []


async def test_another_engine_is_refused_what_no_state_can_take(paths: CloudPaths) -> None:
    """It looks at the flow as it is stored, and tells its sender; nothing is written."""
    async with open_engine(paths, [journey()]) as driver, open_engine(paths, [journey()]) as other:
        flow = await driver.start(JOURNEY, Journey())
        await flow.send(Left())
        await flow.send(Boarded())
        with pytest.raises(EventNotAccepted, match="in state train does not accept Left"):
            await other.send(flow.id, Left())
        assert waiting(driver, flow) == []


async def test_what_is_refused_after_all_is_in_the_history(paths: CloudPaths, warned: list[str]) -> None:
    """Its sender has gone: the flow moved on before the event was looked at. The record names it and says why."""
    async with open_engine(paths, [journey()]) as driver, open_engine(paths, [journey()]) as other:
        flow = await driver.start(JOURNEY, Journey())
        await flow.send(Left())
        assert await other.send(flow.id, Boarded(seat=1)) is False
        assert await other.send(flow.id, Boarded(seat=2)) is False
        await until(lambda: not waiting(driver, flow))
        (refused,) = [change for change in flow.history if change.kind == "refused"]
        assert (refused.event, refused.message) == ("Boarded", "journey in state train does not accept Boarded")
        assert flow.context == Journey(seat=1)
        assert [line for line in warned if "Boarded" in line and "refused" in line]


async def test_kept_events_survive_a_restart(paths: CloudPaths) -> None:
    """They are on disk: whoever drives the flow next hands them to its states, the oldest first."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        for event in (Noted("1"), Boarded(seat=4), Noted("2")):
            assert await flow.send(event) is False
    async with open_engine(paths, [journey()]) as engine:
        again = await engine.resume(flow.id)
        assert waiting(engine, again) == ["Noted", "Boarded", "Noted"]
        assert await again.send(Left()) is True
        assert again.context == Journey(notes=("1", "2"), seat=4)
        assert waiting(engine, again) == []


async def test_what_waits_comes_before_what_is_sent_after_the_resume(paths: CloudPaths) -> None:
    """However soon after it: of two events that the state takes, the older one counts first."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
    async with open_engine(paths, [journey()]) as engine:
        await engine.send(flow.id, Opened(open=False))
        again = await engine.resume(flow.id)
        assert await again.send(Opened(open=True)) is True
        assert again.context == Journey(open=True)
        assert events(again) == ["started", "resumed", "Opened", "Opened"]


async def test_kept_events_survive_a_migration(paths: CloudPaths) -> None:
    """What waited for a state of the old table is taken by today's, where it still has a row for it."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await flow.send(Noted("before"))
        await flow.send(Boarded(seat=9))
    today = journey_machine(version=2, migrations=[Migration(1)])
    async with open_engine(paths, [journey(today)]) as engine:
        again = await engine.resume(flow.id)
        assert await again.send(Left()) is True
        assert again.context == Journey(notes=("before",), seat=9)
        assert [change.kind for change in again.history][:3] == ["started", "migrated", "resumed"]


async def test_a_kept_event_that_todays_table_does_not_know_is_refused(paths: CloudPaths) -> None:
    """After a migration, in the history; the flow goes on."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await flow.send(Noted("lost"))
        await flow.send(Boarded())
    today: Machine[Journey] = Machine(
        "journey",
        version=2,
        initial="home",
        context=Journey,
        states=list(JOURNEY.states.values()),
        rows=[row for row in JOURNEY.rows if row.event is not Noted],
        migrations=[Migration(1)],
    )
    async with open_engine(paths, [journey(today)]) as engine:
        again = await engine.resume(flow.id)
        await until(lambda: any(change.kind == "refused" for change in again.history))
        (refused,) = [change for change in again.history if change.kind == "refused"]
        assert refused.event == "Noted"
        await again.send(Left())
        assert again.state == "train"


async def test_a_signal_is_taken_before_the_activities_of_the_state_begin(paths: CloudPaths) -> None:
    """A resumed flow that was asked to go on does so first: its activity of the old state does not run again."""
    worked: list[str] = []

    async def work(visit: Visit[Journey]) -> Event | None:
        worked.append(visit.state)
        await trio.sleep_forever()

    async with open_engine(paths, [journey(home=work)]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await until(lambda: worked)
    async with open_engine(paths, [journey(home=work)]) as engine:
        assert await engine.send(flow.id, Left()) is False
        await engine.resume(flow.id)
        await until(lambda: engine.row(flow.id).state == "station")
    assert worked == ["home"]


async def test_one_slow_flow_delays_no_other(paths: CloudPaths) -> None:
    """Each flow's signals are handed over by themselves: one whose child takes its time to end holds up nobody."""
    held, begun = trio.Event(), trio.Event()

    async def clings(_visit: Visit[Journey]) -> Event | None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await held.wait()

    async with open_engine(paths, [journey(home=clings)]) as driver, open_engine(paths, [journey()]) as other:
        slow, quick = await driver.start(JOURNEY, Journey()), await driver.start(JOURNEY, Journey())
        await begun.wait()
        await other.send(slow.id, Left())
        await other.send(slow.id, Boarded())
        await other.send(quick.id, Left())
        await until(lambda: quick.state == "station")
        held.set()
        await until(lambda: slow.state == "train")


async def test_events_that_a_killed_driver_took_are_not_taken_again(paths: CloudPaths) -> None:
    """An event leaves the inbox in the transaction of its step, whichever engine looks at it."""
    async with open_engine(paths, [journey()]) as first, open_engine(paths, [journey()]) as second:
        flow = await first.start(JOURNEY, Journey())
        await flow.send(Left())
        for number in range(5):
            await second.send(flow.id, Noted(str(number)))
        await second.send(flow.id, Boarded())
        await until(lambda: len(flow_notes(first, flow)) == 5)
    async with open_engine(paths, [journey()]) as engine:
        again = await engine.resume(flow.id)
        assert flow_notes(engine, again) == ("0", "1", "2", "3", "4")
        await again.send(Arrived())
        assert events(again).count("Noted") == 5


def flow_notes(engine: Engine, flow: Flow) -> tuple[str, ...]:
    """What was noted."""
    context = engine.context(flow.id)
    assert isinstance(context, Journey)
    return context.notes


async def test_a_text_that_is_no_event_is_refused_and_the_next_one_is_taken(paths: CloudPaths) -> None:
    """Whatever lies in the inbox, nothing behind it is held up."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        for body in ("{", "[]", '{"event":"Left","more":[1]', '"\\ud800"', msgspec.json.encode(Left()).decode()):
            await engine.store.post(flow.id, "", "Left", body)
        await until(lambda: flow.state == "station")
        assert [change.event for change in flow.history if change.kind == "refused"] == ["Left"] * 4
