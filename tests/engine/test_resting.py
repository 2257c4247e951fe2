"""A flow that only waits needs no process: it rests, and its deadline or an event wakes it, whichever engine looks."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.claims import Claims
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowParked, JournalBusy
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.journal.store import SqliteStore
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock


class Approved(Event, frozen=True):
    """A person said yes."""


class Remarked(Event, frozen=True):
    """A person said something."""

    text: str = ""


class Shipped(Event, frozen=True):
    """It is on its way."""


class Asked(Context, frozen=True, kw_only=True):
    """What is known of a request."""

    remarks: tuple[str, ...] = ()


def remarked(context: Asked, event: Remarked) -> Asked:
    """One more remark."""
    return Asked(remarks=(*context.remarks, event.text))


def request(name: str = "request", version: int = 1) -> Machine[Asked]:
    """A machine that waits for an approval."""
    return Machine(name, version=version, initial="asking", context=Asked, states=STATES, rows=ROWS)


STATES = [
    State("asking", "waiting for an approval", timeout=3600.0),
    State("shipping", "shipping"),
    State("done", "shipped", verdict=Verdict.SUCCESS),
    State("late", "not approved in time", verdict=Verdict.FAILURE),
    State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
]
ROWS = [
    on(Remarked, "asking", STAY, update=remarked),
    on(Approved, "asking", "shipping"),
    on(Shipped, "shipping", "done"),
    on(DeadlinePassed, "asking", "late"),
    on(CancelRequested, ANY, "cancelled"),
]
REQUEST = request()


def program(trouble: list[Exception] | None = None) -> Program[Any]:
    """It waits for an approval, then ships."""

    async def ship(_: Visit[Asked]) -> Event:
        await trio.lowlevel.checkpoint()
        if trouble:
            raise trouble.pop()
        return Shipped()

    return Program(REQUEST, {"asking": [await_signal], "shipping": [ship]})


@asynccontextmanager
async def waking(paths: CloudPaths, clock: VirtualClock) -> AsyncGenerator[Engine]:
    """An engine that wakes flows."""
    async with open_engine(paths, [program()], clock=clock, inline=True, wake=True) as engine:
        yield engine


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the engines are about to do; virtual time goes on meanwhile."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 other engines write, and tell nobody
            await trio.sleep(0.05)


async def at_rest(engine: Engine, *flows: str) -> None:
    """Wait until flows rest."""
    await until(lambda: all(engine.row(flow).status == "resting" for flow in flows))


async def test_a_flow_that_only_waits_has_no_owner_and_no_task(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Nothing of it is in memory; its row says so, its history says nothing, and it checks."""
    async with waking(paths, clock) as engine:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        assert (flow.row.owner, flow.state, engine.driven(flow.id)) == (None, "asking", None)
        assert [change.kind for change in flow.history] == ["started"]
        gc.collect()
        assert not [each for each in gc.get_objects() if isinstance(each, LiveFlow) and each.row.id == flow.id]
        assert f"request {flow.id} asking, resting, " in engine.describe(flow.id)


@pytest.mark.parametrize("same", [True, False])
async def test_an_event_wakes_it(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, same: bool) -> None:
    """Sent here it is taken at once; from an engine that wakes nothing, by the engine that does."""
    async with waking(paths, clock) as engine, open_engine(paths, [program()], clock=clock, inline=True) as other:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        assert await (engine if same else other).send(flow.id, Remarked("why?")) is same
        await until(lambda: engine.context(flow.id) == Asked(remarks=("why?",)))
        await at_rest(engine, flow.id)
        assert await (engine if same else other).send(flow.id, Approved()) is same
        assert (await flow.wait()).state == "done"
        assert [change.kind for change in flow.history] == ["started", "event", "event", "event"]


async def test_its_deadline_wakes_it(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """At its moment, and not before; whoever waits is told."""
    async with waking(paths, clock) as engine:
        began = trio.current_time()
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        assert (await flow.wait()).state == "late"
        assert 3600 <= trio.current_time() - began < 3601


async def test_it_is_woken_by_an_engine_that_is_opened_later(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """One deadline passed while no engine was open, and an event came in for another flow."""
    async with waking(paths, clock) as engine:
        late, asked, idle = [await engine.start(REQUEST, Asked()) for _ in range(3)]
        await at_rest(engine, late.id, asked.id, idle.id)
    async with open_engine(paths, [program()], clock=clock, inline=True) as looking:
        assert await looking.send(asked.id, Approved()) is False
        await trio.sleep(4000)
        assert [looking.row(each.id).status for each in (late, asked, idle)] == ["resting"] * 3
    async with waking(paths, clock) as engine:
        await until(lambda: all(engine.row(each.id).status == "ended" for each in (late, asked, idle)))
        assert [engine.row(each.id).state for each in (late, asked, idle)] == ["late", "done", "late"]


async def test_one_of_several_engines_wakes_it(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The step is taken once, whoever looks first."""
    async with waking(paths, clock) as first, waking(paths, clock) as second:
        flows = [await (first, second)[n % 2].start(REQUEST, Asked()) for n in range(20)]
        await at_rest(first, *(flow.id for flow in flows))
        await trio.sleep(3700)
        await until(lambda: all(first.row(flow.id).status == "ended" for flow in flows))
        assert {len(first.history(flow.id)) for flow in flows} == {2}


async def test_what_it_does_not_take_leaves_it_at_rest(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """An event of a later state is kept, one of no state is refused; the first is taken when its state comes."""

    class Other(Event, frozen=True):
        """Of no machine here."""

    async with waking(paths, clock) as engine:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        with pytest.raises(EventNotAccepted):
            await engine.send(flow.id, Other())
        with pytest.raises(EventNotAccepted, match="only the engine sends it"):
            await engine.send(flow.id, DeadlinePassed())
        assert await engine.send(flow.id, Shipped()) is False
        await trio.sleep(5)
        assert (flow.row.status, len(flow.history)) == ("resting", 1)
        assert await engine.send(flow.id, Approved())
        assert (await flow.wait()).state == "done"


async def test_it_is_cancelled_resumed_and_started_again_like_any_other(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Cancelled it ends, with its secrets; resumed or started by its key it goes on waiting."""
    async with waking(paths, clock) as engine:
        flow = await engine.start(REQUEST, Asked(), key="k", secrets={"phrase": "correct horse"})
        await at_rest(engine, flow.id)
        assert (await engine.start(REQUEST, Asked(), key="k")).id == flow.id
        await at_rest(engine, flow.id)
        await engine.resume(flow.id)
        await at_rest(engine, flow.id)
        assert await engine.cancel(flow.id, "not needed")
        assert (flow.state, (await flow.wait()).verdict) == ("cancelled", "cancelled")
        assert not list(paths.vault.glob("*.json"))


async def test_trouble_after_it_was_woken_pauses_it(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """As with any other flow."""
    trouble: list[Exception] = [TimeoutError("no ship")]
    async with open_engine(paths, [program(trouble)], clock=clock, inline=True, wake=True) as engine:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        assert await engine.send(flow.id, Approved())
        with pytest.raises(FlowParked, match="no ship"):
            await flow.wait()
        assert (await (await engine.resume(flow.id)).wait()).succeeded


async def test_changes_are_followed_over_a_rest(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Whoever follows the flow sees each change once, to the end."""
    async with waking(paths, clock) as engine:
        flow = await engine.start(REQUEST, Asked())
        seen: list[str] = []

        async def follow() -> None:
            seen.extend([change.event async for change in flow.changes()])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await at_rest(engine, flow.id)
            await engine.send(flow.id, Remarked("a"))
            await at_rest(engine, flow.id)
            await engine.send(flow.id, Approved())
        assert seen == ["started", "Remarked", "Approved", "Shipped"]


async def test_an_engine_that_wakes_nothing_lets_nothing_rest(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Without `wake` a flow is driven as ever; resumed there, one that rested is driven, too."""
    async with waking(paths, clock) as engine:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        assert (await engine.resume_all()).flows == []
    async with open_engine(paths, [program()], clock=clock, inline=True) as engine:
        (again,) = (await engine.resume_all()).flows
        assert again.id == flow.id
        await trio.sleep(10)
        assert engine.row(flow.id).status == "running"
        assert (await again.wait()).state == "late"


async def test_one_that_another_process_woke_and_paused_is_left_alone(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read a moment before says that it rests; it is not driven without a `resumed` record."""
    trouble: list[Exception] = [TimeoutError("no ship")]
    async with open_engine(paths, [program(trouble)], clock=clock, inline=True, wake=True) as engine:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        before = flow.row
        await engine.send(flow.id, Approved())
        with pytest.raises(FlowParked):
            await flow.wait()
        reads, existing = [before, before], Claims.existing

        async def read(claims: Claims, flow: str) -> FlowRow:
            return reads.pop() if reads else await existing(claims, flow)

        monkeypatch.setattr(Claims, "existing", read)
        assert await engine.send(flow.id, Shipped()) is False
        await trio.sleep(1)
        assert not reads
        assert (flow.row.status, flow.history[-1].kind) == ("paused", "paused")


async def test_an_event_that_is_being_written_while_it_is_put_to_rest_leads_on(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever turn of the scheduler it is sent: the state that it leads to is driven."""
    advance = SqliteStore.advance

    async def slow(
        store: SqliteStore, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None
    ) -> None:
        await trio.sleep(1)
        await advance(store, before, after, record, signal)

    monkeypatch.setattr(SqliteStore, "advance", slow)
    async with waking(paths, clock) as engine:
        for turns in range(10):
            flow = await engine.start(REQUEST, Asked())
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            await flow.send(Approved())
            with trio.fail_after(20):
                assert (await flow.wait()).state == "done"


async def test_flows_that_cannot_be_woken_here_keep_no_other_from_waking(
    paths: CloudPaths,
    clock: VirtualClock,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them than are woken at once, of another version or an unknown machine: each is named once, or never."""
    ship = {"asking": [await_signal], "shipping": [await_signal]}
    others = [Program(request("request", version=7), ship), Program(request("unknown"), ship)]
    async with open_engine(paths, others, clock=clock, inline=True, wake=True) as engine:
        flows = [await engine.start(others[n % 2].machine, Asked()) for n in range(450)]
        await at_rest(engine, *(flow.id for flow in flows))
    await trio.sleep(1800)
    looks, due = list[str](), SqliteStore.due

    async def counted(store: SqliteStore, machines: Collection[str], until: str, limit: int) -> Sequence[FlowRow]:
        looks.append(until)
        return await due(store, machines, until, limit)

    monkeypatch.setattr(SqliteStore, "due", counted)
    async with waking(paths, clock) as engine:
        mine = await engine.start(REQUEST, Asked())
        await at_rest(engine, mine.id)
        await trio.sleep(1900)
        assert len(looks) < 20
        assert (await mine.wait()).state == "late"
    named = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(named) == len(set(named)) == 225
    assert all("it was written by request version 7" in message for message in named)


async def test_an_event_that_could_not_be_written_when_it_was_to_wake_a_flow_wakes_it_later(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal cannot be written for a moment, neither to wake the flow nor to resume it."""
    async with waking(paths, clock) as engine, open_engine(paths, [program()], clock=clock, inline=True) as other:
        flow = await engine.start(REQUEST, Asked())
        await at_rest(engine, flow.id)
        busy, take_over = [JournalBusy("busy")] * 4, Claims.take_over

        async def written(claims: Claims, flow: str, write: Callable[[LiveFlow], Awaitable[object]]) -> LiveFlow:
            if busy:
                raise busy.pop()
            return await take_over(claims, flow, write)

        monkeypatch.setattr(Claims, "take_over", written)
        assert await other.send(flow.id, Approved()) is False
        with trio.fail_after(20):
            assert (await flow.wait()).state == "done"
        assert not busy


async def test_an_event_that_is_looked_for_while_the_flow_is_put_to_rest_wakes_it(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the journal that the flow rests, and not yet known to the engine that put it to rest."""
    rest = SqliteStore.rest
    async with waking(paths, clock) as engine, open_engine(paths, [program()], clock=clock, inline=True) as other:

        async def slow(store: SqliteStore, row: FlowRow, kept: int) -> bool:
            rested = await rest(store, row, kept)
            await other.send(row.id, Approved())
            await trio.sleep(1)
            return rested

        monkeypatch.setattr(SqliteStore, "rest", slow)
        flow = await engine.start(REQUEST, Asked())
        with trio.fail_after(20):
            assert (await flow.wait()).state == "done"
