"""A state may run another flow: found again after a crash, parked with its parent, never left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.errors import NotAuthenticated
from systemprompt_cloud.io.local.paths import CloudPaths


class Done(Event, frozen=True):
    """The child's work is done, or the child is."""


class ChildGaveUp(Event, frozen=True):
    """The child ended otherwise."""


class WentOn(Event, frozen=True):
    """The parent did not wait for its child."""


def leaf_machine(name: str) -> Machine[Context]:
    """A machine without children."""
    return Machine(
        name,
        version=1,
        initial="working",
        context=Context,
        states=[
            State("working", "working"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Done, "working", "done"), on(CancelRequested, ANY, "cancelled")],
    )


def parent_machine(name: str, child: str) -> Machine[Context]:
    """A machine that runs one child, then something else."""
    return Machine(
        name,
        version=1,
        initial="delegating",
        context=Context,
        states=[
            State("delegating", "the child works", child=child),
            State("resting", "no child"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Done, "delegating", "done"),
            on(ChildGaveUp, "delegating", "cancelled"),
            on(WentOn, "delegating", "resting"),
            on(WentOn, "resting", "delegating"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


LEAF, MIDDLE, TOP = leaf_machine("leaf"), parent_machine("middle", "leaf"), parent_machine("top", "middle")


def runs(child: Program[Context]) -> Activity:
    """The activity that runs a child."""

    async def run(visit: Visit[Any]) -> Event:
        outcome = await visit.run_child(child, Context())
        assert type(outcome.context) is child.machine.context_type
        return Done() if outcome.succeeded else ChildGaveUp()

    return run


def family(working: Activity = await_signal) -> list[Program[Any]]:
    """Three generations."""
    leaf = Program(LEAF, {"working": [working]})
    middle = Program(MIDDLE, {"delegating": [runs(leaf)], "resting": [await_signal]})
    top = Program(TOP, {"delegating": [runs(middle)], "resting": [await_signal]})
    return [top, middle, leaf]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks are about to do."""
    with trio.fail_after(10):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)


def ids(top: Flow) -> tuple[str, str, str]:
    """The ids of the three, which follow from the first."""
    return top.id, f"{top.id}.middle-1", f"{top.id}.middle-1.leaf-1"


async def test_a_parent_ends_as_its_child_does(paths: CloudPaths) -> None:
    """Each is a flow of its own, with its history; listed as what it is, the child of its parent."""

    async def work(_visit: Visit[Any]) -> Event:
        return Done()

    async with open_engine(paths, family(work)) as engine:
        top = await engine.start(TOP, Context())
        with trio.fail_after(10):
            assert (await top.wait()).succeeded
        flows = {flow.id: flow.parent for flow in engine.journal.flows()}
        one, two, three = ids(top)
        assert flows == {one: None, two: one, three: two}
        assert all(engine.row(flow).status == "ended" for flow in flows)


async def test_a_family_is_followed_as_one(paths: CloudPaths) -> None:
    """Asked for, the changes of all three come as they happen; who comes late is told the same, each flow in order."""
    go = trio.Event()

    async def work(_visit: Visit[Any]) -> Event:
        await go.wait()
        return Done()

    async with open_engine(paths, family(work)) as engine:
        top, other = await engine.start(TOP, Context()), await engine.start(TOP, Context())
        seen: list[Change] = []
        with trio.fail_after(10):
            async with aclosing(top.changes(children=True)) as changes:
                async for change in changes:
                    seen.append(change)
                    if (change.machine, change.kind) == ("leaf", "started"):
                        go.set()
            late = [change async for change in top.changes(children=True)]
        started_and_done = [(name, what) for name in ("top", "middle", "leaf") for what in ("started", "Done")]
        for told in (seen, late):
            assert sorted((change.machine, change.event) for change in told) == sorted(started_and_done)
            assert [change.event for change in told if change.flow == top.id] == ["started", "Done"]
        assert {change.flow for change in seen} == set(ids(top))
        assert {change.flow async for change in other.changes()} == {other.id}


async def test_children_are_found_again_after_a_crash(paths: CloudPaths) -> None:
    """A resumed parent goes on with the child it had, and does not start another; the leaf's work counts for it."""
    async with open_engine(paths, family()) as engine:
        top = await engine.start(TOP, Context())
        await until(lambda: engine.journal.flow(ids(top)[2]) is not None)
    async with open_engine(paths, family()) as engine:
        top = await engine.resume(top.id)
        leaf = ids(top)[2]
        await until(lambda: engine.row(leaf).seq == 2)
        await engine.send(leaf, Done())
        with trio.fail_after(10):
            assert (await top.wait()).succeeded
        assert len(engine.journal.flows()) == 3
        assert [change.kind for change in engine.history(leaf)] == ["started", "resumed", "event"]


async def test_a_child_that_ended_while_its_parent_was_away_is_not_run_again(paths: CloudPaths) -> None:
    """The parent was killed between the child's end and its own step: it learns of it when it is resumed."""
    worked: list[str] = []

    async def work(visit: Visit[Any]) -> Event:
        worked.append(visit.flow)
        return Done()

    async def run_and_die(visit: Visit[Any]) -> Event:
        await visit.run_child(leaf, Context())
        return await trio.sleep_forever()

    leaf = Program(LEAF, {"working": [work]})
    dying = Program(MIDDLE, {"delegating": [run_and_die], "resting": [await_signal]})
    async with open_engine(paths, [dying, leaf]) as engine:
        flow = await engine.start(MIDDLE, Context())
        child = f"{flow.id}.leaf-1"
        await until(lambda: (row := engine.journal.flow(child)) is not None and row.status == "ended")
    async with open_engine(
        paths, [Program(MIDDLE, {"delegating": [runs(leaf)], "resting": [await_signal]}), leaf]
    ) as engine:
        with trio.fail_after(10):
            assert (await (await engine.resume(flow.id)).wait()).succeeded
    assert worked == [child]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["top", "middle", "leaf"])
async def test_a_child_is_resumed_with_the_flow_that_runs_it(paths: CloudPaths, which: int) -> None:
    """Whichever of them is named, the whole family goes on."""
    async with open_engine(paths, family()) as engine:
        top = await engine.start(TOP, Context())
        await until(lambda: engine.journal.flow(ids(top)[2]) is not None)
    async with open_engine(paths, family()) as engine:
        resumed = await engine.resume(ids(top)[which])
        assert resumed.id == top.id
        await until(lambda: engine.row(ids(top)[2]).seq == 2)


async def test_a_parked_child_parks_its_parents(paths: CloudPaths) -> None:
    """With its kind, its hint and its exit code; once mended, resuming the first goes on with all of them."""
    broken = [True]

    async def work(_visit: Visit[Any]) -> Event:
        if broken:
            raise NotAuthenticated("the token was refused")
        return Done()

    async with open_engine(paths, family(work)) as engine:
        top = await engine.start(TOP, Context())
        with pytest.raises(FlowParked) as caught, trio.fail_after(10):
            await top.wait()
        assert (caught.value.flow, caught.value.state) == (top.id, "delegating")
        assert (caught.value.kind, caught.value.code) == ("NotAuthenticated", 4)
        assert caught.value.origin == ids(top)[2]
        assert (caught.value.recovery_hint, caught.value.remedy) == ("Log in.", Remedy("log_in"))
        assert [engine.row(flow).status for flow in ids(top)] == ["paused"] * 3
        broken.clear()
        with trio.fail_after(10):
            assert (await (await engine.resume(top.id)).wait()).succeeded


async def test_cancelling_goes_leaf_first(paths: CloudPaths) -> None:
    """A crash in between leaves a parent that learns its child was cancelled, never an orphan that works on."""
    async with open_engine(paths, family()) as engine:
        top = await engine.start(TOP, Context())
        await until(lambda: engine.journal.flow(ids(top)[2]) is not None)
        await top.cancel("enough")
        with trio.fail_after(10):
            assert (await top.wait()).verdict == "cancelled"
        ended = [engine.row(flow) for flow in reversed(ids(top))]
        assert [row.state for row in ended] == ["cancelled"] * 3
        assert [row.updated for row in ended] == sorted(row.updated for row in ended)


async def test_a_parked_family_is_cancelled_whole(paths: CloudPaths) -> None:
    """Nobody drives it, and it is ended all the same."""

    async def work(_visit: Visit[Any]) -> Event:
        raise NotAuthenticated("no")

    async with open_engine(paths, family(work)) as engine:
        top = await engine.start(TOP, Context())
        with pytest.raises(FlowParked), trio.fail_after(10):
            await top.wait()
        await top.cancel()
        assert [engine.row(flow).status for flow in ids(top)] == ["ended"] * 3


async def test_a_state_left_otherwise_cancels_its_child(paths: CloudPaths) -> None:
    """The parent went on: the child and its children are stopped. Coming back starts a new one."""
    async with open_engine(paths, family()) as engine:
        top = await engine.start(TOP, Context())
        one, two, three = ids(top)
        await until(lambda: engine.journal.flow(three) is not None)
        await top.send(WentOn())
        await until(lambda: engine.row(three).status == engine.row(two).status == "ended")
        assert engine.row(two).state == "cancelled"
        assert "top is in the state resting now" in engine.history(three)[-1].message
        await top.send(WentOn())
        await until(lambda: engine.journal.flow(f"{one}.middle-3.leaf-1") is not None)


async def test_a_child_whose_state_was_left_before_a_crash_is_cancelled_on_resume(paths: CloudPaths) -> None:
    """Killed between the parent's step and the cancelling of the child."""
    async with open_engine(paths, family()) as engine:
        flow = await engine.start(MIDDLE, Context())
        child = f"{flow.id}.leaf-1"
        await until(lambda: engine.journal.flow(child) is not None)
        await flow.send(WentOn())
        assert engine.row(child).status == "running"
        engine._nursery.cancel_scope.cancel()  # pyright: ignore[reportPrivateUsage] dying right here
    async with open_engine(paths, family()) as engine:
        flow = await engine.resume(flow.id)
        await until(lambda: engine.row(child).status == "ended")
        assert (flow.state, engine.row(child).state) == ("resting", "cancelled")
