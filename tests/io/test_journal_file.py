"""A new journal can be opened by many at once; what is written is found by whoever opens it next, or not written."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from systemprompt_cloud.errors import JournalMoved
from systemprompt_cloud.io.journal import Journal
from systemprompt_cloud.io.journal_file import COMPANIONS, TICK_NS, InPlace, companion, make_ready

NAMES = ("", *COMPANIONS)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """An open journal's file."""
    with Journal(tmp_path / "state" / "journal.sqlite3") as journal:
        yield journal.path


def test_a_new_journal_opens_while_another_process_already_writes_in_it(tmp_path: Path) -> None:
    """Of several processes that start together none is told that the journal is locked."""
    path = tmp_path / "state" / "journal.sqlite3"
    make_ready(path, create=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as quicker:
        quicker.execute("BEGIN IMMEDIATE")
        with Journal(path) as journal:
            assert journal.flows() == []


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
