"""A journal as a killed process leaves it: the file, its log, and what had been acknowledged at each length of the log.

The files are copied while they are open, which is what a crash leaves: nothing is folded in, nothing is closed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from systemprompt_cloud.engine.journal.journal import Journal

from tests.faults.storage import STEPS, write_flow


def log_of(path: Path) -> Path:
    """A journal's write-ahead log."""
    return path.with_name(path.name + "-wal")


class Lived(NamedTuple):
    """A journal as a killed process leaves it.

    Attributes:
        path: The file, its log beside it.
        acknowledged: After each commit: which flow, which record, and how long the log was then.
    """

    path: Path
    acknowledged: list[tuple[str, int, int]]

    def until(self, size: int) -> dict[str, int]:
        """What had been acknowledged when the log was that long."""
        return {name: seq for name, seq, length in self.acknowledged if length <= size}

    def copy_to(self, directory: Path) -> Path:
        """The same, to be damaged."""
        shutil.copytree(self.path.parent, directory)
        return directory / self.path.name


def live(place: Path, *, folded_in: bool = False, before: int = 3, during: int = 4) -> Lived:
    """Write flows, fold some in, write more, and leave without closing.

    Args:
        place: Where.
        folded_in: Whether the file has taken in the whole log at the end, which is still there.
        before: Flows in the file before the log begins.
        during: Flows in the log.
    """
    path = place / "live" / "journal.sqlite3"
    acknowledged: list[tuple[str, int, int]] = []
    with Journal(path) as journal:
        for number in range(before):
            for seq in range(1, STEPS + 1):
                write_flow(journal, f"before{number}", seq)
                acknowledged.append((f"before{number}", seq, 0))
    # Closing folded the log in; a new one begins.
    with Journal(path) as journal:
        for number in range(during):
            for seq in range(1, STEPS + 1):
                write_flow(journal, f"flow{number}", seq)
                acknowledged.append((f"flow{number}", seq, log_of(path).stat().st_size))
        left = Lived(Lived(path, acknowledged).copy_to(place / "left"), acknowledged)
    if folded_in:
        shutil.copy(path, left.path)  # killed between taking the log in and removing it
    return left
