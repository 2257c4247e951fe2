"""Opening an engine costs what the unfinished flows cost, however many there ever were: counted by SQLite."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.journal import check
from systemprompt_cloud.engine.journal.check import RECORDS_CHECKED
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.io.local.paths import CloudPaths

from benchmarks.crowd import crowd
from tests.support.effort import Effort, counted_connections
from tests.support.parcel import PARCEL, Parcel, parcel
from tests.support.rows import begin_flow

SMALL, LARGE = 300, 3000


def place(directory: Path) -> CloudPaths:
    """A directory of its own."""
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


async def opened(paths: CloudPaths) -> Effort:
    """What opening an engine and closing it costs."""
    with counted_connections() as effort:
        async with open_engine(paths, [parcel()], inline=True):
            pass
    return effort


async def left_by_a_crash(paths: CloudPaths, copy: Path) -> CloudPaths:
    """What a process leaves behind that dies after it has begun a flow: the log is still there."""
    with Journal(paths.journal):
        async with open_engine(paths, [parcel()], inline=True) as engine:
            await engine.start(PARCEL, Parcel())
            shutil.copytree(paths.directory, copy, ignore=shutil.ignore_patterns("*-shm", "owners"))
    return place(copy)


@pytest.mark.parametrize("crashed", [False, True], ids=["closed", "left by a crash"])
async def test_flows_that_have_ended_are_not_looked_at(
    tmp_path: Path, crashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times as many of them, and the same work."""
    monkeypatch.setattr(check, "THOROUGH_BYTES", 0)  # every page of a small file is checked, which is bounded
    steps: list[int] = []
    for many in (SMALL, LARGE):
        paths = place(tmp_path / str(many))
        crowd(paths.journal, 1000 + many)
        begin_children(paths, 20)
        if crashed:
            paths = await left_by_a_crash(paths, tmp_path / f"copy-{many}")
        effort = await opened(paths)
        steps.append(effort.steps)
    assert steps[1] <= 1.02 * steps[0], steps


def begin_children(paths: CloudPaths, many: int) -> None:
    """An unfinished flow with so many unfinished children."""
    with Journal(paths.journal) as journal:
        begin_flow(journal, "p")
        for number in range(many):
            begin_flow(journal, f"p.m-{number}", parent="p")


async def test_of_a_long_history_only_the_end_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow with ten times the records is as quickly checked as one with as many as are counted."""
    monkeypatch.setattr(check, "THOROUGH_BYTES", 0)
    steps: list[int] = []
    for records in (RECORDS_CHECKED, 10 * RECORDS_CHECKED):
        paths = place(tmp_path / str(records))
        crowd(paths.journal, 3, status="paused", records=records)
        effort = await opened(await left_by_a_crash(paths, tmp_path / f"copy-{records}"))
        steps.append(effort.steps)
    assert steps[1] <= 1.02 * steps[0], steps


async def test_secrets_of_many_flows_are_looked_through_with_one_question(tmp_path: Path) -> None:
    """Each file is kept or removed by its own flow's status; the journal is asked once for all of them."""
    paths = place(tmp_path)
    crowd(paths.journal, 40, status="paused")
    with Journal(paths.journal) as journal:
        begin_flow(journal, "over", status="ended", verdict="success")
        begin_flow(journal, "of a strange name")
        vault = VaultFiles(paths.vault, journal.identity)
    kept = [f"00aaa{number:010}" for number in range(40)] + ["of a strange name"]
    for flow in (*kept, "over", "nobody"):
        vault.put(flow, "token", "opaque-value")
    for path in paths.vault.iterdir():
        os.utime(path, (0, 0))
    effort = await opened(paths)
    assert all(vault.has(flow, "vault:token") for flow in kept)
    assert not any(vault.has(flow, "vault:token") for flow in ("over", "nobody"))
    assert len([each for each in effort.statements if "FROM flows" in each and "WHERE id" in each]) == 1
