"""Which directories are ours: by their place, or by a file of ours in them (`base/directories.py` is the rule)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ...base.directories import is_foreign, make_hidden
from ...base.errors import DirectoryInUse
from ...base.remedies import Remedy
from .project import PROJECT_DIRECTORY, CloudPath, ProfilePath
from .user_directories import user_directories

JOURNAL: Final = "journal.sqlite3"
"""What the journal is called in the directory of its state."""

_OURS: Final = frozenset(
    {
        *(path.filename for path in (CloudPath.CREDENTIALS, CloudPath.TENANTS, CloudPath.CLI_SESSION)),
        *(f"{path.filename}.lock" for path in (CloudPath.CREDENTIALS, CloudPath.TENANTS)),
        JOURNAL,
        ProfilePath.CONFIG.filename,
    }
)


def ensure_cloud_dir(path: Path, *files: str) -> None:
    """Make a directory of ours private, and hidden from git.

    Args:
        path: The `.systemprompt` directory or the like. A `.gitignore` that is already there is left as it is.
        files: Names of files that show it to be ours, beside those every directory of ours may hold.

    Raises:
        DirectoryInUse: There is something in it, and nothing of ours. Nothing was changed.
        UnsafeFile: The directory is a symbolic link or belongs to somebody else.
        Io: The directory or its `.gitignore` cannot be written.
    """
    refuse_foreign(path, *files)
    make_hidden(path)


def refuse_foreign(path: Path, *files: str) -> None:
    """Refuse a directory that is in use for something else; nothing is changed.

    Args:
        path: The directory; it need not exist.
        files: As for `ensure_cloud_dir`.

    Raises:
        DirectoryInUse: There is something in it, and nothing of ours.
        Io: It cannot be looked into.
    """
    if _is_ours_by_place(path) or not is_foreign(path, {*_OURS, *files}):
        return
    if not os.path.lexists(CloudPath.SESSIONS_DIR.resolve(path) / "index.json"):
        raise DirectoryInUse(
            f"{path} holds other things and nothing of ours, so it is left as it is",
            hint=f"Use an empty directory, for example {path / PROJECT_DIRECTORY}",
            remedy=Remedy("use_directory", {"directory": str(path / PROJECT_DIRECTORY)}),
        )


def _is_ours_by_place(path: Path) -> bool:
    return path in user_directories(os.environ) or PROJECT_DIRECTORY in Path(os.path.realpath(path)).parts
