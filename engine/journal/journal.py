"""The journal: one SQLite file that holds every flow, every event, and every signal on its way.

The rows of `events` are the truth; the row in `flows` is a cache of their fold, written in the same transaction. The
file is in WAL mode with `synchronous=FULL`: when a write returns, it is on disk. Bodies are JSON, so `sqlite3 FILE` is
enough to read everything. Secrets never come here; they live in the vault, and bodies carry references.

This module is synchronous and knows neither trio nor machines: `commits.py` groups writes from many tasks into one
transaction, and the engine decides what is written.

A file that cannot be understood is set aside and named, never written over. A file of a newer schema is refused.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Self

import msgspec

from ...base.directories import ensure_own_directory
from ...base.remedies import Remedy
from ..errors import (
    EventNotAccepted,
    FlowBusy,
    FlowExists,
    FlowNotFound,
    JournalCorrupted,
    JournalError,
    JournalTooNew,
    NotStorable,
    SignalTaken,
)
from .check import check_whole, explain
from .file import SETTLE_SECONDS, FileId, Held, InPlace, log_ahead, make_ready, set_journal_aside
from .owners import OwnerName
from .posts import Listener, listen, tell
from .reading import FLOW_COLUMNS, RECORD_COLUMNS, Reading
from .records import APPLICATION_ID, CANCEL, KEPT_AT_MOST, RESTING, FlowRow, Record
from .schema import CURRENT, Schema, upgrade

BUSY_SECONDS: Final = 10.0
TRIES: Final = 3
"""How often a journal must look damaged, one time after the other, before it is set aside."""

_INSERT_FLOW: Final = f"INSERT INTO flows ({FLOW_COLUMNS}) VALUES ({', '.join('?' * len(FlowRow.__struct_fields__))})"  # noqa: S608 our own names
_INSERT_RECORD: Final = f"INSERT INTO events ({RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 our own names
_DROP_SIGNAL: Final = "DELETE FROM inbox WHERE id = ?"
_MOVE_FLOW: Final = """
UPDATE flows SET state = ?, incarnation = ?, seq = ?, verdict = ?, deadline = ?, context = ?, trouble = ?, updated = ?,
    owner = ? WHERE id = ? AND seq = ? AND owner IS ?
"""
# Setting the status rewrites its indexes, even when it stays the same: half of the whole update.
_TURN_FLOW: Final = _MOVE_FLOW.replace("SET", "SET status = ?,")


class Journal(Reading):
    """The file, open. One connection for writing, one for reading; each used by one thread at a time.

    Args:
        path: The file; made, with its directory, when it is missing and `create` is true.
        create: False to raise `FlowNotFound` rather than make an empty journal, for commands that only look.
        make_directory: Makes its directory; when not given it is made private and hidden from git, unless it is in use
            for something else.
        schema: What an older file is brought up to; see `schema.py`.
        owners: The directory of the lock files of the processes that drive its flows; `owners` beside it when not
            given.

    Raises:
        JournalCorrupted: The file is not a readable journal; it was set aside, and the message says where.
        UnsafeFile: It is a symbolic link, belongs to somebody else or has a second name; it was not touched.
        JournalTooNew: A newer version wrote it.
        JournalError: It cannot be opened, for a reason the message names.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = True,
        make_directory: Callable[[Path], None] | None = None,
        schema: Schema = CURRENT,
        owners: Path | None = None,
    ) -> None:
        self._patience = BUSY_SECONDS
        self._schema = schema
        self._owners = owners
        self._posted = False
        self.path = path = path.absolute()  # the process may change its directory
        if not make_ready(
            path, create=create, make_directory=make_directory or partial(ensure_own_directory, ours={path.name})
        ):
            raise FlowNotFound(
                f"there are no flows yet: {path} does not exist",
                hint="Start a flow first.",
                remedy=Remedy("start_flow"),
            )
        self._held = Held(path)
        try:
            self._open_surely()
        except BaseException as exc:
            self._held.close()
            if isinstance(exc, sqlite3.DatabaseError):
                raise _set_aside(path, self._held.id, exc) from exc
            raise

    def _open_surely(self) -> None:
        for left in reversed(range(TRIES)):
            try:
                try:
                    return self._open()
                except sqlite3.DatabaseError as exc:
                    if isinstance(exc, sqlite3.OperationalError) or not left:
                        raise
                # SQLite calls a file malformed, too, that it could not read this once; and what another process has
                # begun to write this instant looks like damage.
                self._held.read_all()
                time.sleep(SETTLE_SECONDS)
            except (sqlite3.OperationalError, OSError) as exc:
                raise self.failure(exc, "open") from exc
        return None

    def _open(self) -> None:
        check_whole(self._held)
        if int.from_bytes(self._held.head[60:64], "big") < self._schema.version:
            upgrade(self.path, self._schema, owners=self._owners)
        self._writer = self._connect()
        try:
            self._reader = self._connect()
            self._in_place = InPlace(self.path)
        except BaseException:
            self._writer.close()
            raise

    def listen(self, listener: Listener) -> None:
        """Tell a listener of every commit of this process to this file, through whichever connection."""
        listen(self._held.id, listener)

    def close(self) -> None:
        """Close both connections; everything written is already on disk."""
        for connection in (self._reader, self._writer):
            connection.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing: each function runs inside `write`, several of them in one transaction -------------------------

    def write(self, operations: Sequence[Callable[[], object]], *, patience: float | None = None) -> None:
        """Run the operations in one transaction and return when it is on disk; on any error none of them happened.

        Args:
            operations: Methods of this journal, or functions that call them.
            patience: Seconds to wait for another process's transaction; `BUSY_SECONDS` when not given.

        Raises:
            JournalBusy: Another process did not let go in time.
            JournalMoved: The file is not where it was opened; what would be written now would be lost.
            NotStorable: A text is longer than SQLite takes.
            JournalError: The disk is full, read-only or failing; the message names the file, the hint the fix.
        """
        wait = BUSY_SECONDS if patience is None else patience
        try:
            if wait != self._patience:
                self._writer.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
                self._patience = wait
            self._writer.execute("BEGIN IMMEDIATE")
            self._posted = False
            try:
                for operation in operations:
                    operation()
                self._in_place.check()
                self._writer.execute("COMMIT")
            except BaseException:
                # After some errors (a full disk) SQLite has rolled back by itself.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        except (sqlite3.DataError, OverflowError) as exc:
            limit = self._writer.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
            raise NotStorable(
                f"a context or an event is longer than the {limit} bytes that the journal {self.path} takes",
                field="",
                hint="Keep what is large elsewhere, and a reference to it in the context.",
            ) from exc
        except sqlite3.Error as exc:
            raise self.failure(exc, "write") from exc
        tell(self._held.id, posted=self._posted)

    def begin(self, row: FlowRow, record: Record) -> None:
        """A new flow with its first record.

        Raises:
            FlowExists: An unfinished flow of this machine has the same key, or a flow has the same id.
        """
        same = "SELECT id FROM flows WHERE id = ? OR (machine = ? AND key = ? AND status <> 'ended')"
        if found := self._writer.execute(same, (row.id, row.machine, row.key)).fetchone():
            raise FlowExists(found[0])
        self._writer.execute(_INSERT_FLOW, msgspec.structs.astuple(row))
        self._writer.execute(_INSERT_RECORD, msgspec.structs.astuple(record))

    def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        """One more record, and the flow as it is after it; a signal it came from leaves the inbox.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing was changed.
            SignalTaken: The signal has left the inbox already; nothing was changed.
        """
        values = (
            after.state,
            after.incarnation,
            after.seq,
            after.verdict,
            after.deadline,
            after.context,
            after.trouble,
            after.updated,
            after.owner,
            before.id,
            before.seq,
            before.owner,
        )
        if after.status == before.status:
            cursor = self._writer.execute(_MOVE_FLOW, values)
        else:
            cursor = self._writer.execute(_TURN_FLOW, (after.status, *values))
        if cursor.rowcount != 1:
            raise self._moved(before.id)
        self._writer.execute(_INSERT_RECORD, msgspec.structs.astuple(record))
        if signal is not None and self._writer.execute(_DROP_SIGNAL, (signal,)).rowcount != 1:
            # A process that drove the flow before took the signal and died, after this one had read the inbox.
            raise SignalTaken(f"flow {before.id} has taken {record.name} from its inbox already")
        if after.status == "ended":
            self._writer.execute("DELETE FROM inbox WHERE flow = ?", (after.id,))

    def migrate(
        self, before: FlowRow, after: FlowRow, migrated: Record, record: Record, signal: int | None = None
    ) -> None:
        """A flow of an older table becomes one of today's, and takes its next step.

        Raises:
            FlowBusy: Another process moved the flow meanwhile; nothing was changed.
            FlowExists: Today's machine has another name, and an unfinished flow of it has the same key.
        """
        if after.machine != before.machine and after.key is not None and after.status != "ended":
            same = "SELECT id FROM flows WHERE machine = ? AND key = ? AND status <> 'ended' AND id <> ?"
            if found := self._writer.execute(same, (after.machine, after.key, after.id)).fetchone():
                raise FlowExists(found[0])
        self.advance(before, after, record, signal)
        self._writer.execute(_INSERT_RECORD, msgspec.structs.astuple(migrated))
        sql = "UPDATE flows SET machine = ?, version = ?, fingerprint = ? WHERE id = ?"
        self._writer.execute(sql, (after.machine, after.version, after.fingerprint, after.id))

    def claim(self, row: FlowRow, owner: str | None) -> None:
        """Change a flow's owner, if it was neither moved nor claimed since `row` was read.

        Raises:
            FlowBusy: It was; nothing was changed.
        """
        sql = "UPDATE flows SET owner = ? WHERE id = ? AND seq = ? AND owner IS ?"
        if self._writer.execute(sql, (owner, row.id, row.seq, row.owner)).rowcount != 1:
            raise self._moved(row.id)

    def rest(self, row: FlowRow, kept: int) -> bool:
        """Have a flow rest that this process drives and that only waits; see `Ownership.rest`."""
        sql = (
            "UPDATE flows SET owner = NULL, status = ? WHERE id = ? AND seq = ? AND owner IS ? "
            "AND (SELECT count(*) FROM inbox WHERE flow = flows.id) = ?"
        )
        rested = self._writer.execute(sql, (RESTING, row.id, row.seq, row.owner, kept)).rowcount == 1
        if (
            not rested
            and self._writer.execute(
                "SELECT 1 FROM flows WHERE id = ? AND seq = ? AND owner IS ?", (row.id, row.seq, row.owner)
            ).fetchone()
            is None
        ):
            raise self._moved(row.id)
        return rested

    def post_signal(self, flow: str, at: str, name: str, body: str) -> int:
        """Leave an event for the process that drives the flow, or the next one that resumes it; its number.

        Raises:
            FlowNotFound: There is no such flow.
            EventNotAccepted: The flow has ended, or as many events wait in its inbox as there may be.
        """
        found = self._writer.execute("SELECT machine, state, status FROM flows WHERE id = ?", (flow,)).fetchone()
        if found is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.path}")
        machine, state, status = found
        if status == "ended":
            raise EventNotAccepted(state, name, machine=machine, ended=True)
        if name == CANCEL:
            # One is enough, and it always has a place.
            self._writer.execute("DELETE FROM inbox WHERE flow = ? AND name = ?", (flow, name))
        (waiting,) = self._writer.execute("SELECT count(*) FROM inbox WHERE flow = ?", (flow,)).fetchone()
        if waiting >= KEPT_AT_MOST and name != CANCEL:
            raise EventNotAccepted(state, name, machine=machine, waiting=waiting)
        insert = "INSERT INTO inbox (flow, at, name, body) VALUES (?, ?, ?, ?)"
        self._posted = True
        return self._writer.execute(insert, (flow, at, name, body)).lastrowid or 0

    # --- inside ---------------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                raise sqlite3.DatabaseError("it is not a journal of this program")
            if version > self._schema.version:
                raise JournalTooNew(
                    f"the journal {self.path} has schema {version}; this version reads up to {self._schema.version}"
                )
            log_ahead(connection, BUSY_SECONDS)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            # Touch every table, so that a cut-off file is noticed now and not in the middle of a flow. What is in the
            # texts is not looked at: a damaged one is its own flow's trouble.
            connection.text_factory = bytes
            for table in ("flows", "events", "inbox"):
                connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 our own names
            connection.text_factory = str
        except BaseException:
            connection.close()
            raise
        return connection

    def _moved(self, flow: str) -> FlowBusy | FlowNotFound:
        found = self._writer.execute("SELECT owner FROM flows WHERE id = ?", (flow,)).fetchone()
        if found is None:
            return FlowNotFound(f"no flow has the id {flow!r} in {self.path}")
        if found[0] is None:
            return FlowBusy(flow)
        owner = OwnerName.parse(found[0])
        return FlowBusy(flow, pid=owner.pid, host=owner.host)

    def failure(self, exc: sqlite3.Error | OSError, verb: str) -> JournalError:
        """The error to raise for one of SQLite's; see `explain`."""
        return explain(self._held, exc, verb)


def _set_aside(path: Path, damaged: FileId, exc: sqlite3.DatabaseError) -> JournalCorrupted:
    aside = set_journal_aside(path, damaged)
    if aside is None:
        return JournalCorrupted(
            f"the journal {path} is damaged ({exc}); another process has set it aside meanwhile",
            hint="Run the same command again.",
        )
    return JournalCorrupted(
        f"the journal {path} is damaged ({exc}); it was set aside, untouched, as {aside}",
        hint=f"Run the same command again to start with a new journal; `sqlite3 {aside} .recover` may read it.",
    )
