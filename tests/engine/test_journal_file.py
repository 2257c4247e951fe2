"""A new journal can be opened by many at once; what is written is found by whoever opens it next, or not written."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from systemprompt_cloud.engine.errors import JournalMoved
from systemprompt_cloud.engine.journal.file import COMPANIONS, TICK_NS, InPlace, companion, log_ahead
from systemprompt_cloud.engine.journal.journal import Journal

NAMES = ("", *COMPANIONS)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """An open journal's file."""
    with Journal(tmp_path / "state" / "journal.sqlite3") as journal:
        yield journal.path


def test_a_file_that_another_process_changes_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself waits for nobody who changes the mode: of those who open a new file together it refuses most."""
    file = tmp_path / "new.sqlite3"
    tried = threading.Semaphore(0)
    with (
        closing(sqlite3.connect(file, isolation_level=None)) as quicker,
        closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as ours,
        ThreadPoolExecutor(1) as thread,
    ):
        ours.set_trace_callback(lambda _sql: tried.release())
        quicker.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            log_ahead(ours, 0.0)
        waiting = thread.submit(log_ahead, ours, 60.0)
        for _ in range(3):  # two in vain, then the one under way
            assert tried.acquire(timeout=60)
        quicker.execute("COMMIT")
        waiting.result(timeout=60)
        assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def looked_at_for(in_place: InPlace, nanoseconds: int) -> None:
    """Check again and again, as commits do; nothing has happened."""
    end = time.monotonic_ns() + nanoseconds
    while time.monotonic_ns() < end:
        in_place.check()


@pytest.mark.parametrize("rest", [0, 3 * TICK_NS], ids=["at once", "after a rest"])
@pytest.mark.parametrize("suffix", NAMES)
def test_a_file_that_was_replaced_is_noticed(path: Path, suffix: str, rest: int) -> None:
    """However long nothing happened before, and although the directory looks as old as it was."""
    in_place = InPlace(path)
    looked_at_for(in_place, rest)
    before, name = path.parent.stat(), companion(path, suffix)
    name.rename(f"{name}.away")
    name.write_bytes(b"")
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(JournalMoved, match=r"another file has its name now"):
        in_place.check()
    with pytest.raises(JournalMoved):  # and again, and not only the first time
        in_place.check()
    Path(f"{name}.away").rename(name)
    in_place.check()


@pytest.mark.parametrize("rest", [0, 3 * TICK_NS], ids=["at once", "after a rest"])
def test_a_directory_that_was_moved_is_noticed(path: Path, rest: int) -> None:
    """Also when another one, with files of the same names, stands in its place."""
    in_place = InPlace(path)
    looked_at_for(in_place, rest)
    away = path.parent.with_name("away")
    path.parent.rename(away)
    with pytest.raises(JournalMoved):
        in_place.check()
    path.parent.mkdir()
    for suffix in NAMES:
        companion(path, suffix).write_bytes(b"")
    with pytest.raises(JournalMoved):
        in_place.check()


def test_changes_in_one_tick_are_told_apart(path: Path) -> None:
    """Two changes within one tick of the file system's clock may leave the same time; the second is noticed too."""
    in_place = InPlace(path)
    for number in range(200):
        (path.parent / f"other-{number}").touch()
        in_place.check()
        log = companion(path, "-wal")
        log.rename(f"{log}.away")
        with pytest.raises(JournalMoved):
            in_place.check()
        Path(f"{log}.away").rename(log)
