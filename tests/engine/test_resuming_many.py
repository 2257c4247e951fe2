"""Many flows that are resumed at once share their commits, as those do that go on at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.io.local.paths import CloudPaths
from typing_extensions import override

from tests.support.effort import counted
from tests.support.parcel import PARCEL, Parcel, parcel

MANY = 300


class Gathering(Commits):
    """An engine's commits, which tell when so many writes have been asked for."""

    def __init__(self, engine: Engine, many: int) -> None:
        super().__init__(engine.journal)
        engine.store.commits = self
        self.left = many
        self.all = trio.Event()

    @override
    async def write(self, operation: Callable[[], None]) -> None:
        self.left -= 1
        if not self.left:
            self.all.set()
        await super().write(operation)


async def test_three_hundred_at_once_take_two_transactions(paths: CloudPaths) -> None:
    """The file is busy until all of them want to write: then one that came first writes, and all others together."""
    flows: list[str] = []
    async with open_engine(paths, [parcel()]) as engine:

        async def start() -> None:
            flows.append((await engine.start(PARCEL, Parcel())).id)

        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                nursery.start_soon(start)
    async with open_engine(paths, [parcel()]) as engine:
        gathering = Gathering(engine, MANY)
        with counted(engine.journal) as effort, closing(sqlite3.connect(paths.journal, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                for flow in flows:
                    nursery.start_soon(engine.resume, flow)
                await gathering.all.wait()
                other.execute("ROLLBACK")
        assert effort.statements.count("COMMIT") <= 2
        assert all(engine.driven(flow) is not None for flow in flows)
