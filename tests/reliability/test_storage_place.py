"""A journal that is not where, or not what, it should be: refused by name, never followed, never written to."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.base.errors import Io, UnsafeFile
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import JournalCorrupted, JournalMoved
from systemprompt_cloud.engine.journal.file import FileId, set_journal_aside
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.faults.storage import missing, quick_directory, write_flow
from tests.faults.wreck import live, log_of


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory where thousands of syncs cost nothing, if there is one."""
    with quick_directory() as directory:
        yield directory


def set_aside_files(path: Path) -> list[str]:
    """What was moved out of the way."""
    return sorted(each.name for each in path.parent.glob("*.unreadable-*"))


# --- moved while it is open ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("deed", ["removed", "replaced"])
def test_a_journal_that_moved_is_not_written_to(place: Path, suffix: str, deed: str) -> None:
    """Whoever opened it next would not find what was written; so it is refused, and the message says what happened."""
    path = place / "s" / "journal.sqlite3"
    target = path.with_name(path.name + suffix)
    with Journal(path) as journal:
        write_flow(journal, "one", 1)
        target.rename(place / "kept")
        if deed == "replaced":
            shutil.copy(place / "kept", target)
        with pytest.raises(JournalMoved, match="nothing more is written to it") as caught:
            write_flow(journal, "one", 2)
        assert str(target) in caught.value.user_message
        assert "Put" in caught.value.recovery_hint
        (place / "kept").replace(target)
        write_flow(journal, "one", 2)
    with Journal(path) as journal:
        assert missing(journal, {"one": 2}) == []


def test_a_journal_copied_away_and_back(place: Path) -> None:
    """With its log, at rest, it is the same journal: cold copies are backups."""
    lived = live(place)
    away = lived.copy_to(place / "away")
    shutil.rmtree(lived.path.parent)
    shutil.copytree(away.parent, lived.path.parent)
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(1 << 40)) == []


def test_a_log_without_its_journal_is_not_replayed_into_a_new_one(place: Path) -> None:
    """It is refused until the journal is back or the log is moved away; nothing is touched."""
    lived = live(place)
    log = log_of(lived.path).read_bytes()
    lived.path.rename(place / "away")
    for create in (True, False):
        with pytest.raises(JournalCorrupted, match="is gone, and its log") as caught:
            Journal(lived.path, create=create)
        assert "Put the journal back" in caught.value.recovery_hint
    assert log_of(lived.path).read_bytes() == log
    (place / "away").rename(lived.path)
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(1 << 40)) == []


class Left(Event, frozen=True):
    """Somebody left."""


WALK = Machine(
    "walk",
    version=1,
    initial="at_home",
    context=Context,
    states=[
        State("at_home", "at home"),
        State("gone", "gone", verdict=Verdict.SUCCESS),
        State("cancelled", "called back", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Left, "at_home", "gone"), on(CancelRequested, ANY, "cancelled")],
)


async def test_a_flow_whose_directory_vanished_goes_on_when_it_is_back(place: Path) -> None:
    """The event is refused, the flow stays where it is, and nothing is made in the place of what is gone."""
    paths = CloudPaths(directory=place / "s", state_directory=place / "s", origin="explicit")
    with trio.fail_after(30):
        async with open_engine(paths, [Program(WALK, {"at_home": [await_signal]})]) as engine:
            flow = await engine.start(WALK, Context())
            paths.directory.rename(place / "away")
            with pytest.raises(JournalMoved, match=r"journal\.sqlite3"):
                await flow.send(Left())
            assert engine.row(flow.id).state == "at_home"
            assert not paths.directory.exists()
        (place / "away").rename(paths.directory)
        async with open_engine(paths, [Program(WALK, {"at_home": [await_signal]})]) as engine:
            again = await engine.resume(flow.id)
            await again.send(Left())
            assert (await again.wait()).state == "gone"


# --- not the file it should be -------------------------------------------------------------------------


def test_a_symbolic_link_is_neither_followed_nor_replaced(place: Path) -> None:
    """In the place of the journal or of its log."""
    lived = live(place)
    for each in (lived.path, log_of(lived.path)):
        target = place / "elsewhere"
        each.rename(target)
        each.symlink_to(target)
        before = target.read_bytes()
        with pytest.raises(UnsafeFile, match="is a symbolic link"):
            Journal(lived.path)
        assert each.is_symlink()
        assert target.read_bytes() == before
        each.unlink()
        target.rename(each)


def test_a_directory_or_a_pipe_in_its_place_is_named(place: Path) -> None:
    """At once: nobody waits for the other end of a pipe."""
    path = place / "journal.sqlite3"
    for make, what in ((path.mkdir, "a directory"), (lambda: os.mkfifo(path), "not a regular file")):
        make()
        with pytest.raises(Io, match=rf"cannot open the journal .*{what}") as caught:
            Journal(path)
        assert f"mv {path}" in caught.value.recovery_hint
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
def test_somebody_elses_journal_is_refused(place: Path) -> None:
    """Whoever made it chose what is in it."""
    lived = live(place)
    os.chown(lived.path, 12345, -1)
    with pytest.raises(UnsafeFile, match="belongs to user 12345"):
        Journal(lived.path)


def test_a_journal_with_two_names_is_refused(place: Path) -> None:
    """Two names have two logs. The command in the hint gives it a file of its own, with everything in it."""
    lived = live(place)
    os.link(lived.path, place / "snapshot")
    with pytest.raises(UnsafeFile, match="has 2 names") as caught:
        Journal(lived.path)
    command = caught.value.recovery_hint.partition(": ")[2]
    subprocess.run(command, shell=True, check=True)  # noqa: S602 the promise is that this line works
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(1 << 40)) == []


def test_loose_modes_are_repaired_with_a_warning(place: Path, warned: list[str]) -> None:
    """The journal's, its log's, and the directory's."""
    lived = live(place)
    files = [lived.path, log_of(lived.path), lived.path.parent]
    for each in files:
        each.chmod(0o755 if each.is_dir() else 0o664)
    with Journal(lived.path) as journal:
        assert [stat.S_IMODE(each.stat().st_mode) for each in files] == [0o600, 0o600, 0o700]
        assert missing(journal, lived.until(1 << 40)) == []
    assert [any(str(each) in line for line in warned) for each in files] == [True] * 3


# --- locks and other processes -------------------------------------------------------------------------

OPEN_AND_CLOSE = """
import sys
from pathlib import Path
from systemprompt_cloud.engine.journal.journal import Journal
Journal(Path(sys.argv[1])).close()
"""


def test_a_second_look_in_one_process_does_not_cost_the_first_its_locks(place: Path) -> None:
    """POSIX drops a process's locks when it closes any descriptor: another process removed the log under a writer."""
    path = place / "s" / "journal.sqlite3"
    with Journal(path) as journal:
        for _ in range(3):
            Journal(path).close()
        write_flow(journal, "one", 1)
        log = FileId.of(log_of(path).stat())
        subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], check=True, timeout=30)
        assert FileId.of(log_of(path).stat()) == log
        write_flow(journal, "one", 2)
    with Journal(path) as journal:
        assert missing(journal, {"one": 2}) == []


def test_looking_often_costs_no_descriptors(place: Path) -> None:
    """However often a journal is opened beside one that stays open."""
    path = place / "s" / "journal.sqlite3"
    with Journal(path):
        Journal(path).close()
        before = open_descriptors()
        for _ in range(20):
            Journal(path).close()
        assert open_descriptors() == before


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def test_a_new_journal_is_not_set_aside_for_the_one_before_it(place: Path) -> None:
    """Two processes find the same damage; the slower one must not move what the quicker one has made since."""
    path = place / "s" / "journal.sqlite3"
    Journal(path).close()
    damaged = FileId.of(path.stat())
    aside = set_journal_aside(path, damaged)
    assert aside is not None
    with Journal(path) as journal:
        write_flow(journal, "one", 1)
        assert set_journal_aside(path, damaged) is None
        write_flow(journal, "one", 2)
    assert set_aside_files(path) == [aside.name]


def test_a_journal_whose_maker_was_killed_half_way_is_taken_up(place: Path) -> None:
    """It still has the name it was made under, beside its own."""
    path = place / "s" / "journal.sqlite3"
    Journal(path).close()
    os.link(path, path.with_name(f".{path.name}.0123456789abcdef.tmp"))
    with Journal(path) as journal:
        write_flow(journal, "one", 1)
    assert path.stat().st_nlink == 1
