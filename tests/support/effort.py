"""What a call costs, counted: the statements and steps of SQLite's virtual machine, or the functions that are called.

A count is the same on every machine, busy or not, so it can be compared between a small journal and a large one.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from systemprompt_cloud.engine.journal.journal import Journal

_connect = sqlite3.connect


class Effort:
    """What was done.

    Attributes:
        steps: Instructions of SQLite's virtual machine; a row that is looked at takes some ten.
        statements: What was executed.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.statements: list[str] = []

    def step(self) -> int:
        """One instruction."""
        self.steps += 1
        return 0

    def watch(self, connection: sqlite3.Connection) -> None:
        """Count what a connection does from now on."""
        connection.set_progress_handler(self.step, 1)
        connection.set_trace_callback(self.statements.append)


@contextmanager
def counted(journal: Journal) -> Generator[Effort]:
    """Count what an open journal has SQLite do within the block."""
    effort = Effort()
    connections = (journal._reader, journal._writer)  # pyright: ignore[reportPrivateUsage]
    for connection in connections:
        effort.watch(connection)
    try:
        yield effort
    finally:
        for connection in connections:
            connection.set_progress_handler(None, 1)
            connection.set_trace_callback(None)


@contextmanager
def counted_connections() -> Generator[Effort]:
    """Count what SQLite does on every connection that is opened within the block, until it is closed."""
    effort = Effort()

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = _connect(*args, **kwargs)
        effort.watch(connection)
        return connection

    with patch.object(sqlite3, "connect", connect):
        yield effort


def calls_of(function: Callable[[], object]) -> int:
    """How many functions a call calls, C functions included."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls
