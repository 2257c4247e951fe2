"""Activities with odd cancellations, odd errors and tasks that outlive a visit harm their own flow at most."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked, UnexpectedFailure
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.journey import until


class Ticked(Event, frozen=True):
    """Is taken without a move."""


class Went(Event, frozen=True):
    """Leads to the end."""


TABLE: Machine[Context] = Machine(
    "odd",
    version=1,
    initial="working",
    context=Context,
    states=[
        State("working", "working"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Ticked, "working", STAY), on(Went, "working", "done"), on(CancelRequested, ANY, "cancelled")],
)
NEIGHBOUR: Machine[Context] = Machine(
    "neighbour",
    version=1,
    initial="working",
    context=Context,
    states=[State("working", "working"), State("done", "done", verdict=Verdict.SUCCESS)],
    rows=[on(Went, "working", "done"), on(CancelRequested, ANY, "done")],
)


async def passes_on_a_cancellation_that_is_over(_: Visit[Any]) -> None:
    """The scope it was of has been left."""
    kept: trio.Cancelled | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            kept = exc
    assert kept is not None
    raise kept


async def groups_a_cancellation_that_is_over(visit: Visit[Any]) -> None:
    """As a nursery of an older library would."""
    try:
        await passes_on_a_cancellation_that_is_over(visit)
    except trio.Cancelled as exc:
        raise BaseExceptionGroup("together", [exc]) from None


async def yields_inside_a_timeout(_: Visit[Any]) -> AsyncGenerator[Event, None]:
    """The time is over while the engine writes, outside of the generator."""
    with trio.move_on_after(5):
        while True:
            yield Ticked()
            await trio.sleep(1)


async def names_a_file_that_is_no_text(_: Visit[Any]) -> None:
    """The name has bytes that are not UTF-8."""
    raise CloudError(f"cannot read {os.fsdecode(b'caf' + bytes([0xE9]))}", hint="Rename it.")


class Speechless(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


async def raises_without_words(_: Visit[Any]) -> None:
    """Logging it is as hard as writing it."""
    raise Speechless


ODD: dict[Callable[[Visit[Any]], Any], str] = {
    passes_on_a_cancellation_that_is_over: "let a cancellation of its own out",
    groups_a_cancellation_that_is_over: "let a cancellation of its own out",
    names_a_file_that_is_no_text: r"cannot read caf\\udce9",
    raises_without_words: "Speechless: .its text cannot be made",
}


def program(activity: Activity) -> Program[Any]:
    """The odd flow."""
    return Program(TABLE, {"working": [activity]})


@pytest.mark.parametrize("activity", ODD, ids=lambda each: each.__name__)
async def test_its_flow_is_paused_and_no_other(paths: CloudPaths, activity: Activity) -> None:
    """The engine goes on, and says why the flow is paused."""
    neighbours: Program[Any] = Program(NEIGHBOUR, {"working": [await_signal]})
    async with open_engine(paths, [program(activity), neighbours]) as engine:
        neighbour, flow = await engine.start(NEIGHBOUR, Context()), await engine.start(TABLE, Context())
        with trio.fail_after(10), pytest.raises(FlowParked, match=ODD[activity]):
            await flow.wait()
        assert await neighbour.send(Went())
        assert (await neighbour.wait()).succeeded


async def test_a_timeout_around_a_yield_ends_no_engine(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The flow is paused, whether its time is over in the generator or in the engine."""
    async with open_engine(paths, [program(yields_inside_a_timeout)], clock=clock, inline=True) as engine:
        flow = await engine.start(TABLE, Context())
        with pytest.raises(FlowParked):
            await flow.wait()
        await trio.sleep(60)
        assert (await engine.resume(flow.id)).row.status == "running"


async def test_a_task_that_outlives_its_visit_changes_nothing(paths: CloudPaths) -> None:
    """It was started outside of the visit: what it sends after the pause, or the end, is dropped."""
    visits: list[Visit[Any]] = []

    async def leaks(visit: Visit[Any]) -> None:
        visits.append(visit)
        raise CloudError("paused", hint="Resume it.")

    children: Program[Any] = Program(NEIGHBOUR, {"working": [await_signal]})
    async with open_engine(paths, [program(leaks), children]) as engine:
        flow = await engine.start(TABLE, Context(), secrets={"token": "a secret"})
        with pytest.raises(FlowParked):
            await flow.wait()
        (visit,) = visits
        assert await visit.send(Went()) is False
        with pytest.raises(UnexpectedFailure, match="is not begun any more"):
            await visit.run_child(children, Context())
        assert (flow.row.status, flow.row.owner, engine.journal.children(flow.id)) == ("paused", None, [])
        await flow.cancel()
        with pytest.raises(UnexpectedFailure, match="late is not kept"):
            await visit.keep("late", "another secret")
        assert list(paths.vault.glob("*.json")) == []


async def test_who_stops_listening_without_a_word_disturbs_nobody(paths: CloudPaths) -> None:
    """Its channel is closed before its block is left."""
    waits: Program[Any] = Program(TABLE, {"working": [await_signal]})
    async with open_engine(paths, [waits]) as engine:
        flow = await engine.start(TABLE, Context())
        with engine.feed.subscribe() as channel:
            channel.close()
            assert await flow.send(Ticked())
            assert await flow.send(Went())
        assert (await flow.wait()).state == "done"


class Held(Context, frozen=True, kw_only=True):
    """A context that can be changed in place."""

    items: list[int] = []  # noqa: RUF012 msgspec copies an empty list


async def test_a_signal_is_not_refused_for_what_an_activity_changed_in_place(paths: CloudPaths) -> None:
    """The change is undone, and the event is taken."""
    table: Machine[Held] = Machine(
        "holding",
        version=1,
        initial="working",
        context=Held,
        states=list(TABLE.states.values()),
        rows=TABLE.rows,
    )

    async def changes(visit: Visit[Held]) -> None:
        visit.context.items.append(1)
        await trio.sleep_forever()

    holding: Program[Any] = Program(table, {"working": [changes]})
    async with open_engine(paths, [holding]) as engine, open_engine(paths, [holding]) as other:
        flow = await engine.start(table, Held())
        await until(lambda: knows(engine, flow.id) == [1])
        assert await other.send(flow.id, Ticked()) is False
        await until(lambda: knows(engine, flow.id) == [])
        await until(lambda: len(flow.history) == 2)
        assert [each.event for each in flow.history] == ["started", "Ticked"]


def knows(engine: Engine, flow: str) -> list[int]:
    """What is in the context of a flow."""
    context: Any = engine.context(flow)
    return context.items
