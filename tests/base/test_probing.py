"""A directory is tried before it is relied on: what it cannot do is named, and nothing is left in it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import DirectoryUnusable
from systemprompt_cloud.base.probing import try_directory

Fails = Callable[..., None]


def failing(number: int) -> Fails:
    """A system call that a file system refuses."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("module", "call", "number", "problem"),
    [
        (os, "fchmod", errno.EPERM, "cannot keep a file private, chmod is refused: Operation not permitted"),
        (fcntl, "flock", errno.ENOSYS, "has no file locks: Function not implemented"),
        (fcntl, "flock", errno.ENOLCK, "has no file locks: No locks available"),
        (fcntl, "lockf", errno.EOPNOTSUPP, "has no file locks: Operation not supported"),
        (os, "write", errno.ENOSPC, "cannot be written: no space left on its device"),
        (os, "fsync", errno.EIO, "cannot be written: Input/output error"),
    ],
)
def test_what_a_file_system_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str, number: int, problem: str
) -> None:
    """With the directory and the system's reason."""
    with monkeypatch.context() as patch:
        patch.setattr(module, call, failing(number))
        with pytest.raises(DirectoryUnusable) as caught:
            try_directory(tmp_path)
    assert caught.value.user_message == f"{tmp_path} {problem}"
    assert caught.value.remedy is not None
    assert list(tmp_path.iterdir()) == []


def test_modes_that_do_not_change_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where chmod answers yes and does nothing, as on a drive of Windows."""

    def widen(fd: int, _mode: int) -> None:
        Path(f"/proc/self/fd/{fd}").chmod(0o777)

    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc here")
    monkeypatch.setattr(os, "fchmod", widen)
    with pytest.raises(DirectoryUnusable, match="cannot keep a file private: its mode stays 0777"):
        try_directory(tmp_path)


def test_locks_that_lock_nothing_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every flock is granted."""

    def grant(_fd: int, _how: int) -> None: ...

    monkeypatch.setattr(fcntl, "flock", grant)
    with pytest.raises(DirectoryUnusable, match="has no file locks that keep others out"):
        try_directory(tmp_path)


def test_a_good_directory_is_left_as_it_was(tmp_path: Path) -> None:
    """And what a killed process left of its try is swept."""
    (tmp_path / f".probe.{'0' * 16}.tmp").write_bytes(b"")
    (tmp_path / "credentials.json").write_bytes(b"{}")
    try_directory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]


def test_a_directory_that_is_not_there_is_unusable(tmp_path: Path) -> None:
    """It is not made here."""
    with pytest.raises(DirectoryUnusable, match="No such file or directory"):
        try_directory(tmp_path / "missing")
