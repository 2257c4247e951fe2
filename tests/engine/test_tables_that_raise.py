"""What a guard, an update or a result of a table raises is the trouble of its flow, wherever the event came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked, TableFailed, UnexpectedFailure
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
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.support.journey import until

RAISED = [KeyError("total"), SystemExit(3), GeneratorExit(), ValueError("no")]


class Counted(Context, frozen=True, kw_only=True):
    """Counts what was taken."""

    number: int = 0


class Went(Event, frozen=True):
    """Leads out."""


class Counts(Event, frozen=True):
    """Is taken without a move."""


def raising(exc: BaseException) -> Callable[[Any, Any], Any]:
    """A guard or an update that raises."""

    def function(_: Any, __: Any) -> Any:
        raise exc

    return function


def count(context: Counted, _: Event) -> Counted:
    """An update that does its work."""
    return msgspec.structs.replace(context, number=context.number + 1)


def counted_enough(context: Counted, _: Event) -> bool:
    """A guard that refuses."""
    return context.number > 100


def machine(**cancel: Any) -> Machine[Counted]:
    """A table whose row for `CancelRequested` has this guard or update."""
    return Machine(
        "counter",
        version=1,
        initial="counting",
        context=Counted,
        states=[
            State("counting", "counting"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Counts, "counting", STAY, update=count),
            on(Went, "counting", "done", update=cancel.get("update")),
            on(CancelRequested, ANY, "cancelled", **cancel),
        ],
    )


def program(table: Machine[Any]) -> Program[Any]:
    """It waits for events from outside."""
    return Program(table, {"counting": [await_signal]})


async def still_counts(engine: Engine, flow: str) -> bool:
    """Whether a flow takes events as before."""
    before: Any = engine.context(flow)
    await engine.send(flow, Counts())
    after: Any = engine.context(flow)
    return after.number == before.number + 1


@pytest.mark.parametrize("part", ["when", "update"])
@pytest.mark.parametrize("exc", RAISED, ids=repr)
async def test_who_sends_or_cancels_is_told(paths: CloudPaths, part: str, exc: BaseException) -> None:
    """By an error of ours that names the table, the state and the event; the flow goes on as it was."""
    table = machine(**{part: raising(exc)})
    async with open_engine(paths, [program(table)]) as engine:
        flow = await engine.start(table, Counted())
        with pytest.raises(TableFailed, match="counter in state counting cannot take CancelRequested"):
            await flow.cancel()
        assert await still_counts(engine, flow.id)


@pytest.mark.parametrize("part", ["when", "update"])
@pytest.mark.parametrize("exc", RAISED, ids=repr)
async def test_a_cancel_from_another_process_is_refused_in_the_history(
    paths: CloudPaths, part: str, exc: BaseException
) -> None:
    """And what waits behind it is taken; no other flow notices."""
    table = machine(**{part: raising(exc)})
    async with open_engine(paths, [program(table)]) as engine, open_engine(paths, [program(table)]) as other:
        flow, neighbour = await engine.start(table, Counted()), await engine.start(table, Counted())
        assert await other.cancel(flow.id) is False
        assert await other.send(flow.id, Counts()) is False
        await until(lambda: engine.context(flow.id) == Counted(number=1))
        assert [each.kind for each in flow.history] == ["started", "refused", "event"]
        assert await still_counts(engine, flow.id)
        assert await still_counts(engine, neighbour.id)


async def test_a_guard_that_refuses_a_cancel_refuses_it_in_the_history(paths: CloudPaths) -> None:
    """It is no error, and events behind it are taken, also when the flow is resumed."""
    table = machine(when=counted_enough)
    async with open_engine(paths, [program(table)]) as engine:
        flow = await engine.start(table, Counted())
    async with open_engine(paths, [program(table)]) as engine:
        await engine.send(flow.id, Counts())
        await engine.store.post(flow.id, "", "CancelRequested", '{"event":"CancelRequested","reason":""}')
        await engine.send(flow.id, Counts())
        resumed = await engine.resume(flow.id)
        await until(lambda: engine.context(flow.id) == Counted(number=2))
        assert [each.kind for each in resumed.history] == ["started", "resumed", "event", "refused", "event"]


@pytest.mark.parametrize("exc", RAISED, ids=repr)
async def test_an_update_that_raises_at_the_deadline_pauses_its_flow(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, exc: BaseException
) -> None:
    """The engine and its other flows go on."""
    table: Machine[Counted] = Machine(
        "hurried",
        version=1,
        initial="counting",
        context=Counted,
        states=[
            State("counting", "counting", timeout=5),
            State("late", "late", verdict=Verdict.FAILURE),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(DeadlinePassed, "counting", "late", update=raising(exc)),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )
    other = machine()
    async with open_engine(paths, [program(table), program(other)], clock=clock, inline=True) as engine:
        flow, neighbour = await engine.start(table, Counted()), await engine.start(other, Counted())
        with pytest.raises(FlowParked, match="its table raised"):
            await flow.wait()
        await flow.cancel()
        assert flow.state == "cancelled"
        assert await still_counts(engine, neighbour.id)


async def test_a_flow_that_nobody_drives_is_ended_without_its_table_where_that_raises(paths: CloudPaths) -> None:
    """Nobody would be there to repair what it knows; the history says that it was abandoned."""
    table = machine(update=raising(KeyError("total")))
    async with open_engine(paths, [program(table)]) as engine:
        flow = await engine.start(table, Counted())
    async with open_engine(paths, [program(table)]) as engine:
        assert await engine.cancel(flow.id) is True
        assert engine.row(flow.id).status == "ended"
        assert engine.history(flow.id)[-1].kind == "abandoned"


async def test_a_result_that_raises_is_told_to_whoever_waits(paths: CloudPaths) -> None:
    """The flow has ended all the same, and its row says how."""

    def result(_: Counted) -> dict[str, Any]:
        raise ZeroDivisionError("nothing to divide by")

    table: Machine[Counted] = Machine(
        "divider",
        version=1,
        initial="counting",
        context=Counted,
        states=[State("counting", "counting"), State("done", "done", verdict=Verdict.SUCCESS)],
        rows=[on(Went, "counting", "done"), on(CancelRequested, ANY, "done")],
        result=result,
    )
    async with open_engine(paths, [program(table)]) as engine:
        flow = await engine.start(table, Counted())
        await flow.send(Went())
        with trio.fail_after(10), pytest.raises(UnexpectedFailure, match="ZeroDivisionError"):
            await flow.wait()
        assert (flow.row.status, flow.row.verdict) == ("ended", "success")
