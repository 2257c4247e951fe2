"""A journal that is damaged, or on a disk that will not: refused or set aside by name, and never written over."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.errors import JournalCorrupted, JournalError, JournalTooNew
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import SCHEMA_VERSION

from tests.faults.storage import fill
from tests.support.rows import begin_flow


@pytest.fixture
def written(journal_path: Path) -> Path:
    """A journal with flows in it, closed."""
    with Journal(journal_path) as journal:
        for number in range(200):
            begin_flow(journal, f"f{number:03}", context='{"filler":"' + "x" * 200 + '"}')
    return journal_path


# --- damaged -------------------------------------------------------------------------------------------


def assert_set_aside(journal_path: Path, content: bytes) -> None:
    """Opening it says where the damaged file is, untouched; the next opening starts anew."""
    with pytest.raises(JournalCorrupted) as caught:
        Journal(journal_path)
    (aside,) = journal_path.parent.glob("journal.sqlite3.unreadable-*")
    assert str(aside) in caught.value.user_message
    assert "Run the same command again" in caught.value.recovery_hint
    assert aside.read_bytes() == content
    assert not journal_path.exists()
    with Journal(journal_path) as journal:
        assert journal.flows() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"this is not a database\n" * 100, b"SQLite format 3\0", b"SQLite format 3\0" + b"\0" * 5000],
    ids=["empty", "one-byte", "text", "magic-only", "magic-and-zeros"],
)
def test_a_file_that_is_no_database_is_set_aside(journal_path: Path, content: bytes) -> None:
    """It is named, kept as it is, and not written over."""
    journal_path.parent.mkdir(mode=0o700)
    journal_path.write_bytes(content)
    assert_set_aside(journal_path, content)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.02, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_journal_is_set_aside(written: Path, part: float) -> None:
    """However much of it is left, it is noticed when it is opened and not in the middle of a flow."""
    content = written.read_bytes()[: int(written.stat().st_size * part)]
    written.write_bytes(content)
    assert_set_aside(written, content)


def test_a_damaged_journal_keeps_its_log(written: Path) -> None:
    """The write-ahead log is set aside with the file it belongs to, so that it can be recovered."""
    log = written.with_name(written.name + "-wal")
    written.write_bytes(b"overwritten by an editor\n")
    log.write_bytes(b"not folded in yet")
    with pytest.raises(JournalCorrupted):
        Journal(written)
    (aside,) = written.parent.glob("*.unreadable-*-wal")
    assert not log.exists()
    assert aside.with_name(aside.name.removesuffix("-wal")).exists()


def test_a_database_of_another_program_is_set_aside(journal_path: Path) -> None:
    """Its application id tells."""
    journal_path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(journal_path)) as other:
        other.executescript("PRAGMA application_id = 42; CREATE TABLE bookmarks (url)")
    assert_set_aside(journal_path, journal_path.read_bytes())


def test_a_newer_journal_is_refused_and_left_alone(written: Path) -> None:
    """An old version of this program must not touch it; upgrading mends it."""
    with closing(sqlite3.connect(written)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = written.read_bytes()
    with pytest.raises(JournalTooNew, match=f"schema {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
        Journal(written)
    assert written.read_bytes() == before
    assert list(written.parent.glob("*unreadable*")) == []


def test_damage_in_the_middle_is_found(written: Path) -> None:
    """Reading it says the journal is corrupted, `integrity_problems` says where."""
    content = bytearray(written.read_bytes())
    content[-40960:] = b"\xa5" * 40960
    written.write_bytes(content)
    with Journal(written) as journal:
        try:
            problems = journal.integrity_problems()
        except JournalCorrupted as exc:
            problems = [exc.user_message]
        assert problems


def test_a_directory_in_its_place_is_named(journal_path: Path) -> None:
    """An `Io`, with the path."""
    journal_path.mkdir(parents=True)
    with pytest.raises(Io, match=r"journal\.sqlite3"):
        Journal(journal_path)
    assert journal_path.is_dir()


# --- a disk that will not ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> Path:
    """A real file system of 1 MiB."""
    return mounted("1m")


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(small_disk: Path) -> None:
    """The message names the journal and the mend; when there is space again, the same journal goes on."""
    with Journal(small_disk / "s" / "journal.sqlite3") as journal:
        begin_flow(journal, "one")
        filler = fill(small_disk)
        big = '{"filler":"' + "x" * 200_000 + '"}'
        with pytest.raises(JournalError, match=r"cannot write the journal .*journal\.sqlite3: .*full") as caught:
            begin_flow(journal, "two", context=big)
        assert "Free some space" in caught.value.recovery_hint
        assert [flow.id for flow in journal.flows()] == ["one"]
        filler.unlink()
        begin_flow(journal, "two", context=big)
        assert [flow.id for flow in journal.flows()] == ["two", "one"]
        assert journal.integrity_problems() == []


def test_a_full_disk_makes_no_half_journal(small_disk: Path) -> None:
    """Making it fails with the path, and leaves nothing that would look like damage later."""
    place = small_disk / "s"
    Journal(place / "first.sqlite3").close()
    filler = fill(small_disk)
    with pytest.raises(Io, match=r"cannot make the journal .*journal\.sqlite3"):
        Journal(place / "journal.sqlite3")
    filler.unlink()
    assert list(place.glob("journal*")) == []
    Journal(place / "journal.sqlite3").close()


def test_a_read_only_disk_refuses_the_write(small_disk: Path) -> None:
    """Open or not yet open: the message names the journal, and nothing is set aside."""
    path = small_disk / "s" / "journal.sqlite3"
    with Journal(path) as journal:
        begin_flow(journal, "one")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(JournalError, match=r"the journal .*journal\.sqlite3") as caught, Journal(path) as journal:
        begin_flow(journal, "two")
    assert caught.value.recovery_hint
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with Journal(path) as journal:
        begin_flow(journal, "two")
        assert [flow.id for flow in journal.flows()] == ["two", "one"]
