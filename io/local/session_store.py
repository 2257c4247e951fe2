"""The sessions of the command line, one for each tenant: `sessions/index.json`, shared with the Rust CLI.

The file is `{version 1, sessions, active_key, active_profile_name?, updated_at}`. A session is under its *storage
key*, `local` or `tenant_<id>`; `active_key` says which one commands mean when they name none, and is null when that is
undecided. The choice is not the session: a tenant stays chosen when its session has ended, so that the next login
finds it chosen.

A session of a version that is not read here is no reason to refuse the others. It stays in the file as it is; whoever
asks for it gets an error that says why, and it can be removed without being read.

To change what is stored, next to another process that does the same:

    with SessionStore.updating(path) as store:
        store.upsert_session(SessionKey.tenant("t_1"), session)

`load_or_create`, change, `save` is the original's way. It loses what another process writes in between, and is here
for whoever holds the file alone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from ...errors import SessionsCorrupted, SessionVersionMismatch
from .cloud_dir import ensure_cloud_dir
from .sessions import LOCAL_SESSION_KEY, CliSession, SessionKey, check_version
from .stores import held, part, read_shared, write_plain
from .unknown import Timestamp, plain_record, read_record

STORE_VERSION: Final = 1
SESSIONS_DIRECTORY: Final = "sessions"

_OURS: Final = ("unread",)
"""The fields of `SessionStore` that are no fields of the file."""


class UnreadSession(msgspec.Struct, frozen=True):
    """A session of a version that is not read here.

    Attributes:
        content: As the file holds it; no representation shows it.
        refusal: The error that asking for it raises.
    """

    content: msgspec.Raw
    refusal: SessionVersionMismatch


class SessionStore(msgspec.Struct, kw_only=True):
    """The content of `sessions/index.json`; the sessions in it are immutable, the collection is not.

    Attributes:
        version: Of the format: 1.
        sessions: By storage key.
        unread: By storage key, too, those of a version that is not read here; written back as they were.
        active_key: The storage key of the session commands mean when they name none, or None.
        active_profile_name: The profile that goes with it.
        updated_at: When something was changed last, with a time zone.
        unknown_fields: What a newer version wrote beside these; written back as it was.
    """

    version: int = STORE_VERSION
    sessions: dict[str, CliSession] = {}
    unread: dict[str, UnreadSession] = {}
    active_key: str | None = None
    active_profile_name: str | None = None
    updated_at: Timestamp
    unknown_fields: dict[str, Any] = {}

    @classmethod
    def new(cls) -> Self:
        """An empty store."""
        return cls(updated_at=datetime.now(UTC))

    # --- the file ------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read the store.

        Args:
            path: `sessions/index.json`.

        Returns:
            The store, or None when, and only when, there is no such file.

        Raises:
            SessionsCorrupted: It is not JSON, or a field is missing or breaks its rule; the message names both.
            SessionVersionMismatch: It is of a version that is not read here. (A session in it: see `unread`.)
            UnsafeFile: It is a symbolic link or belongs to somebody else.
            Io: It is there and cannot be read.
        """
        return read_shared(path, "sessions", lambda raw: cls._from_plain(raw, path), SessionsCorrupted)

    @classmethod
    def _from_plain(cls, raw: dict[str, Any], path: Path) -> Self:
        check_version(raw, (STORE_VERSION,), path)
        listed = msgspec.convert(raw, _Listed).sessions
        store = read_record({**raw, "sessions": {}}, cls, ours=_OURS)
        for key, each in listed.items():
            try:
                with part(f"session {key}"):
                    store.sessions[key] = CliSession.from_plain(each, path, key)
            except SessionVersionMismatch as exc:
                store.unread[key] = UnreadSession(msgspec.Raw(msgspec.json.encode(each)), exc)
        return store

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Read the store; an empty one when there is no such file. Nothing is written. Raises as `load` does."""
        found = cls.load(path)
        return cls.new() if found is None else found

    @classmethod
    @contextmanager
    def updating(cls, path: Path) -> Generator[Self]:
        """Change what is stored, next to whatever another process changes: `with SessionStore.updating(path) as store`.

        The store is read under its lock and written when the block ends; a block that raises writes nothing.

        Args:
            path: `sessions/index.json`; its directory is created when missing. A file that cannot be read is set aside.

        Raises:
            SessionVersionMismatch: What is there is of a version that is not read here; it stays.
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written, or its lock cannot be had; what was there before is unchanged.
        """
        _prepare(path)
        with held(path, cls.load) as found:
            store = cls.new() if found is None else found
            yield store
            store._write(path)

    def save(self, path: Path) -> None:
        """Replace the whole store by this one, whatever is there; `updating` changes a part of it.

        Raises as `updating`, also when a session in the file is of a version that is not read here, and not in this
        store: nobody could say what is replaced.
        """
        _prepare(path)
        with held(path, self.load) as found:
            for key, unread in ({} if found is None else found.unread).items():
                if key not in self.unread:
                    raise unread.refusal
            self._write(path)

    def _write(self, path: Path) -> None:
        sessions = {key: unread.content for key, unread in self.unread.items()}
        read = {key: plain_record(session) for key, session in self.sessions.items()}
        plain = plain_record(self, ours=_OURS)
        write_plain(path, {**plain, "sessions": sessions | read, "active_key": self.active_key})

    # --- sessions ------------------------------------------------------------------------------------------

    def all_sessions(self) -> list[tuple[str, CliSession]]:
        """Every session with its storage key, in the order of the file; without those in `unread`."""
        return list(self.sessions.items())

    def get_session(self, key: SessionKey) -> CliSession | None:
        """The session of this key, also one that has ended; None when there is none.

        Raises:
            SessionVersionMismatch: It is of a version that is not read here. So with all that look for one session.
        """
        if unread := self.unread.get(key.as_storage_key()):
            raise unread.refusal.with_traceback(None)
        return self.sessions.get(key.as_storage_key())

    def get_valid_session(self, key: SessionKey, now: datetime | None = None) -> CliSession | None:
        """The session of this key, if there is one that has a token and has not ended (now: the clock's time)."""
        found = self.get_session(key)
        return found if found and found.has_valid_credentials and not found.is_expired(now) else None

    def upsert_session(self, key: SessionKey, session: CliSession) -> None:
        """Put a session under this key, in the place of the one that was there; `get_session` must not refuse that."""
        self.get_session(key)
        self.sessions[key.as_storage_key()] = session
        self._changed()

    def remove_session(self, key: SessionKey | str) -> CliSession | None:
        """Take out the session of this key, readable or not; it is no longer the active one either.

        Args:
            key: Also as text, as the file has it: one of a newer version may have a form that is not known here.

        Returns:
            What was there; None when that was nothing, or not read.
        """
        name = key if isinstance(key, str) else key.as_storage_key()
        found, unread = self.sessions.pop(name, None), self.unread.pop(name, None)
        if self.active_key == name:
            self.active_key = self.active_profile_name = None
            self._changed()
        elif found is not None or unread is not None:
            self._changed()
        return found

    def remove_tenant_sessions(self, tenants: Collection[str] | None = None) -> list[str]:
        """Take out the sessions of tenants, readable or not, and choose none of them; the storage keys.

        Args:
            tenants: The ids of the tenants; all there are when not given. The local session stays.
        """
        own = None if tenants is None else {SessionKey.from_tenant_id(each).as_storage_key() for each in tenants}
        gone = [name for name in (*self.sessions, *self.unread) if own is None or name in own]
        gone = [name for name in gone if name != LOCAL_SESSION_KEY]
        chosen = [] if self.active_key is None else [self.active_key]  # it may be one without a session
        for name in {*gone, *(each for each in chosen if own is None or each in own)} - {LOCAL_SESSION_KEY}:
            self.remove_session(name)
        return gone

    def prune_expired(self, now: datetime | None = None) -> int:
        """Take out every session that has ended (now: the clock's time); how many. What is chosen stays chosen."""
        ended = [key for key, session in self.sessions.items() if session.is_expired(now)]
        for key in ended:
            del self.sessions[key]
        if ended:
            self._changed()
        return len(ended)

    # --- the active one ------------------------------------------------------------------------------------

    def set_active(self, key: SessionKey) -> None:
        """Choose this key, whether it has a session or not; its session's profile becomes the active one."""
        found = self.sessions.get(key.as_storage_key())
        self.active_key = key.as_storage_key()
        self.active_profile_name = None if found is None else found.profile_name
        self._changed()

    def set_active_with_profile(self, key: SessionKey, profile_name: str) -> None:
        """Choose this key together with a profile."""
        self.set_active(key)
        self.active_profile_name = profile_name

    def set_active_with_profile_path(
        self, key: SessionKey, profile_name: str, profile_path: str | os.PathLike[str]
    ) -> None:
        """Choose this key together with a profile, and note in its session, if it has one, where the profile is."""
        self.set_active_with_profile(key, profile_name)
        if found := self.sessions.get(key.as_storage_key()):
            self.upsert_session(key, msgspec.structs.replace(found, profile_path=Path(profile_path)))

    @property
    def active_session_key(self) -> SessionKey | None:
        """The key that is chosen; None when none is, or a newer version chose in a way not known here."""
        return None if self.active_key is None else SessionKey.from_storage_key(self.active_key)

    @property
    def active_session(self) -> CliSession | None:
        """The session of the key that is chosen, if it is valid now."""
        key = self.active_session_key
        return None if key is None else self.get_valid_session(key)

    def _changed(self) -> None:
        self.updated_at = datetime.now(UTC)


class _Listed(msgspec.Struct):
    sessions: dict[str, dict[str, Any]]


def _prepare(path: Path) -> None:
    # In its proper place, the directory above `sessions/` holds the credentials: it has to be private too.
    if path.parent.name == SESSIONS_DIRECTORY:
        ensure_cloud_dir(path.parent.parent)
