"""Flows that another process drives are waited for and followed like one's own, by looking at the journal."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from unittest.mock import patch

import pytest
import trio
from systemprompt_cloud.engine.elsewhere import LOOK_SECONDS, Elsewhere
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EngineClosed, FlowInterrupted, FlowNotFound, FlowParked
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.parcel import PARCEL, Delivered, Fails, Oops, Packed, Parcel, Stamped, deliver, parcel
from tests.support.parcel_driver import parcel_driver

ALL = ["started", "Stamped", "Packed", "Delivered"]


class Sent(Event, frozen=True):
    """The order is on its way."""


class Order(Context, frozen=True, kw_only=True):
    """Nothing."""


ORDER = Machine(
    "order",
    version=1,
    initial="sending",
    context=Order,
    states=[
        State("sending", "a parcel is on its way", child="parcel"),
        State("sent", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Sent, "sending", "sent"), on(CancelRequested, ANY, "cancelled")],
)


def order(child: Program[Parcel]) -> Program[Order]:
    """An order whose parcel does this."""

    async def send(visit: Visit[Order]) -> Event:
        await visit.run_child(child, Parcel())
        return Sent()

    return Program(ORDER, {"sending": [send]})


async def names(changes: AsyncGenerator[Change]) -> list[str]:
    """The events of all changes there are."""
    async with aclosing(changes):
        return [change.event async for change in changes]


# --- another process --------------------------------------------------------------------------------------------------


async def test_a_flow_of_another_process_is_waited_for_and_followed(paths: CloudPaths) -> None:
    """Every change once and in order, and the same outcome as in the process that drives it."""
    with parcel_driver(paths) as driver:
        async with open_engine(paths, [parcel()]) as engine:
            followed: list[str] = []

            async def follow() -> None:
                followed.extend(await names(engine.changes(driver.flow)))

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow)
                    for event in ALL[1:]:
                        driver.send(event)
                    outcome = await engine.wait(driver.flow)
    assert (outcome.flow, outcome.state, outcome.result["stamps"]) == (driver.flow, "delivered", 1)
    assert followed == ALL


@pytest.mark.parametrize("how", ["killed", "closed"])
async def test_who_waits_for_a_process_that_is_gone_is_told(paths: CloudPaths, how: str) -> None:
    """The error says that nobody drives the flow and that it can be resumed, and so it can; the changes end."""
    with parcel_driver(paths) as driver:
        async with open_engine(paths, [parcel()]) as engine:
            caught: list[FlowInterrupted] = []
            followed: list[str] = []

            async def wait() -> None:
                try:
                    await engine.wait(driver.flow)
                except FlowInterrupted as exc:
                    caught.append(exc)

            async def follow() -> None:
                followed.extend(await names(engine.changes(driver.flow)))

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    nursery.start_soon(follow)
                    async with aclosing(engine.changes(driver.flow)) as changes:
                        driver.send("Stamped")
                        async for change in changes:
                            if change.event == "Stamped":
                                break
                    if how == "killed":
                        driver.kill()
                    else:
                        driver.send("")
            (error,) = caught
            assert (error.flow, error.state) == (driver.flow, "packing")
            assert "Engine.resume" in error.recovery_hint
            assert error.exit_code == 8
            assert followed == ["started", "Stamped"]
            assert (await engine.resume(driver.flow)).context == Parcel(stamps=1)


# --- another engine of this process, on a clock that a test moves -----------------------------------------------------


async def test_a_pause_elsewhere_is_told_with_its_reason(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Whoever waits gets the `FlowParked` that the flow's own process gets, and the changes end there."""
    fails = Fails(None)
    async with (
        open_engine(paths, [parcel()], clock=clock, inline=True) as looking,
        open_engine(paths, [parcel(travelling=fails)], clock=clock, inline=True) as driving,
    ):
        flow = await driving.start(PARCEL, Parcel())
        fails.failure = Oops("no stairs")
        followed: list[str] = []

        async def follow() -> None:
            followed.extend(await names(looking.changes(flow.id)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await wait_all_tasks_blocked()
            await flow.send(Packed())
            with pytest.raises(FlowParked, match="no stairs") as here:
                await flow.wait()
            with pytest.raises(FlowParked, match="no stairs") as there:
                await looking.wait(flow.id)
        assert (there.value.state, there.value.kind) == (here.value.state, here.value.kind)
        assert followed == ["started", "Packed", here.value.kind]


@pytest.mark.parametrize("again", ["here", "elsewhere"])
async def test_who_follows_a_flow_follows_it_from_process_to_process(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, again: str
) -> None:
    """It changes hands between two looks: what the next one does is told as well, and nothing twice."""
    followed: list[str] = []
    outcomes: list[str] = []
    async with (
        open_engine(paths, [parcel(travelling=deliver)], clock=clock, inline=True) as looking,
        open_engine(paths, [parcel(travelling=deliver)], clock=clock, inline=True) as third,
        trio.open_nursery() as nursery,
    ):
        async with open_engine(paths, [parcel()], clock=clock, inline=True) as driving:
            flow = await driving.start(PARCEL, Parcel())

            async def follow() -> None:
                followed.extend(await names(looking.changes(flow.id)))

            async def wait() -> None:
                outcomes.append((await looking.wait(flow.id)).state)

            nursery.start_soon(follow)
            nursery.start_soon(wait)
            await trio.sleep(LOOK_SECONDS * 3)
            await flow.send(Stamped())
        next_one = looking if again == "here" else third
        await next_one.resume(flow.id)
        await next_one.send(flow.id, Packed())
    assert followed == ["started", "Stamped", "resumed", "Packed", "Delivered"]
    assert outcomes == ["delivered"]


async def test_children_of_a_flow_elsewhere_are_followed_from_when_they_begin(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Each change once, each flow's in order, with the machine it belongs to."""
    programs = lambda: (child := parcel(), order(child))  # noqa: E731 two engines, each with programs of its own
    async with (
        open_engine(paths, programs(), clock=clock, inline=True) as looking,
        open_engine(paths, programs(), clock=clock, inline=True) as driving,
    ):
        flow = await driving.start(ORDER, Order())
        followed: list[tuple[str, str]] = []

        async def follow() -> None:
            async with aclosing(looking.changes(flow.id, children=True)) as changes:
                followed.extend([(change.machine, change.event) async for change in changes])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(LOOK_SECONDS * 3)
            (child,) = await looking.flows(parent=flow.id)
            await driving.send(child.id, Packed())
            await trio.sleep(LOOK_SECONDS * 3)
            await driving.send(child.id, Delivered())
            await looking.wait(flow.id)
    assert [event for machine, event in followed if machine == "parcel"] == ["started", "Packed", "Delivered"]
    assert [event for machine, event in followed if machine == "order"] == ["started", "Sent"]


async def test_closing_tells_who_waits_for_a_flow_elsewhere(paths: CloudPaths) -> None:
    """The engine that was waited at is closed, not the one that drives: that is what the error says."""
    told: list[str] = []
    async with open_engine(paths, [parcel()]) as driving:
        flow = await driving.start(PARCEL, Parcel())
        async with trio.open_nursery() as nursery, open_engine(paths, [parcel()]) as looking:

            async def wait() -> None:
                with pytest.raises(EngineClosed, match="the engine is closed") as caught:
                    await looking.wait(flow.id)
                told.append(caught.value.kind)

            async def follow() -> None:
                with pytest.raises(EngineClosed, match="the engine is closed") as caught:
                    await names(looking.changes(flow.id))
                told.append(caught.value.kind)

            nursery.start_soon(wait)
            nursery.start_soon(follow)
            await wait_all_tasks_blocked()
        assert (await driving.flows())[0].status == "running"
    assert told == ["EngineClosed", "EngineClosed"]


async def test_a_flow_nobody_has_is_not_waited_for(paths: CloudPaths) -> None:
    """`FlowNotFound`, at once."""
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises(FlowNotFound):
            await engine.wait("nothing")
        with pytest.raises(FlowNotFound):
            await names(engine.changes("nothing"))


# --- what it costs ----------------------------------------------------------------------------------------------------


async def test_a_hundred_who_wait_look_as_often_as_one(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Whether anything was written is asked once for all of them; a flow is read when it was, or once a second."""
    async with (
        open_engine(paths, [parcel()], clock=clock, inline=True) as driving,
        open_engine(paths, [parcel()], clock=clock, inline=True) as looking,
    ):
        flows = [await driving.start(PARCEL, Parcel()) for _ in range(100)]
        read: list[str] = []
        looks: list[int] = []
        flow_of, written = looking.journal.flow, looking.store.written

        def flow(flow: str) -> object:
            read.append(flow)
            return flow_of(flow)

        async def look(stamp: int) -> None:
            looks.append(stamp)
            await written(stamp)

        with patch.object(looking.journal, "flow", flow), patch.object(looking.store, "written", look):
            async with trio.open_nursery() as nursery:
                for each in flows:
                    nursery.start_soon(looking.wait, each.id)
                await wait_all_tasks_blocked()
                read.clear()
                await trio.sleep(LOOK_SECONDS * 5.5)
                assert (len(read), len(looks)) == (0, 2)  # the first has the number to compare with
                await flows[0].send(Stamped())
                await trio.sleep(LOOK_SECONDS)
                assert sorted(read) == sorted(each.id for each in flows)
                nursery.cancel_scope.cancel()


async def test_nothing_is_looked_at_while_nobody_waits(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Nor after the last one who waited has gone."""
    async with open_engine(paths, [parcel()], clock=clock, inline=True) as driving:
        store = driving.store

        async def at_once(_stamp: int) -> None:
            """As it is outside of virtual time: nothing tells this process that another one has written."""

        with patch.object(store, "written", at_once):
            async with trio.open_nursery() as nursery:
                elsewhere = Elsewhere(store, nursery)
                await trio.sleep(5)
                assert elsewhere.looks == 0
                with trio.move_on_after(0.55):
                    await elsewhere.news(await elsewhere.stamp())
                assert elsewhere.looks == 5
                await trio.sleep(5)
                assert elsewhere.looks == 6  # the one that had begun
