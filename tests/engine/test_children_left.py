"""Children of states that were left, of parents that ended, and of visits whose effect is repeated."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Intent, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.journey import until


class Went(Event, frozen=True):
    """Leads to the next state."""


def two_steps(name: str, *rows: Row, first: State | None = None) -> Machine[Context]:
    """A table of two states before its ends."""
    return Machine(
        name,
        version=1,
        initial="first",
        context=Context,
        states=[
            first or State("first", "first"),
            State("second", "second"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Went, "first", "second"), on(Went, "second", "done"), *rows],
    )


def waiting(machine: Machine[Any]) -> Program[Any]:
    """It waits for events from outside."""
    return Program(machine, {"first": [await_signal], "second": [await_signal]})


BUSY = waiting(two_steps("busy", on(CancelRequested, "second", "cancelled")))
"""Its first state cannot be cancelled."""
PARENT = two_steps("parent", on(CancelRequested, ANY, "cancelled"))


async def run_busy(visit: Visit[Any]) -> Outcome:
    return await visit.run_child(BUSY, Context())


async def mind(visit: Visit[Any]) -> None:
    await run_busy(visit)


MINDING: Program[Any] = Program(PARENT, {"first": [mind], "second": [await_signal]})


@pytest.mark.parametrize("way", ["cancelled", "left"])
async def test_a_child_whose_table_does_not_allow_it_is_ended_all_the_same(paths: CloudPaths, way: str) -> None:
    """It belongs to a state that is over: nothing of it runs on, and it does nothing more."""
    async with open_engine(paths, [MINDING, BUSY]) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: bool(engine.journal.children(flow.id)))
        (child,) = engine.journal.children(flow.id)
        if way == "cancelled":
            await flow.cancel()
            assert flow.row.verdict == "cancelled"
        else:
            await flow.send(Went())
        await until(lambda: engine.row(child.id).status == "ended")
        assert engine.driven(child.id) is None
        assert engine.history(child.id)[-1].kind == "abandoned"


async def test_children_that_are_slow_to_stop_are_stopped_together(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The next state begins when the slowest has stopped, not after the sum of them."""

    async def stops_slowly(_: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    slow: Program[Any] = Program(
        two_steps("slow", on(CancelRequested, ANY, "cancelled")), {"first": [stops_slowly], "second": [await_signal]}
    )

    async def run_many(visit: Visit[Any]) -> None:
        async with trio.open_nursery() as nursery:
            for key in "abcdefghij":
                nursery.start_soon(lambda key=key: visit.run_child(slow, Context(), key=key))

    began: list[float] = []

    async def note(_: Visit[Any]) -> None:
        began.append(trio.current_time())
        await trio.sleep_forever()

    parent: Program[Any] = Program(PARENT, {"first": [run_many], "second": [note]})
    async with open_engine(paths, [parent, slow], clock=clock, inline=True) as engine:
        flow = await engine.start(PARENT, Context())
        await trio.sleep(1)
        left = trio.current_time()
        await flow.send(Went())
        await trio.sleep(30)
    assert began == [pytest.approx(left + 1, abs=0.5)]


async def test_repeating_an_effect_repeats_no_child(paths: CloudPaths) -> None:
    """The state has an effect and a child, and the process died before the effect's result: the child has ended."""
    table = two_steps(
        "orders",
        on(CancelRequested, ANY, "cancelled"),
        first=State("first", "first", effect="mails", resume=ResumePolicy.ASK),
    )
    quick: Program[Any] = Program(
        two_steps("quick", on(CancelRequested, ANY, "cancelled")), {"first": [went], "second": [went]}
    )
    keys: list[Intent] = []
    mailed = trio.Event()

    async def order(visit: Visit[Any]) -> None:
        outcome = await visit.run_child(quick, Context())
        assert outcome.succeeded
        keys.append(await visit.announce("mails"))
        mailed.set()
        await trio.sleep_forever()

    program: Program[Any] = Program(table, {"first": [order], "second": [await_signal]})
    async with open_engine(paths, [program, quick]) as engine:
        flow = await engine.start(table, Context())
        await mailed.wait()
    for repeated in (1, 2):
        async with open_engine(paths, [program, quick]) as engine:
            with pytest.raises(FlowParked, match="it is not known whether it happened"):
                await (await engine.resume(flow.id)).wait()
            mailed = trio.Event()
            resumed = await engine.resume(flow.id, repeat=True)
            await mailed.wait()
            assert len(engine.journal.children(flow.id)) == 1
            assert resumed.row.incarnation == 1 + repeated
    assert len({each.key for each in keys}) == 3


async def went(_: Visit[Any]) -> Event:
    """Goes on at once."""
    return Went()


async def test_opening_does_not_wait_for_what_orphans_do_before_they_end(paths: CloudPaths) -> None:
    """The parent ended while nobody could stop its child, whose table does something first."""
    careful = waiting(
        two_steps("careful", on(CancelRequested, "first", "second"), on(CancelRequested, "second", "cancelled"))
    )

    async def run(visit: Visit[Any]) -> None:
        await visit.run_child(careful, Context())

    parent: Program[Any] = Program(PARENT, {"first": [run], "second": [await_signal]})
    async with open_engine(paths, [parent, careful]) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: bool(engine.journal.children(flow.id)))
        await flow.send(Went())
        await flow.send(Went())
        assert flow.row.status == "ended"
    (child,) = engine_children(paths, flow.id)
    with trio.fail_after(20):
        async with open_engine(paths, [parent, careful]) as engine:
            await until(lambda: engine.row(child).state in {"second", "cancelled"})


def engine_children(paths: CloudPaths, flow: str) -> list[str]:
    """The ids of a flow's children, as the journal has them."""
    with Journal(paths.journal) as journal:
        return [row.id for row in journal.children(flow)]


async def test_an_effect_that_did_not_happen_stays_withdrawn_when_a_resume_comes_early(paths: CloudPaths) -> None:
    """The resume comes while the flow is being paused: it asks nobody whether the effect happened."""
    table = two_steps(
        "buys",
        on(CancelRequested, ANY, "cancelled"),
        first=State("first", "first", effect="buys", resume=ResumePolicy.ASK),
    )
    tries: list[bool] = []
    stopping, may_stop = trio.Event(), trio.Event()

    async def buy(visit: Visit[Any]) -> Event | None:
        intent = await visit.announce("buys")
        tries.append(intent.uncertain)
        if len(tries) > 1:
            return Went()
        visit.withdraw(intent)
        raise CloudError("connection refused", hint="Resume it.")

    async def stop_slowly(_: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                stopping.set()
                await may_stop.wait()

    program: Program[Any] = Program(table, {"first": [buy, stop_slowly], "second": [await_signal]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(table, Context())
        await stopping.wait()
        await engine.resume(flow.id)
        may_stop.set()
        await until(lambda: flow.state == "second")
    assert tries == [False, False]
