"""The journal keeps what it acknowledged, and refuses what it cannot keep."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.base.moments import moment_text, parse_moment
from systemprompt_cloud.engine.errors import FlowBusy, FlowExists, FlowNotFound, JournalError, NotStorable
from systemprompt_cloud.engine.journal.housekeeping import compact, prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.engine.journal.vault import VaultFiles

from tests.support.rows import BEGAN, begin_flow, flow_record, flow_row

from .test_housekeeping import LATER

# --- writing and reading -------------------------------------------------------------------------------


def test_what_was_written_is_read_again(journal_path: Path) -> None:
    """Flows and records come back field by field, after closing too."""
    flow = flow_row("one", key="k", parent="p", deadline=BEGAN, context='{"a":"ü"}', verdict=None, trouble="{}")
    with Journal(journal_path) as journal:
        journal.write([partial(journal.begin, flow, flow_record("one", deadline=BEGAN))])
    with Journal(journal_path) as journal:
        assert journal.flow("one") == flow
        assert journal.records("one") == [flow_record("one", deadline=BEGAN)]
        assert journal.flow("two") is None
        assert journal.integrity_problems() == []


def test_anybody_can_read_it_with_sqlite(journal_path: Path, journal: Journal) -> None:
    """While it is open and being written, plain SQL finds everything; bodies are JSON."""
    begin_flow(journal, "one", context='{"plan":"small"}')
    with closing(sqlite3.connect(journal_path)) as plain:
        assert plain.execute("SELECT context ->> 'plan' FROM flows").fetchall() == [("small",)]
        assert plain.execute('SELECT "from", "to" FROM events').fetchall() == [("a", "a")]


def test_a_step_takes_the_record_the_row_and_the_signal_together(journal: Journal) -> None:
    """After `advance` the signal it came from is gone."""
    begin_flow(journal, "one")
    journal.write([partial(journal.post_signal, "one", BEGAN, "Ping", "{}")])
    (signal,) = journal.signals()
    before, after = flow_row("one"), flow_row("one", seq=2, state="b")
    journal.write([partial(journal.advance, before, after, flow_record("one", 2, to_state="b"), signal.id)])
    assert journal.flow("one") == after
    assert [each.to_state for each in journal.records("one")] == ["a", "b"]
    assert journal.signals() == []


@pytest.mark.parametrize("changes", [{"seq": 7}, {"owner": "9:9:there"}, {"owner": None}], ids=["seq", "owner", "none"])
def test_a_flow_that_moved_is_not_overwritten(journal: Journal, changes: dict[str, object]) -> None:
    """Whoever holds an old row is refused, named who has it, and nothing is written."""
    held = flow_row("one", owner="0:1:here")
    begin_flow(journal, "one", owner="0:1:here")
    old = msgspec.structs.replace(held, **changes)
    with pytest.raises(FlowBusy) as caught:
        journal.write([partial(journal.advance, old, flow_row("one", seq=8), flow_record("one", 8))])
    assert (caught.value.pid, caught.value.host) == (1, "here")
    assert journal.flow("one") == held
    assert len(journal.records("one")) == 1


def test_a_flow_that_does_not_exist_cannot_be_advanced_or_claimed(journal: Journal) -> None:
    """It is not called busy."""
    with pytest.raises(FlowNotFound):
        journal.write([partial(journal.advance, flow_row("x"), flow_row("x", seq=2), flow_record("x", 2))])
    with pytest.raises(FlowNotFound):
        journal.write([partial(journal.claim, flow_row("x"), "0:1:h")])


def test_a_flow_is_claimed_once(journal: Journal) -> None:
    """Of two that saw it free, the second is told who was first; somebody who let go is not given a process id."""
    begin_flow(journal, "one", owner=None)
    free = stored(journal, "one")
    journal.write([partial(journal.claim, free, "a:11:first")])
    with pytest.raises(FlowBusy, match="process 11 on first"):
        journal.write([partial(journal.claim, free, "b:22:second")])
    held = stored(journal, "one")
    journal.write([partial(journal.claim, held, None)])
    with pytest.raises(FlowBusy, match="another process"):
        journal.write([partial(journal.claim, held, "b:22:second")])


def test_a_flow_that_moved_since_it_was_read_is_not_claimed(journal: Journal) -> None:
    """What was decided about an older row must not become an owner's."""
    begin_flow(journal, "one", owner=None)
    before = stored(journal, "one")
    journal.write([partial(journal.advance, before, flow_row("one", seq=2, owner=None), flow_record("one", 2))])
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
    begin_flow(journal, "one")
    for operation, error in ((partial(begin_twice, journal), FlowExists), (raise_value_error, ValueError)):
        with pytest.raises(error):
            journal.write(
                [
                    partial(journal.begin, flow_row("two"), flow_record("two")),
                    partial(journal.post_signal, "one", BEGAN, "Ping", "{}"),
                    operation,
                ]
            )
        assert journal.flow("two") is None
        assert journal.signals() == []
    begin_flow(journal, "two")


def begin_twice(journal: Journal) -> None:
    """What cannot be done."""
    journal.begin(flow_row("one"), flow_record("one"))


def raise_value_error() -> None:
    """A bug in an operation."""
    raise ValueError


# --- keys and ids --------------------------------------------------------------------------------------


def test_a_key_is_taken_until_its_flow_has_ended(journal: Journal) -> None:
    """`FlowExists` names the flow there is; another machine's same key, and an ended flow's, are no hindrance."""
    begin_flow(journal, "one", key="k")
    with pytest.raises(FlowExists) as caught:
        begin_flow(journal, "two", key="k")
    assert caught.value.flow == "one"
    begin_flow(journal, "other", key="k", machine="n")
    assert journal.unfinished_with_key("m", "k") == flow_row("one", key="k")
    ended = flow_row("one", key="k", seq=2, status="ended", verdict="success", owner=None)
    journal.write([partial(journal.advance, flow_row("one", key="k"), ended, flow_record("one", 2))])
    assert journal.unfinished_with_key("m", "k") is None
    begin_flow(journal, "two", key="k")


def test_an_id_is_taken_for_ever(journal: Journal) -> None:
    """Ended or not."""
    begin_flow(journal, "one", status="ended", verdict="success")
    with pytest.raises(FlowExists):
        begin_flow(journal, "one")


def test_an_id_may_be_shortened_while_it_is_unique(journal: Journal) -> None:
    """A flow goes before its children; an ambiguous beginning names what it fits."""
    for flow, parent in (("abc1", None), ("abc1.login-2", "abc1"), ("abd2", None), ("abd", None)):
        begin_flow(journal, flow, parent=parent)
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
    begin_flow(journal, "f1")
    begin_flow(journal, "f2", status="ended", verdict="success")
    begin_flow(journal, "f3", machine="n", status="paused")
    begin_flow(journal, "f3.m-1", parent="f3")
    assert [flow.id for flow in journal.flows()] == ["f3.m-1", "f3", "f2", "f1"]
    assert [flow.id for flow in journal.flows(roots_only=True, limit=2)] == ["f3", "f2"]
    assert [flow.id for flow in journal.flows(statuses=("running", "paused"), roots_only=True)] == ["f3", "f1"]
    assert [flow.id for flow in journal.flows(machine="n")] == ["f3"]
    assert [flow.id for flow in journal.children("f3")] == ["f3.m-1"]


def test_the_order_of_flows_is_not_a_clocks(journal: Journal, tmp_path: Path) -> None:
    """Also where ids are lower than those before them, after flows were removed and the file rewritten."""
    flows = ["c", "d", "a", "b"]
    for flow in flows:
        begin_flow(journal, flow, key="k", status="ended", verdict="success")
    for day, child in ((3, "c"), (2, "d"), (1, "a")):
        changes = {"parent": "d", "status": "ended", "created": BEGAN.replace("-01T", f"-0{day}T")}
        begin_flow(journal, f"d.{child}", **changes)
    assert prune(journal, VaultFiles(tmp_path), LATER, keep=3).flows == 1
    assert compact(journal, tmp_path).outcome == "done"
    begin_flow(journal, "0", key="k", status="ended", verdict="success")
    started = ["d", "a", "b", "d.c", "d.d", "d.a", "0"]
    assert journal.begun() == started
    assert [flow.id for flow in journal.flows()] == started[::-1]
    assert [flow.id for flow in journal.each_flow()] == started[::-1]
    assert [flow.id for flow in journal.children("d")] == ["d.c", "d.d", "d.a"]
    newest = journal.newest_with_key("m", "k")
    assert newest is not None
    assert newest.id == "0"
    assert journal.flows(after=journal.newest()) == []


def test_intents_belong_to_one_visit(journal: Journal) -> None:
    """The next visit of the state announces its effects anew."""
    begin_flow(journal, "one")
    for seq, incarnation, name in ((2, 1, "one:1:pay"), (3, 2, "one:2:pay")):
        before, after = flow_row("one", seq=seq - 1), flow_row("one", seq=seq)
        intent = flow_record("one", seq, kind="intent", name=name, incarnation=incarnation)
        journal.write([partial(journal.advance, before, after, intent)])
    assert journal.intents("one", 1) == {"one:1:pay"}
    assert journal.intents("one", 3) == frozenset()


def test_moments_sort_as_text() -> None:
    """And come back to the microsecond, in UTC."""
    texts = [BEGAN, "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:01.000000Z"]
    assert [moment_text(parse_moment(text)) for text in texts] == sorted(texts) == texts


# --- private -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o277, 0o777])
def test_all_its_files_are_private_under_any_umask(journal_path: Path, bits: int) -> None:
    """0600 for the journal and its companions, 0700 for the directory, from the first moment on."""
    old = os.umask(bits)
    try:
        with Journal(journal_path) as journal:
            begin_flow(journal, "one")
            files = sorted(journal_path.parent.glob("journal*"))
            assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in files} == {
                f"journal.sqlite3{suffix}": 0o600 for suffix in ("", "-shm", "-wal")
            }
    finally:
        os.umask(old)
    assert stat.S_IMODE(journal_path.parent.stat().st_mode) == 0o700


def test_looking_makes_nothing(journal_path: Path) -> None:
    """A command that only reads does not leave an empty journal behind, and says how to get a flow."""
    with pytest.raises(FlowNotFound, match="there are no flows yet"):
        Journal(journal_path, create=False)
    assert not journal_path.parent.exists()


def test_what_was_deleted_is_not_left_in_the_file(journal_path: Path) -> None:
    """`secure_delete`: a signal that was taken leaves no trace once the write-ahead log is folded in."""
    with Journal(journal_path) as journal:
        begin_flow(journal, "one")
        journal.write([partial(journal.post_signal, "one", BEGAN, "Ping", '{"word":"xylophone"}')])
        row = journal.flow("one")
        assert row is not None
        after = msgspec.structs.replace(row, seq=2)
        journal.write([partial(journal.advance, row, after, flow_record("one", 2), 1)])
    assert b"xylophone" not in journal_path.read_bytes()


# --- two processes -------------------------------------------------------------------------------------

TWO = """
import pathlib, sys
from systemprompt_cloud.engine.journal.journal import Journal
from tests.support.rows import begin_flow
path, name = pathlib.Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
with Journal(path) as journal:
    for number in range(50):
        begin_flow(journal, f"{name}{number:02}")
print("done", flush=True)
"""


def test_two_processes_write_the_same_journal(journal_path: Path) -> None:
    """Both make it at the same moment, both write, nothing is lost, nobody is told it is locked."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, str(journal_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
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
    with Journal(journal_path) as journal:
        assert len(journal.flows(limit=200)) == 100
        assert journal.integrity_problems() == []
    assert list(journal_path.parent.glob("*.new")) == []


# --- what is wrong is named -----------------------------------------------------------------------------


def test_a_closed_journal_says_so(journal_path: Path) -> None:
    """Whatever is asked of it, and whatever has its descriptor now; it is not called damaged, and no disk failing."""
    journal = Journal(journal_path)
    begin_flow(journal, "one")
    journal.close()
    with journal_path.open("rb"):
        for call in (journal.flows, partial(journal.records, "one"), partial(begin_flow, journal, "two")):
            with pytest.raises(JournalError, match=f"the journal {journal_path}: it is closed") as refused:
                call()
            assert type(refused.value) is JournalError


def test_a_text_that_sqlite_does_not_take_is_not_stored(journal: Journal) -> None:
    """By the limit it was built with: nothing is written, and nothing is called damaged."""
    journal._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(NotStorable, match=f"longer than the 10000 bytes that the journal {journal.path} takes"):
        begin_flow(journal, "one", context="x" * 10_001)
    assert journal.flows() == []
    begin_flow(journal, "one")
    assert [row.id for row in journal.flows()] == ["one"]
