"""What SQLite does for a call, counted by SQLite itself: its statements, their plans, and the steps of its machine.

A count is the same on every machine, busy or not, so it can be compared between a small journal and a large one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from systemprompt_cloud.engine.journal.journal import Journal


class Effort:
    """What was done.

    Attributes:
        steps: Instructions of SQLite's virtual machine; a row that is looked at takes some ten.
        statements: What was executed, with its values.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.statements: list[str] = []

    def step(self) -> int:
        """One instruction."""
        self.steps += 1
        return 0


@contextmanager
def counted(journal: Journal) -> Generator[Effort]:
    """Count what an open journal has SQLite do within the block."""
    effort = Effort()
    connections = (journal._reader, journal._writer)  # pyright: ignore[reportPrivateUsage]
    for connection in connections:
        connection.set_progress_handler(effort.step, 1)
        connection.set_trace_callback(effort.statements.append)
    try:
        yield effort
    finally:
        for connection in connections:
            connection.set_progress_handler(None, 1)
            connection.set_trace_callback(None)


def plan(journal: Journal, statement: str) -> list[str]:
    """How SQLite goes about a statement: one line for each table, `SEARCH …` or `SCAN …`."""
    connection = sqlite3.connect(journal.path)
    try:
        return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    finally:
        connection.close()
