"""A cancel that is refused, or whose caller goes away, leaves no family half cancelled."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowParked
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
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.journey import until


class Went(Event, frozen=True):
    """Leads to the next state."""


def two_steps(name: str, *rows: Row, context: type[Context] = Context) -> Machine[Any]:
    """A table of two states before its ends; `rows` say what a cancel does."""
    return Machine(
        name,
        version=1,
        initial="first",
        context=context,
        states=[
            State("first", "first"),
            State("second", "second"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Went, "first", "second"), on(Went, "second", "done"), *rows],
    )


CHILD = two_steps("child", on(CancelRequested, ANY, "cancelled"))


def waiting(machine: Machine[Any]) -> Program[Any]:
    """It waits for events from outside."""
    return Program(machine, {"first": [await_signal], "second": [await_signal]})


CHILDREN = waiting(CHILD)


def parent(machine: Machine[Any]) -> Program[Any]:
    """Its first state runs a child."""

    async def run(visit: Visit[Any]) -> Event:
        await visit.run_child(CHILDREN, Context())
        return Went()

    return Program(machine, {"first": [run], "second": [await_signal]})


async def test_a_cancel_that_is_refused_touches_no_child(paths: CloudPaths) -> None:
    """The parent's state has no row for it: the child goes on."""
    machine = two_steps("parent", on(CancelRequested, "second", "cancelled"))
    async with open_engine(paths, [parent(machine), CHILDREN]) as engine:
        flow = await engine.start(machine, Context())
        await until(lambda: bool(engine.journal.children(flow.id)))
        with pytest.raises(EventNotAccepted, match="parent in state first does not accept CancelRequested"):
            await flow.cancel()
        (child,) = engine.journal.children(flow.id)
        assert (child.status, flow.state) == ("running", "first")


async def test_a_cancel_goes_on_when_its_caller_is_gone(paths: CloudPaths) -> None:
    """The child is slow to stop and the caller waits no longer: the parent ends cancelled all the same."""
    may_stop = trio.Event()

    async def stop_slowly(_: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await may_stop.wait()

    machine = two_steps("parent", on(CancelRequested, ANY, "cancelled"))
    slow: Program[Any] = Program(CHILD, {"first": [stop_slowly], "second": [await_signal]})
    async with open_engine(paths, [parent(machine), slow]) as engine:
        flow = await engine.start(machine, Context())
        await until(lambda: bool(engine.journal.children(flow.id)))
        (child,) = engine.journal.children(flow.id)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flow.cancel)
                await until(lambda: engine.row(child.id).status == "ended")
                scope.cancel()
        assert flow.state == "first"
        may_stop.set()
        await until(lambda: flow.row.status == "ended")
        assert flow.row.verdict == "cancelled"


async def test_a_flow_that_is_being_cancelled_begins_nothing(paths: CloudPaths) -> None:
    """Its child is slow to stop; its own activities wait with an effect and with another child, and do neither."""
    may_stop, cancelled = trio.Event(), trio.Event()
    begun: list[str] = []

    async def stop_slowly(_: Visit[Any]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()
            with trio.CancelScope(shield=True):
                await may_stop.wait()

    async def run(visit: Visit[Any]) -> None:
        await visit.run_child(slow, Context())

    async def pay(visit: Visit[Any]) -> None:
        await cancelled.wait()
        await visit.announce("pay")
        begun.append("an effect")

    async def run_another(visit: Visit[Any]) -> None:
        await cancelled.wait()
        await visit.run_child(slow, Context(), key="late")
        begun.append("a child")

    machine = Machine(
        "parent",
        version=1,
        initial="first",
        context=Context,
        states=[
            State("first", "first", effect="pay", resume=ResumePolicy.RECONCILE, child="child"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Went, "first", "done"), on(CancelRequested, ANY, "cancelled")],
    )
    slow: Program[Any] = Program(CHILD, {"first": [stop_slowly], "second": [await_signal]})
    async with open_engine(paths, [Program(machine, {"first": [run, pay, run_another]}), slow], inline=True) as engine:
        flow = await engine.start(machine, Context())
        await until(lambda: bool(engine.journal.children(flow.id)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow.cancel)
            await cancelled.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            may_stop.set()
        assert (await flow.wait()).state == "cancelled"
        assert begun == []
        assert [change.kind for change in flow.history] == ["started", "event"]
        assert len(engine.journal.children(flow.id)) == 1


@pytest.mark.parametrize("resumed", [False, True])
async def test_secrets_are_hidden_in_what_a_clean_up_reports(paths: CloudPaths, resumed: bool) -> None:
    """The process that cancels a flow has never seen its secrets, and its table does something before the end."""
    secret = "correct horse battery staple"
    machine = two_steps("tidy", on(CancelRequested, "first", "second"), on(CancelRequested, "second", "cancelled"))

    async def clean_up(_: Visit[Any]) -> None:
        raise CloudError(f"the server said that {secret} is in use", hint="Wait.")

    program: Program[Any] = Program(machine, {"first": [await_signal], "second": [clean_up]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(machine, Context(), secrets={"phrase": secret})
    async with open_engine(paths, [program]) as engine:
        if resumed:
            await engine.resume(flow.id)
        await engine.cancel(flow.id)
        with pytest.raises(FlowParked, match=r"the server said that \*+ is in use"):
            await engine.wait(flow.id)
    with closing(sqlite3.connect(paths.journal)) as journal:
        assert not any(secret in body for (body,) in journal.execute("SELECT body FROM events"))


@dataclass(eq=False)
class Unequal:
    """Is equal to itself only."""

    number: int = 1


class Holding(Context, frozen=True, kw_only=True):
    """A context with such an object in it."""

    held: Unequal = msgspec.field(default_factory=Unequal)


class Unlike(Context, frozen=True, kw_only=True, eq=False):
    """A context that is equal to itself only."""

    numbers: list[int] = []  # noqa: RUF012 msgspec copies an empty list


@pytest.mark.parametrize("context", [Holding, Unlike])
async def test_contexts_that_are_equal_to_nothing_else_work(paths: CloudPaths, context: type[Context]) -> None:
    """What is compared is what is written."""
    machine = two_steps("odd", on(CancelRequested, ANY, "cancelled"), context=context)
    async with open_engine(paths, [waiting(machine)]) as engine:
        flow = await engine.start(machine, context(), key="one")
        assert (await engine.start(machine, context(), key="one")).id == flow.id
        assert await engine.send(flow.id, Went())
        assert await engine.cancel(flow.id)
    async with open_engine(paths, [waiting(machine)]) as engine:
        assert (await engine.start(machine, context(), key="one", after_end="return")).id == flow.id


async def test_a_flow_whose_key_belongs_to_another_after_a_change_of_name_can_be_ended(paths: CloudPaths) -> None:
    """Two machines became one, and each had a flow of this key."""
    old, new = (two_steps(name, on(CancelRequested, ANY, "cancelled")) for name in ("old", "new"))
    async with open_engine(paths, [waiting(old), waiting(new)]) as engine:
        first = await engine.start(old, Context(), key="one")
        await engine.start(new, Context(), key="one")
    heir = Machine(
        "new",
        version=1,
        initial="first",
        context=Context,
        states=list(new.states.values()),
        rows=new.rows,
        formerly=("old",),
    )
    async with open_engine(paths, [waiting(heir)]) as engine:
        assert await engine.cancel(first.id) is True
