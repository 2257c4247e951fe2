"""Private files are whole, ours alone, and never written where somebody else points, whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io, UnsafeFile
from systemprompt_cloud.base.files import (
    ensure_private_dir,
    locked,
    read_private,
    remove_private,
    set_aside,
    write_private,
)

SOMEBODY = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


def mode(path: Path) -> int:
    """The permission bits of a path itself, links not followed."""
    return stat.S_IMODE(path.lstat().st_mode)


def names(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(each.name for each in directory.iterdir())


@contextlib.contextmanager
def umask(bits: int) -> Generator[None]:
    """Run with this umask."""
    old = os.umask(bits)
    try:
        yield
    finally:
        os.umask(old)


# --- directories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 0o022, 0o077, 0o777])
def test_a_new_directory_is_private_under_any_umask(tmp_path: Path, bits: int) -> None:
    """0700, missing parents included."""
    with umask(bits):
        ensure_private_dir(tmp_path / "inner")
    assert mode(tmp_path / "inner") == 0o700
    with umask(0):
        ensure_private_dir(tmp_path / "a" / "b" / "c")
    assert [mode(tmp_path / part) for part in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_a_loose_directory_is_repaired_with_a_warning(tmp_path: Path, warned: list[str]) -> None:
    """What somebody opened is closed again, and said."""
    tmp_path.chmod(0o755)
    ensure_private_dir(tmp_path)
    ensure_private_dir(tmp_path)
    assert mode(tmp_path) == 0o700
    assert warned == [f"{tmp_path} was open to others (mode 0755); it is 0700 now"]


def test_a_directory_behind_a_link_is_refused(tmp_path: Path) -> None:
    """A link, also a dangling one, lets somebody else choose where our files go."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(UnsafeFile, match="symbolic link") as caught:
            ensure_private_dir(tmp_path / name)
        assert str(tmp_path / name) in caught.value.user_message
    assert not (tmp_path / "nowhere").exists()


@as_root
def test_somebody_elses_directory_is_refused(tmp_path: Path) -> None:
    """A foreign owner could swap our files under us."""
    (tmp_path / "theirs").mkdir(0o755)
    os.chown(tmp_path / "theirs", SOMEBODY, SOMEBODY)
    with pytest.raises(UnsafeFile, match=f"belongs to user {SOMEBODY}"):
        ensure_private_dir(tmp_path / "theirs")
    assert mode(tmp_path / "theirs") == 0o755


def test_a_file_in_the_directorys_place_is_named(tmp_path: Path) -> None:
    """Neither a file at the path nor one above it is mistaken for a directory."""
    (tmp_path / "file").touch(0o600)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Io, match=f"{path}.*[Nn]ot a directory"):
            ensure_private_dir(path)


# --- writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 0o022, 0o177, 0o777])
def test_a_written_file_is_private_under_any_umask(tmp_path: Path, bits: int) -> None:
    """0600, neither wider nor narrower, and what was written is what is read."""
    path = tmp_path / "f"
    with umask(bits):
        write_private(path, b"one")
        write_private(path, b"two")
    assert mode(path) == 0o600
    assert read_private(path) == b"two"
    assert names(tmp_path) == ["f"]


def test_no_file_is_ever_wider_while_it_is_written(tmp_path: Path) -> None:
    """Whoever looks into the directory during many writes under umask 0 never sees a bit for others."""
    path = tmp_path / "f"
    seen: set[int] = set()
    looks = 0
    done = threading.Event()

    def write() -> None:
        for _ in range(200):
            write_private(path, b"x" * 5000)
        done.set()

    with umask(0):
        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            for name in names(tmp_path):
                with contextlib.suppress(FileNotFoundError):
                    seen.add(mode(tmp_path / name))
                    looks += 1
        writer.join()
    assert looks > 0
    assert seen == {0o600}


def test_a_loose_file_ends_private_when_it_is_replaced(tmp_path: Path) -> None:
    """The new file does not inherit the old one's rights."""
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_private(path, b"new")
    assert mode(path) == 0o600


def test_a_linked_target_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    """Writing, reading and removing through a link are all refused, and what it points at is untouched."""
    (tmp_path / "real").write_bytes(b"theirs")
    link = tmp_path / "link"
    link.symlink_to("real")
    with pytest.raises(UnsafeFile, match=str(link)):
        write_private(link, b"ours")
    with pytest.raises(UnsafeFile, match=str(link)):
        read_private(link)
    with pytest.raises(UnsafeFile, match=str(link)):
        remove_private(link)
    assert link.is_symlink()
    assert (tmp_path / "real").read_bytes() == b"theirs"
    (tmp_path / "real").unlink()
    with pytest.raises(UnsafeFile):
        read_private(link)
    assert names(tmp_path) == ["link"]


@as_root
def test_somebody_elses_file_is_neither_read_nor_written(tmp_path: Path) -> None:
    """A file with a foreign owner may hold what its owner wants us to believe."""
    path = tmp_path / "f"
    path.write_bytes(b"theirs")
    os.chown(path, SOMEBODY, SOMEBODY)
    with pytest.raises(UnsafeFile, match=f"belongs to user {SOMEBODY}"):
        read_private(path)
    with pytest.raises(UnsafeFile, match=f"belongs to user {SOMEBODY}"):
        write_private(path, b"ours")
    with pytest.raises(UnsafeFile, match=f"belongs to user {SOMEBODY}"):
        remove_private(path)
    assert path.read_bytes() == b"theirs"


def test_a_directory_in_the_files_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    """It is not "no file", it is not replaced, and nothing is left beside it."""
    path = tmp_path / "f"
    path.mkdir()
    for attempt in (lambda: write_private(path, b"x"), lambda: read_private(path), lambda: remove_private(path)):
        with pytest.raises(Io, match=f"{path}: it is a directory"):
            attempt()
    assert names(tmp_path) == ["f"]


def test_a_missing_directory_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """write_private does not guess where a directory should be."""
    path = tmp_path / "gone" / "f"
    with pytest.raises(Io, match=f"cannot write {path}: No such file or directory"):
        write_private(path, b"x")
    with pytest.raises(Io, match=f"cannot lock {path}"), locked(path):
        pass
    assert names(tmp_path) == []


# --- reading -------------------------------------------------------------------------------------------


def test_a_missing_file_is_none_and_an_empty_one_is_not(tmp_path: Path) -> None:
    """None means only that there is no file."""
    assert read_private(tmp_path / "f") is None
    assert read_private(tmp_path / "no" / "f") is None
    (tmp_path / "f").touch(0o600)
    assert read_private(tmp_path / "f") == b""
    with pytest.raises(Io, match="Not a directory"):
        read_private(tmp_path / "f" / "below")


def test_a_loose_file_is_repaired_with_a_warning(tmp_path: Path, warned: list[str]) -> None:
    """What others could read is narrowed when we notice, and said once."""
    path = tmp_path / "f"
    path.write_bytes(b"x")
    path.chmod(0o640)
    assert read_private(path) == b"x"
    assert read_private(path) == b"x"
    assert mode(path) == 0o600
    assert warned == [f"{path} was open to others (mode 0640); it is 0600 now"]


def test_a_file_over_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    """Exactly the limit is read; one byte more is an error, not memory."""
    path = tmp_path / "f"
    write_private(path, b"x" * 11)
    assert read_private(path, limit=11) == b"x" * 11
    with pytest.raises(Io, match="holds 11 bytes, more than the 10"):
        read_private(path, limit=10)


def test_a_fifo_in_the_files_place_does_not_hang(tmp_path: Path) -> None:
    """Opening a FIFO would wait for its writer for ever."""
    os.mkfifo(tmp_path / "f", 0o600)
    with pytest.raises(Io, match="not a regular file"):
        read_private(tmp_path / "f")


# --- locking, setting aside, removing ------------------------------------------------------------------


def test_a_linked_lock_file_is_refused(tmp_path: Path) -> None:
    """A link in the lock file's place would make us create a file elsewhere."""
    (tmp_path / "f.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile, match="symbolic link"), locked(tmp_path / "f", timeout=1):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_set_aside_keeps_its_content_and_never_replaces_another(tmp_path: Path) -> None:
    """Twice within one second makes two files; both are private."""
    path = tmp_path / "f"
    kept: list[Path] = []
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        path.chmod(0o644)
        kept.append(set_aside(path))
    assert [each.read_bytes() for each in kept] == [b"one", b"two", b"three"]
    assert all(each.name.startswith("f.unreadable-2") for each in kept)
    assert {mode(each) for each in kept} == {0o600}
    assert not path.exists()
    with pytest.raises(Io, match="cannot set aside"):
        set_aside(path)


def test_a_directory_in_the_files_place_can_be_set_aside(tmp_path: Path) -> None:
    """Whatever stands where the file should, a save can go on after it."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "inside").touch()
    assert (set_aside(tmp_path / "f") / "inside").exists()


def test_removing_says_whether_there_was_a_file_and_sweeps_what_a_killed_writer_left(tmp_path: Path) -> None:
    """After a logout no token is left in a temporary file; another file's temporary is not touched."""
    path = tmp_path / "f"
    write_private(path, b"token")
    leftover = tmp_path / ".f.0123456789abcdef.tmp"
    leftover.write_bytes(b"token")
    other = tmp_path / ".g.0123456789abcdef.tmp"
    other.write_bytes(b"another file's")
    assert remove_private(path) is True
    assert remove_private(path) is False
    assert names(tmp_path) == [other.name]


def test_what_cannot_be_swept_does_not_keep_the_rest(tmp_path: Path) -> None:
    """Each leftover is swept for itself, in whatever order the directory lists them: what fails keeps no other."""
    path = tmp_path / "f"
    for number in range(8):
        (tmp_path / f".f.{number:016x}.tmp").write_bytes(b"token")
        (tmp_path / f".f.{number + 8:016x}.tmp").symlink_to(tmp_path / "vanished")
    write_private(path, b"new")
    assert [name for name in names(tmp_path) if (tmp_path / name).is_file()] == ["f"]


def test_a_fifo_with_a_temporary_files_name_does_not_hang(tmp_path: Path) -> None:
    """Opening a FIFO would wait for its writer for ever; the write it follows is done."""
    os.mkfifo(tmp_path / ".f.0123456789abcdef.tmp", 0o600)
    write_private(tmp_path / "f", b"new")
    assert names(tmp_path) == ["f"]
