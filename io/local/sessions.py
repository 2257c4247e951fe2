"""One session of the command line: who works with which tenant, in which profile and context, until when.

A session is made when somebody logs in to a tenant (or to the installation on this computer, which has the key
`local`) and ends by itself after 24 hours. It is shared with the Rust CLI, which keeps the current one in
`session.json` and one for each tenant in `sessions/index.json` (`session_store.py`).

A `CliSession` never changes: `touch` and `set_context_id` return another one. Its token is a bearer token and is
treated like that of `credentials.json`: known to the redactor, in no representation. The format has a version. We
write 4 and read 3 as 4; any other is refused and left as it is, because we would be guessing at what it means.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from typing_extensions import override

from ...base.files import locked, remove_private
from ...base.misfit import misfit
from ...base.redaction import register_held
from ...base.remedies import Remedy
from ...errors import NotAuthenticated, SessionsCorrupted, SessionVersionMismatch
from .stores import held, read_shared, write_plain
from .unknown import Timestamp, plain_record, read_record

LOCAL_SESSION_KEY: Final = "local"
SESSION_VERSION: Final = 4
READ_VERSIONS: Final = (3, 4)
SESSION_DURATION: Final = timedelta(hours=24)
SYSTEM_USER: Final = "system"
SYSTEM_EMAIL: Final = "system@local.invalid"

_TENANT_PREFIX: Final = "tenant_"


class UserType(StrEnum):
    """The known values of `CliSession.user_type`."""

    ADMIN = "admin"
    USER = "user"
    A2A = "a2a"
    MCP = "mcp"
    SERVICE = "service"
    ANON = "anon"
    UNKNOWN = "unknown"


class SessionKey(msgspec.Struct, frozen=True):
    """Whose session: a tenant's, or that of the installation on this computer. Shown as `local` or `tenant:<id>`.

    Attributes:
        tenant_id: The tenant, or None for the local one.
    """

    tenant_id: str | None = None

    @classmethod
    def local(cls) -> Self:
        """The key of the installation on this computer."""
        return cls()

    @classmethod
    def tenant(cls, tenant_id: str) -> Self:
        """The key of a tenant.

        Raises:
            ValueError: The id is empty.
        """
        if not tenant_id:
            raise ValueError("a tenant's id must not be empty")
        return cls(tenant_id)

    @classmethod
    def from_tenant_id(cls, tenant_id: str | None) -> Self:
        """The key of a session's or profile's tenant: local when there is none, or it is the word `local`."""
        return cls.local() if tenant_id in (None, "", LOCAL_SESSION_KEY) else cls(tenant_id)

    @classmethod
    def from_storage_key(cls, text: str) -> Self | None:
        """The key `sessions/index.json` writes as this text; None when it is neither of the forms known here."""
        if text == LOCAL_SESSION_KEY:
            return cls.local()
        tenant_id = text.removeprefix(_TENANT_PREFIX)
        return cls(tenant_id) if tenant_id and tenant_id != text else None

    @property
    def is_local(self) -> bool:
        """Whether it is the key of the installation on this computer."""
        return self.tenant_id is None

    def as_storage_key(self) -> str:
        """As `sessions/index.json` writes it: `local` or `tenant_<id>`."""
        return LOCAL_SESSION_KEY if self.tenant_id is None else f"{_TENANT_PREFIX}{self.tenant_id}"

    @override
    def __str__(self) -> str:
        return LOCAL_SESSION_KEY if self.tenant_id is None else f"tenant:{self.tenant_id}"


class CliSession(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One session; `CliSession.new` makes one.

    Attributes:
        version: Of the format: 4.
        tenant_key: The tenant's id; None or `local` for the installation on this computer.
        profile_name: The profile it was made for.
        profile_path: Where that profile is.
        session_token: The bearer token of the session.
        session_id: What the server calls it.
        context_id: The conversation it works in.
        user_id: Who works.
        user_email: Their e-mail address.
        user_type: A `UserType`, or the word of a newer version.
        created_at: When it was made, with a time zone.
        expires_at: When it ends, with a time zone.
        last_used: When it was used last, with a time zone.
        unknown_fields: What a newer version wrote beside these; written back as it was.
    """

    version: int = SESSION_VERSION
    tenant_key: str | None = None
    profile_name: str
    profile_path: Path | None = None
    session_token: str
    session_id: str
    context_id: str
    user_id: str
    user_email: str
    user_type: str = UserType.ADMIN
    created_at: Timestamp
    expires_at: Timestamp
    last_used: Timestamp
    unknown_fields: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Built in code as well as read from a file: msgspec checks time zones only while decoding.
        if None in (self.created_at.tzinfo, self.expires_at.tzinfo, self.last_used.tzinfo):
            raise ValueError("created_at, expires_at and last_used must have a time zone")
        register_held(self, [self.session_token])

    @override
    def __repr__(self) -> str:
        return (
            f"CliSession(session_key={str(self.session_key)!r}, profile_name={self.profile_name!r}, "
            f"user_email={self.user_email!r}, expires_at={self.expires_at.isoformat()!r}, session_token=***)"
        )

    @classmethod
    def new(
        cls,
        profile_name: str,
        session_token: str,
        session_id: str,
        context_id: str,
        *,
        tenant_key: str | None = None,
        profile_path: str | os.PathLike[str] | None = None,
        user_id: str = SYSTEM_USER,
        user_email: str = SYSTEM_EMAIL,
        user_type: str = UserType.ADMIN,
        now: datetime | None = None,
    ) -> Self:
        """A session that begins now and ends in 24 hours, of the system user if no other is named.

        Args:
            profile_name: The profile it is for.
            session_token: The bearer token of the session.
            session_id: What the server calls it.
            context_id: The conversation it works in.
            tenant_key: The tenant's id; None for the installation on this computer.
            profile_path: Where the profile is.
            user_id: Who works.
            user_email: Their e-mail address.
            user_type: A `UserType`.
            now: The present moment, with a time zone; the clock's by default.
        """
        moment = _now(now)
        return cls(
            tenant_key=tenant_key,
            profile_name=profile_name,
            profile_path=None if profile_path is None else Path(profile_path),
            session_token=session_token,
            session_id=session_id,
            context_id=context_id,
            user_id=user_id,
            user_email=user_email,
            user_type=user_type,
            created_at=moment,
            expires_at=moment + SESSION_DURATION,
            last_used=moment,
        )

    @staticmethod
    def builder(profile_name: str, session_token: str, session_id: str, context_id: str) -> CliSessionBuilder:
        """The original's way to make a session; `new` takes the same as keywords."""
        return CliSessionBuilder(profile_name, session_token, session_id, context_id)

    @property
    def session_key(self) -> SessionKey:
        """Whose session it is."""
        return SessionKey.from_tenant_id(self.tenant_key)

    @property
    def has_valid_credentials(self) -> bool:
        """Whether there is a token to send; whether it is still good only the server knows."""
        return bool(self.session_token)

    def is_expired(self, now: datetime | None = None) -> bool:
        """Whether its time is over (now: the clock's time by default)."""
        return self.expires_at <= _now(now)

    def is_valid_for_profile(self, profile_name: str, now: datetime | None = None) -> bool:
        """Whether it is of this profile and its time is not over (now: the clock's time by default)."""
        return self.profile_name == profile_name and not self.is_expired(now)

    def is_valid_for_tenant(self, key: SessionKey, now: datetime | None = None) -> bool:
        """Whether it is of this tenant, or local, and its time is not over (now: the clock's time by default)."""
        return self.session_key == key and not self.is_expired(now)

    def touch(self, now: datetime | None = None) -> Self:
        """This session, used now (the clock's time by default). A new record; this one stays as it is."""
        return msgspec.structs.replace(self, last_used=_now(now))

    def set_context_id(self, context_id: str, now: datetime | None = None) -> Self:
        """This session in another conversation, used now. A new record; this one stays as it is."""
        return msgspec.structs.replace(self, context_id=context_id, last_used=_now(now))

    @classmethod
    def load_from_path(cls, path: Path) -> Self:
        """Read a file of one session, expired or not.

        Args:
            path: `session.json`.

        Raises:
            NotAuthenticated: There is no such file. Log in.
            SessionsCorrupted: It is not JSON, or a field is missing or breaks its rule; the message names both.
            SessionVersionMismatch: It is of a version that is not read here.
            UnsafeFile: It is a symbolic link or belongs to somebody else.
            Io: It is there and cannot be read.
        """
        found = cls._load(path)
        if found is None:
            raise NotAuthenticated(f"there is no session: there is no {path}")
        return found

    @classmethod
    def _load(cls, path: Path) -> Self | None:
        return read_shared(path, "a session", lambda raw: cls.from_plain(raw, path), SessionsCorrupted)

    @classmethod
    def from_plain(cls, raw: dict[str, Any], path: Path, key: str | None = None) -> Self:
        """Build a session from the object a file holds of it.

        Args:
            raw: The decoded object.
            path: The file, for an error's message.
            key: Which session of the file it is, when it holds several.

        Raises:
            msgspec.ValidationError: A field is missing or breaks its rule; the message names it.
            SessionVersionMismatch: It is of a version that is not read here; `path` is named.
        """
        check_version(raw, READ_VERSIONS, path, key)
        return read_record({**raw, "version": SESSION_VERSION}, cls)

    def save_to_path(self, path: Path) -> None:
        """Make this the session of a file of one session; it is on disk when this returns.

        Args:
            path: `session.json`; its directory is created when missing. A file that cannot be read is set aside.

        Raises:
            SessionVersionMismatch: The file there is of a version that is not read here; it stays.
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written; what was there before is unchanged.
        """
        with held(path, self._load):
            write_plain(path, plain_record(self))

    @classmethod
    def delete_from_path(cls, path: Path) -> bool:
        """Remove a file of one session, readable or not.

        Returns:
            Whether there was one.

        Raises:
            UnsafeFile: It is a symbolic link or belongs to somebody else.
            Io: It cannot be removed.
        """
        if not path.parent.is_dir():
            return False
        with locked(path):
            return remove_private(path)


class CliSessionBuilder:
    """Collects what `CliSession.new` takes; `CliSession.builder` makes one."""

    def __init__(self, profile_name: str, session_token: str, session_id: str, context_id: str) -> None:
        self._needed: Final = (profile_name, session_token, session_id, context_id)
        self._named: Final[dict[str, Any]] = {}

    def with_tenant_key(self, tenant_key: str) -> Self:
        """Of this tenant."""
        self._named["tenant_key"] = tenant_key
        return self

    def with_session_key(self, key: SessionKey) -> Self:
        """Of this key's tenant, or local."""
        self._named["tenant_key"] = key.tenant_id or LOCAL_SESSION_KEY
        return self

    def with_profile_path(self, profile_path: str | os.PathLike[str]) -> Self:
        """With the profile that is there."""
        self._named["profile_path"] = profile_path
        return self

    def with_user(self, user_id: str, user_email: str) -> Self:
        """Of this user; the system user by default."""
        self._named.update(user_id=user_id, user_email=user_email)
        return self

    def with_user_type(self, user_type: str) -> Self:
        """Of a user of this type; admin by default."""
        self._named["user_type"] = user_type
        return self

    def build(self, now: datetime | None = None) -> CliSession:
        """The session; it begins now (the clock's time by default)."""
        return CliSession.new(*self._needed, **self._named, now=now)


def check_version(raw: dict[str, Any], expected: tuple[int, ...], path: Path, key: str | None = None) -> None:
    """Refuse what is of another version of its format.

    Args:
        raw: The decoded object.
        expected: The versions that are read.
        path: The file, for the message.
        key: Which session of the file it is, when it is not the whole file.

    Raises:
        SessionVersionMismatch: It is of another version.
        msgspec.ValidationError: It names none, or not a number.
    """
    try:
        found = msgspec.convert(raw, _Versioned).version
    except msgspec.ValidationError as exc:
        raise msgspec.ValidationError(misfit(raw, _Versioned, exc)) from exc
    if found not in expected:
        where = str(path) if key is None else f"session {key} in {path}"
        newer = found > expected[-1]
        remedy = None if newer or key is None else Remedy("remove_session", {"session": key})
        what = f"the file {path}" if key is None else f"the session {key}"
        raise SessionVersionMismatch(
            f"{where} has version {found}; read is version {' or '.join(map(str, expected))}",
            found=found,
            expected=expected,
            path=str(path),
            hint="Upgrade this program." if newer else f"Remove {what}: no program reads it.",
            remedy=remedy,
        )


class _Versioned(msgspec.Struct):
    version: int


def _now(now: datetime | None) -> datetime:
    return datetime.now(UTC) if now is None else now
