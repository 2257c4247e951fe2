"""Keeping the journal small: retention and compaction.

Theory. A journal only grows: ended flows are kept for a while, so that a person can see what happened. `prune` removes
those that ended before a moment, a root flow together with the flows inside it, because half a history would be
misleading. It works in small transactions, so that running flows hardly wait, and it may be stopped between any two of
them. New flows reuse the space it frees; `compact` returns the space to the file system, which rewrites the file and so
is done only while no flow is driven.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from ...base.moments import moment_text
from .file import LOG, companion
from .journal import BUSY_SECONDS, Journal
from .owners import any_owner_alive
from .reading import MAX_SEQ
from .vault import VaultFiles, file_name

BATCH: Final = 50
"""Root flows removed in one transaction."""
PAUSE_SECONDS: Final = 0.002
"""The shortest pause after a transaction. A longer transaction is followed by a pause of its own length: SQLite's
waiting writers poll and are not queued, so the file must be free for as long as it was held."""

_TREES: Final = """
WITH RECURSIVE tree (root, id, status) AS (
    SELECT id, id, status FROM flows WHERE id IN (SELECT value FROM json_each(?))
    UNION ALL
    SELECT tree.root, flows.id, flows.status FROM flows JOIN tree ON flows.parent = tree.id
)
SELECT root, id, status FROM tree
"""
_KEPT: Final = "SELECT rowid FROM flows WHERE parent IS NULL AND status = 'ended' ORDER BY rowid DESC LIMIT 1 OFFSET ?"
_OLD: Final = """
SELECT rowid, id FROM flows WHERE rowid > ? AND rowid < ? AND parent IS NULL AND status = 'ended' AND updated < ?
ORDER BY rowid LIMIT ?
"""


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What `prune` removed, or would remove.

    Attributes:
        flows: Root flows.
        children: The flows inside them.
        records: Lines of history of both.
        kept: Old root flows that were left alone, because a flow inside them has not ended.
        spared: Old root flows that were left alone, because what they know is needed.
    """

    flows: int = 0
    children: int = 0
    records: int = 0
    kept: int = 0
    spared: int = 0


class Compacted(msgspec.Struct, frozen=True, kw_only=True):
    """What `compact` did.

    Attributes:
        before: Bytes on disk, the write-ahead log included.
        after: Bytes on disk now.
        outcome: `done`; `driven` when flows were being driven, so the file was not rewritten.
    """

    before: int
    after: int
    outcome: Literal["done", "driven"]


def prune(
    journal: Journal,
    vault: VaultFiles,
    before: datetime,
    *,
    keep: int = 0,
    spare: Collection[str] = (),
    dry_run: bool = False,
) -> Pruned:
    """Remove root flows that ended before a moment, with every flow inside them and their histories.

    Flows that have not ended are never touched, however old. It may be stopped anywhere, and run while others drive.

    Args:
        journal: The open journal.
        vault: Where its flows' secrets are; a killed process may have left some of flows that have ended.
        before: Only what ended earlier.
        keep: The newest so many ended root flows stay, however old they are.
        spare: Root flows that stay, by their ids: what they know is needed still.
        dry_run: Only count.

    Raises:
        JournalError: The journal cannot be read or written; what was removed so far stays removed.
        Io: A left secret cannot be removed; its flow stays.
    """
    flows = children = records = kept = spared = 0
    lasted = 0.0
    with connected(journal, "prune") as connection:
        for number, old in enumerate(_batches(connection, moment_text(before), keep)):
            if number and not dry_run:
                time.sleep(max(PAUSE_SECONDS, lasted))
            began = time.monotonic()
            with _transaction(connection, write=not dry_run):
                trees: dict[str, list[tuple[str, str]]] = {}
                wanted = [root for root in old if root not in spare]
                spared += len(old) - len(wanted)
                for root, flow, status in connection.execute(_TREES, (_array(wanted),)):
                    trees.setdefault(root, []).append((flow, status))
                ended = [tree for tree in trees.values() if all(status == "ended" for _, status in tree)]
                removed = [flow for tree in ended for flow, _ in tree]
                flows += len(ended)
                children += len(removed) - len(ended)
                kept += len(trees) - len(ended)
                records += _count(connection, removed) if dry_run else _remove(connection, vault, removed)
            lasted = time.monotonic() - began
    return Pruned(flows=flows, children=children, records=records, kept=kept, spared=spared)


def compact(journal: Journal, owners_directory: Path) -> Compacted:
    """Return unused space to the file system, unless flows are being driven.

    Args:
        journal: The open journal.
        owners_directory: Where the lock files of the processes are that drive its flows.

    Raises:
        JournalError: It cannot be rewritten, for lack of space for example; it is unchanged.
        Io: A lock file cannot be looked at.
    """
    size = journal_bytes(journal.path)
    if any_owner_alive(owners_directory):
        return Compacted(before=size, after=size, outcome="driven")
    with connected(journal, "compact") as connection:
        connection.execute("VACUUM")
        # The new content is in the log until a checkpoint; a reader may prevent this one, and a later one does it.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Compacted(before=size, after=journal_bytes(journal.path), outcome="done")


def journal_bytes(path: Path) -> int:
    """Bytes a journal takes on disk, its write-ahead log included."""
    return sum(each.stat().st_size for each in (path, companion(path, LOG)) if each.exists())


# --- inside ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(journal: Journal, verb: str) -> Generator[sqlite3.Connection, None, None]:
    """A connection besides the journal's two, so that nothing here blocks them; never creates the file."""
    try:
        address = f"{journal.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            yield connection
    except sqlite3.Error as exc:
        raise journal.failure(exc, verb) from exc


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, *, write: bool) -> Generator[None, None, None]:
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _array(flows: Sequence[str]) -> str:
    return msgspec.json.encode(flows).decode()


def _batches(connection: sqlite3.Connection, before: str, keep: int) -> Iterator[list[str]]:
    """The old root flows, the oldest first, some at a time: neither they nor what is between them is held."""
    newest = connection.execute(_KEPT, (keep - 1,)).fetchone() if keep else (MAX_SEQ,)
    last = 0
    while newest and (old := connection.execute(_OLD, (last, newest[0], before, BATCH)).fetchall()):
        yield [flow for _, flow in old]
        last = old[-1][0]


def _count(connection: sqlite3.Connection, flows: Sequence[str]) -> int:
    sql = "SELECT count(*) FROM events WHERE flow IN (SELECT value FROM json_each(?))"
    return int(connection.execute(sql, (_array(flows),)).fetchone()[0])


def _remove(connection: sqlite3.Connection, vault: VaultFiles, flows: Sequence[str]) -> int:
    # Before the rows: a secret without a flow would never be found again.
    for flow in flows:  # and not all files there are: others have thousands of flows running meanwhile
        if os.path.lexists(vault.directory / file_name(flow)):
            vault.discard(flow)
    array = (_array(flows),)
    count = connection.execute("DELETE FROM events WHERE flow IN (SELECT value FROM json_each(?))", array).rowcount
    connection.execute("DELETE FROM inbox WHERE flow IN (SELECT value FROM json_each(?))", array)
    connection.execute("DELETE FROM flows WHERE id IN (SELECT value FROM json_each(?))", array)
    return count
