"""The directories that are ours: recognised, made and hidden from git; any other is left as it is.

Theory. What holds our files is closed to everybody else and hidden from git as a whole. Done to a directory that is in
use for something else, say a project's root that `--dir .` names, either would do harm: its sources vanish from
`git status`, or where it has a `.gitignore` of its own the credentials are one `git add` away from being published, and
nobody else can enter it any more. So a directory that has something in it must show that it is ours before anything
happens to it: by its place, or by a file of ours in it.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

from ..errors import DirectoryInUse
from .files import ensure_private_dir, fail, write_private
from .paths import CloudPaths, user_directories
from .project import PROJECT_DIRECTORY, ProfilePath

_HIDE_ALL: Final = b"*\n"
_NOTHING: Final = frozenset({".gitignore", "lost+found"})
"""What may stand in a directory, and it is as good as empty; a file system of its own begins with the second."""


def ensure_cloud_dir(path: Path, *files: str) -> None:
    """`ensure_private_dir`, and a `.gitignore` holding `*` inside, so that no secret in it is ever committed.

    Args:
        path: The `.systemprompt` directory or the like. A `.gitignore` that is already there is left as it is.
        files: Names of files that show it to be ours, beside those every directory of ours may hold.

    Raises:
        DirectoryInUse: There is something in it, and nothing of ours. Nothing was changed.
        UnsafeFile: The directory is a symbolic link or belongs to somebody else.
        Io: The directory or its `.gitignore` cannot be written.
    """
    refuse_foreign(path, *files)
    ensure_private_dir(path)
    ignore = path / ".gitignore"
    if not os.path.lexists(ignore):
        write_private(ignore, _HIDE_ALL)


def refuse_foreign(path: Path, *files: str) -> None:
    """Refuse a directory that is in use for something else; nothing is changed.

    Args:
        path: The directory; it need not exist.
        files: As for `ensure_cloud_dir`.

    Raises:
        DirectoryInUse: There is something in it, and nothing of ours.
        Io: It cannot be looked into.
    """
    if _is_foreign(path, files):
        raise DirectoryInUse(
            f"{path} holds other things and nothing of ours, so it is left as it is",
            hint=f"Name a directory of its own: --dir {shlex.quote(str(path / PROJECT_DIRECTORY))}",
        )


def _is_foreign(path: Path, files: tuple[str, ...]) -> bool:
    if path in user_directories(os.environ) or PROJECT_DIRECTORY in Path(os.path.realpath(path)).parts:
        return False
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False  # `ensure_private_dir` says what it is
        # What could not be read is ours under the name it got when it was set aside, too.
        names = {entry.name.partition(".unreadable-")[0] for entry in path.iterdir()}
        paths = CloudPaths(directory=path, state_directory=path, origin="explicit")
        shared = (paths.credentials, paths.tenants, paths.session, paths.journal)
        ours = {*(each.name for each in shared), ProfilePath.CONFIG.filename, *files}
        if not any(map(_says_something, names - ours - _NOTHING - {f"{name}.lock" for name in ours})):
            return False
        # Looked at after the names: who fills the directory at this moment begins with the `.gitignore`.
        return not (names & ours or _hides_all(path / ".gitignore") or os.path.lexists(paths.sessions_index))
    except FileNotFoundError:
        return False
    except OSError as exc:
        fail("look into", path, exc)


def _says_something(name: str) -> bool:
    """Not a temporary file: the first one of ours is there a moment before the `.gitignore` it becomes."""
    return not (name.startswith(".") and name.endswith(".tmp"))


def _hides_all(ignore: Path) -> bool:
    """Whether it is the `.gitignore` we write; other programs' say more."""
    try:
        found = ignore.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == len(_HIDE_ALL) and ignore.read_bytes() == _HIDE_ALL
    except FileNotFoundError:
        return False
