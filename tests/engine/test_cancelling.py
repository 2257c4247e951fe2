"""Cancelling: it wins whatever the children say, it happens once, and what a table does before the end is done."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EngineClosed, EventNotAccepted, FlowParked
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.commits import WatchedCommits
from tests.support.journey import JOURNEY, Journey, Left, events, journey, until


class Worked(Event, frozen=True):
    """The work, or the child, is done."""


class Undone(Event, frozen=True):
    """What was begun is undone."""


def worker(name: str, *, obstinate: bool) -> Machine[Context]:
    """A leaf; an obstinate one ends with success when it is cancelled."""
    return Machine(
        name,
        version=1,
        initial="working",
        context=Context,
        states=[
            State("working", "working"),
            State("done", "done", verdict=Verdict.SUCCESS),
            *([] if obstinate else [State("cancelled", "cancelled", verdict=Verdict.CANCELLED)]),
        ],
        rows=[on(Worked, "working", "done"), on(CancelRequested, ANY, "done" if obstinate else "cancelled")],
    )


PLAIN, OBSTINATE = worker("plain", obstinate=False), worker("obstinate", obstinate=True)
PARENT = Machine(
    "boss",
    version=1,
    initial="delegating",
    context=Context,
    states=[
        State("delegating", "the children work"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Worked, "delegating", "done"), on(CancelRequested, ANY, "cancelled")],
)
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


class Shop:
    """Children of several kinds, whose tasks are counted, and a parent that runs them all."""

    def __init__(self) -> None:
        self.at_work: Counter[str] = Counter()

    async def work(self, visit: Visit[Context]) -> Event | None:
        """Work until cancelled; letting go takes some turns."""
        self.at_work[visit.flow] += 1
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
            self.at_work[visit.flow] -= 1

    async def delegate(self, visit: Visit[Context]) -> Event:
        """Run two of each kind; done as soon as all are."""
        async with trio.open_nursery() as nursery:
            for machine in (PLAIN, OBSTINATE):
                for key in ("a", "b"):
                    nursery.start_soon(self._run, visit, machine, key)
        return Worked()

    async def _run(self, visit: Visit[Context], machine: Machine[Context], key: str) -> None:
        await visit.run_child(Program(machine, {"working": [self.work]}), Context(), key=key)

    @property
    def programs(self) -> list[Program[Any]]:
        """The parent and both kinds."""
        leaves = [Program(machine, {"working": [self.work]}) for machine in (PLAIN, OBSTINATE)]
        return [Program(PARENT, {"delegating": [self.delegate]}), *leaves]


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
        assert [change.kind for change in flow.history] == ["started", "parked", "event"]
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
        assert (flow.state, driver.row(flow.id).status) == ("paying", "parked")
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
