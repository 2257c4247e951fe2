"""Directories that are ours: recognised, made and hidden from git; any other is left as it is.

Theory. What holds our files is closed to everybody else and hidden from git as a whole. Done to a directory that is in
use for something else, say a project's root, either would do harm: its sources vanish from `git status`, or where it
has a `.gitignore` of its own the secrets are one `git add` away from being published, and nobody else can enter it any
more. So a directory that has something in it must show that it is ours before anything happens to it: by a file of
ours in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Final

from .errors import DirectoryInUse
from .files import ensure_private_dir, fail, write_private

_HIDE_ALL: Final = b"*\n"
_NOTHING: Final = frozenset({".gitignore", "lost+found"})
"""What may be in a directory, and it is as good as empty; a file system of its own begins with the second."""


def ensure_own_directory(path: Path, ours: Collection[str]) -> None:
    """Make a directory private, and hidden from git.

    Args:
        path: The directory. A `.gitignore` that is already there is left as it is.
        ours: Names that show it to be ours, where one of them is in it.

    Raises:
        DirectoryInUse: There is something in it, and nothing of ours. Nothing was changed.
        UnsafeFile: It is a symbolic link or belongs to another user.
        Io: It, or its `.gitignore`, cannot be written.
    """
    if is_foreign(path, ours):
        raise DirectoryInUse(f"{path} holds other things and nothing of ours, so it is left as it is")
    make_hidden(path)


def make_hidden(path: Path) -> None:
    """`ensure_private_dir`, and a `.gitignore` holding `*` inside, so that no secret in it is ever committed."""
    ensure_private_dir(path)
    ignore = path / ".gitignore"
    if not os.path.lexists(ignore):
        write_private(ignore, _HIDE_ALL)


def is_foreign(path: Path, ours: Collection[str]) -> bool:
    """Whether a directory is in use for something else; one that is not there is not.

    Args:
        path: The directory.
        ours: Names that show it to be ours, where one of them is in it.

    Raises:
        Io: It cannot be looked into.
    """
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False  # `ensure_private_dir` names what it is
        # What could not be read is ours under the name it got when it was set aside, too.
        names = {entry.name.partition(".unreadable-")[0] for entry in path.iterdir()}
        known = frozenset(ours)
        if not any(map(_counts, names - known - _NOTHING - {f"{name}.lock" for name in known})):
            return False
        # Looked at after the names: who fills the directory at this moment begins with the `.gitignore`.
        return not (names & known or _hides_all(path / ".gitignore"))
    except FileNotFoundError:
        return False
    except OSError as exc:
        fail("look into", path, exc)


def _counts(name: str) -> bool:
    """Not a temporary file: the first one of ours is there a moment before the `.gitignore` it becomes."""
    return not (name.startswith(".") and name.endswith(".tmp"))


def _hides_all(ignore: Path) -> bool:
    """Whether it is the `.gitignore` we write; other programs' hold more."""
    try:
        found = ignore.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == len(_HIDE_ALL) and ignore.read_bytes() == _HIDE_ALL
    except FileNotFoundError:
        return False
