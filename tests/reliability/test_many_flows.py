"""A journal of 100,000 finished flows: what people and engines ask of it stays quick."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.ids import child_flow_id
from systemprompt_cloud.engine.journal.housekeeping import compact, prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import UNFINISHED
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.machine.parts import Context
from systemprompt_cloud.engine.visit import Program, await_signal

from tests.faults.chaos_worker import CONVOY, ERRAND, Errand, Place, Poked
from tests.support.effort import counted, counted_connections

MANY = 100_000
FEW = 2000
"""Steps of SQLite; one row of each flow would be fifty times as many."""
GROWS = re.compile(r"SCAN (flows|events|inbox)\b")
"""The plan of what takes longer the more there is."""
PROGRAMS: list[Program[Any]] = [
    Program(ERRAND, {"packing": [await_signal], "resting": [await_signal]}),
    Program(CONVOY, {"sending": [await_signal]}),
]
# Roots and their children in turn, each with a history of four records and bodies of an ordinary size.
FILL = """
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :many - 1)
INSERT INTO flows
SELECT printf('00aaa%010d', i - i % 2) || iif(i % 2, '.errand-1', ''), iif(i % 2, 'errand', 'convoy'), 1, 'f', NULL,
    iif(i % 2, printf('00aaa%010d', i - i % 2), NULL), 'done', 4, 4, 'ended', 'success', NULL, :body, NULL,
    strftime('%Y-%m-%dT%H:%M:%S', 1577836800 + i * 60, 'unixepoch') || '.000000Z',
    strftime('%Y-%m-%dT%H:%M:%S', 1577836800 + i * 60, 'unixepoch') || '.000000Z', NULL
FROM n;
"""
HISTORY = """
INSERT INTO events SELECT flows.id, k.value, updated, iif(k.value = 1, 'started', 'event'), 'Happened', :body, 'a', 'a',
    k.value, NULL FROM flows, json_each('[1, 2, 3, 4]') k;
"""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A journal with so many ended flows."""
    place = Place(tmp_path_factory.mktemp("crowded"))
    with Journal(place.paths.journal):
        pass
    connection = sqlite3.connect(place.paths.journal)
    with connection:
        for statement in (FILL, HISTORY):
            connection.execute(statement, {"many": MANY, "body": '{"problem":"' + "x" * 200 + '"}'})
    connection.close()
    return place


def questions(journal: Journal, flow: str) -> dict[str, Callable[[], object]]:
    """What people and engines ask of a journal, by what it is; `flow` is one in it."""
    return {
        "newest": lambda: journal.flows(),
        "roots": lambda: journal.flows(roots_only=True),
        "ended": lambda: journal.flows(statuses=("ended",), roots_only=True),
        "unfinished": lambda: journal.flows(statuses=UNFINISHED, roots_only=True),
        "machine": lambda: journal.flows(machine="errand"),
        "no such machine": lambda: journal.flows(machine="toaster"),
        "no such parked": lambda: journal.flows(machine="convoy", statuses=("paused",)),
        "by its beginning": lambda: journal.find(flow + ".err"),
        "children": lambda: journal.children(flow),
        "history": lambda: journal.records(flow),
        "by key": lambda: journal.unfinished_with_key("errand", "k"),
        "newest by key": lambda: journal.newest_with_key("errand", "k"),
        "inbox": lambda: journal.signals_for("me:1:here", 0),
    }


def test_listing_is_quick_whatever_is_asked_for(crowded: Place) -> None:
    """The newest twenty, of one machine, of one status, of what there is none of: each looks at a few rows only."""
    with Journal(crowded.paths.journal) as journal:
        newest = journal.flows(roots_only=True)
        assert [row.machine for row in newest] == ["convoy"] * 20
        costs: dict[str, int] = {}
        for name, ask in questions(journal, newest[0].id).items():
            with counted(journal) as effort:
                ask()
            costs[name] = effort.steps
    assert {name: steps for name, steps in costs.items() if steps > FEW} == {}


async def test_starting_and_resuming_one_costs_what_it_costs_in_an_empty_journal(
    crowded: Place, tmp_path: Path
) -> None:
    """Opening the journal and an engine included."""
    costs: list[int] = []
    for place in (Place(tmp_path), crowded):
        async with open_engine(place.paths, PROGRAMS, inline=True) as engine:
            flow = (await engine.start(ERRAND, Errand(), key="k")).id
        with counted_connections() as effort:
            async with open_engine(place.paths, PROGRAMS, inline=True) as engine:
                known = await engine.resume(flow)
                assert (await engine.start(ERRAND, Errand(), key="k")).id == flow
                await known.cancel()
        costs.append(effort.steps)
    empty, many = costs
    assert many < 1.1 * empty, costs


async def test_nothing_an_engine_asks_reads_the_whole_table(crowded: Place) -> None:
    """By SQLite's own plan for each statement that was really made, so that the size of the journal never matters."""
    with counted_connections() as effort:
        async with open_engine(crowded.paths, PROGRAMS) as engine:
            flow = (await engine.start(ERRAND, Errand(), key="k")).id
        async with open_engine(crowded.paths, PROGRAMS) as engine, open_engine(crowded.paths, PROGRAMS) as other:
            known = await engine.resume(flow)
            convoy = await engine.start(CONVOY, Context(), key="c")
            assert await other.send(flow, Poked("through the inbox")) is False
            with trio.fail_after(10):
                async with aclosing(known.changes()) as changes:
                    async for _ in changes:
                        if known.context == Errand(pokes=1):
                            break
            (ended, *_) = engine.journal.flows(machine="convoy", statuses=("ended",))
            for ask in questions(engine.journal, ended.id).values():
                ask()
            for each in (known, convoy):
                await each.cancel()
    assert effort.steps < MANY / 10
    made = {sql.strip() for sql in effort.statements}
    for beginning in (
        "INSERT INTO flows",
        "UPDATE flows",
        "INSERT INTO events",
        "INSERT INTO inbox",
        "DELETE FROM inbox",
    ):
        assert any(sql.startswith(beginning) for sql in made), beginning
    with closing(sqlite3.connect(crowded.paths.journal)) as connection:
        for sql in made:
            if sql.startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
                plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
                # With a limit, the steps above say whether it stops soon.
                assert not [each for each in plan if GROWS.match(each) and " LIMIT " not in sql], sql


def test_pruning_takes_whole_trees_and_compaction_the_room(crowded: Place) -> None:
    """Children go with their roots, what is young stays, and the file is smaller and sound afterwards."""
    with Journal(crowded.paths.journal) as journal, Journal(crowded.paths.journal) as other:
        rows = journal.flows(limit=MANY * 2)
        moment = parse_moment(rows[len(rows) * 9 // 10].updated)
        inside = child_flow_id(rows[-1].id, "errand", 1)
        assert journal.flow(inside) is not None
        done = prune(journal, VaultFiles(crowded.paths.vault), moment)
        assert done.flows == done.children > MANY / 25
        assert done.records == 8 * done.flows
        assert journal.flow(inside) is None
        assert len(journal.flows(limit=MANY * 2)) == len(rows) - 2 * done.flows
        compacted = compact(journal, crowded.paths.owners)
        assert (compacted.outcome, compacted.after < compacted.before) == ("done", True)
        with counted(other) as effort:
            assert len(other.flows(roots_only=True)) == 20
        assert effort.steps < FEW
        assert journal.integrity_problems() == []
