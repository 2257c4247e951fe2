"""Watching flows: a change goes to the followers of its own flow and to nobody else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, aclosing
from itertools import pairwise
from typing import Any

import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.feed import Feed, Follower
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.effort import counted
from tests.support.parcel import PARCEL, Delivered, Packed, Parcel, Stamped, parcel
from tests.support.rows import flow_record


class Again(Event, frozen=True):
    """The child has ended: the next one."""


class Enough(Event, frozen=True):
    """It was the last one."""


class Done(Event, frozen=True):
    """The child's work is done."""


CHILD = Machine(
    "child",
    version=1,
    initial="working",
    context=Context,
    states=[
        State("working", "at it"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Done, "working", "done"), on(CancelRequested, ANY, "cancelled")],
)
SERIES = Machine(
    "series",
    version=1,
    initial="running",
    context=Context,
    states=[
        State("running", "one child after the other", child="child"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Again, "running", "running"),
        on(Enough, "running", "done"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)


async def work(_visit: Visit[Context]) -> Event:
    """Done at once."""
    return Done()


WORK: Program[Any] = Program(CHILD, {"working": [work]})


def series(length: int, between: Callable[[int], None] = lambda _: None) -> list[Program[Any]]:
    """A flow that runs so many children, one after the other; `between` is told after each."""

    async def run(visit: Visit[Context]) -> Event:
        await visit.run_child(WORK, Context())
        between(visit.incarnation)
        return Enough() if visit.incarnation == length else Again()

    return [Program(SERIES, {"running": [run]}), WORK]


def buffered(following: Follower) -> int:
    """How many changes wait for a follower."""
    return following.channel.statistics().current_buffer_used


async def test_a_change_goes_to_the_followers_of_its_flow_only(paths: CloudPaths) -> None:
    """Thirty flows are followed; what happens to one costs one delivery for each of its own followers."""
    async with open_engine(paths, [parcel()]) as engine:
        flows = [await engine.start(PARCEL, Parcel()) for _ in range(30)]
        with ExitStack() as stack:
            followers = [stack.enter_context(engine.feed.follow(flow.id)) for flow in flows]
            second = stack.enter_context(engine.feed.follow(flows[0].id))
            for _ in range(5):
                await flows[0].send(Stamped())
            assert [buffered(each) for each in (*followers, second)] == [5, *(0 for _ in flows[1:]), 5]
            assert not engine.feed.hears("another")
        assert not any(engine.feed.hears(flow.id) for flow in flows), "who has left is still served"


async def test_a_follower_hears_the_end_and_then_nothing(paths: CloudPaths) -> None:
    """The past, what follows, the last change; then it is over, for a flow that ends and for one that had ended."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        seen: list[str] = []
        with trio.fail_after(10):
            async with aclosing(flow.changes()) as changes:
                async for change in changes:
                    seen.append(change.event)
                    if change.event == "started":
                        await flow.send(Packed())
                        await flow.send(Stamped())
                        await flow.send(Delivered())
            assert seen == ["started", "Packed", "Stamped", "Delivered"]
            assert [change.event async for change in flow.changes()] == seen
        assert not engine.feed.hears(flow.id)


async def test_a_follower_of_a_flow_that_is_closed_in_is_told_so(paths: CloudPaths) -> None:
    """The engine is left while somebody follows: following ends, and does not wait for ever."""
    seen: list[Change] = []
    async with trio.open_nursery() as nursery, open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        begun = trio.Event()

        async def watch() -> None:
            async for change in flow.changes():
                seen.append(change)
                begun.set()

        nursery.start_soon(watch)
        await begun.wait()
    assert [change.event for change in seen] == ["started"]


def test_a_child_that_goes_on_when_its_parent_has_settled_is_followed_no_more() -> None:
    """It is cancelled later perhaps: what is written then is published all the same, to whoever follows it itself."""
    feed = Feed()
    change = Change.of("child", flow_record("p.child-1", 3))
    with feed.follow("p", children=True) as parents, feed.follow("p.child-1") as childs:
        feed.begun("p.child-1", "p")
        feed.begun("p.child-1.child-1", "p.child-1")
        feed.settle("p", ended=False)
        feed.publish(change)
        assert (buffered(parents), buffered(childs)) == (0, 1)
        assert not feed.hears("p.child-1.child-1")


async def test_following_a_long_series_of_children_holds_only_those_that_run(paths: CloudPaths) -> None:
    """Every change of every child is heard, and a child that has ended leaves no entry behind."""
    held: list[int] = []
    follower: list[Follower] = []
    gate = trio.Event()

    async def wait(visit: Visit[Context]) -> Event:
        await gate.wait()
        return await work(visit)

    first = Program(CHILD, {"working": [wait]})

    async def run(visit: Visit[Context]) -> Event:
        await visit.run_child(first, Context())
        held.append(len(follower[0].flows))
        return Enough() if visit.incarnation == 20 else Again()

    async with open_engine(paths, [Program(SERIES, {"running": [run]}), first]) as engine:
        flow = await engine.start(SERIES, Context())
        with engine.feed.follow(flow.id, children=True) as following:
            follower.append(following)
            gate.set()
            with trio.fail_after(10):
                assert (await flow.wait()).succeeded
                told = {(change.flow, change.seq) async for change in following.channel}
        children = [row.id for row in engine.journal.children(flow.id)]
        assert len(children) == 20
        assert {(child, seq) for child in children for seq in (1, 2)} <= told
    assert max(held) == min(held) == 1, "the parent only: a child that has ended is forgotten"


async def test_the_next_child_of_a_series_costs_what_the_first_did(paths: CloudPaths) -> None:
    """SQLite looks at the children that have not ended; those that have, a thousand perhaps, are not looked at."""
    steps: list[int] = []
    async with open_engine(paths, series(60, lambda _: steps.append(effort.steps)), inline=True) as engine:
        with counted(engine.journal) as effort, trio.fail_after(30):
            assert (await (await engine.start(SERIES, Context())).wait()).succeeded
    cost = [after - before for before, after in pairwise(steps)]
    assert max(cost[-10:]) <= 1.2 * max(cost[:10])
