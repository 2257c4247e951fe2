"""Disks that fail: what was acknowledged is there when the disk works again, and the message says what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.journal.journal import Journal

from tests.faults.storage import (
    HOWS,
    How,
    Ran,
    SmallDisk,
    Writers,
    build_shim,
    missing,
    quick_directory,
    small_disk,
    write_flow,
)
from tests.support.missing import missing as not_here

PAGE = 4096


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory where thousands of syncs cost nothing, if there is one."""
    with quick_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes errors of the disk."""
    try:
        return build_shim(tmp_path_factory.mktemp("shim"))
    except Io as exc:
        not_here(str(exc))
        raise


def assert_told(ran: Ran, path: Path) -> None:
    """Every refusal named a file in the journal's directory and a mend."""
    for trouble in ran.troubles:
        assert str(path.parent) in trouble.message
        assert trouble.hint


def set_aside_files(path: Path) -> list[str]:
    """What was moved out of the way."""
    return sorted(each.name for each in path.parent.glob("*.unreadable-*"))


# --- a disk that answers with errors -------------------------------------------------------------------


@pytest.mark.parametrize("how", HOWS)
def test_an_error_at_every_call_loses_nothing(place: Path, shim: Path, how: How) -> None:
    """EIO at each read, write and sync in turn: what was acknowledged is there, and a whole journal stays in place."""
    with Writers(shim) as writers:
        calls = writers.run(place / "whole" / "journal.sqlite3", flows=2).calls
        assert calls > 100
        refused = 0
        for nth in range(1, calls + 1):
            path = place / str(nth) / "journal.sqlite3"
            ran = writers.run(path, flows=2, nth=nth, how=how)
            assert_told(ran, path)
            assert set_aside_files(path) == []
            refused += bool(ran.troubles)
            with Journal(path) as journal:
                assert missing(journal, ran.acknowledged) == []
                write_flow(journal, "later", 1)
    assert refused > calls / 2


def test_a_disk_that_turns_read_only_at_any_call_loses_nothing(place: Path, shim: Path) -> None:
    """EROFS for every call from the nth on, which is what a file system that was remounted after an error says."""
    with Writers(shim) as writers:
        calls = writers.run(place / "whole" / "journal.sqlite3", flows=2).calls
        for nth in range(1, calls + 1):
            path = place / str(nth) / "journal.sqlite3"
            ran = writers.run(path, flows=2, nth=nth, code=errno.EROFS, how="forever")
            assert_told(ran, path)
            assert set_aside_files(path) == []
            with Journal(path) as journal:
                assert missing(journal, ran.acknowledged) == []


def test_a_disk_that_is_full_at_every_page_loses_nothing(place: Path) -> None:
    """ENOSPC wherever it can strike a run, 4 KiB by 4 KiB; with space again, the same journal goes on."""
    try:
        with small_disk(place / "disk") as disk, Writers() as writers:
            fill_step_by_step(disk, writers)
    except Io as exc:
        not_here(str(exc))


def fill_step_by_step(disk: SmallDisk, writers: Writers) -> None:
    """Run with one page more each time, until nothing is refused."""
    filler = disk.place / "filler"
    filler.write_bytes(b"\0" * PAGE)
    pages, refused = 0, True
    while refused:
        path = disk.place / "s" / "journal.sqlite3"
        disk.leave(pages * PAGE)
        ran = writers.run(path)
        disk.grow()
        assert_told(ran, path)
        assert all("space" in each.message or "full" in each.message for each in ran.troubles)
        assert set_aside_files(path) == []
        with Journal(path) as journal:
            assert missing(journal, ran.acknowledged) == []
            write_flow(journal, "later", 1)
        shutil.rmtree(path.parent)
        refused = bool(ran.troubles)
        pages += 1
    assert pages > 20


def test_a_disk_error_while_opening_sets_nothing_aside(place: Path, shim: Path) -> None:
    """SQLite calls a file malformed that it could not read; whether it can be read is asked of the disk."""
    path = place / "s" / "journal.sqlite3"
    with Writers(shim) as writers:
        whole = writers.run(path)
        for nth in range(1, 40):
            ran = writers.run(path, nth=nth, how="forever", flows=0)
            assert_told(ran, path)
            assert {each.kind for each in ran.troubles} <= {"Io", "JournalError"}
    assert set_aside_files(path) == []
    with Journal(path) as journal:
        assert missing(journal, whole.acknowledged) == []


def test_a_journal_nobody_can_read_is_named(place: Path, shim: Path) -> None:
    """The message names the file, and the mend is about the disk."""
    path = place / "s" / "journal.sqlite3"
    with Writers(shim) as writers:
        writers.run(path)
        ran = writers.run(path, nth=1, how="forever", flows=0)
    assert any("disk" in each.hint for each in ran.troubles)
