"""Our side of the other tables: the memory of idle flows, and commands on a journal of many flows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import trio
import trio.testing
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.history import first_lines
from systemprompt_cloud.engine.ids import new_flow_id
from systemprompt_cloud.engine.journal.journal import Journal

from .driven_ours import STAYING, STAYING_PROGRAM, Counted, paths_at, start_all
from .resident import resident_bytes
from .results import Bytes, Filled, Seconds

FILL_BATCH = 2_000

# --- memory -----------------------------------------------------------------------------------------------------------


def idle_bytes(directory: Path, flows: int) -> Bytes:
    """The resident bytes that idle flows add to the process."""

    async def main() -> Bytes:
        async with open_engine(paths_at(directory), [STAYING_PROGRAM]) as engine:
            await start_all(engine, STAYING, 10, Counted())
            before = resident_bytes()
            held = await start_all(engine, STAYING, flows, Counted())
            return Bytes(resident_bytes() - before, len(held))

    return trio.run(main)


def bare_task_bytes(flows: int) -> Bytes:
    """The resident bytes that sleeping tasks add to the process, each with its own nursery as a flow has."""

    async def sleeper() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    async def main() -> Bytes:
        async with trio.open_nursery() as nursery:
            before = resident_bytes()
            for _ in range(flows):
                nursery.start_soon(sleeper)
            await trio.testing.wait_all_tasks_blocked()
            grown = resident_bytes() - before
            nursery.cancel_scope.cancel()
        return Bytes(grown, flows)

    return trio.run(main)


# --- among many -------------------------------------------------------------------------------------------------------


def fill(home: str, flows: int) -> Filled:
    """Write a journal of `flows` ended flows with two transitions each; the middle one is unfinished and returned."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    unfinished = ""
    with Journal(paths_at(home).journal) as journal:
        for first in range(0, flows, FILL_BATCH):
            operations: list[Callable[[], None]] = []
            for number in range(first, min(flows, first + FILL_BATCH)):
                now += timedelta(seconds=1)
                flow = new_flow_id(now)
                row, record = first_lines(flow, STAYING, Counted(), now=now, key=None, parent=None, owner="nobody")
                operations.append(partial(journal.begin, row, record))
                if number == flows // 2:
                    unfinished = flow
                    operations.append(partial(journal.claim, row, None))
                    continue
                for event, to in (("Noted", "counting"), ("Closed", "done")):
                    before, ended = row, to == "done"
                    row = msgspec.structs.replace(
                        row,
                        seq=row.seq + 1,
                        state=to,
                        incarnation=row.incarnation + ended,
                        status="ended" if ended else "running",
                        verdict="success" if ended else None,
                        owner=None if ended else "nobody",
                    )
                    record = msgspec.structs.replace(
                        record,
                        seq=row.seq,
                        kind="event",
                        name=event,
                        body=f'{{"event":"{event}"}}',
                        from_state=before.state,
                        to_state=to,
                        incarnation=row.incarnation,
                    )
                    operations.append(partial(journal.advance, before, row, record))
            journal.write(operations)
    return Filled(unfinished)


def newest(home: str, flow: str) -> Seconds:
    """Open the journal and list the newest twenty flows."""
    start = time.perf_counter()
    with Journal(paths_at(home).journal, create=False) as journal:
        rows = journal.flows(limit=20)
    taken = time.perf_counter() - start
    assert len(rows) == 20
    assert all(row.id != flow for row in rows)
    return Seconds(taken)


def resumed(home: str, flow: str) -> Seconds:
    """Open an engine and resume a flow, until it is claimed, noted in the journal, and driven."""

    async def main() -> Seconds:
        start = time.perf_counter()
        async with open_engine(paths_at(home), [STAYING_PROGRAM]) as engine:
            await engine.resume(flow)
            return Seconds(time.perf_counter() - start)

    return trio.run(main)
