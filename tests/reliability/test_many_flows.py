"""A journal of 100,000 finished flows: what people and engines ask of it stays quick."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.ids import child_flow_id
from systemprompt_cloud.engine.journal.housekeeping import compact, prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import UNFINISHED
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.visit import Program, await_signal

from tests.faults.chaos_worker import CONVOY, ERRAND, Errand, Place

MANY = 100_000
QUICK = 0.05
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


def took(ask: Callable[[], object]) -> float:
    """Seconds; the best of three, because other programs run too."""

    def once() -> float:
        began = time.perf_counter()
        ask()
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def test_listing_is_quick_whatever_is_asked_for(crowded: Place) -> None:
    """The newest twenty, of one machine, of one status, of what there is none of: each in less than 50 ms."""
    with Journal(crowded.paths.journal) as journal:
        newest = journal.flows(roots_only=True)
        assert [row.machine for row in newest] == ["convoy"] * 20
        asked: dict[str, Callable[[], object]] = {
            "newest": lambda: journal.flows(),
            "roots": lambda: journal.flows(roots_only=True),
            "ended": lambda: journal.flows(statuses=("ended",), roots_only=True),
            "unfinished": lambda: journal.flows(statuses=UNFINISHED, roots_only=True),
            "machine": lambda: journal.flows(machine="errand"),
            "no such machine": lambda: journal.flows(machine="toaster"),
            "no such parked": lambda: journal.flows(machine="convoy", statuses=("parked",)),
            "by its beginning": lambda: journal.find(newest[0].id + ".err"),
            "children": lambda: journal.children(newest[0].id),
            "history": lambda: journal.records(newest[0].id),
            "by key": lambda: journal.unfinished_with_key("errand", "k"),
            "inbox": lambda: journal.signals_for("me:1:here", 0),
        }
        slow = {name: seconds for name, ask in asked.items() if (seconds := took(ask)) > QUICK}
    assert slow == {}


async def test_starting_and_resuming_one_costs_what_it_costs_in_an_empty_journal(
    crowded: Place, tmp_path: Path
) -> None:
    """Opening the journal and an engine included; the two are measured in turn, so that a busy machine slows both."""
    empty = Place(tmp_path)
    flows: dict[Path, str] = {}
    for place in (crowded, empty):
        async with open_engine(place.paths, PROGRAMS) as engine:
            flows[place.paths.journal] = (await engine.start(ERRAND, Errand(), key="k")).id
    resuming: dict[Path, list[float]] = {journal: [] for journal in flows}
    starting: dict[Path, list[float]] = {journal: [] for journal in flows}
    for place in (crowded, empty) * 5:
        journal = place.paths.journal
        began = time.perf_counter()
        async with open_engine(place.paths, PROGRAMS) as engine:
            await engine.resume(flows[journal])
            resuming[journal].append(time.perf_counter() - began)
            began = time.perf_counter()
            assert (await engine.start(ERRAND, Errand(), key="k")).id == flows[journal]
            starting[journal].append(time.perf_counter() - began)
    async with open_engine(crowded.paths, PROGRAMS) as engine:
        await (await engine.resume(flows[crowded.paths.journal])).cancel()
    for times in (resuming, starting):
        assert min(times[crowded.paths.journal]) < 3 * min(times[empty.paths.journal]) + QUICK


def test_nothing_an_engine_asks_reads_the_whole_table(crowded: Place) -> None:
    """By SQLite's own plan, so that the size of the journal never matters."""
    asked = [
        "SELECT * FROM flows WHERE id = ?",
        "SELECT * FROM flows WHERE parent = ? ORDER BY rowid",
        "SELECT * FROM flows WHERE machine = ? AND key = ? AND status <> 'ended'",
        "SELECT id FROM flows WHERE id = ? OR (machine = ? AND key = ? AND status <> 'ended')",
        "SELECT * FROM flows WHERE status IN ('running', 'parked') AND status <> 'ended' ORDER BY rowid DESC LIMIT 20",
        "SELECT * FROM flows WHERE machine = ? ORDER BY rowid DESC LIMIT 20",
        "SELECT * FROM flows WHERE machine = ? AND key = ? ORDER BY rowid DESC LIMIT 1",
        "UPDATE flows SET state = '' WHERE id = ? AND seq = ? AND owner IS ?",
        "SELECT * FROM events WHERE flow = ? ORDER BY seq",
        "SELECT name FROM events WHERE flow = ? AND kind = 'intent' AND incarnation = ?",
    ]
    connection = sqlite3.connect(crowded.paths.journal)
    for sql in asked:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", ["x"] * sql.count("?")).fetchall()
        assert not [row for row in plan if str(row[3]).startswith("SCAN")], sql
    connection.close()


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
        assert took(lambda: other.flows(roots_only=True)) < QUICK
        assert journal.integrity_problems() == []
