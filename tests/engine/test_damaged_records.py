"""A record, a context or a trouble that was damaged on the disk: its flow can be shown, exported and ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, IncompatibleFlow
from systemprompt_cloud.engine.export import export_flow
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.history import Change, Trouble
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import open_intents
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.machine.carry import carry
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.machine.stored import plain, readable
from systemprompt_cloud.engine.program import Program
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock

from tests.support.rows import flow_record

DAMAGED: Final = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"problem": "\xff"}',
    b"[" * 5000,
    b"7",
    b"null",
    b'{"a": 1e999}',
    b"\xed\xa0\x80",
    b'{"problem": 3}',
]
"""Empty, cut off, no UTF-8, nested without end, no object, a number that is none, half a character, a wrong type."""


class Known(Context, frozen=True, kw_only=True):
    """A context that checks itself."""

    number: int = 0
    patience: float | None = None

    def __post_init__(self) -> None:
        if self.number < 0:
            raise RuntimeError("a number below zero")


class Done(Event, frozen=True):
    """It is done."""


def table(version: int = 1, *migrations: Migration) -> Machine[Known]:
    """The machine."""
    return Machine(
        "task",
        version=version,
        initial="doing",
        context=Known,
        states=[
            State("doing", "d", effect="does it", resume=ResumePolicy.RETRY, timeout="patience"),
            State("done", "e", verdict=Verdict.SUCCESS),
            State("off", "x", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Done, "doing", "done"), on(DeadlinePassed, "doing", "off"), on(CancelRequested, ANY, "off")],
        migrations=migrations,
    )


async def fails(visit: Visit[Known]) -> Event:
    await visit.announce("do")
    raise OSError("what?")


def program(machine: Machine[Known]) -> Program[Known]:
    return Program(machine, {"doing": [fails]})


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Where the journal is."""
    return CloudPaths(directory=tmp_path / "j", state_directory=tmp_path / "j", origin="explicit")


async def paused(paths: CloudPaths) -> str:
    """A paused flow."""
    async with open_engine(paths, [program(table())], clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(engine_table(engine), Known())
        with pytest.raises(FlowParked):
            await flow.wait()
        return flow.id


def engine_table(engine: Any) -> Machine[Known]:
    return engine._claims.program("task").machine


def damage(paths: CloudPaths, where: str, text: bytes) -> None:
    with closing(sqlite3.connect(paths.journal)) as journal, journal:
        if where == "paused":
            journal.execute("UPDATE events SET body = CAST(? AS TEXT) WHERE kind = 'paused'", (text,))
        else:
            journal.execute(f"UPDATE flows SET {where} = CAST(? AS TEXT)", (text,))  # noqa: S608 our own names


@pytest.mark.parametrize(
    ("version", "text"),
    [*((1, text) for text in DAMAGED), *((2, text) for text in DAMAGED[1:4])],
    ids=lambda value: ascii(value)[:20],
)
@pytest.mark.parametrize("where", ["context", "trouble", "paused"])
async def test_a_damaged_flow_can_be_shown_exported_and_ended(
    paths: CloudPaths, where: str, text: bytes, version: int
) -> None:
    """Whatever was damaged, also one that would have to be carried over to a newer table first."""
    flow = await paused(paths)
    damage(paths, where, text)
    machine = table() if version == 1 else table(2, Migration(1))
    async with open_engine(paths, [program(machine)], clock=VirtualClock(), inline=True) as engine:
        with pytest.raises((FlowParked, IncompatibleFlow)):
            await engine.wait(flow)
        assert [change.kind for change in engine.history(flow)] == ["started", "intent", "paused"]
        (exported,) = export_flow(engine.journal, VaultFiles(paths.vault), flow, datetime.now(UTC)).flows
        assert exported.id == flow
        assert msgspec.json.encode(exported)
        check_flow(engine.journal, [program(machine)], engine.row(flow))
        assert await engine.cancel(flow, "damaged")
        assert engine.row(flow).status == "ended"
    with Journal(paths.journal) as journal:
        row = journal.flow(flow)
        assert row is not None
        assert (row.status, row.verdict) == ("ended", "cancelled")


def test_every_damage_is_one_kind_of_error() -> None:
    """Also what a class raises while it checks itself."""
    for text in (*DAMAGED, b'{"number": -1}', "\ud800", "[" * 10**5):
        if text != b'{"a": 1e999}':  # a field that no context has is not read
            with pytest.raises(msgspec.DecodeError):
                table().decode_context(text)
    for text in ("{", "\ud800", "[" * 10**5, b"\xff"):
        with pytest.raises(msgspec.DecodeError):
            plain(text)
    with pytest.raises(msgspec.DecodeError, match="RuntimeError: a number below zero"):
        table().decode_context('{"number": -1}')


@given(
    st.one_of(st.text(st.characters(exclude_categories=())), st.sampled_from(["{}", '{"message": [1]}', "[" * 9999]))
)
def test_no_body_makes_a_change_or_a_trouble_raise(body: str) -> None:
    """They say that the record cannot be read."""
    change = Change.of("m", flow_record("f", kind="paused", body=body))
    assert msgspec.json.encode(change)
    assert Trouble.read(body).message
    with suppress(msgspec.DecodeError):
        open_intents([flow_record("f", kind="paused", body=body)])
    assert readable(body).encode().decode() == readable(body)


@pytest.mark.parametrize(
    ("context", "back", "why"),
    [
        ("{", {}, "its context cannot be read"),
        ('{"number": "3"}', None, "does not fit version 2"),
        ("{}", {"number": float("nan")}, "does not fit version 2"),
        ("{}", {"patience": float("inf")}, "does not fit version 2"),
        ("{}", {"patience": -1.0}, r"cannot be stored: Known\.patience: -1\.0 is no timeout"),
        ("{}", {"number": object()}, "does not fit version 2"),
        ("{}", {"number": -1}, "does not fit version 2: RuntimeError: a number below zero"),
        ("{}", KeyError("x"), "the migration from version 1 cannot take its context: KeyError"),
        ("{}", AssertionError("x"), "the migration from version 1 cannot take its context: AssertionError"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_by_name(context: str, back: Any, why: str) -> None:
    """Damaged, or spoilt by the migration: nothing that could not be read back is written."""

    def spoil(old: dict[str, Any]) -> dict[str, Any]:
        if isinstance(back, Exception):
            raise back
        return {**old, **(back or {})}

    with pytest.raises(IncompatibleFlow, match=why):
        carry(table(2, Migration(1, context=spoil)), version=1, fingerprint="x", state="doing", context=context)


def test_a_migration_may_return_what_json_can_say_otherwise() -> None:
    """Tuples and numbers as keys: plain data as Python has it."""
    carried = carry(
        table(2, Migration(1, context=lambda old: {**old, "number": 3, 7: (1, 2)})),  # pyright: ignore[reportArgumentType]
        version=1,
        fingerprint="x",
        state="doing",
        context="{}",
    )
    assert carried.context == Known(number=3)
