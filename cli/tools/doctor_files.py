"""The checks of `doctor` on the disk: directories and their modes, the shared files, the journal.

Modes are checked before anything is read: reading a private file makes it private, which would hide the finding.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...base.errors import CloudError, Io
from ...engine.errors import FlowNotFound
from ...errors import NotAuthenticated, TenantsNotSynced
from ...io.local.cloud_dir import refuse_foreign
from ..screen.remedies import hint_of
from ..shared.settings import Settings
from .findings import Finding

if TYPE_CHECKING:
    from ...io.local.keyring_store import KeyringStore

ROOM_WANTED: Final = 50_000_000
"""Free bytes on a disk below which there is a warning: SQLite's log alone may take a few million."""
ROOM_NEEDED: Final = 500_000
"""Free bytes on a disk below which a first `up` cannot finish; below a fifth of it nothing starts."""


def directory_findings(settings: Settings) -> list[Finding]:
    """The two directories: that they exist, are ours and private, and that their disks have free space."""
    paths = settings.paths
    both = dict.fromkeys((paths.directory, paths.state_directory))
    return [_directory(settings, path) for path in both] + [_room(path) for path in both]


def _directory(settings: Settings, path: Path) -> Finding:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return Finding("directory", "ok", f"{path} is not there yet; the first command that needs it makes it")
    except OSError as exc:
        return Finding("directory", "failed", f"{path} cannot be looked at: {exc.strerror}", f"See: ls -ld {path}")
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        return Finding("directory", "failed", f"{path} is not a directory", "Move it away, or give --dir another.")
    rights = _rights("directory", path, found, 0o700)
    if rights.status != "failed":
        try:
            refuse_foreign(path)
        except Io as exc:
            return _trouble(settings, "directory", exc)
    return rights


def _rights(check: str, path: Path, found: os.stat_result, wanted: int) -> Finding:
    mode = stat.S_IMODE(found.st_mode)
    quoted = shlex.quote(str(path))
    if found.st_uid != os.geteuid():
        owner = f"{path} belongs to user {found.st_uid}, not to user {os.geteuid()} who runs this"
        return Finding(
            check, "failed", owner, f"Give --dir another, or change its owner: chown {os.geteuid()} {quoted}"
        )
    if mode & 0o077:
        return Finding(check, "warning", f"{path} is open to others (mode {mode:04o})", f"chmod {wanted:o} {quoted}")
    if mode & wanted & 0o600 != 0o600:
        return Finding(check, "failed", f"{path} cannot be used (mode {mode:04o})", f"chmod {wanted:o} {quoted}")
    return Finding(check, "ok", f"{path} (mode {mode:04o})")


def _room(path: Path) -> Finding:
    there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))  # noqa: PTH110 `Path.exists` raises EACCES
    try:
        free = shutil.disk_usage(there).free
    except OSError as exc:
        return Finding("disk", "warning", f"the free space for {path} cannot be determined: {exc.strerror}")
    if not os.access(there, os.W_OK):
        return Finding("disk", "failed", f"{there} cannot be written", f"See who may: ls -ld {shlex.quote(str(there))}")
    hint = "Free some space. Until then writes fail with an error; stored data is kept."
    if free < ROOM_NEEDED:
        return Finding("disk", "failed", f"only {free // 1000} kB free for {path}", hint)
    message = f"{free / 1_000_000:,.0f} MB free for {path}"
    return Finding("disk", "warning", message, hint) if free < ROOM_WANTED else Finding("disk", "ok", message)


def file_findings(settings: Settings, keyring: KeyringStore | None = None) -> list[Finding]:
    """The files shared with the Rust CLI: that they are private and valid; and the files that were set aside."""
    from ...io.local.credentials import CloudCredentials
    from ...io.local.session_store import SessionStore
    from ...io.local.tenants import TenantStore

    paths = settings.paths
    found: list[Finding] = []
    for path, load in (
        (paths.credentials, partial(CloudCredentials.load_from_path, store=keyring)),
        (paths.tenants, TenantStore.load_from_path),
        (paths.sessions_index, SessionStore.load),
    ):
        found += _file(settings, path, load)
    found += _unread_sessions(settings, paths.sessions_index)
    found += _keyring(settings, paths.credentials)
    kept = (
        aside for folder in dict.fromkeys((paths.directory, paths.sessions_index.parent)) for aside in _aside(folder)
    )
    hint = "Look whether you need anything in it, then remove it; it may hold a token."
    return found + [Finding("set aside", "warning", f"{path} could not be read", hint) for path in kept]


def _file(settings: Settings, path: Path, load: Callable[[Path], object]) -> list[Finding]:
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return [Finding("file", "ok", f"{path} is not there")]
    except OSError as exc:
        return [Finding("file", "failed", f"{path} cannot be looked at: {exc.strerror}")]
    found = [] if stat.S_ISLNK(seen.st_mode) else [_rights("file", path, seen, 0o600)]
    try:
        load(path)
    except (NotAuthenticated, TenantsNotSynced):  # removed this instant
        return []
    except CloudError as exc:
        return [
            *(_as_it_is_now(path, each) for each in found if each.status == "warning"),
            _trouble(settings, "file", exc),
        ]
    return [_as_it_is_now(path, each) for each in found]


def _as_it_is_now(path: Path, found: Finding) -> Finding:
    """A finding from before the file was read, updated: reading a private file makes it private."""
    if found.status != "warning" or path.lstat().st_mode & 0o077:
        return found
    hint = "Others may have read what is in it: log in anew, or rotate the credentials of your tenants."
    return Finding("file", "warning", f"{found.message}; it is closed now", hint)


def _unread_sessions(settings: Settings, index: Path) -> list[Finding]:
    from ...io.local.session_store import SessionStore

    try:
        store = SessionStore.load_or_create(index)
    except CloudError:
        return []  # shown above
    refusals = (unread.refusal for unread in store.unread.values())
    return [Finding("session", "warning", each.user_message, hint_of(settings, each)) for each in refusals]


def _keyring(settings: Settings, credentials: Path) -> list[Finding]:
    from ...io.local.credentials import CloudCredentials
    from ...io.local.keyring_entries import note_of

    if not note_of(credentials).exists():
        return []
    try:
        if CloudCredentials.peek_at_path(credentials).in_keyring:
            return [Finding("keyring", "ok", "the token is in the system's keyring, not in the file")]
    except CloudError:
        pass  # shown above
    left = "the system's keyring may hold the token of an earlier login"
    return [
        Finding("keyring", "warning", left, f"Remove it: {settings.command('logout')}. The next login removes it, too.")
    ]


def _aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.unreadable-*"))


def _trouble(settings: Settings, check: str, exc: CloudError) -> Finding:
    return Finding(check, "failed", exc.user_message, hint_of(settings, exc))


def journal_findings(settings: Settings) -> list[Finding]:
    """The journal: that it is intact, and the unfinished flows in it."""
    from ...engine.journal.journal import Journal
    from ...engine.journal.records import UNFINISHED
    from ..flows.ways_on import is_ours

    path = settings.paths.journal
    found: list[Finding] = []
    try:
        with Journal(path, create=False) as journal:
            problems = journal.integrity_problems()
            waiting = journal.flows(statuses=UNFINISHED, roots_only=True)
    except FlowNotFound:
        found = [Finding("journal", "ok", f"{path} is not there yet; the first flow makes it")]
    except CloudError as exc:
        found = [_trouble(settings, "journal", exc)]
    else:
        backup, check = settings.command("flows backup FILE"), settings.command("flows check")
        hint = f"Make a backup: {backup}. Then check the flows: {check}"
        found = [Finding("journal", "failed", f"{path}: {problem}", hint) for problem in problems]
        found = found or [Finding("journal", "ok", f"{path} OK")]
        if waiting:
            ours = any(is_ours(row.machine) for row in waiting)
            resume = f". Resume the newest: {settings.command('flows resume')}" if ours else ""
            hint = f"See them: {settings.command('flows list')}{resume}"
            found.append(Finding("flows", "warning", f"{len(waiting)} unfinished", hint))
    if settings.paths.state_directory != settings.paths.directory:
        hint = "Unfinished flows may be in it; keep it until you know."
        for aside in _aside(settings.paths.state_directory):
            if not aside.name.endswith(("-wal", "-shm")):
                found.append(Finding("set aside", "warning", f"{aside} was damaged", hint))
    return found
