"""Events that come early: kept until a state takes them, refused at once when none can, never lost."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowParked, NotStorable
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
    Returned,
    events,
    journey,
    journey_machine,
    until,
    waiting,
)


async def test_an_early_event_is_kept_until_a_state_takes_it(paths: CloudPaths) -> None:
    """`send` returns False, the event is on disk, and counts when the state that has a row for it is entered."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        assert await flow.send(Boarded(seat=3)) is False
        assert waiting(engine, flow) == ["Boarded"]
        assert (flow.state, events(flow)) == ("home", ["started"])
        assert await flow.send(Left()) is True
        assert (flow.state, flow.context) == ("train", Journey(seat=3))
        assert events(flow) == ["started", "Left", "Boarded"]
        assert waiting(engine, flow) == []


async def test_the_oldest_that_is_taken_comes_first(paths: CloudPaths) -> None:
    """One after the other, also through several states; what no state took yet goes on waiting in its order."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        for event in (Noted("1"), Arrived(), Boarded(seat=1), Noted("2")):
            assert await flow.send(event) is False
        await flow.send(Left())
        # In the train the oldest two are a note and the end: nothing is left to take the second note.
        assert (flow.state, flow.context) == ("there", Journey(notes=("1",), seat=1))
        assert events(flow) == ["started", "Left", "Boarded", "Noted", "Arrived"]
        assert waiting(engine, flow) == []


async def test_a_guard_is_asked_when_the_state_is_entered(paths: CloudPaths) -> None:
    """Its answer at the time of sending does not count; an event it lets through later is taken then."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey(open=False))
        await flow.send(Boarded(seat=1))
        await flow.send(Left())
        assert (flow.state, waiting(engine, flow)) == ("station", ["Boarded"])
        await flow.send(Opened())  # stays: no state is entered, so nothing is asked
        assert flow.state == "station"
        await flow.send(Returned())
        await flow.send(Left())
        assert flow.state == "train"
        assert waiting(engine, flow) == []


async def test_an_event_that_no_state_can_take_is_refused_at_once(paths: CloudPaths) -> None:
    """Nothing is written: no state that the flow can enter has a row for it, or it is no event of its machine."""

    class Strange(Event, frozen=True):
        pass

    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await flow.send(Left())
        await flow.send(Boarded())
        seq = flow.row.seq
        for event in (Left(), Returned(), Boarded(seat=2), Strange()):
            with pytest.raises(
                EventNotAccepted, match=f"journey in state train does not accept {type(event).__name__}"
            ):
                await flow.send(event)
        assert (flow.row.seq, waiting(engine, flow)) == (seq, [])


async def test_what_cannot_be_stored_is_not_kept(paths: CloudPaths) -> None:
    """The sender is told which field; the inbox is as it was."""
    wrong: Any = Noted(text="\ud800")
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        with pytest.raises(NotStorable, match=r"Noted\.text"):
            await flow.send(wrong)
        assert waiting(engine, flow) == []


async def test_a_hundred_wait_and_the_next_is_refused(paths: CloudPaths) -> None:
    """The message says how many wait; a cancellation always has a place, and every kept one is taken in the end."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        for number in range(100):
            assert await flow.send(Noted(str(number))) is False
        with pytest.raises(EventNotAccepted, match="100 events wait in its inbox already") as full_inbox:
            await flow.send(Noted("too many"))
        assert full_inbox.value.recovery_hint.startswith("Send it again when the flow has taken some of them")
        await flow.send(Left())
        await flow.send(Boarded())
        assert flow.context == Journey(notes=tuple(str(number) for number in range(100)), seat=1)
        assert waiting(engine, flow) == []
        await flow.send(Noted("one more"))
        full = await engine.start(JOURNEY, Journey())
        for _ in range(100):
            await full.send(Noted())
        await full.cancel()
        assert full.state == "cancelled"


async def test_an_ended_flow_says_so(paths: CloudPaths) -> None:
    """What was kept is gone with it; what is sent later is refused, in this process and by the store."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await flow.send(Noted())
        await flow.cancel()
        assert waiting(engine, flow) == []
        for event in (Noted(), Left(), Boarded()):
            with pytest.raises(EventNotAccepted, match=r"does not accept \w+: the flow has ended") as refused:
                await flow.send(event)
            assert refused.value.recovery_hint.startswith("Nothing can be sent to it any more")
        with pytest.raises(EventNotAccepted, match=r"in state cancelled does not accept \w+: the flow has ended"):
            await engine.store.post(flow.id, "", "Left", '{"event":"Left"}')
    async with open_engine(paths, [journey()]) as engine:
        with pytest.raises(EventNotAccepted, match="does not accept Left: the flow has ended"):
            await engine.send(flow.id, Left())


async def test_an_activity_that_sends_too_early_is_told(paths: CloudPaths) -> None:
    """`visit.send` keeps nothing: an event its state has no row for is a bug, which pauses the flow."""

    async def note_early(_visit: Visit[Journey]) -> Event:
        return Noted()

    async with open_engine(paths, [journey(home=note_early)]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        with pytest.raises(FlowParked, match="does not accept Noted"), trio.fail_after(10):
            await flow.wait()
        assert (flow.row.status, waiting(engine, flow)) == ("paused", [])


async def test_an_event_for_a_paused_flow_is_taken_when_it_is_resumed(paths: CloudPaths) -> None:
    """Before its activities do anything: they find the flow where the event led it."""
    seen: list[str] = []

    async def board_or_fail(visit: Visit[Journey]) -> Event:
        await trio.lowlevel.checkpoint()
        seen.append(visit.state)
        raise OSError

    async with open_engine(paths, [journey(home=board_or_fail)]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        with pytest.raises(FlowParked), trio.fail_after(10):
            await flow.wait()
        assert await flow.send(Left()) is False
        assert await flow.send(Boarded(seat=7)) is False
        assert await flow.send(Noted("early")) is False
        assert waiting(engine, flow) == ["Left", "Boarded", "Noted"]
        await engine.resume(flow.id)
        await until(lambda: flow.context == Journey(seat=7, notes=("early",)))
        assert seen == ["home"]
        assert flow.state == "train"
        assert waiting(engine, flow) == []


async def test_an_update_that_fails_refuses_the_event_in_the_history(paths: CloudPaths) -> None:
    """A kept event whose update raises is not tried for ever: it leaves the inbox with a record that says why."""

    def broken(_context: Journey, _event: Noted) -> Journey:
        raise ArithmeticError("a bug in the update")

    machine = journey_machine(noted=broken)
    async with open_engine(paths, [journey(machine)]) as engine:
        flow = await engine.start(machine, Journey())
        await flow.send(Noted("x"))
        await flow.send(Left())
        await flow.send(Boarded())
        assert flow.state == "train"
        (refused,) = [change for change in flow.history if change.kind == "refused"]
        assert (refused.event, refused.from_state, refused.to_state) == ("Noted", "train", "train")
        assert "a bug in the update" in refused.message
        assert waiting(engine, flow) == []
        await flow.send(Arrived())
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded
