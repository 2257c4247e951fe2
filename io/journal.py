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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from ..errors import (
    CLI,
    FlowBusy,
    FlowExists,
    FlowNotFound,
    JournalCorrupted,
    JournalError,
    JournalTooNew,
    SignalTaken,
)
from .journal_check import check_whole, explain
from .journal_file import SETTLE_SECONDS, FileId, Held, InPlace, log_ahead, make_ready, set_journal_aside
from .owners import OwnerName
from .records import APPLICATION_ID, FlowRow, Record, Signal, Status, standing_intents
from .schema import CURRENT, Schema, upgrade

BUSY_SECONDS: Final = 10.0
TRIES: Final = 3
"""How often a journal must look damaged before it is."""

_FLOW_COLUMNS: Final = ", ".join(FlowRow.__struct_fields__)
_RECORD_COLUMNS: Final = 'flow, seq, at, kind, name, body, "from", "to", incarnation, deadline'
_INSERT_FLOW: Final = f"INSERT INTO flows ({_FLOW_COLUMNS}) VALUES ({', '.join('?' * len(FlowRow.__struct_fields__))})"  # noqa: S608 our own names
_INSERT_RECORD: Final = f"INSERT INTO events ({_RECORD_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 our own names
_DROP_SIGNAL: Final = "DELETE FROM inbox WHERE id = ?"
_MOVE_FLOW: Final = """
UPDATE flows SET state = ?, incarnation = ?, seq = ?, verdict = ?, deadline = ?, context = ?, trouble = ?, updated = ?,
    owner = ? WHERE id = ? AND seq = ? AND owner IS ?
"""
# Setting the status rewrites its indexes, even when it stays the same: half of the whole update.
_TURN_FLOW: Final = _MOVE_FLOW.replace("SET", "SET status = ?,")


class Journal:
    """The file, open. One connection for writing, one for reading; each used by one thread at a time.

    Args:
        path: The file; made, with its directory, when it is missing and `create` is true.
        create: False to raise `FlowNotFound` rather than make an empty journal, for commands that only look.
        schema: What an older file is brought up to; see `schema.py`.

    Raises:
        JournalCorrupted: The file is not a readable journal; it was set aside, and the message says where.
        UnsafeFile: It is a symbolic link, belongs to somebody else or has a second name; it was not touched.
        JournalTooNew: A newer version wrote it.
        JournalError: It cannot be opened, for a reason the message names.
    """

    def __init__(self, path: Path, *, create: bool = True, schema: Schema = CURRENT) -> None:
        self._patience = BUSY_SECONDS
        self._schema = schema
        self.path = path
        if not make_ready(path, create=create):
            raise FlowNotFound(f"there are no flows yet: {path} does not exist", hint=f"Start one: {CLI} up --help")
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
            upgrade(self.path, self._schema)
        self._writer = self._connect()
        try:
            self._reader = self._connect()
            self._in_place = InPlace(self.path)
        except BaseException:
            self._writer.close()
            raise

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

    def write(self, operations: Sequence[Callable[[], None]], *, patience: float | None = None) -> None:
        """Run the operations in one transaction and return when it is on disk; on any error none of them happened.

        Args:
            operations: Methods of this journal, or functions that call them.
            patience: Seconds to wait for another process's transaction; `BUSY_SECONDS` when not given.

        Raises:
            JournalBusy: Another process did not let go in time.
            JournalMoved: The file is not where it was opened; whatever was written now, nobody would find.
            JournalError: The disk is full, read-only or failing; the message names the file and the mend.
        """
        wait = BUSY_SECONDS if patience is None else patience
        try:
            if wait != self._patience:
                self._writer.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
                self._patience = wait
            self._writer.execute("BEGIN IMMEDIATE")
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
        except sqlite3.Error as exc:
            raise self.failure(exc, "write") from exc

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
            FlowBusy: Somebody else moved the flow meanwhile; nothing was changed.
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
            # It was read before the flow was taken over from a process that had taken it, and then died.
            raise SignalTaken(f"flow {before.id} has taken {record.name} from its inbox already")

    def migrate(self, before: FlowRow, after: FlowRow, record: Record) -> None:
        """A flow of an older table becomes one of today's; `record` says how.

        Raises:
            FlowBusy: Somebody else moved the flow meanwhile; nothing was changed.
        """
        self.advance(before, after, record)
        sql = "UPDATE flows SET version = ?, fingerprint = ? WHERE id = ?"
        self._writer.execute(sql, (after.version, after.fingerprint, after.id))

    def claim(self, row: FlowRow, owner: str | None) -> None:
        """Change a flow's owner, if nobody has moved or claimed it since `row` was read.

        Raises:
            FlowBusy: Somebody has.
        """
        sql = "UPDATE flows SET owner = ? WHERE id = ? AND seq = ? AND owner IS ?"
        if self._writer.execute(sql, (owner, row.id, row.seq, row.owner)).rowcount != 1:
            raise self._moved(row.id)

    def post_signal(self, flow: str, at: str, name: str, body: str) -> None:
        """Leave an event for the process that drives the flow."""
        self._writer.execute("INSERT INTO inbox (flow, at, name, body) VALUES (?, ?, ?, ?)", (flow, at, name, body))

    def drop_signal(self, signal: int) -> None:
        """Take a signal out of the inbox."""
        self._writer.execute(_DROP_SIGNAL, (signal,))

    # --- reading --------------------------------------------------------------------------------------------------

    def flow(self, flow: str) -> FlowRow | None:
        """The flow with exactly this id."""
        return self._one("WHERE id = ?", (flow,))

    def find(self, prefix: str) -> FlowRow:
        """The flow whose id is, or begins with, `prefix`; a flow goes before its own children.

        Raises:
            FlowNotFound: None does, or several do.
        """
        if exact := self.flow(prefix):
            return exact
        rows = self._rows("WHERE id >= ? AND id < ? ORDER BY id LIMIT 50", (prefix, prefix + "\U0010ffff"))
        roots = [row for row in rows if row.parent is None] or rows
        if not prefix or not roots:
            raise FlowNotFound(f"no flow has the id {prefix!r} in {self.path}")
        if len(roots) > 1:
            raise FlowNotFound(f"{prefix!r} fits {len(roots)} flows: {', '.join(row.id for row in roots[:5])}")
        return roots[0]

    def flows(
        self,
        *,
        statuses: Sequence[Status] = (),
        machine: str | None = None,
        roots_only: bool = False,
        limit: int = 20,
    ) -> list[FlowRow]:
        """Flows, the newest first."""
        clauses = ["1"]
        values: list[object] = []
        if statuses:
            clauses.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += statuses
            if "ended" not in statuses:
                # Said twice, because only in this form SQLite sees that its index of the unfinished is enough.
                clauses.append("status <> 'ended'")
        if machine is not None:
            clauses.append("machine = ?")
            values.append(machine)
        if roots_only:
            clauses.append("parent IS NULL")
        return self._rows(f"WHERE {' AND '.join(clauses)} ORDER BY id DESC LIMIT ?", (*values, limit))

    def unfinished_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The one flow of this machine and key that has not ended."""
        return self._one("WHERE machine = ? AND key = ? AND status <> 'ended'", (machine, key))

    def children(self, flow: str) -> list[FlowRow]:
        """The child flows of a flow, the oldest first."""
        return self._rows("WHERE parent = ? ORDER BY created, id", (flow,))

    def family(self, row: FlowRow) -> list[FlowRow]:
        """A flow and every flow that runs inside it, parents before their children."""
        return [row, *(inner for child in self.children(row.id) for inner in self.family(child))]

    def orphans(self) -> list[FlowRow]:
        """The unfinished children of flows that have ended: a process died between the one end and the other."""
        ended = "(SELECT 1 FROM flows AS p WHERE p.id = flows.parent AND p.status = 'ended')"
        return self._rows(f"WHERE parent IS NOT NULL AND status <> 'ended' AND EXISTS {ended} ORDER BY id", ())

    def begun(self) -> list[str]:
        """The ids of all flows, in the order they were written first."""
        return [flow for (flow,) in self._read("SELECT id FROM flows ORDER BY rowid", ())]

    def records(self, flow: str) -> list[Record]:
        """A flow's whole history, in order."""
        return self._records("WHERE flow = ?", (flow,))

    def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        """The idempotency keys announced during one visit of a state, and not withdrawn since.

        Raises:
            JournalCorrupted: A record of the visit cannot be read.
        """
        where = "WHERE flow = ? AND incarnation = ? AND kind IN ('intent', 'parked')"
        try:
            return standing_intents(self._records(where, (flow, incarnation)))
        except msgspec.DecodeError as exc:
            raise JournalCorrupted(f"flow {flow}: why it was parked cannot be read in {self.path}: {exc}") from exc

    def signals(self, *, flow: str | None = None, owner: str | None = None) -> list[Signal]:
        """Signals that have not been taken, the oldest first; a thousand at most.

        Args:
            flow: Only this flow's.
            owner: Leave out those of unfinished flows that somebody else drives, or nobody: they wait for another
                process, and however many they are, they must not hide the others.
        """
        theirs = "SELECT 1 FROM flows f WHERE f.id = inbox.flow AND f.status <> 'ended' AND f.owner IS NOT :owner"
        sql = f"""SELECT id, flow, at, name, body FROM inbox WHERE (:flow IS NULL OR flow = :flow)
            AND (:owner IS NULL OR NOT EXISTS ({theirs})) ORDER BY id LIMIT 1000"""  # noqa: S608 our own words
        rows = self._read(sql, {"flow": flow, "owner": owner})
        return [Signal(**dict(zip(Signal.__struct_fields__, row, strict=True))) for row in rows]

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check finds wrong with the file; empty when nothing is."""
        found = [str(row[0]) for row in self._read("PRAGMA integrity_check", ())]
        return [] if found == ["ok"] else found

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
            # Touch every table, so that a cut-off file is noticed now and not in the middle of a flow.
            for table in ("flows", "events", "inbox"):
                connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 our own names
        except BaseException:
            connection.close()
            raise
        return connection

    def _read(self, sql: str, values: Sequence[object] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self.failure(exc, "read") from exc

    def _rows(self, where: str, values: Sequence[object]) -> list[FlowRow]:
        rows = self._read(f"SELECT {_FLOW_COLUMNS} FROM flows {where}", values)  # noqa: S608 our own names
        return [FlowRow(**dict(zip(FlowRow.__struct_fields__, row, strict=True))) for row in rows]

    def _records(self, where: str, values: Sequence[object]) -> list[Record]:
        rows = self._read(f"SELECT {_RECORD_COLUMNS} FROM events {where} ORDER BY seq", values)  # noqa: S608 our own names
        return [Record(**dict(zip(Record.__struct_fields__, row, strict=True))) for row in rows]

    def _one(self, where: str, values: Sequence[object]) -> FlowRow | None:
        return next(iter(self._rows(where, values)), None)

    def _moved(self, flow: str) -> FlowBusy | FlowNotFound:
        found = self._writer.execute("SELECT owner FROM flows WHERE id = ?", (flow,)).fetchone()
        if found is None:
            return FlowNotFound(f"no flow has the id {flow!r} in {self.path}")
        if found[0] is None:
            return FlowBusy(flow, pid=0, host="(it has just let go)")
        owner = OwnerName.parse(found[0])
        return FlowBusy(flow, pid=owner.pid, host=owner.host)

    def failure(self, exc: sqlite3.Error | OSError, verb: str) -> JournalError:
        """What SQLite raised, in our terms: the file, the reason and the mend."""
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
