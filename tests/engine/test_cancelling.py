"""Cancelling: it wins whatever the children say, it happens once, and what a table does before the end is done."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EngineClosed, EventNotAccepted, FlowParked
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.commits import WatchedCommits
from tests.support.journey import JOURNEY, Journey, Left, events, journey, until
from tests.support.shop import PARENT, Shop, Undone, Worked

CAREFUL = Machine(
    "careful",
    version=1,
    initial="working",
    context=Context,
    states=[
        State("working", "working"),
        State("undoing", "undoing what was begun"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Worked, "working", "done"),
        on(CancelRequested, "working", "undoing"),
        on(Undone, "undoing", "cancelled"),
    ],
)


async def test_cancel_wins_whatever_the_children_say(paths: CloudPaths) -> None:
    """Some end with success when they are cancelled; the parent ends cancelled, and nothing of them runs any more."""
    shop = Shop()
    async with open_engine(paths, shop.programs) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: sum(shop.at_work.values()) == 4)
        assert await engine.cancel(flow.id, "enough") is True
        assert not any(shop.at_work.values())
        assert flow.state == "cancelled"
        with trio.fail_after(10):
            assert (await flow.wait()).verdict == "cancelled"
        assert events(flow) == ["started", "CancelRequested"]
        states = Counter(row.state for row in engine.journal.children(flow.id))
        assert states == {"cancelled": 2, "done": 2}


async def test_children_end_before_their_parent(paths: CloudPaths) -> None:
    """On disk: the parent's last record comes after those of all its children."""
    shop = Shop()
    async with open_engine(paths, shop.programs) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: sum(shop.at_work.values()) == 4)
        with engine.feed.subscribe() as channel:
            await flow.cancel()
            order = [channel.receive_nowait().flow for _ in range(5)]
        assert order[-1] == flow.id
        assert sorted(order[:-1]) == sorted(row.id for row in engine.journal.children(flow.id))


@pytest.mark.parametrize("kind", ["plain", "parent"])
async def test_two_cancels_are_one(paths: CloudPaths, kind: str) -> None:
    """At once, of a flow that is driven and of one that nobody drives: both are told that it has ended, once."""
    shop = Shop()
    programs = [*shop.programs, journey()]
    machine: Machine[Any] = JOURNEY if kind == "plain" else PARENT
    context = Journey() if kind == "plain" else Context()
    for driven in (True, False):
        async with open_engine(paths, programs) as engine:
            flow = await engine.start(machine, context)
            await until(lambda: kind == "plain" or sum(shop.at_work.values()) == 4)
            if driven:
                await _cancel_many(engine, flow.id)
        if not driven:
            async with open_engine(paths, programs) as engine:
                await _cancel_many(engine, flow.id)


async def test_a_parent_that_is_cancelled_while_its_children_begin_leaves_none(paths: CloudPaths) -> None:
    """At whichever moment: when its end is told, every child that was written has ended and nothing of it runs."""
    for moment in range(25):
        shop = Shop()
        async with open_engine(paths, shop.programs) as engine:
            WatchedCommits(engine, turns=1)
            flow = await engine.start(PARENT, Context())
            for _ in range(moment):
                await trio.lowlevel.checkpoint()
            await flow.cancel()
            with trio.fail_after(10):
                assert (await flow.wait()).state == "cancelled"
            assert not any(shop.at_work.values())
            assert all(row.status == "ended" for row in engine.journal.children(flow.id))


async def _cancel_many(engine: Any, flow: str) -> None:
    answers: list[bool] = []

    async def cancel() -> None:
        answers.append(await engine.cancel(flow))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(cancel)
    assert answers == [True] * 5
    for row in (engine.row(flow), *engine.journal.children(flow)):
        assert row.status == "ended"
        assert [record.name for record in engine.journal.records(row.id)].count("CancelRequested") == 1


class Careful:
    """What the careful machine does, noted."""

    def __init__(self, working: Activity = await_signal) -> None:
        self.undone: list[str] = []
        self.go = trio.Event()
        self.program = Program(CAREFUL, {"working": [working], "undoing": [self.undo]})

    async def undo(self, visit: Visit[Context]) -> Event:
        """Undo, when told."""
        await self.go.wait()
        self.undone.append(visit.flow)
        return Undone()


@pytest.mark.parametrize("where", ["driven", "paused", "left"])
async def test_what_a_table_does_before_the_end_is_done(paths: CloudPaths, where: str) -> None:
    """`cancel` says that the flow has not ended yet; it goes on to its end, also when nobody drove it before."""

    async def fail(_visit: Visit[Context]) -> Event | None:
        await trio.lowlevel.checkpoint()
        raise OSError("broken")

    careful = Careful(fail if where == "paused" else await_signal)
    async with open_engine(paths, [careful.program]) as engine:
        flow = await engine.start(CAREFUL, Context(), secrets={"code": "s3cret-of-careful"})
        if where == "paused":
            with pytest.raises(FlowParked), trio.fail_after(10):
                await flow.wait()
        if where != "left":
            await _cancel_carefully(engine, careful, flow.id)
    if where == "left":
        async with open_engine(paths, [careful.program]) as engine:
            await _cancel_carefully(engine, careful, flow.id)
    assert careful.undone == [flow.id]
    assert not list(paths.vault.glob("*.json"))


async def _cancel_carefully(engine: Any, careful: Careful, flow: str) -> None:
    assert await engine.cancel(flow) is False
    assert engine.row(flow).state == "undoing"
    with pytest.raises(EventNotAccepted, match="in state undoing does not accept CancelRequested"):
        await engine.cancel(flow)
    careful.go.set()
    with trio.fail_after(10):
        assert (await engine.wait(flow)).state == "cancelled"


async def test_cancelling_an_unfinished_clean_up_again_is_up_to_the_table(paths: CloudPaths) -> None:
    """A flow that was left while it cleaned up goes on with that when it is resumed."""
    careful = Careful()
    async with open_engine(paths, [careful.program]) as engine:
        flow = await engine.start(CAREFUL, Context())
        await engine.cancel(flow.id)
    careful.go.set()
    async with open_engine(paths, [careful.program]) as engine:
        again = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await again.wait()).state == "cancelled"


async def test_a_closed_engine_says_so(paths: CloudPaths) -> None:
    """Every call that would change something is refused by name; nothing is written."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey(), key="k")
    seen: list[BaseException] = []
    for call in (
        lambda: engine.start(JOURNEY, Journey()),
        lambda: engine.start(JOURNEY, Journey(), key="k"),
        lambda: engine.resume(flow.id),
        lambda: engine.send(flow.id, Left()),
        lambda: engine.cancel(flow.id),
        flow.cancel,
        lambda: flow.send(Left()),
    ):
        with pytest.raises(EngineClosed, match="the engine is closed") as caught:
            await call()
        seen.append(caught.value)
    assert len(seen) == 7
    async with open_engine(paths, [journey()]) as engine:
        assert events(await engine.resume(flow.id)) == ["started", "resumed"]


async def test_who_waits_while_an_engine_closes_is_told(paths: CloudPaths) -> None:
    """`wait` ends with what happened: the engine was closed; the flow can be resumed."""
    told: list[str] = []

    async def wait(flow: Any) -> None:
        try:
            await flow.wait()
        except EngineClosed as exc:
            told.append(exc.user_message)

    async with trio.open_nursery() as nursery, open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        nursery.start_soon(wait, flow)
        await trio.testing.wait_all_tasks_blocked()
    assert told == [f"the engine was closed while flow {flow.id} was running"]
