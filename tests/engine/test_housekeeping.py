"""Retention, compaction and backup: what has ended may go, nothing else does, and a copy is whole or not there."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.engine.errors import JournalCorrupted
from systemprompt_cloud.engine.journal.backups import backup
from systemprompt_cloud.engine.journal.housekeeping import BATCH, Pruned, compact, journal_bytes, prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.journal.vault import VaultFiles

from tests.support.rows import flow_record, flow_row

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NEW_YEAR + timedelta(days=365)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An open journal with nothing in it."""
    with Journal(tmp_path / "home" / "journal.sqlite3") as journal:
        yield journal


@pytest.fixture
def vault(journal: Journal) -> VaultFiles:
    """The vault beside it."""
    return VaultFiles(journal.path.parent / "vault")


def add(
    journal: Journal, flow: str, *, day: int = 0, ended: bool = True, parent: str | None = None, size: int = 0
) -> None:
    """A flow of two records that stands since a day after New Year."""
    moment = moment_text(NEW_YEAR + timedelta(days=day))
    row = flow_row(flow, parent=parent, context="x" * size, created=moment, updated=moment)
    after = msgspec.structs.replace(row, seq=2, status="ended" if ended else "paused")
    record = flow_record(flow, 2, at=moment, kind="event" if ended else "paused", name="Happened")
    started = flow_record(flow, at=moment)
    journal.write([partial(journal.begin, row, started), partial(journal.advance, row, after, record)])


def left(journal: Journal) -> set[str]:
    """The ids that are still there, in both tables."""
    rows = {row.id for row in journal.flows(limit=10_000)}
    with sqlite3.connect(journal.path) as connection:
        events = {row[0] for row in connection.execute("SELECT flow FROM events")}
    connection.close()
    assert rows == events
    return rows


def test_prune_removes_what_ended_before(journal: Journal, vault: VaultFiles) -> None:
    """By the moment it ended; what ended later and what has not ended stays, however old that is."""
    add(journal, "old", day=1)
    add(journal, "young", day=9)
    add(journal, "paused", day=1, ended=False)
    assert prune(journal, vault, NEW_YEAR + timedelta(days=5)) == Pruned(flows=1, records=2)
    assert left(journal) == {"young", "paused"}


def test_prune_takes_children_with_their_root_and_never_alone(journal: Journal, vault: VaultFiles) -> None:
    """All or nothing: a tree in which any flow has not ended stays whole, and is counted."""
    add(journal, "r1")
    add(journal, "r1.c-1", parent="r1")
    add(journal, "r1.c-1.g-1", parent="r1.c-1")
    add(journal, "r2")
    add(journal, "r2.c-1", parent="r2", ended=False)
    add(journal, "r3", ended=False)
    add(journal, "r3.c-1", parent="r3")
    assert prune(journal, vault, LATER) == Pruned(flows=1, children=2, records=6, kept=1)
    assert left(journal) == {"r2", "r2.c-1", "r3", "r3.c-1"}


def test_prune_keeps_the_newest(journal: Journal, vault: VaultFiles) -> None:
    """`keep` counts ended root flows from the newest."""
    for number in range(5):
        add(journal, f"f{number}", day=number)
    add(journal, "z-unfinished", ended=False)
    assert prune(journal, vault, LATER, keep=2).flows == 3
    assert left(journal) == {"f3", "f4", "z-unfinished"}


def test_dry_run_counts_the_same_and_removes_nothing(journal: Journal, vault: VaultFiles) -> None:
    """Also over several transactions."""
    for number in range(BATCH + 1):
        add(journal, f"f{number:04}")
    before = left(journal)
    counted = prune(journal, vault, LATER, dry_run=True)
    assert left(journal) == before
    assert prune(journal, vault, LATER) == counted == Pruned(flows=BATCH + 1, records=2 * BATCH + 2)
    assert left(journal) == set()


def test_prune_takes_left_secrets_and_signals_along(journal: Journal, vault: VaultFiles) -> None:
    """A process killed at the very end leaves both; those of other flows stay."""
    for flow, ended in (("old", True), ("running", False)):
        add(journal, flow, ended=ended)
        vault.put(flow, "token", "secret-of-a-flow")
        with closing(sqlite3.connect(journal.path)) as plain, plain:  # as releases up to 0.1.0 left one
            plain.execute("INSERT INTO inbox (flow, at, name, body) VALUES (?, '', 'Poked', '{}')", (flow,))
    prune(journal, vault, LATER)
    assert [path.stem for path in vault.directory.iterdir()] == ["running"]
    assert [signal.flow for signal in journal.signals()] == ["running"]


def test_compaction_gives_room_back(journal: Journal, vault: VaultFiles, tmp_path: Path) -> None:
    """Nothing of what was removed can be read in the file afterwards; what was kept can."""
    for number in range(40):
        add(journal, f"f{number}", size=20_000)
    add(journal, "kept", ended=False)
    prune(journal, vault, LATER)
    done = compact(journal, tmp_path / "owners")
    assert done.outcome == "done"
    assert done.after < done.before / 4
    assert journal_bytes(journal.path) == done.after
    assert b"xxxxxxxx" not in journal.path.read_bytes()
    assert left(journal) == {"kept"}
    assert journal.integrity_problems() == []


def test_no_compaction_while_flows_are_driven(journal: Journal, tmp_path: Path) -> None:
    """Rewriting a large file would hold up whoever drives them."""
    owner = Owner(tmp_path / "owners")
    assert compact(journal, tmp_path / "owners").outcome == "driven"
    owner.release()
    assert compact(journal, tmp_path / "owners").outcome == "done"


def test_backup_is_the_journal_of_this_moment(journal: Journal, tmp_path: Path) -> None:
    """With everything that still stands in the log, private, one file, and a journal like any other."""
    add(journal, "a")
    add(journal, "b", ended=False)
    target = tmp_path / "copy"
    assert backup(journal, target) == target.stat().st_size
    add(journal, "later")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"home", "copy"}
    with Journal(target, create=False) as copy:
        assert left(copy) == {"a", "b"}
        assert copy.records("a") == journal.records("a")
        assert copy.flow("b") == journal.flow("b")


def test_backup_while_somebody_writes(journal: Journal, tmp_path: Path) -> None:
    """A transaction that is open meanwhile is neither waited for nor half in the copy."""
    add(journal, "a")
    writer = sqlite3.connect(journal.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM flows")
    backup(journal, tmp_path / "copy")
    writer.execute("ROLLBACK")
    writer.close()
    with Journal(tmp_path / "copy") as copy:
        assert left(copy) == {"a"}


@pytest.mark.parametrize("what", ["file", "link", "directory"])
def test_backup_writes_over_nothing(journal: Journal, tmp_path: Path, what: str) -> None:
    """Whatever stands there stays as it is, and is named; nothing is left beside it."""
    target = tmp_path / "taken"
    match what:
        case "file":
            target.write_text("mine")
        case "link":
            target.symlink_to(tmp_path / "elsewhere")
        case _:
            target.mkdir()
    with pytest.raises(Io, match="taken: it exists"):
        backup(journal, target)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "taken"}
    assert what != "file" or target.read_text() == "mine"


def test_backup_into_no_directory_is_named(journal: Journal, tmp_path: Path) -> None:
    """The message has the path."""
    with pytest.raises(Io, match=r"nowhere/copy"):
        backup(journal, tmp_path / "nowhere" / "copy")


def test_backup_of_a_damaged_journal_is_refused(journal: Journal, tmp_path: Path) -> None:
    """A copy that cannot be relied on is worse than none: it is said, and no file is left."""
    for number in range(50):
        add(journal, f"f{number}", size=5000)
    compact(journal, tmp_path / "owners")
    with journal.path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for page in range(3, file.tell() // 4096, 2):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    with pytest.raises(JournalCorrupted, match=r"no backup was made|malformed"):
        backup(journal, tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
