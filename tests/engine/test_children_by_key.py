"""Several children in one visit: each known by its key, found again with its context, awaited on every way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.ids import child_flow_id, visit_of_child
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.journey import until


class Task(Context, frozen=True, kw_only=True):
    """What a child knows."""

    number: int = 0


class Done(Event, frozen=True):
    """The work is done."""


class Moved(Event, frozen=True):
    """On to another state."""


CHILD = Machine(
    "child",
    version=1,
    initial="working",
    context=Task,
    states=[
        State("working", "working"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Done, "working", "done"), on(CancelRequested, ANY, "cancelled")],
)
PARENT = Machine(
    "parent",
    version=1,
    initial="delegating",
    context=Context,
    states=[
        State("delegating", "the children work", child="child"),
        State("resting", "no child works"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Done, "delegating", "done"),
        on(Moved, "delegating", "resting"),
        on(Moved, "resting", "delegating"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)


class Crew:
    """Children that work until they are told to stop, and those of them that fail."""

    def __init__(self, *, count: int = 3, quick: bool = False) -> None:
        self.count = count
        self.quick = quick
        self.fails: set[int] = set()
        self.at_work: Counter[str] = Counter()
        self.begun: Counter[int] = Counter()

    async def work(self, visit: Visit[Task]) -> Event | None:
        """Work; fail; take some turns to let go."""
        number = visit.context.number
        self.begun[number] += 1
        self.at_work[visit.flow] += 1
        try:
            await trio.lowlevel.checkpoint()
            if number in self.fails:
                raise OSError(f"child {number} is broken")
            if self.quick:
                return Done()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            self.at_work[visit.flow] -= 1

    async def delegate(self, visit: Visit[Context]) -> Event:
        """Run them all at once."""
        async with trio.open_nursery() as nursery:
            for number in range(self.count):
                nursery.start_soon(self._run, visit, number)
        return Done()

    async def _run(self, visit: Visit[Context], number: int) -> None:
        outcome = await visit.run_child(self.child, Task(number=number), key=f"task {number}")
        assert outcome.succeeded

    async def rest(self, visit: Visit[Context]) -> Event | None:
        """Nothing of the children runs here."""
        assert not any(self.at_work.values()), f"{visit.state} began while {self.at_work} worked"
        await trio.sleep_forever()

    @property
    def child(self) -> Program[Task]:
        """The child's program."""
        return Program(CHILD, {"working": [self.work]})

    @property
    def programs(self) -> list[Program[Any]]:
        """Parent and child."""
        return [Program(PARENT, {"delegating": [self.delegate], "resting": [self.rest]}), self.child]


def statuses(engine: Engine, flow: str) -> Counter[str]:
    """How many children are in which status."""
    return Counter(row.status for row in engine.journal.children(flow))


async def test_children_are_known_by_their_keys(paths: CloudPaths) -> None:
    """Ids of flows with a key end with a part of its hash; the one without has the id it always had."""
    crew = Crew(quick=True)

    async def delegate(visit: Visit[Context]) -> Event:
        for key in ("a", "b", None, "\U0001f680 / ..", "a" * 5000):
            assert (await visit.run_child(crew.child, Task(), key=key)).succeeded
        return Done()

    programs = [Program(PARENT, {"delegating": [delegate], "resting": [crew.rest]}), crew.child]
    async with open_engine(paths, programs) as engine:
        flow = await engine.start(PARENT, Context())
        with trio.fail_after(20):
            assert (await flow.wait()).succeeded
        ids = {row.id for row in engine.journal.children(flow.id)}
        assert len(ids) == 5
        assert f"{flow.id}.child-1" in ids
        assert all(len(each) == len(f"{flow.id}.child-1_") + 16 for each in ids - {f"{flow.id}.child-1"})
        assert {visit_of_child(each) for each in ids} == {1}


@given(one=st.text(), other=st.text(), visit=st.integers(1, 10**6))
def test_other_keys_are_other_children(one: str, other: str, visit: int) -> None:
    """Every key has its own id, of which the visit can be read; the id is a file's name."""
    child, second = (child_flow_id("f", "child", visit, key) for key in (one, other))
    assert (child == second) == (one == other)
    assert visit_of_child(child) == visit
    assert child.isascii()
    assert "/" not in child


async def test_the_same_key_twice_is_the_same_child(paths: CloudPaths) -> None:
    """Two tasks of one visit that ask for it share it; it runs once."""
    crew = Crew(quick=True)
    outcomes: list[str] = []

    async def delegate(visit: Visit[Context]) -> Event:
        async def run() -> None:
            outcomes.append((await visit.run_child(crew.child, Task(), key="k")).flow)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(run)
        return Done()

    programs = [Program(PARENT, {"delegating": [delegate], "resting": [crew.rest]}), crew.child]
    async with open_engine(paths, programs) as engine:
        flow = await engine.start(PARENT, Context())
        with trio.fail_after(20):
            assert (await flow.wait()).succeeded
        (child,) = engine.journal.children(flow.id)
        assert (outcomes, crew.begun[0]) == ([child.id] * 5, 1)


async def test_a_second_child_without_a_key_is_refused(paths: CloudPaths) -> None:
    """By name, and the hint says to give each a key; the first one's flow is paused with its parent, and goes on."""
    crew = Crew()

    async def delegate(visit: Visit[Context]) -> Event:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(visit.run_child, crew.child, Task())
        return Done()

    programs = [Program(PARENT, {"delegating": [delegate], "resting": [crew.rest]}), crew.child]
    async with open_engine(paths, programs) as engine:
        flow = await engine.start(PARENT, Context())
        with (
            pytest.raises(FlowParked, match="starts a child of child twice in one visit") as caught,
            trio.fail_after(20),
        ):
            await flow.wait()
        assert "key=" in caught.value.recovery_hint
        assert not any(crew.at_work.values())


async def test_a_child_is_found_again_only_with_its_context(paths: CloudPaths) -> None:
    """A parent that asks for the same key with something else is paused; the child goes on as it was started."""
    crew = Crew(count=1)
    async with open_engine(paths, crew.programs) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: crew.begun[0])

    async def delegate_otherwise(visit: Visit[Context]) -> Event:
        await visit.run_child(crew.child, Task(number=7), key="task 0")
        return Done()

    other = Program(PARENT, {"delegating": [delegate_otherwise], "resting": [crew.rest]})
    async with open_engine(paths, [other, crew.child]) as engine:
        await engine.resume(flow.id)
        with pytest.raises(FlowParked, match="is this child and was started with another number"), trio.fail_after(20):
            await engine.wait(flow.id)
        (child,) = engine.journal.children(flow.id)
        assert (child.status, engine.context(child.id)) == ("running", Task(number=0))
    crew.quick = True
    async with open_engine(paths, crew.programs) as engine:
        await engine.resume(flow.id)
        with trio.fail_after(20):
            assert (await engine.wait(flow.id)).succeeded


async def test_a_paused_child_pauses_its_parent_and_stops_the_others(paths: CloudPaths) -> None:
    """Nothing of the family runs then, and nobody owns it; whichever is resumed, all go on where they were."""
    crew = Crew(count=5)
    async with open_engine(paths, crew.programs) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: sum(crew.at_work.values()) == 5)
    crew.fails = {2}
    async with open_engine(paths, crew.programs) as engine, open_engine(paths, crew.programs) as other:
        await engine.resume(flow.id)
        with pytest.raises(FlowParked, match="child 2 is broken"), trio.fail_after(20):
            await engine.wait(flow.id)
        assert not any(crew.at_work.values())
        assert statuses(engine, flow.id) == {"running": 4, "paused": 1}
        assert [row.owner for row in (engine.row(flow.id), *engine.journal.children(flow.id))] == [None] * 6
        crew.fails, crew.quick = set(), True
        await other.resume(engine.journal.children(flow.id)[3].id)
        with trio.fail_after(20):
            assert (await other.wait(flow.id)).succeeded
        assert statuses(engine, flow.id) == {"ended": 5}


@pytest.mark.parametrize("which", ["parent", "child"])
async def test_a_family_that_is_being_paused_can_be_resumed(paths: CloudPaths, which: str) -> None:
    """The child is paused already, its parent is about to be: a resume of either counts, and both go on."""
    crew = Crew(count=3)
    pausing, let_go = trio.Event(), trio.Event()

    async def cling(_visit: Visit[Context]) -> Event | None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                pausing.set()
                await let_go.wait()

    crew.fails = {1}
    programs = [Program(PARENT, {"delegating": [crew.delegate, cling], "resting": [crew.rest]}), crew.child]
    async with open_engine(paths, programs) as engine:
        flow = await engine.start(PARENT, Context())
        with trio.fail_after(20):
            await pausing.wait()
        await until(lambda: statuses(engine, flow.id)["paused"] == 1)
        (paused,) = [row.id for row in engine.journal.children(flow.id) if row.status == "paused"]
        crew.fails, crew.quick = set(), True
        await engine.resume(flow.id if which == "parent" else paused)
        let_go.set()
        with trio.fail_after(20):
            assert (await flow.wait()).succeeded
        assert "paused" not in [change.kind for change in flow.history]
        assert statuses(engine, flow.id) == {"ended": 3}


WAYS: dict[str, Callable[[Engine, str], Awaitable[object]]] = {
    "moved": lambda engine, flow: engine.send(flow, Moved()),
    "cancelled": lambda engine, flow: engine.cancel(flow),
}


@pytest.mark.parametrize("way", [*WAYS, "closed"])
async def test_children_are_awaited_on_every_way_out(paths: CloudPaths, way: str) -> None:
    """The next state begins, and the end is told, when nothing of them runs; those left behind are cancelled."""
    crew = Crew(count=4)
    async with open_engine(paths, crew.programs) as engine:
        flow = await engine.start(PARENT, Context())
        await until(lambda: sum(crew.at_work.values()) == 4)
        if way in WAYS:
            await WAYS[way](engine, flow.id)
        if way == "moved":
            await until(lambda: statuses(engine, flow.id) == {"ended": 4})
            assert (flow.state, flow.row.status) == ("resting", "running")
        elif way == "cancelled":
            await flow.wait()
            assert statuses(engine, flow.id) == {"ended": 4}
            assert not any(crew.at_work.values())
    assert not any(crew.at_work.values())
    if way == "closed":
        async with open_engine(paths, crew.programs) as engine:
            assert statuses(engine, flow.id) == {"running": 4}
            crew.quick = True
            await engine.resume(flow.id)
            with trio.fail_after(20):
                assert (await engine.wait(flow.id)).succeeded
            assert crew.begun == {0: 2, 1: 2, 2: 2, 3: 2}
