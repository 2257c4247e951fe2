"""The baseline: the same two statements in plain SQLite on the same disk, without an engine."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from systemprompt_cloud.engine.journal.records import SCHEMA

from .results import Latencies, Run, Seconds

MOMENT: Final = "2026-01-01T00:00:00.000000Z"
CONTEXT: Final = '{"problem":"","n":%d,"limit":1000}'
INSERT_FLOW: Final = """
INSERT INTO flows (id, machine, version, fingerprint, key, parent, state, incarnation, seq, status, verdict, deadline,
    context, trouble, created, updated, owner)
VALUES (?, 'bench', 1, '0123456789abcdef', NULL, NULL, 'even', 1, 1, 'running', NULL, NULL, ?, NULL, ?, ?, ?)
"""
# The two statements of every durable transition of ours, see `engine/journal/journal.py`.
UPDATE_FLOW: Final = """
UPDATE flows SET state = ?, incarnation = ?, seq = ?, verdict = ?, deadline = ?, context = ?, trouble = ?, updated = ?,
    owner = ? WHERE id = ? AND seq = ? AND owner IS ?
"""
INSERT_RECORD: Final = """
INSERT INTO events (flow, seq, at, kind, name, body, "from", "to", incarnation, deadline)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
OWNER: Final = "host:1:0"


def flow_id(number: int) -> str:
    """An id as long as ours."""
    return f"20260101000000000-{number:012d}"


@contextmanager
def opened(directory: Path, flows: int) -> Generator[sqlite3.Connection]:
    """Open a journal file with `flows` flows in it, with the pragmas of a journal."""
    with closing(sqlite3.connect(directory / "raw.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(SCHEMA)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            INSERT_FLOW, [(flow_id(number), CONTEXT % 0, MOMENT, MOMENT, OWNER) for number in range(flows)]
        )
        connection.execute("COMMIT")
        yield connection


def steps(flows: int) -> Iterator[tuple[Sequence[object], Sequence[object]]]:
    """The values of both statements, cycling through the flows without end."""
    ids = [flow_id(number) for number in range(flows)]
    seq = 1
    while True:
        now, after = ("even", "odd") if seq % 2 else ("odd", "even")
        body = CONTEXT % seq
        for flow in ids:
            yield (
                (after, seq + 1, seq + 1, None, None, body, None, MOMENT, OWNER, flow, seq, OWNER),
                (flow, seq + 1, MOMENT, "event", "Ticked", '{"event":"Ticked"}', now, after, seq + 1, None),
            )
        seq += 1


def transitions(directory: Path, flows: int, transitions: int) -> Run:
    """Commit each transition alone, cycling through the flows."""
    return _commit(directory, flows, transitions, 1)


def grouped(directory: Path, flows: int, transitions: int) -> Run:
    """Commit one transition of every flow at a time."""
    return _commit(directory, flows, transitions, flows)


def _commit(directory: Path, flows: int, transitions: int, group: int) -> Run:
    with opened(directory, flows) as connection:
        prepared = list(islice(steps(flows), transitions))
        start = time.perf_counter()
        for first in range(0, transitions, group):
            connection.execute("BEGIN IMMEDIATE")
            for update, record in prepared[first : first + group]:
                connection.execute(UPDATE_FLOW, update)
                connection.execute(INSERT_RECORD, record)
            connection.execute("COMMIT")
        return Run(flows, time.perf_counter() - start, transitions)


def latencies(directory: Path, flows: int, events: int) -> Latencies:
    """Measure each of `events` commits."""
    taken: list[float] = []
    with opened(directory, flows) as connection:
        for update, record in list(islice(steps(flows), events)):
            start = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(UPDATE_FLOW, update)
            connection.execute(INSERT_RECORD, record)
            connection.execute("COMMIT")
            taken.append(time.perf_counter() - start)
    return Latencies.of(taken)


def newest(home: str, flow: str) -> Seconds:
    """Open a journal's file and select the newest twenty flows."""
    start = time.perf_counter()
    with closing(sqlite3.connect(Path(home) / "journal.sqlite3", isolation_level=None)) as connection:
        rows = connection.execute("SELECT * FROM flows ORDER BY id DESC LIMIT 20").fetchall()
    taken = time.perf_counter() - start
    assert len(rows) == 20
    assert all(row[0] != flow for row in rows)
    return Seconds(taken)


def resumed(home: str, flow: str) -> Seconds:
    """Open a journal's file, select a flow, claim it in one commit, and record in another that it was resumed."""
    start = time.perf_counter()
    with closing(sqlite3.connect(Path(home) / "journal.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        row = connection.execute("SELECT seq, state, incarnation, context FROM flows WHERE id = ?", (flow,)).fetchone()
        seq, state, incarnation, context = row
        connection.execute("UPDATE flows SET owner = ? WHERE id = ?", (OWNER, flow))
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            UPDATE_FLOW,
            (state, incarnation, seq + 1, None, None, context, None, MOMENT, OWNER, flow, seq, OWNER),
        )
        connection.execute(
            INSERT_RECORD, (flow, seq + 1, MOMENT, "resumed", "resumed", "{}", state, state, incarnation, None)
        )
        connection.execute("COMMIT")
        taken = time.perf_counter() - start
        connection.execute("UPDATE flows SET owner = NULL WHERE id = ?", (flow,))
    return Seconds(taken)
