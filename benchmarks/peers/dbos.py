"""DBOS Transact on SQLite: a workflow of asynchronous steps; a step counts when its output is committed.

Its own engine is used, on a file that was put into WAL mode before (the mode stays with the file): with the rollback
journal it would make for itself it is slower. `synchronous` is FULL, SQLite's default, which DBOS leaves alone.
Workflows of synchronous steps, on its thread pool, are about as fast with many flows and slower with one.
"""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..resident import resident_bytes
from ..results import Bytes, Run


@contextmanager
def launched(directory: Path) -> Generator[Any, None, None]:
    """DBOS with a system database of its own; destroyed afterwards."""
    dbos = importlib.import_module("dbos")
    file = directory / "dbos.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    dbos.DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{file}",
            "log_level": "ERROR",
            "console_log_level": "ERROR",
        }
    )
    try:
        yield dbos.DBOS
    finally:
        dbos.DBOS.destroy(destroy_registry=True)


def transitions(directory: Path, flows: int, transitions: int) -> Run:
    """So many workflows at once; their last transition is the commit of the workflow's own result."""
    each = max(2, transitions // flows)
    with launched(directory) as dbos:

        @dbos.step()
        async def tick(n: int) -> int:
            return n + 1

        @dbos.workflow()
        async def flow() -> int:
            await gate.wait()
            n = 0
            for _ in range(each - 1):
                n = await tick(n)
            return n

        dbos.launch()
        gate = asyncio.Event()

        async def main() -> Run:
            set_up = time.perf_counter()
            started = [await dbos.start_workflow_async(flow) for _ in range(flows)]
            start = time.perf_counter()
            gate.set()
            for handle in started:
                await handle.get_result()
            return Run(flows, time.perf_counter() - start, flows * each, start - set_up)

        return asyncio.run(main())


def idle_bytes(directory: Path, flows: int) -> Bytes:
    """What workflows that wait in memory add to the process."""
    with launched(directory) as dbos:

        @dbos.workflow()
        async def flow() -> None:
            await gate.wait()

        dbos.launch()
        gate = asyncio.Event()

        async def main() -> Bytes:
            held = [await dbos.start_workflow_async(flow) for _ in range(10)]
            before = resident_bytes()
            held += [await dbos.start_workflow_async(flow) for _ in range(flows)]
            grown = resident_bytes() - before
            gate.set()
            for handle in held:
                await handle.get_result()
            return Bytes(grown, flows)

        return asyncio.run(main())
