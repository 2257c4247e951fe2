"""Files that were cut off or scribbled on: all is there, or it is set aside as it was; nothing is silently less."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemprompt_cloud.engine.errors import JournalCorrupted
from systemprompt_cloud.engine.journal.journal import Journal

from tests.faults.storage import missing, quick_directory
from tests.faults.wreck import Lived, live, log_of

PAGE = 4096
LOG_HEAD = 32
FRAME = PAGE + 24


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory where thousands of syncs cost nothing, if there is one."""
    with quick_directory() as directory:
        yield directory


def test_a_log_cut_at_every_frame_keeps_what_was_acknowledged_before(place: Path) -> None:
    """What was acknowledged before the cut is there, whole; nothing makes a flow that is half one thing."""
    lived = live(place)
    log = log_of(lived.path).read_bytes()
    frames = (len(log) - LOG_HEAD) // FRAME
    assert frames > 30
    for frame in range(frames + 1):
        for rest in (0, 24, 1000):
            size = min(LOG_HEAD + frame * FRAME + rest, len(log))
            path = lived.copy_to(place / f"{frame}-{rest}")
            os.truncate(log_of(path), size)
            with Journal(path) as journal:
                assert missing(journal, lived.until(size)) == []
            shutil.rmtree(path.parent)


def test_a_log_cut_after_the_file_took_it_in_is_never_silently_less(place: Path) -> None:
    """With the cut log the file would be older than it is: everything is there, or the file is set aside as it was."""
    lived = live(place, folded_in=True)
    log = log_of(lived.path).read_bytes()
    main = lived.path.read_bytes()
    reported = 0
    for frame in range((len(log) - LOG_HEAD) // FRAME + 1):
        path = lived.copy_to(place / str(frame))
        os.truncate(log_of(path), LOG_HEAD + frame * FRAME)
        try:
            with Journal(path) as journal:
                assert missing(journal, ended_or_all(lived, frame)) == [], frame
        except JournalCorrupted as exc:
            reported += 1
            (aside,) = (each for each in path.parent.iterdir() if str(each) in exc.user_message)
            assert aside.read_bytes() == main
            assert log_of(aside).read_bytes() == log[: LOG_HEAD + frame * FRAME]
        shutil.rmtree(path.parent)
    assert reported


def ended_or_all(lived: Lived, frame: int) -> dict[str, int]:
    """What must be there when nothing is reported: all, but for flows whose whole life, to its end, is after the cut.

    Those look like flows that `flows prune` has taken, and the module says that they cannot be told from them.
    """
    cut = LOG_HEAD + frame * FRAME
    began = {name for name, _, length in lived.acknowledged if length <= cut}
    return {name: seq for name, seq, _ in lived.acknowledged if not frame or name in began}


@pytest.mark.parametrize("logged", [True, False], ids=["live-log", "closed"])
def test_a_journal_cut_at_every_page_is_whole_or_set_aside(place: Path, logged: bool) -> None:
    """What the log still has is not missed; as soon as a page is lost, it is noticed when the journal is opened."""
    lived = live(place)
    if not logged:
        Journal(lived.path).close()
    main = lived.path.read_bytes()
    log = log_of(lived.path).read_bytes() if logged else None
    everything = lived.until(1 << 40)
    for page in range(len(main) // PAGE + 1):
        for rest in (0, 100):
            size = page * PAGE + rest
            if size > len(main):
                continue
            path = lived.copy_to(place / f"{page}-{rest}")
            os.truncate(path, size)
            try:
                with Journal(path) as journal:
                    assert missing(journal, everything) == []
            except JournalCorrupted:
                (aside,) = (each for each in path.parent.glob("*.unreadable-*") if each.name[-4] != "-")
                assert aside.read_bytes() == main[:size]
                assert log is None or log_of(aside).read_bytes() == log
                with Journal(path) as journal:
                    assert journal.flows() == []
            else:
                assert logged or size == len(main)
            shutil.rmtree(path.parent)


def test_what_killed_writers_left_behind_the_end_of_the_log_is_no_damage(place: Path) -> None:
    """A writer killed before it could say that it had committed leaves whole transactions nobody was told of."""
    lived = live(place)
    log = log_of(lived.path).read_bytes()
    log_of(lived.path).write_bytes(log + log[-3 * FRAME :] * 3)
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(1 << 40)) == []


def test_a_log_whose_header_is_damaged_is_not_written_over(place: Path) -> None:
    """SQLite would take it to be empty."""
    lived = live(place)
    with log_of(lived.path).open("r+b") as log:
        log.seek(16)
        log.write(b"\xa5" * 8)
    with pytest.raises(JournalCorrupted, match="the header of its log is damaged"):
        Journal(lived.path)


def test_a_transaction_torn_by_a_power_cut_is_no_damage(place: Path) -> None:
    """It was not acknowledged; everything before it is there."""
    lived = live(place)
    log = bytearray(log_of(lived.path).read_bytes())
    name, _, end = lived.acknowledged[-1]
    _, _, begin = lived.acknowledged[-2]
    log[begin + 100 : begin + 200] = b"\0" * 100
    log_of(lived.path).write_bytes(log)
    assert end == len(log)
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(begin)) == []
        assert journal.flow(name) is not None


def test_a_log_of_another_copy_is_noticed(place: Path) -> None:
    """An old backup put back under a log that goes on from a newer file is a mixture, and is set aside."""
    old = live(place / "old", before=1, during=1)
    Journal(old.path).close()
    lived = live(place / "new", before=30, during=1)
    shutil.copy(old.path, lived.path)
    with pytest.raises(JournalCorrupted):
        Journal(lived.path)


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "scribbled"])
def test_the_shared_memory_file_is_of_no_consequence(place: Path, damage: str) -> None:
    """SQLite makes it anew from the log."""
    lived = live(place)
    memory = lived.path.with_name(lived.path.name + "-shm")
    match damage:
        case "removed":
            memory.unlink()
        case "emptied":
            memory.write_bytes(b"")
        case "cut":
            os.truncate(memory, 100)
        case _:
            memory.write_bytes(b"\xa5" * memory.stat().st_size)
    with Journal(lived.path) as journal:
        assert missing(journal, lived.until(1 << 40)) == []
