"""The journal keeps what it acknowledged, refuses what it cannot keep, and never writes over what it cannot read."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.errors import (
    FlowBusy,
    FlowExists,
    FlowNotFound,
    Io,
    JournalCorrupted,
    JournalError,
    JournalTooNew,
)
from systemprompt_cloud.io.journal import Journal
from systemprompt_cloud.io.records import SCHEMA_VERSION, FlowRow, Record, moment_text, parse_moment

NOW = "2026-01-01T00:00:00.000000Z"


def row(flow: str, **changes: object) -> FlowRow:
    """A flow that has just begun."""
    fresh = FlowRow(
        id=flow,
        machine="m",
        version=1,
        fingerprint="f",
        key=None,
        parent=None,
        state="a",
        incarnation=1,
        seq=1,
        status="running",
        verdict=None,
        deadline=None,
        context="{}",
        trouble=None,
        created=NOW,
        updated=NOW,
        owner="0:1:here",
    )
    return msgspec.structs.replace(fresh, **changes)


def record(flow: str, seq: int = 1, **changes: object) -> Record:
    """One of its records."""
    fresh = Record(
        flow=flow,
        seq=seq,
        at=NOW,
        kind="started" if seq == 1 else "event",
        name="started",
        body="{}",
        from_state="a",
        to_state="a",
        incarnation=1,
        deadline=None,
    )
    return msgspec.structs.replace(fresh, **changes)


def begin(journal: Journal, flow: str, **changes: object) -> None:
    """Write a new flow."""
    journal.write([partial(journal.begin, row(flow, **changes), record(flow))])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal is to be."""
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A new journal, open."""
    with Journal(path) as journal:
        yield journal


@pytest.fixture
def written(path: Path) -> Path:
    """A journal with flows in it, closed."""
    with Journal(path) as journal:
        for number in range(200):
            begin(journal, f"f{number:03}", context='{"filler":"' + "x" * 200 + '"}')
    return path


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# --- writing and reading -------------------------------------------------------------------------------


def test_what_was_written_is_read_again(path: Path) -> None:
    """Flows and records come back field by field, after closing too."""
    flow = row("one", key="k", parent="p", deadline=NOW, context='{"a":"ü"}', verdict=None, trouble="{}")
    with Journal(path) as journal:
        journal.write([partial(journal.begin, flow, record("one", deadline=NOW))])
    with Journal(path) as journal:
        assert journal.flow("one") == flow
        assert journal.records("one") == [record("one", deadline=NOW)]
        assert journal.flow("two") is None
        assert journal.integrity_problems() == []


def test_anybody_can_read_it_with_sqlite(path: Path, journal: Journal) -> None:
    """While it is open and being written, plain SQL finds everything; bodies are JSON."""
    begin(journal, "one", context='{"plan":"small"}')
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("SELECT context ->> 'plan' FROM flows").fetchall() == [("small",)]
        assert plain.execute('SELECT "from", "to" FROM events').fetchall() == [("a", "a")]


def test_a_step_takes_the_record_the_row_and_the_signal_together(journal: Journal) -> None:
    """After `advance` the signal it came from is gone."""
    begin(journal, "one")
    journal.write([partial(journal.post_signal, "one", NOW, "Ping", "{}")])
    (signal,) = journal.signals()
    before, after = row("one"), row("one", seq=2, state="b")
    journal.write([partial(journal.advance, before, after, record("one", 2, to_state="b"), signal.id)])
    assert journal.flow("one") == after
    assert [each.to_state for each in journal.records("one")] == ["a", "b"]
    assert journal.signals() == []


@pytest.mark.parametrize("changes", [{"seq": 7}, {"owner": "9:9:there"}, {"owner": None}], ids=["seq", "owner", "none"])
def test_a_flow_that_moved_is_not_overwritten(journal: Journal, changes: dict[str, object]) -> None:
    """Whoever holds an old row is refused, named who has it, and nothing is written."""
    begin(journal, "one")
    with pytest.raises(FlowBusy) as caught:
        journal.write(
            [partial(journal.advance, row("one", **changes), row("one", seq=8), record("one", 8))],
        )
    assert (caught.value.pid, caught.value.host) == (1, "here")
    assert journal.flow("one") == row("one")
    assert len(journal.records("one")) == 1


def test_a_flow_that_does_not_exist_cannot_be_advanced_or_claimed(journal: Journal) -> None:
    """It is not called busy."""
    with pytest.raises(FlowNotFound):
        journal.write([partial(journal.advance, row("x"), row("x", seq=2), record("x", 2))])
    with pytest.raises(FlowNotFound):
        journal.write([partial(journal.claim, row("x"), "0:1:h")])


def test_a_flow_is_claimed_once(journal: Journal) -> None:
    """Of two that saw it free, the second is told who was first; somebody who let go is not given a process id."""
    begin(journal, "one", owner=None)
    free = stored(journal, "one")
    journal.write([partial(journal.claim, free, "a:11:first")])
    with pytest.raises(FlowBusy, match="process 11 on first"):
        journal.write([partial(journal.claim, free, "b:22:second")])
    held = stored(journal, "one")
    journal.write([partial(journal.claim, held, None)])
    with pytest.raises(FlowBusy, match="let go"):
        journal.write([partial(journal.claim, held, "b:22:second")])


def test_a_flow_that_moved_since_it_was_read_is_not_claimed(journal: Journal) -> None:
    """What was decided about an older row must not become an owner's."""
    begin(journal, "one", owner=None)
    before = stored(journal, "one")
    journal.write([partial(journal.advance, before, row("one", seq=2, owner=None), record("one", 2))])
    with pytest.raises(FlowBusy):
        journal.write([partial(journal.claim, before, "a:11:first")])
    assert stored(journal, "one").owner is None


def stored(journal: Journal, flow: str) -> FlowRow:
    """The row as it is."""
    found = journal.flow(flow)
    assert found is not None
    return found


def test_a_group_happens_as_a_whole_or_not_at_all(journal: Journal) -> None:
    """An error in the last operation undoes the first."""
    begin(journal, "one")
    for operation, error in ((partial(begin_twice, journal), FlowExists), (raise_value_error, ValueError)):
        with pytest.raises(error):
            journal.write(
                [
                    partial(journal.begin, row("two"), record("two")),
                    partial(journal.post_signal, "one", NOW, "Ping", "{}"),
                    operation,
                ]
            )
        assert journal.flow("two") is None
        assert journal.signals() == []
    begin(journal, "two")


def begin_twice(journal: Journal) -> None:
    """What cannot be done."""
    journal.begin(row("one"), record("one"))


def raise_value_error() -> None:
    """A bug in an operation."""
    raise ValueError


# --- keys and ids --------------------------------------------------------------------------------------


def test_a_key_is_taken_until_its_flow_has_ended(journal: Journal) -> None:
    """`FlowExists` names the flow there is; another machine's same key, and an ended flow's, are no hindrance."""
    begin(journal, "one", key="k")
    with pytest.raises(FlowExists) as caught:
        begin(journal, "two", key="k")
    assert caught.value.flow == "one"
    begin(journal, "other", key="k", machine="n")
    assert journal.unfinished_with_key("m", "k") == row("one", key="k")
    ended = row("one", key="k", seq=2, status="ended", verdict="success", owner=None)
    journal.write([partial(journal.advance, row("one", key="k"), ended, record("one", 2))])
    assert journal.unfinished_with_key("m", "k") is None
    begin(journal, "two", key="k")


def test_an_id_is_taken_for_ever(journal: Journal) -> None:
    """Ended or not."""
    begin(journal, "one", status="ended", verdict="success")
    with pytest.raises(FlowExists):
        begin(journal, "one")


def test_an_id_may_be_shortened_while_it_is_unique(journal: Journal) -> None:
    """A flow goes before its children; an ambiguous beginning names what it fits."""
    for flow, parent in (("abc1", None), ("abc1.login-2", "abc1"), ("abd2", None), ("abd", None)):
        begin(journal, flow, parent=parent)
    assert journal.find("abc").id == "abc1"
    assert journal.find("abc1.").id == "abc1.login-2"
    assert journal.find("abd").id == "abd"
    with pytest.raises(FlowNotFound, match="fits 3 flows: abc1, abd, abd2"):
        journal.find("ab")
    for nothing in ("", "x", "ABC", "%", "_bc1"):
        with pytest.raises(FlowNotFound, match="no flow has the id"):
            journal.find(nothing)


def test_flows_are_listed_newest_first(journal: Journal) -> None:
    """By status, by machine, with or without children, no more than asked for."""
    begin(journal, "f1")
    begin(journal, "f2", status="ended", verdict="success")
    begin(journal, "f3", machine="n", status="parked")
    begin(journal, "f3.m-1", parent="f3")
    assert [flow.id for flow in journal.flows()] == ["f3.m-1", "f3", "f2", "f1"]
    assert [flow.id for flow in journal.flows(roots_only=True, limit=2)] == ["f3", "f2"]
    assert [flow.id for flow in journal.flows(statuses=("running", "parked"), roots_only=True)] == ["f3", "f1"]
    assert [flow.id for flow in journal.flows(machine="n")] == ["f3"]
    assert [flow.id for flow in journal.children("f3")] == ["f3.m-1"]


def test_intents_belong_to_one_visit(journal: Journal) -> None:
    """The next visit of the state announces its effects anew."""
    begin(journal, "one")
    for seq, incarnation, name in ((2, 1, "one:1:pay"), (3, 2, "one:2:pay")):
        before, after = row("one", seq=seq - 1), row("one", seq=seq)
        intent = record("one", seq, kind="intent", name=name, incarnation=incarnation)
        journal.write([partial(journal.advance, before, after, intent)])
    assert journal.intents("one", 1) == {"one:1:pay"}
    assert journal.intents("one", 3) == frozenset()


def test_moments_sort_as_text() -> None:
    """And come back to the microsecond, in UTC."""
    texts = [NOW, "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:01.000000Z"]
    assert [moment_text(parse_moment(text)) for text in texts] == sorted(texts) == texts


# --- private -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o277, 0o777])
def test_all_its_files_are_private_under_any_umask(path: Path, bits: int) -> None:
    """0600 for the journal and its companions, 0700 for the directory, from the first moment on."""
    old = os.umask(bits)
    try:
        with Journal(path) as journal:
            begin(journal, "one")
            files = sorted(path.parent.glob("journal*"))
            assert {file.name: mode(file) for file in files} == {
                f"journal.sqlite3{suffix}": 0o600 for suffix in ("", "-shm", "-wal")
            }
    finally:
        os.umask(old)
    assert mode(path.parent) == 0o700


def test_looking_makes_nothing(path: Path) -> None:
    """A command that only reads does not leave an empty journal behind, and says how to get a flow."""
    with pytest.raises(FlowNotFound, match="there are no flows yet"):
        Journal(path, create=False)
    assert not path.parent.exists()


def test_what_was_deleted_is_not_left_in_the_file(path: Path) -> None:
    """`secure_delete`: a signal that was taken leaves no trace once the write-ahead log is folded in."""
    with Journal(path) as journal:
        journal.write([partial(journal.post_signal, "one", NOW, "Ping", '{"word":"xylophone"}')])
        journal.write([partial(journal.drop_signal, 1)])
    assert b"xylophone" not in path.read_bytes()


# --- damaged -------------------------------------------------------------------------------------------


def assert_set_aside(path: Path, content: bytes) -> None:
    """Opening it says where the damaged file is, untouched; the next opening starts anew."""
    with pytest.raises(JournalCorrupted) as caught:
        Journal(path)
    (aside,) = path.parent.glob("journal.sqlite3.unreadable-*")
    assert str(aside) in caught.value.user_message
    assert "Run the same command again" in caught.value.recovery_hint
    assert aside.read_bytes() == content
    assert not path.exists()
    with Journal(path) as journal:
        assert journal.flows() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"this is not a database\n" * 100, b"SQLite format 3\0", b"SQLite format 3\0" + b"\0" * 5000],
    ids=["empty", "one-byte", "text", "magic-only", "magic-and-zeros"],
)
def test_a_file_that_is_no_database_is_set_aside(path: Path, content: bytes) -> None:
    """It is named, kept as it is, and not written over."""
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    assert_set_aside(path, content)


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


def test_a_database_of_another_program_is_set_aside(path: Path) -> None:
    """Its application id tells."""
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as other:
        other.executescript("PRAGMA application_id = 42; CREATE TABLE bookmarks (url)")
    assert_set_aside(path, path.read_bytes())


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


def test_a_directory_in_its_place_is_named(path: Path) -> None:
    """An `Io`, with the path."""
    path.mkdir(parents=True)
    with pytest.raises(Io, match=r"journal\.sqlite3"):
        Journal(path)
    assert path.is_dir()


# --- a disk that will not ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> Path:
    """A real file system of 1 MiB."""
    return mounted("1m")


def fill(place: Path) -> Path:
    """Leave not a byte free."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    return filler


def test_a_full_disk_refuses_the_write_and_keeps_the_rest(small_disk: Path) -> None:
    """The message names the journal and the mend; when there is space again, the same journal goes on."""
    with Journal(small_disk / "s" / "journal.sqlite3") as journal:
        begin(journal, "one")
        filler = fill(small_disk)
        big = '{"filler":"' + "x" * 200_000 + '"}'
        with pytest.raises(JournalError, match=r"cannot write the journal .*journal\.sqlite3: .*full") as caught:
            begin(journal, "two", context=big)
        assert "Free some space" in caught.value.recovery_hint
        assert [flow.id for flow in journal.flows()] == ["one"]
        filler.unlink()
        begin(journal, "two", context=big)
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
        begin(journal, "one")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(JournalError, match=r"the journal .*journal\.sqlite3") as caught, Journal(path) as journal:
        begin(journal, "two")
    assert caught.value.recovery_hint
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with Journal(path) as journal:
        begin(journal, "two")
        assert [flow.id for flow in journal.flows()] == ["two", "one"]


# --- two processes -------------------------------------------------------------------------------------

TWO = """
import pathlib, sys, functools, msgspec
from systemprompt_cloud.io.journal import Journal
from systemprompt_cloud.io.records import FlowRow, Record
path, name = pathlib.Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
with Journal(path) as journal:
    for number in range(50):
        flow = f"{name}{number:02}"
        now = "2026-01-01T00:00:00.000000Z"
        row = FlowRow(id=flow, machine="m", version=1, fingerprint="f", key=None, parent=None, state="a", incarnation=1,
            seq=1, status="running", verdict=None, deadline=None, context="{}", trouble=None, created=now, updated=now,
            owner=None)
        record = Record(flow=flow, seq=1, at=now, kind="started", name="started", body="{}", from_state="a",
            to_state="a", incarnation=1, deadline=None)
        journal.write([functools.partial(journal.begin, row, record)])
print("done", flush=True)
"""


def test_two_processes_write_the_same_journal(path: Path) -> None:
    """Both make it at the same moment, both write, nothing is lost, nobody is told it is locked."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=30)[0] for process in processes] == ["done\n", "done\n"]
    with Journal(path) as journal:
        assert len(journal.flows(limit=200)) == 100
        assert journal.integrity_problems() == []
    assert list(path.parent.glob("*.new")) == []
