"""Every store, opened in a directory, and the rows that tests write to one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.journal.store import SqliteStore
from systemprompt_cloud.engine.store import Ownership, Store

from tests.support.memory_store import MemoryStore
from tests.support.rows import flow_record, flow_row

Opens: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Store]]
OpensOwned: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Ownership]]


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncGenerator[Ownership]:
    """A journal on disk."""
    with Journal(directory / "state" / "journal.sqlite3") as journal:
        yield SqliteStore(journal, directory / "state" / "owners")


@asynccontextmanager
async def memory(_directory: Path) -> AsyncGenerator[Ownership]:
    """A dictionary."""
    yield MemoryStore()


OWNED: dict[str, OpensOwned] = {"sqlite": sqlite, "memory": memory}
STORES: dict[str, Opens] = {**OWNED}


async def begun(store: Store, flow: str = "f", **changes: Any) -> FlowRow:
    """A flow that has just begun."""
    row = flow_row(flow, **changes)
    await store.begin(row, flow_record(flow))
    return row


def moved(row: FlowRow, **changes: Any) -> tuple[FlowRow, Record]:
    """The flow after one more event, and the record of it."""
    after = msgspec.structs.replace(row, seq=row.seq + 1, **changes)
    return after, flow_record(row.id, after.seq, to_state=after.state, incarnation=after.incarnation)
