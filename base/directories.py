"""Directories that are ours: recognised, made and hidden from git; any other is left as it is.

Theory. A directory of our files is private (0700) and hidden from git as a whole. Doing that to a directory in use for
something else, a project's root for example, would do harm: its sources vanish from `git status`, or, where it has a
`.gitignore` of its own, one `git add` publishes the secrets, and other users cannot enter it any more. So a directory
that is not empty is changed only when a file in it shows that it is ours.
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
"""Names that may be in a directory that counts as empty; a new file system has the second."""


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
        Io: It cannot be read.
    """
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False  # `ensure_private_dir` names what it is
        # A file of ours that was set aside as unreadable still shows that the directory is ours.
        names = {entry.name.partition(".unreadable-")[0] for entry in path.iterdir()}
        known = frozenset(ours)
        if not any(map(_counts, names - known - _NOTHING - {f"{name}.lock" for name in known})):
            return False
        # After the names: a process that is filling the directory right now writes the `.gitignore` first.
        return not (names & known or _hides_all(path / ".gitignore"))
    except FileNotFoundError:
        return False
    except OSError as exc:
        fail("look into", path, exc)


def _counts(name: str) -> bool:
    """Whether it is no temporary file: our `.gitignore` begins as one."""
    return not (name.startswith(".") and name.endswith(".tmp"))


def _hides_all(ignore: Path) -> bool:
    """Whether it is the `.gitignore` we write; other programs' hold more."""
    try:
        found = ignore.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == len(_HIDE_ALL) and ignore.read_bytes() == _HIDE_ALL
    except FileNotFoundError:
        return False
