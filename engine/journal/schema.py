"""Bringing a journal of an older schema up to today's: with a copy beside it, in one transaction, or not at all.

A schema changes rarely, and the file may hold an unfinished work, so safety comes before speed:

- A journal is only taken up when nobody else has it open: a process of the older version would go on with what it
  knows. One that drives a flow is named.
- Before anything is changed a whole copy is on disk, 0600, beside the journal: `journal.sqlite3.schema-1.<time>`.
- All steps, the new version number and a check of the whole file are one transaction. Whatever fails, whenever the
  process dies: the file is what it was, in the old schema.
- A newer schema is never touched; `Journal` refuses it by number.

`STEPS` is where a schema's change is written down. Version 1 is that of the releases up to 0.1.0.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from ...base.files import sync_dir
from ...base.log import get_logger
from ...base.remedies import Remedy
from ..errors import JournalBusy, JournalError
from .codes import BUSY, primary_code
from .file import SETTLE_SECONDS, Held
from .owners import OwnerName, owner_is_alive
from .records import APPLICATION_ID, IDENTITY, NEW_IDENTITY, SCHEMA_VERSION

logger = get_logger(__name__)

WAIT_SECONDS: Final = 10.0
LET_GO_SECONDS: Final = 2.0
"""How long another process may still have the journal open: a command that only looks is done by then."""

Steps = Mapping[int, tuple[str, ...]]
"""For each schema version the statements that lead from it to the next one."""

_EVENTS_2: Final = """
CREATE TABLE events_2 (
    flow TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('started', 'event', 'intent', 'parked', 'resumed',
        'migrated', 'abandoned', 'refused')),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    "from" TEXT NOT NULL,
    "to" TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    deadline TEXT,
    PRIMARY KEY (flow, seq)
) STRICT, WITHOUT ROWID
"""
_EVENTS_3: Final = """
CREATE TABLE events_3 (
    flow TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('started', 'event', 'intent', 'paused', 'resumed',
        'migrated', 'abandoned', 'refused', 'retried', 'begun')),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    "from" TEXT NOT NULL,
    "to" TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    deadline TEXT,
    PRIMARY KEY (flow, seq)
) STRICT, WITHOUT ROWID
"""
_RARE_EVENTS: Final = """
CREATE INDEX events_rare ON events (flow, kind, incarnation) WHERE kind NOT IN ('event', 'started', 'resumed')
"""
_UNFINISHED_BY_PARENT: Final = """
CREATE INDEX flows_unfinished_by_parent ON flows (parent) WHERE parent IS NOT NULL AND status <> 'ended'
"""
_FLOWS_3: Final = """
CREATE TABLE flows_3 (
    id TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    key TEXT,
    parent TEXT,
    state TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'paused', 'ended', 'queued', 'resting')),
    verdict TEXT,
    deadline TEXT,
    context TEXT NOT NULL,
    trouble TEXT,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    owner TEXT
) STRICT
"""

STEPS: Final[Steps] = {
    # Refused events are in the history. An index finds keys of ended flows, unfinished children, the inbox of one flow,
    # and its records of rare kinds. A journal has an identity.
    1: (
        _EVENTS_2,
        "INSERT INTO events_2 SELECT * FROM events",
        "DROP TABLE events",
        "ALTER TABLE events_2 RENAME TO events",
        _RARE_EVENTS,
        "DROP INDEX flows_by_machine",
        "CREATE INDEX flows_by_machine ON flows (machine)",
        "CREATE INDEX flows_with_key ON flows (machine, key) WHERE key IS NOT NULL",
        "CREATE INDEX inbox_by_flow ON inbox (flow, id)",
        _UNFINISHED_BY_PARENT,
        IDENTITY,
        NEW_IDENTITY,
    ),
    # Flows may be queued or resting, retried activities are in the history, and what was parked is paused.
    2: (
        _EVENTS_3,
        """INSERT INTO events_3 SELECT flow, seq, at, iif(kind = 'parked', 'paused', kind), name, body, "from", "to",
            incarnation, deadline FROM events""",
        "DROP TABLE events",
        "ALTER TABLE events_3 RENAME TO events",
        _RARE_EVENTS,
        _FLOWS_3,
        # In the order in which they were written first.
        """INSERT INTO flows_3 SELECT id, machine, version, fingerprint, key, parent, state, incarnation, seq,
            iif(status = 'parked', 'paused', status), verdict, deadline, context, trouble, created, updated, owner
            FROM flows ORDER BY rowid""",
        "DROP TABLE flows",
        "ALTER TABLE flows_3 RENAME TO flows",
        "CREATE UNIQUE INDEX flows_by_key ON flows (machine, key) WHERE key IS NOT NULL AND status <> 'ended'",
        "CREATE INDEX flows_by_parent ON flows (parent) WHERE parent IS NOT NULL",
        "CREATE INDEX flows_by_machine ON flows (machine)",
        "CREATE INDEX flows_unfinished ON flows (status) WHERE status <> 'ended'",
        "CREATE INDEX flows_with_key ON flows (machine, key) WHERE key IS NOT NULL",
        "CREATE INDEX flows_resting ON flows (machine, deadline) WHERE status = 'resting'",
        _UNFINISHED_BY_PARENT,
    ),
}


class Schema(msgspec.Struct, frozen=True):
    """The schema a program reads and writes, and the way to it.

    Args:
        version: Its number, as `PRAGMA user_version` has it.
        steps: From each older version to the one after it.
    """

    version: int = SCHEMA_VERSION
    steps: Steps = MappingProxyType(STEPS)


CURRENT: Final = Schema()


def upgrade(
    path: Path, schema: Schema = CURRENT, *, owners: Path | None = None, patience: float = LET_GO_SECONDS
) -> Path | None:
    """Bring the journal at `path` to `schema`, if it is of an older one.

    Args:
        path: The journal; it exists and is an SQLite file.
        schema: What to bring it to.
        owners: The directory of the lock files of the processes that drive its flows; `owners` beside it when not
            given.
        patience: Seconds to wait until no other process has it open.

    Returns:
        The copy of the file as it was; None when there was nothing to do.

    Raises:
        JournalBusy: Another process holds it, or drives a flow in it; nothing was changed.
        JournalError: There is no way from its schema, or a step failed; nothing was changed.
        OSError: It cannot be read at all.
        sqlite3.Error: It cannot be opened; `Journal` says what that means.
    """
    # The file's header tells; a connection opened just to look would fold in the log of a crash when it closes.
    with path.open("rb") as file:
        head = file.read(100)
    if int.from_bytes(head[68:72]) != APPLICATION_ID or int.from_bytes(head[60:64]) >= schema.version:
        return None
    with (
        closing(Held(path)) as held,
        closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as db,
    ):
        try:
            # Before the connection is used: processes that come at once do not wait for each other.
            open_elsewhere = _wait_until_let_go(held, patience)
            db.execute("BEGIN IMMEDIATE")  # from here on nobody else writes
            if _version(db) >= schema.version:  # another process was quicker, and its change is still in the log
                db.execute("ROLLBACK")
                return None
            _refuse_driven(db, path, owners or path.parent / "owners")
            if open_elsewhere:
                raise JournalBusy(
                    f"the journal {path} has an older schema, and another process has it open",
                    hint="Let that process finish, or stop it; then run the same command again.",
                )
            return _change(db, path, schema)
        except sqlite3.Error as exc:
            if primary_code(exc) in BUSY:
                raise JournalBusy(
                    f"cannot bring the journal {path} to schema {schema.version}: {exc}",
                    hint="Another process has it open for writing; close it and run the same command again.",
                ) from exc
            raise _failed(path, schema, str(exc)) from exc


def _wait_until_let_go(held: Held, patience: float) -> bool:
    """Whether another process still has the journal open after all that time."""
    until = time.monotonic() + patience
    while held.open_elsewhere():
        if time.monotonic() > until:
            return True
        time.sleep(SETTLE_SECONDS)
    return False


def _version(db: sqlite3.Connection) -> int:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return version


def _change(db: sqlite3.Connection, path: Path, schema: Schema) -> Path:
    old = _version(db)
    if missing := [number for number in range(old, schema.version) if number not in schema.steps]:
        raise JournalError(
            f"the journal {path} has schema {old}, and no way is known from {missing[0]} to {schema.version}",
            hint="Upgrade in smaller steps, or use another directory.",
            remedy=Remedy("upgrade_in_steps"),
        )
    copy = _copy(path, old)
    try:
        for number in range(old, schema.version):
            for statement in schema.steps[number]:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {schema.version}")
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise _failed(path, schema, found[0])
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        copy.unlink(missing_ok=True)  # the journal itself is as it was
        raise
    logger.warning("the journal %s was brought from schema %s to %s; as it was: %s", path, old, schema.version, copy)
    return copy


def _refuse_driven(db: sqlite3.Connection, path: Path, owners: Path) -> None:
    """A process of the older version would go on writing what it knows."""
    for (name,) in db.execute("SELECT DISTINCT owner FROM flows WHERE owner IS NOT NULL AND status <> 'ended'"):
        if owner_is_alive(owners, name):
            owner = OwnerName.parse(name)
            raise JournalBusy(
                f"the journal {path} has an older schema, and process {owner.pid} on {owner.host} is at work in it",
                hint="Let that process finish, or stop it; then run the same command again.",
            )


def _copy(path: Path, version: int) -> Path:
    """A whole copy of the journal, log and all, on disk before this returns. The caller keeps writers out."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = path.with_name(f"{path.name}.schema-{version}.{moment}")
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        try:
            # A connection of its own: it sees what is committed, and that is all there is.
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
                make_another(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            sync_dir(copy.parent)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise JournalError(
            f"cannot copy the journal {path} before its schema is changed: {exc.strerror or exc}"
        ) from exc
    return copy


def make_another(copy: sqlite3.Connection) -> None:
    """Give a copy of a journal an identity of its own: it will not have the flows that are started from now on."""
    if copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'identity'").fetchone():
        with copy:
            copy.execute("DELETE FROM identity")
            copy.execute(NEW_IDENTITY)


def _failed(path: Path, schema: Schema, why: str) -> JournalError:
    return JournalError(
        f"cannot bring the journal {path} to schema {schema.version}: {why}; it is as it was",
        hint=f"Check the free space of {path.parent}; the version of this program that wrote it still reads it.",
    )
