"""A journal of an older schema becomes one of today's: whole, with a copy beside it, or not at all."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from systemprompt_cloud.engine.errors import JournalBusy, JournalError, JournalTooNew
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.journal.records import SCHEMA_VERSION
from systemprompt_cloud.engine.journal.schema import CURRENT, Schema, Steps, upgrade

from tests.support.rows import begin_flow, flow_record

OLD = SCHEMA_VERSION
NEXT = Schema(
    version=OLD + 2,
    steps={
        OLD: ("ALTER TABLE flows ADD COLUMN note TEXT", "UPDATE flows SET note = machine || ' ' || id"),
        OLD + 1: ("CREATE INDEX flows_by_note ON flows (note)",),
    },
)


@pytest.fixture
def written(journal_path: Path) -> Path:
    """A journal of today with one flow in it, at rest."""
    with Journal(journal_path) as journal:
        begin_flow(journal, "f1", machine="login")
    return journal_path


def ask(path: Path, sql: str) -> Sequence[object]:
    """The first row of what a file answers."""
    with closing(sqlite3.connect(path)) as plain:
        return plain.execute(sql).fetchone()


def copies(path: Path) -> list[Path]:
    """The copies beside a journal."""
    return sorted(path.parent.glob(f"{path.name}.schema-*"))


def test_an_older_journal_is_brought_up_when_it_is_opened(written: Path) -> None:
    """All steps in their order; the flows are there, and the file says its new number."""
    with Journal(written, schema=NEXT) as journal:
        assert [each.id for each in journal.flows()] == ["f1"]
        assert journal.integrity_problems() == []
    assert ask(written, "PRAGMA user_version") == (OLD + 2,)
    assert ask(written, "SELECT note FROM flows") == ("login f1",)
    with Journal(written, schema=NEXT):
        assert len(copies(written)) == 1


def test_the_file_as_it_was_is_kept(written: Path) -> None:
    """One whole file, 0600, in the old schema, named by what it is, which the old program opens."""
    copy = upgrade(written, NEXT)
    assert copy is not None
    assert copies(written) == [copy]
    assert copy.name.startswith(f"journal.sqlite3.schema-{OLD}.")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with Journal(copy) as journal:
        assert journal.records("f1") == [flow_record("f1")]
    with pytest.raises(JournalTooNew, match=f"schema {OLD + 2}"):
        Journal(written)


def test_what_is_only_in_the_log_is_kept_too(written: Path) -> None:
    """The copy holds what was committed, wherever SQLite keeps it."""
    with closing(sqlite3.connect(written)) as other:  # keeps the log from being folded in
        other.execute("SELECT * FROM flows").fetchall()
        with Journal(written) as journal:
            journal.write([lambda: journal.post_signal("f1", "t", "Came", "{}")])
        copy = upgrade(written, NEXT)
    assert copy is not None
    assert ask(copy, "SELECT name FROM inbox") == ("Came",)
    assert ask(written, "SELECT name FROM inbox") == ("Came",)


def test_todays_journal_is_left_alone(written: Path) -> None:
    """No copy, no change."""
    before = written.read_bytes()
    assert upgrade(written) is None
    assert upgrade(written, CURRENT) is None
    assert written.read_bytes() == before
    assert copies(written) == []


@pytest.mark.parametrize(
    "steps",
    [
        {OLD: NEXT.steps[OLD], OLD + 1: ("CREATE INDEX flows_by_note ON nothing (note)",)},
        {OLD: NEXT.steps[OLD], OLD + 1: ("UPDATE flows SET status = 'odd'",)},
    ],
    ids=["no such table", "constraint"],
)
def test_a_step_that_fails_changes_nothing(written: Path, steps: Steps) -> None:
    """The file is what it was, in the old schema; the message names it."""
    before = list(ask(written, "SELECT sql FROM sqlite_master"))
    with pytest.raises(JournalError, match=r"journal\.sqlite3 to schema .*it is as it was"):
        Journal(written, schema=Schema(OLD + 2, steps))
    assert list(ask(written, "SELECT sql FROM sqlite_master")) == before
    assert copies(written) == []
    with Journal(written) as journal:
        assert journal.records("f1") == [flow_record("f1")]


def test_a_schema_without_a_way_is_refused(written: Path) -> None:
    """By number, before anything is copied."""
    with pytest.raises(JournalError, match=f"schema {OLD}, and no way is known from {OLD + 1} to {OLD + 2}"):
        upgrade(written, Schema(OLD + 2, {OLD: NEXT.steps[OLD]}))
    assert copies(written) == []
    assert ask(written, "PRAGMA user_version") == (OLD,)


def test_a_journal_somebody_works_in_is_left_to_them(written: Path) -> None:
    """A process of the older version would go on writing what it knows; it is named, and nothing changes."""
    owner = Owner(written.parent / "owners")
    with Journal(written) as journal:
        row = journal.flow("f1")
        assert row is not None
        journal.write([lambda: journal.claim(row, owner.name)])
    with pytest.raises(JournalBusy, match=r"process \d+ on .* is at work in it"):
        Journal(written, schema=NEXT)
    owner.release()
    with Journal(written, schema=NEXT) as journal:
        assert journal.flow("f1") is not None


LOOKS = """
import sys
from pathlib import Path
from systemprompt_cloud.engine.journal.journal import Journal

with Journal(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.readline()
"""


def test_a_journal_that_another_process_has_open_is_left_alone(written: Path) -> None:
    """It would go on with the schema it knows, whether or not it drives a flow; once it lets go, the journal is
    brought up."""
    with subprocess.Popen(
        [sys.executable, "-c", LOOKS, written], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(JournalBusy, match="another process has it open"):
            upgrade(written, NEXT, patience=0.0)
        assert copies(written) == []
        with ThreadPoolExecutor(1) as pool:
            waits = pool.submit(upgrade, written, NEXT, patience=60.0)
            other.stdin.write("\n")
            other.stdin.flush()
            assert [waits.result(timeout=60)] == copies(written)
        other.wait(timeout=60)


def test_the_lock_files_may_be_anywhere(written: Path, tmp_path: Path) -> None:
    """Where a host keeps them elsewhere, a driver is found there."""
    owner = Owner(tmp_path / "locks")
    with Journal(written) as journal:
        row = journal.flow("f1")
        assert row is not None
        journal.write([lambda: journal.claim(row, owner.name)])
    with pytest.raises(JournalBusy, match="is at work in it"):
        Journal(written, schema=NEXT, owners=tmp_path / "locks")
    owner.release()
    Journal(written, schema=NEXT, owners=tmp_path / "locks").close()


def test_two_at_once_bring_it_up_once(written: Path) -> None:
    """The second one finds it done."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(upgrade, [written] * 8, [NEXT] * 8))
    assert [copy for copy in found if copy is not None] == copies(written)
    assert len(copies(written)) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from systemprompt_cloud.engine.journal.schema import Schema, upgrade

class Deadly(tuple):
    def __iter__(self):
        yield self[0]
        os.kill(os.getpid(), signal.SIGKILL)

old = int(sys.argv[2])
upgrade(Path(sys.argv[1]), Schema(old + 1, {old: Deadly(["ALTER TABLE flows ADD COLUMN note TEXT"])}))
"""


def test_a_process_killed_in_the_middle_changes_nothing(written: Path) -> None:
    """After the first statement and before the commit: the old schema stands, and the next one brings it up."""
    done = subprocess.run([sys.executable, "-c", KILLED, written, str(OLD)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    with Journal(written) as journal:
        assert journal.records("f1") == [flow_record("f1")]
        assert journal.integrity_problems() == []
    with Journal(written, schema=NEXT) as journal:
        assert journal.records("f1") == [flow_record("f1")]
