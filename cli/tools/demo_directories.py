"""Where demos leave their files: a directory each, of which the newest few are kept.

A demo's directory can be looked at afterwards (`--dir`), so it stays; but each holds credentials and a journal, of a
local cloud that is gone, and would never be removed. So a new demo removes the oldest. What is removed is
only what a demo made: a directory, not a link to one, with the marker file in it that was written when it was made.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from ...base.errors import Io
from ...base.files import ensure_private_dir, write_private
from ...base.log import get_logger
from ...engine.journal.owners import any_owner_alive
from ...io.local.cloud_dir import ensure_cloud_dir
from ...io.local.paths import CloudPaths

logger = get_logger(__name__)

KEPT: Final = 5
"""Directories there are afterwards, the new one included."""
MARKER: Final = ".made-by-demo"
_SAYS: Final = b"Made by `systemprompt-cloud demo`, which removes it when there are newer ones.\n"


def new_demo_directory(base: Path) -> Path:
    """Make a fresh directory for a demo, and remove those of demos long ago.

    Args:
        base: Where demos' directories are; made when it is not there.

    Returns:
        The directory, empty but for the marker and what makes it ours.

    Raises:
        Io: It cannot be made. One that cannot be removed is only mentioned in the log.
    """
    ensure_private_dir(base)
    try:
        directory = Path(tempfile.mkdtemp(prefix="", dir=base))
    except OSError as exc:
        raise Io(f"cannot make a directory in {base}: {exc.strerror or exc}") from exc
    ensure_cloud_dir(directory)
    write_private(directory / MARKER, _SAYS)
    others = sorted((made, path) for path in base.iterdir() if path != directory and (made := _made_at(path)))
    for _, path in others[: max(len(others) - (KEPT - 1), 0)]:
        _remove(path)
    return directory


def _made_at(path: Path) -> int | None:
    """When a demo made this directory (nanoseconds); None for everything a demo has not made."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            return None
        marker = (path / MARKER).lstat()
    except OSError:
        return None
    return marker.st_mtime_ns if stat.S_ISREG(marker.st_mode) else None


def _remove(path: Path) -> None:
    try:
        if any_owner_alive(CloudPaths(directory=path, state_directory=path, origin="explicit").owners):
            return
        # Opens directories by descriptor and without following links, so nothing outside of them can be reached.
        shutil.rmtree(path)
    except (OSError, Io) as exc:
        logger.info("the directory %s of an old demo was not removed: %s", path, exc)
