"""A machine that was renamed takes over the flows of its former names; nothing else does."""

from __future__ import annotations

import sqlite3
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.diagrams.mermaid import mermaid
from systemprompt_cloud.diagrams.text import draw_path
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import IncompatibleFlow, MachineInvalid
from systemprompt_cloud.engine.fold import check_flow, is_table_of
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.engine.machine.identity import fingerprint, named_fingerprint
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, Row, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import VirtualClock

OLD_NAME = "parcel v2"
"""Refused today, and in the journals of embedders."""


class Parcel(Context, frozen=True, kw_only=True):
    """What a parcel knows."""

    weight: int = 0


class Packed(Event, frozen=True):
    """It is packed."""


class Sent(Event, frozen=True):
    """It is sent."""


def heavier(context: Parcel, _event: Packed) -> Parcel:
    return msgspec.structs.replace(context, weight=context.weight + 1)


def parcel(
    name: str = "parcel", *, formerly: tuple[str, ...] = (), version: int = 1, rows: tuple[Row, ...] = (), **more: Any
) -> Machine[Parcel]:
    """A parcel's table."""
    return Machine(
        name,
        version=version,
        initial="packing",
        context=Parcel,
        states=[
            State("packing", "p"),
            State("packed", "q", child=more.pop("child", None)),
            State("sent", "s", verdict=Verdict.SUCCESS),
            State("off", "x", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Packed, "packing", "packed", update=heavier),
            on(Sent, "packed", "sent"),
            on(CancelRequested, ANY, "off"),
            *rows,
        ],
        formerly=formerly,
        **more,
    )


def waits(machine: Machine[Any]) -> Program[Any]:
    """A program whose states only wait."""
    return Program(machine, {name: [await_signal] for name, state in machine.states.items() if not state.final})


def table_of(machine: Machine[Any]) -> tuple[Any, ...]:
    """What the identity of a table is made of, besides its name."""
    states = tuple(machine.states.values())
    return machine.version, machine.initial, machine.context_type, machine.events, states, machine.rows


def rename(path: Path, name: str, identity: str) -> None:
    """Make every flow one of a machine of another name, as an older program stored it."""
    with closing(sqlite3.connect(path)) as journal, journal:
        journal.execute("UPDATE flows SET machine = ?, fingerprint = ?", (name, identity))


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Where the journal is."""
    return CloudPaths(directory=tmp_path / "j", state_directory=tmp_path / "j", origin="explicit")


def opened(paths: CloudPaths, *machines: Machine[Any]) -> Any:
    """An engine for flows of these machines."""
    return open_engine(paths, [waits(machine) for machine in machines], clock=VirtualClock(), inline=True)


async def stored(paths: CloudPaths, machine: Machine[Any], name: str = OLD_NAME, identity: str = "") -> str:
    """A flow of this table that is packed, stored under another name."""
    async with opened(paths, machine) as engine:
        flow = await engine.start(machine, Parcel(weight=4), key="k")
        await flow.send(Packed())
    rename(paths.journal, name, identity or fingerprint(name, *table_of(machine)))
    return flow.id


def records_of(engine: Engine, flow: str) -> list[tuple[str, str]]:
    return [(record.kind, record.name) for record in engine.journal.records(flow)]


@pytest.mark.parametrize("identity", [fingerprint, named_fingerprint])
async def test_a_flow_under_a_former_name_goes_on(paths: CloudPaths, identity: Any) -> None:
    """In its state, with what it knew; one record says so, and from then on it has today's name."""
    machine = parcel(formerly=("first name", OLD_NAME))
    flow = await stored(paths, parcel(), identity=identity(OLD_NAME, *table_of(parcel())))
    async with opened(paths, machine) as engine:
        assert engine.context(flow) == Parcel(weight=5)
        assert check_flow(engine.journal, [waits(machine)], engine.row(flow)) == []
        assert is_table_of(machine, engine.row(flow))
        assert mermaid(machine, changes=engine.history(flow))
        assert draw_path(machine, engine.history(flow))
        await engine.resume(flow)
        row = engine.journal.flow(flow)
        assert row is not None
        assert (row.machine, row.version, row.fingerprint) == ("parcel", 1, machine.fingerprint)
        assert (row.state, row.status, row.incarnation) == ("packed", "running", 2)
        assert ("migrated", f"{OLD_NAME} version 1 to parcel version 1") in records_of(engine, flow)
        await engine.send(flow, Sent())
        assert (await engine.wait(flow)).state == "sent"
        assert (await engine.wait(flow)).result["weight"] == 5
        assert audit_journal(engine.journal, [waits(machine)]) == []


async def test_a_flow_of_an_older_table_under_a_former_name_is_carried_over(paths: CloudPaths) -> None:
    """By the migrations, as under today's name."""
    flow = await stored(paths, parcel())
    migration = Migration(1, context=lambda old: {**old, "weight": old["weight"] * 1000})
    machine = parcel(formerly=(OLD_NAME,), version=2, migrations=[migration])
    async with opened(paths, machine) as engine:
        await engine.resume(flow)
        assert engine.context(flow) == Parcel(weight=5000)
        assert engine.row(flow).machine == "parcel"
        assert audit_journal(engine.journal, [waits(machine)]) == []


async def test_another_table_under_a_former_name_is_refused(paths: CloudPaths) -> None:
    """The name alone makes no flow one of this table; it can be cancelled."""
    flow = await stored(paths, parcel(rows=(on(Packed, "packed", "packing"),)))
    async with opened(paths, parcel(formerly=(OLD_NAME,))) as engine:
        with pytest.raises(IncompatibleFlow, match=f"it was written by {OLD_NAME} version 1 .*no migration leads"):
            await engine.resume(flow)
        assert await engine.cancel(flow, "no longer wanted")
        assert engine.row(flow).status == "ended"


async def test_without_the_former_name_it_can_only_be_looked_at_and_ended(paths: CloudPaths) -> None:
    """A machine of another name is another machine, however alike their tables are."""
    flow = await stored(paths, parcel())
    async with opened(paths, parcel()) as engine:
        with pytest.raises(IncompatibleFlow, match=f"the machine {OLD_NAME} is not known here"):
            await engine.resume(flow)
        assert [change.event for change in engine.history(flow)] == ["started", "Packed"]
        assert await engine.cancel(flow)
        assert engine.row(flow).verdict == "cancelled"


async def test_a_flow_that_had_ended_under_a_former_name_has_its_outcome(paths: CloudPaths) -> None:
    """Nothing is written to it any more."""
    async with opened(paths, parcel()) as engine:
        flow = (await engine.start(parcel_of(engine), Parcel(weight=1))).id
        await engine.send(flow, Packed())
        await engine.send(flow, Sent())
        await engine.wait(flow)
    rename(paths.journal, OLD_NAME, fingerprint(OLD_NAME, *table_of(parcel())))
    async with opened(paths, parcel(formerly=(OLD_NAME,))) as engine:
        outcome = await engine.wait(flow)
        assert (outcome.result["weight"], outcome.context) == (2, Parcel(weight=2))
        assert engine.row(flow).machine == OLD_NAME
    async with open_engine(paths, []) as engine:  # no machine of this name is known
        outcome = await engine.wait(flow)
        assert (outcome.result["weight"], outcome.context) == (2, Context())


def parcel_of(engine: Engine) -> Machine[Any]:
    """The machine the engine was opened with."""
    return engine._claims.program("parcel").machine  # pyright: ignore[reportPrivateUsage]


async def test_a_child_under_a_former_name_is_still_the_child(paths: CloudPaths) -> None:
    """The parent is carried over although the child's machine has another name than its new table declares."""
    old_child, old = parcel("letter-v1"), parcel("order", child="letter-v1")
    child = parcel("letter", formerly=("letter-v1",))
    order = parcel("order", child="letter", migrations=[Migration(1, fingerprint=old.fingerprint)])
    started: list[str] = []

    def programs(parent: Machine[Any], inner: Machine[Any]) -> list[Program[Any]]:
        async def run(visit: Visit[Parcel]) -> Event:
            outcome = await visit.run_child(waits(inner), Parcel(weight=7))
            started.append(outcome.flow)
            return Sent()

        return [Program(parent, {"packing": [await_signal], "packed": [run]}), waits(inner)]

    async with open_engine(paths, programs(old, old_child), clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(old, Parcel())
        await flow.send(Packed())
        inner = await inner_of(engine, flow.id)
        await engine.send(inner.id, Packed())
    async with open_engine(paths, programs(order, child), clock=VirtualClock(), inline=True) as engine:
        await engine.resume(flow.id)
        again = await inner_of(engine, flow.id)
        assert again.id == inner.id
        await engine.send(inner.id, Sent())
        assert (await engine.wait(flow.id)).state == "sent"
        assert started == [inner.id]
        assert engine.row(inner.id).machine == "letter"


async def inner_of(engine: Engine, flow: str) -> FlowRow:
    """The one child of a flow, once it is driven."""
    async with aclosing(engine.changes(flow, children=True)) as changes:
        async for change in changes:
            if change.flow != flow and engine.driven(change.flow) is not None:
                return engine.row(change.flow)
    raise AssertionError("the flow ended without a child")


@pytest.mark.parametrize(
    ("machines", "why"),
    [
        ((parcel(), parcel()), "parcel: two programs have a machine of this name"),
        (
            (parcel(), parcel("letter", formerly=("parcel",))),
            "letter: its former name 'parcel' is one of machine parcel",
        ),
        (
            (parcel("letter", formerly=("parcel",)), parcel()),
            "letter: its former name 'parcel' is one of machine parcel",
        ),
        (
            (parcel(formerly=(OLD_NAME,)), parcel("letter", formerly=(OLD_NAME,))),
            f"letter: its former name '{OLD_NAME}' is one of machine parcel",
        ),
    ],
)
async def test_one_name_is_one_machine(paths: CloudPaths, machines: tuple[Machine[Any], ...], why: str) -> None:
    """A flow under that name would be one of either."""
    with pytest.raises(MachineInvalid, match=f"machine {why}"):
        async with opened(paths, *machines):
            pass


async def test_one_program_may_be_given_twice(paths: CloudPaths) -> None:
    """It is one program."""
    program = waits(parcel())
    async with open_engine(paths, [program, program], clock=VirtualClock(), inline=True) as engine:
        assert (await engine.start(program.machine, Parcel())).state == "packing"
