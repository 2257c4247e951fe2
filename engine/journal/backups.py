"""Backups of a journal and of its secrets, and putting them back, also on another machine.

`backup` copies a journal as it is at one moment, while others write to it, with SQLite's own backup: copying the file
with `cp` would miss what is still in the write-ahead log. Secrets are no part of a journal, so they are no part of its
backup. `backup_with_secrets` writes those of its unfinished flows into a second file. They are looked at before and
after the journal is copied: a secret is on disk before the record that refers to it, and until after its flow has
ended, so what the copied journal refers to was there at one of the two looks.

`restore` makes a journal and a vault of both files, where there is none. Nobody drives the flows in it, wherever they
were driven when the backup was made; they continue when they are resumed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from ...base.decoding import UNREADABLE
from ...base.errors import Io
from ...base.files import open_temp, read_private, sweep_temps, sync_dir
from ...base.log import get_logger
from ..errors import JournalCorrupted, JournalError, JournalTooNew
from ..paths import Places, directory_maker
from .file import COMPANIONS, companion
from .housekeeping import connected
from .journal import Journal
from .records import APPLICATION_ID, SCHEMA_VERSION
from .schema import make_another
from .vault import VaultFiles, file_name

logger = get_logger(__name__)

SECRETS_LIMIT: Final = 1024 * 1024 * 1024
"""The most bytes of a file of secrets that are read."""

_ANOTHER: Final = "Restore another backup. Nothing was changed."
_UNFINISHED: Final = "SELECT id FROM flows WHERE status <> 'ended'"


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """What `backup_with_secrets` wrote.

    Attributes:
        size: Bytes of the copy of the journal.
        flows: Unfinished flows whose secrets were saved.
    """

    size: int
    flows: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What `restore` put back.

    Attributes:
        unfinished: Flows that can be resumed.
        flows: Those of them whose secrets were put back.
    """

    unfinished: int
    flows: int


class _Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """A file of secrets: by the flow's id, and in it by name."""

    kind: Literal["flow secrets"] = "flow secrets"
    version: Literal[1] = 1
    flows: Mapping[str, Mapping[str, str]]


_SECRETS: Final = msgspec.json.Decoder(_Secrets)


def backup(journal: Journal, target: Path) -> int:
    """Copy a journal as it is at this moment into a file of its own, while others go on writing.

    Args:
        journal: The open journal.
        target: The new file, 0600; nothing may be there. It is there whole or not at all.

    Returns:
        Its size in bytes.

    Raises:
        Io: Something is there already, or the file cannot be written.
        JournalError: The journal cannot be read.
        JournalCorrupted: The copy does not pass SQLite's check, so the journal is damaged; no file was left.
    """
    with _new_file(target) as (fresh, fd):
        with connected(journal, "back up") as source:
            try:
                found = _copy(source, fresh)
            except sqlite3.OperationalError as exc:
                raise JournalError(f"cannot back up {journal.path} to {target}: {exc}") from exc
        if found != "ok":
            raise JournalCorrupted(f"the journal {journal.path} is damaged, no backup was made: {found}")
        return os.fstat(fd).st_size


def backup_with_secrets(journal: Journal, vault: VaultFiles, target: Path, secrets: Path) -> BackedUp:
    """`backup`, and the secrets of its unfinished flows in a second file.

    Args:
        journal: The open journal.
        vault: Where its flows' secrets are.
        target: The new file of the journal.
        secrets: The new file of the secrets, in plain text, 0600; nothing may be there.

    Raises:
        Io: Something is there already, or a file cannot be read or written. No file was left, as for the others.
        JournalError: The journal cannot be read.
        JournalCorrupted: The journal is damaged.
    """
    if os.path.abspath(secrets) == os.path.abspath(target):  # noqa: PTH100 what is no file yet cannot be resolved
        raise Io(f"cannot back up secrets to {secrets}: the journal goes there", hint="Name another file for them.")
    _refuse_existing(secrets)
    before = _saved(vault, journal.unfinished_ids())
    size = backup(journal, target)
    try:
        unfinished = _unfinished(target)
        after = _saved(vault, unfinished)
        found = {flow: {**before.get(flow, {}), **after.get(flow, {})} for flow in unfinished}
        flows = {flow: entries for flow, entries in found.items() if entries}
        with _new_file(secrets) as (_, fd):
            left = memoryview(msgspec.json.encode(_Secrets(flows=flows)))
            while left:
                left = left[os.write(fd, left) :]
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return BackedUp(size=size, flows=len(flows))


def restore(paths: Places, source: Path, secrets: Path | None = None) -> Restored:
    """Make a journal and its vault of a backup, where there is none.

    The journal comes last: as long as it is not there, this can be run again.

    Args:
        paths: Where the journal and the vault are to be; their directory is made.
        source: What `backup` wrote.
        secrets: What `backup_with_secrets` wrote beside it. Secrets of flows that are not in the backup are left out.

    Raises:
        Io: There is a journal already, or a file cannot be read or written.
        JournalError: The journal cannot be written: the disk is full.
        JournalTooNew: A newer version wrote the backup.
        JournalCorrupted: A file is no such backup, or is damaged.
    """
    _refuse_existing(paths.journal, *(companion(paths.journal, suffix) for suffix in COMPANIONS), verb="restore")
    saved: Mapping[str, Mapping[str, str]] = {} if secrets is None else _read_secrets(secrets)
    if not source.is_file():
        raise Io(f"cannot restore {source}: there is no such file", hint="Name a file that `backup` wrote.")
    directory_maker(paths)(paths.journal.parent)
    with _new_file(paths.journal, verb="restore") as (fresh, _):
        try:
            with contextlib.closing(_reading(source)) as original:
                _refuse_strange(original, source)
                found = _copy(original, fresh)
            unfinished, identity = _let_go(fresh) if found == "ok" else ([], None)
        except sqlite3.OperationalError as exc:
            raise JournalError(f"cannot restore {source} to {paths.journal}: {exc}") from exc
        except sqlite3.DatabaseError as exc:
            raise JournalCorrupted(f"cannot restore {source}: {exc}", hint=_ANOTHER) from exc
        if found != "ok":
            raise JournalCorrupted(f"cannot restore {source}: it is damaged: {found}", hint=_ANOTHER)
        vault, flows = VaultFiles(paths.vault, identity), [flow for flow in unfinished if saved.get(flow)]
        for flow in flows:
            vault.restore(flow, saved[flow])
    return Restored(unfinished=len(unfinished), flows=len(flows))


# --- inside ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _new_file(target: Path, *, verb: str = "back up to") -> Generator[tuple[Path, int]]:
    """A private file to be filled, and its descriptor. It is put in place when that is done, never over another."""
    _refuse_existing(target, verb=verb)
    try:
        fresh, fd = open_temp(target)
        try:
            yield fresh, fd
            os.fsync(fd)
            _put_in_place(fresh, target)
        finally:
            for suffix in ("", "-journal", *COMPANIONS):
                companion(fresh, suffix).unlink(missing_ok=True)
            os.close(fd)
    except OSError as exc:
        raise Io(f"cannot {verb} {target}: {exc.strerror or exc}") from exc
    sweep_temps(target)


def _refuse_existing(*targets: Path, verb: str = "back up to") -> None:
    for target in targets:
        if os.path.lexists(target):
            raise Io(f"cannot {verb} {target}: it exists", hint="Name another; nothing is ever written over.")


def _put_in_place(fresh: Path, target: Path) -> None:
    try:
        os.link(fresh, target)  # unlike a rename it never replaces anything
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
            raise
        fresh.rename(target)  # a file system without links: there was nothing at the beginning
    sync_dir(target.parent)


def _copy(source: sqlite3.Connection, fresh: Path) -> str:
    """Copy a whole journal into an empty file; what SQLite's check finds wrong with the copy, or `ok`."""
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
        source.backup(copy)  # in one step: one moment, and in WAL mode no writer waits for it
        make_another(copy)
        # One file, with nothing beside it that could be forgotten when it is moved.
        copy.execute("PRAGMA journal_mode = DELETE")
        return str(copy.execute("PRAGMA quick_check").fetchone()[0])


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _refuse_strange(original: sqlite3.Connection, source: Path) -> None:
    application, version = (
        int(original.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise JournalCorrupted(f"cannot restore {source}: it is no copy of a journal", hint=_ANOTHER)
    if version > SCHEMA_VERSION:
        raise JournalTooNew(f"cannot restore {source}: its schema is {version}; this program knows {SCHEMA_VERSION}")


def _let_go(journal: Path) -> tuple[list[str], str | None]:
    """The unfinished flows of a copy, which nobody drives any more, and its identity, where it has one."""
    with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = FULL")
        copy.execute("UPDATE flows SET owner = NULL WHERE owner IS NOT NULL AND status <> 'ended'")
        has_one = copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'identity'").fetchone() is not None
        found = copy.execute("SELECT id FROM identity").fetchone() if has_one else None
        return [row[0] for row in copy.execute(_UNFINISHED)], None if found is None else str(found[0])


def _unfinished(journal: Path) -> list[str]:
    with contextlib.closing(_reading(journal)) as copy:
        return [row[0] for row in copy.execute(_UNFINISHED)]


def _saved(vault: VaultFiles, flows: Iterable[str]) -> dict[str, dict[str, str]]:
    """The secrets of flows, by the flow's id."""
    try:
        names = set(os.listdir(vault.directory))  # noqa: PTH208 names are all it takes
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise Io(f"cannot read the secrets in {vault.directory}: {exc.strerror or exc}") from exc
    found: dict[str, dict[str, str]] = {}
    for flow in flows:
        if file_name(flow) in names:
            try:
                found[flow] = vault.entries(flow)
            except UNREADABLE as exc:
                logger.warning("the secrets of flow %s are unreadable, and not in the backup: %s", flow, exc)
    return found


def _read_secrets(path: Path) -> Mapping[str, Mapping[str, str]]:
    data = read_private(path, limit=SECRETS_LIMIT)
    if data is None:
        raise Io(f"cannot restore {path}: there is no such file", hint="Name the file that the secrets were saved in.")
    try:
        return _SECRETS.decode(data).flows
    except UNREADABLE as exc:
        raise JournalCorrupted(f"cannot restore {path}: it is no file of saved secrets", hint=_ANOTHER) from exc
