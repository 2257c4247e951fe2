"""Several processes start flows of one key at the same moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.io.local.paths import CloudPaths
from typing_extensions import override

from tests.support.journey import JOURNEY, Journey, journey


async def test_others_that_are_quicker_each_time_are_no_error(
    paths: CloudPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process starts and ends flows of the same key, always between looking and writing: one is started."""
    others: list[str] = []
    async with open_engine(paths, [journey()]) as engine, open_engine(paths, [journey()]) as other:
        look, commits = engine.store.unfinished_with_key, engine.store.commits

        async def end_and_look(machine: str, key: str) -> FlowRow | None:
            for flow in others:
                await other.cancel(flow)
            return await look(machine, key)

        class Overtaken(Commits):
            @override
            async def write(self, operation: Callable[[], None]) -> None:
                if len(others) < 3:
                    others.append((await other.start(JOURNEY, Journey(), key="k")).id)
                await commits.write(operation)

        monkeypatch.setattr(engine.store, "unfinished_with_key", end_and_look)
        engine.store.commits = Overtaken(engine.journal, inline=True)
        flow = await engine.start(JOURNEY, Journey(), key="k")
        assert (len(others), flow.row.status) == (3, "running")
        assert [engine.row(each).status for each in others] == ["ended"] * 3
