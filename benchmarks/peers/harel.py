"""harel on its SQLite store: a durable runner in the caller's thread (`execution="inline"`), its fastest.

Its store sets WAL itself and leaves `synchronous` at SQLite's default, FULL. It has one connection and commits each
event alone, so more threads or its background loop change nothing for the better.
"""

from __future__ import annotations

import importlib
import itertools
import shutil
import sqlite3
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from ..results import Filled, Run, Seconds

MACHINE = """
event Ticked {}
event Closed {}
machine benchmark {
  initial Even
  state Even {}
  state Odd {}
  final Done success
  from Even to Odd on Ticked
  from Odd to Even on Ticked
  from Even to Done on Closed
}
"""

COPY = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO {table} (id, definition_id, data, version)
SELECT printf('%032x', i), definition_id, json_set(data, '$.id', printf('%032x', i)), version
FROM {table}, n WHERE id = ?
"""


@cache
def compiled() -> Any:
    """The definition, compiled once."""
    return importlib.import_module("harel").definition_from_dsl(MACHINE, "benchmark")


def runner(file: Path) -> tuple[Any, Any, str]:
    """The store, a runner on it, and the definition's name."""
    harel, definition = importlib.import_module("harel"), compiled()
    store = harel.SqliteStore(file)
    return store, harel.DurableRunner(store, {definition.id: definition}, execution="inline"), definition.id


@cache
def filled(flows: int, base: Path) -> tuple[Path, list[str]]:
    """A store with so many executions in it; made once and copied for every round, for it has to commit each alone."""
    file = base / f"harel-{flows}.sqlite"
    store, durable, definition = runner(file)
    with closing(store):
        ids = [durable.create(definition).id for _ in range(flows)]
    return file, ids


def transitions(directory: Path, flows: int, transitions: int) -> Run:
    """So many events, given to one execution after the other."""
    event = importlib.import_module("harel").Event
    set_up = time.perf_counter()
    file, ids = filled(flows, directory.parent)
    shutil.copy(file, directory / "harel.sqlite")
    store, durable, _ = runner(directory / "harel.sqlite")
    with closing(store):
        start = time.perf_counter()
        for execution in itertools.islice(itertools.cycle(ids), transitions):
            durable.process(execution, event(kind="Ticked"))
        return Run(flows, time.perf_counter() - start, transitions, start - set_up)


def fill(home: str, flows: int) -> Filled:
    """A store with so many finished executions: one real one, and copies of its row with ids of their own."""
    file = Path(home) / "harel.sqlite"
    store, durable, definition = runner(file)
    event = importlib.import_module("harel").Event
    with closing(store):
        finished, standing = durable.create(definition).id, durable.create(definition).id
        durable.process(finished, event(kind="Closed"))
    with closing(sqlite3.connect(file)) as connection, connection:
        (table,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%executions'"
        ).fetchone()
        connection.execute(
            COPY.format(table=table),
            (flows, finished),
        )
    return Filled(standing)


def newest(home: str, flow: str) -> Seconds:
    """Open the store and list twenty executions."""
    start = time.perf_counter()
    store, _, _ = runner(Path(home) / "harel.sqlite")
    with closing(store):
        page = store.list_executions(limit=20)
    taken = time.perf_counter() - start
    assert page
    assert flow
    return Seconds(taken)


def resumed(home: str, flow: str) -> Seconds:
    """Open the store and give a standing execution one event."""
    event = importlib.import_module("harel").Event
    start = time.perf_counter()
    store, durable, _ = runner(Path(home) / "harel.sqlite")
    with closing(store):
        durable.process(flow, event(kind="Ticked"))
        return Seconds(time.perf_counter() - start)
