"""Signals to flows that nobody drives: passed once by who looks into the inbox, and there for who resumes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, JournalError
from systemprompt_cloud.engine.inbox import INBOX_SECONDS
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from benchmarks.crowd import crowd
from tests.support.effort import counted
from tests.support.parcel import PARCEL, Fails, Parcel, Stamped, parcel
from tests.support.rows import BEGAN

POSTED = "INSERT INTO inbox (flow, at, name, body) SELECT id, updated, 'Stamped', '{}' FROM flows"


async def test_looking_costs_the_same_whatever_waits_for_others(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A hundred times the signals to paused flows, and each look after the first is the same work."""
    steps: list[int] = []
    for many in (30, 3000):
        paths = CloudPaths(directory=tmp_path / str(many), state_directory=tmp_path / str(many), origin="explicit")
        crowd(paths.journal, many, status="paused")
        with closing(sqlite3.connect(paths.journal)) as connection, connection:
            connection.execute(POSTED)
        async with open_engine(paths, [parcel()], clock=VirtualClock(), inline=True) as engine:
            await engine.start(PARCEL, Parcel())
            await trio.sleep(2 * INBOX_SECONDS)
            paused = engine.journal.flows(statuses=("paused",), limit=1)[0].id
            with Journal(paths.journal) as elsewhere, counted(engine.journal) as effort:
                for _ in range(10):  # looks, under virtual time
                    elsewhere.write([partial(elsewhere.post_signal, paused, BEGAN, "Stamped", '{"event":"Stamped"}')])
                    await trio.sleep(2 * INBOX_SECONDS)
            steps.append(effort.steps)
    assert steps[0] > 0
    assert steps[0] == steps[1]


async def test_a_signal_that_was_passed_is_taken_by_who_resumes_its_flow(
    paths: CloudPaths, autojump_clock: MockClock
) -> None:
    """It came while the flow was paused, and this engine has looked many times since."""
    packing = Fails(JournalError("as the test ordered"))
    async with open_engine(paths, [parcel(packing)], clock=VirtualClock(), inline=True) as engine:
        paused = await engine.start(PARCEL, Parcel())
        with pytest.raises(FlowParked):
            await paused.wait()
        packing.failure = None
    stays = parcel()
    async with open_engine(paths, [stays], clock=VirtualClock(), inline=True) as engine:
        await engine.start(PARCEL, Parcel())
        with Journal(paths.journal) as elsewhere:
            elsewhere.write([partial(elsewhere.post_signal, paused.id, BEGAN, "Stamped", '{"event":"Stamped"}')])
        await trio.sleep(10 * INBOX_SECONDS)
        assert engine.context(paused.id) == Parcel()
        await engine.resume(paused.id)
        await trio.sleep(INBOX_SECONDS)
        assert engine.context(paused.id) == Parcel(stamps=1)
        assert await engine.send(paused.id, Stamped())
