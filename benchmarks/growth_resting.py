"""The work of `growth.py` with flows that rest: they only wait, and no process has them in memory."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import trio
from systemprompt_cloud import (
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Engine,
    Event,
    Machine,
    Program,
    State,
    Verdict,
    await_signal,
    on,
    open_engine,
)

from .driven_ours import paths_at
from .results import Cost, Filled
from .spent import began, spent

SENT: Final = 100
HOUR: Final = 3600.0
LATER: Final = "2099-01-01T00:00:00.000000Z"
"""The deadline of those that are not woken."""


class Remarked(Event, frozen=True):
    """It stays in the state."""


ASKED: Final = Machine(
    "asked",
    version=1,
    initial="asking",
    context=Context,
    states=[
        State("asking", "waiting for an answer", timeout=HOUR),
        State("late", "not answered", verdict=Verdict.FAILURE),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Remarked, "asking", STAY),
        on(DeadlinePassed, "asking", "late"),
        on(CancelRequested, "asking", "cancelled"),
    ],
)
PROGRAM: Final = Program(ASKED, {"asking": [await_signal]})

_COPY: Final = """
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :many - 1)
INSERT INTO {table} SELECT {columns} FROM n, (SELECT * FROM {table} WHERE {flow} = :flow)
"""


def _number(number: int) -> str:
    return f"{number:018d}"


def resting(home: str, size: int) -> Filled:
    """A journal with so many flows that rest: one that the engine wrote, copied by SQLite."""
    flow = trio.run(_one, home)
    with closing(sqlite3.connect(paths_at(home).journal)) as connection, connection:
        connection.execute("UPDATE flows SET deadline = ?", (LATER,))
        for table, key in (("flows", "id"), ("events", "flow")):
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join("printf('%018d', i)" if name == key else f'"{name}"' for name in names)
            statement = _COPY.format(table=table, columns=columns, flow=key)
            connection.execute(statement, {"many": size, "flow": flow})
    return Filled(home)


async def _one(home: str) -> str:
    async with open_engine(paths_at(home), [PROGRAM], wake=True) as engine:
        flow = await engine.start(ASKED, Context())
        while flow.row.status != "resting":  # noqa: ASYNC110 what is filled is not measured
            await trio.sleep(0.01)
        return flow.id


def _waking(home: str, work: Callable[[Engine], Awaitable[object]]) -> Cost:
    async def main() -> Cost:
        start = began()
        async with open_engine(paths_at(home), [PROGRAM], wake=True) as engine:
            await work(engine)
        return spent(start)

    return trio.run(main)


def opened(home: str, size: int) -> Cost:
    """Open an engine beside so many flows that rest, and close it."""
    del size

    async def nothing(_engine: Engine) -> None:
        await trio.lowlevel.checkpoint()

    return _waking(home, nothing)


def opened_memory(home: str, size: int) -> Cost:
    """What an engine holds that has been open for a moment beside so many flows that rest, in KB."""
    del size

    async def main() -> Cost:
        tracemalloc.start()
        try:
            async with open_engine(paths_at(home), [PROGRAM], wake=True):
                await trio.sleep(0.2)
                return Cost(tracemalloc.get_traced_memory()[1] / 1e3)
        finally:
            tracemalloc.stop()

    return trio.run(main)


def answered(home: str, size: int) -> Cost:
    """Send an event to a hundred of so many flows that rest, one after the other."""

    async def send(engine: Engine) -> None:
        flows = [_number(number * size // SENT) for number in range(SENT)]
        for flow in flows:
            assert await engine.send(flow, Remarked())
        while any(engine.driven(flow) for flow in flows):  # noqa: ASYNC110 the next round finds them at rest
            await trio.sleep(0.001)

    return _waking(home, send)


def woken(home: str, size: int) -> Cost:
    """Wake one of so many flows by its deadline."""
    flow = _number(size // 2)
    before = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    _change(paths_at(home).journal, "UPDATE flows SET deadline = ? WHERE id = ?", before, flow)

    async def late(engine: Engine) -> None:
        assert (await engine.wait(flow)).state == "late"

    cost = _waking(home, late)
    _change(
        paths_at(home).journal,
        "UPDATE flows SET status = 'resting', state = 'asking', verdict = NULL, deadline = ?, seq = 1 WHERE id = ?",
        LATER,
        flow,
    )
    _change(paths_at(home).journal, "DELETE FROM events WHERE flow = ? AND seq > 1", flow)
    return cost


def _change(journal: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(journal)) as connection, connection:
        connection.execute(statement, values)
