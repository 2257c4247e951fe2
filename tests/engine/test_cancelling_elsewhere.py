"""Cancelling a flow that another process drives, or is about to drive: it ends, or its table refuses by name."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowParked
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.commits import WatchedCommits
from tests.support.journey import JOURNEY, Journey, journey, until
from tests.support.shop import PARENT, PLAIN, Shop, Undone, Worked


async def test_a_flow_of_another_process_is_cancelled_with_its_children(paths: CloudPaths) -> None:
    """The caller is told that it will end; the driver ends the children first, and the inbox is empty again."""
    shop = Shop()
    async with open_engine(paths, shop.programs) as driver, open_engine(paths, shop.programs) as other:
        flow = await driver.start(PARENT, Context())
        await until(lambda: sum(shop.at_work.values()) == 4)
        assert await other.cancel(flow.id, "from afar") is False
        await until(lambda: driver.row(flow.id).status == "ended")
        assert flow.state == "cancelled"
        assert not any(shop.at_work.values())
        assert driver.journal.signals() == []
        assert await other.cancel(flow.id) is True


async def test_a_flow_that_is_paused_while_it_is_asked_to_end_ends(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Its driver has not looked into the inbox yet when the activity fails: who asked was told that it will end."""
    fails = trio.Event()

    async def work(_: Visit[Any]) -> None:
        await fails.wait()
        raise TimeoutError("the work took too long")

    program = Program(PLAIN, {"working": [work]})
    async with (
        open_engine(paths, [program], clock=clock, inline=True) as driver,
        open_engine(paths, [program], clock=clock, inline=True) as other,
    ):
        flow = await driver.start(PLAIN, Context())
        assert await other.cancel(flow.id, "from afar") is False
        fails.set()
        with pytest.raises(FlowParked):
            await flow.wait()
        await until(lambda: driver.row(flow.id).status == "ended")
        assert [change.kind for change in flow.history] == ["started", "paused", "event"]
        assert flow.state == "cancelled"


async def test_a_flow_that_is_being_written_is_asked_to_end(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Another process finds it in the journal before its own engine knows that it is written: it ends."""
    program = Program(PLAIN, {"working": [await_signal]})
    async with (
        open_engine(paths, [program], clock=clock, inline=True) as driver,
        open_engine(paths, [program], clock=clock, inline=True) as other,
        trio.open_nursery() as nursery,
    ):
        await driver.start(PLAIN, Context())  # so that it looks into the inbox
        commits = WatchedCommits(driver)
        commits.answered = trio.Event()
        nursery.start_soon(driver.start, PLAIN, Context())
        await until(lambda: len(other.journal.flows()) == 2)
        new = other.journal.flows()[0].id
        assert await other.cancel(new, "from afar") is False
        await trio.sleep(1)
        commits.answered.set()
        await trio.sleep(1)
        assert driver.row(new).state == "cancelled"


async def test_a_paused_flow_whose_table_refuses_a_cancel_stays(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A cancel waits in the inbox of a flow that is paused where no row allows one: it is refused, nothing is ended."""
    firm = Machine(
        "firm",
        version=1,
        initial="open",
        context=Context,
        states=[
            State("open", "may be cancelled"),
            State("paying", "may not be cancelled"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Worked, "open", "paying"), on(Undone, "paying", "done"), on(CancelRequested, "open", "cancelled")],
    )
    asked, repaired = trio.Event(), trio.Event()

    async def begin(_: Visit[Any]) -> Event:
        await asked.wait()
        return Worked()

    async def pay(_: Visit[Any]) -> Event:
        if not repaired.is_set():
            raise TimeoutError("the server is slow")
        return Undone()

    program = Program(firm, {"open": [begin], "paying": [pay]})
    async with (
        open_engine(paths, [program], clock=clock, inline=True) as driver,
        open_engine(paths, [program], clock=clock, inline=True) as other,
    ):
        flow = await driver.start(firm, Context())
        assert await other.cancel(flow.id, "from afar") is False
        asked.set()
        with pytest.raises(FlowParked):
            await flow.wait()
        await trio.sleep(60)
        assert (flow.state, driver.row(flow.id).status) == ("paying", "paused")
        repaired.set()
        assert (await (await driver.resume(flow.id)).wait()).succeeded
        assert [change.kind for change in flow.history].count("refused") == 1


async def test_a_hundred_cancels_from_afar_leave_one_signal(paths: CloudPaths) -> None:
    """For a flow that its driver cannot end at once: one request waits, and it has a place in a full inbox."""
    async with open_engine(paths, [journey()]) as driver:
        flow = await driver.start(JOURNEY, Journey())
        with suppress(EventNotAccepted):  # its driver has ended it meanwhile
            for _ in range(120):
                await driver.store.post(flow.id, "", "CancelRequested", '{"event":"CancelRequested","reason":""}')
        assert [signal.name for signal in driver.journal.signals(flow.id)].count("CancelRequested") <= 1
        with trio.fail_after(10):
            assert (await flow.wait()).state == "cancelled"
