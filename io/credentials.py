"""Who is logged in: `credentials.json`, shared with the Rust CLI.

The file is `{api_token, api_url, authenticated_at, user_email}`. Three rules hold it up. A missing file means that
nobody is logged in, and nothing else does: one that cannot be read, or holds something else, is an error that names
it. A save never destroys what could not be read: it is set aside first. And the token shows in no representation of
the record, because a traceback or a log line is where a token is lost first.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

from ..errors import CredentialsCorrupted, Io, JwtDecode, NotAuthenticated, TokenExpired, UnsafeFile
from .files import ensure_cloud_dir, locked, read_private, remove_private, set_aside, write_private
from .log import logger, register_secret
from .tokens import is_token_expired, token_expiry
from .unknown import Moment, read_record

WARN_BEFORE_EXPIRY: Final = timedelta(hours=1)

# RFC 6750 section 2.1 is stricter still; what matters is that it fits in a header.
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


class CloudCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """One login.

    Attributes:
        api_token: The bearer token; visible ASCII, not empty.
        api_url: The API that issued it, and the only one it may be sent to.
        authenticated_at: When the login was saved, with a time zone.
        user_email: Whose it is.
        unknown_fields: What a newer version wrote into the file beside these; written back as it was.

    Raises:
        ValueError: A field breaks its rule; the message names the field and does not quote the token.
    """

    api_token: str
    api_url: str
    authenticated_at: Moment
    user_email: str
    unknown_fields: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.api_token):
            raise ValueError("api_token: must be visible ASCII characters, at least one")
        if not _is_web_url(self.api_url):
            raise ValueError("api_url: must be an http or https URL with a host")
        if self.authenticated_at.tzinfo is None:
            raise ValueError("authenticated_at: must have a time zone")
        if not _EMAIL.fullmatch(self.user_email):
            raise ValueError("user_email: must be an e-mail address")
        register_secret(self.api_token)

    @override
    def __repr__(self) -> str:
        return f"CloudCredentials(user_email={self.user_email!r}, api_url={self.api_url!r}, api_token=***)"

    @classmethod
    def load_from_path(cls, path: Path) -> Self:
        """Read the stored login, expired or not.

        Args:
            path: `credentials.json`.

        Raises:
            NotAuthenticated: There is no such file. Log in.
            CredentialsCorrupted: It is not JSON, or a field is missing or breaks its rule; the message names both.
            UnsafeFile: It is a symbolic link or belongs to somebody else. Remove it.
            Io: It is there and cannot be read; the next login sets it aside.
        """
        found = cls._load(path)
        if found is None:
            raise NotAuthenticated(f"nobody is logged in: there is no {path}")
        return found

    @classmethod
    def _load(cls, path: Path) -> Self | None:
        try:
            data = read_private(path)
        except UnsafeFile as exc:
            raise UnsafeFile(exc.user_message, hint=f"Remove it: rm {shlex.quote(str(path))}") from exc
        except Io as exc:
            raise Io(exc.user_message, hint=CredentialsCorrupted.default_hint) from exc
        if data is None:
            return None
        if not data.strip():
            raise CredentialsCorrupted(f"{path} does not hold credentials: it is empty")
        try:
            return read_record(msgspec.json.decode(data, type=dict[str, Any]), cls)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise CredentialsCorrupted(f"{path} does not hold credentials: {exc}") from exc

    @classmethod
    def load_and_validate_from_path(cls, path: Path, now: datetime | None = None) -> Self:
        """Read the stored login and refuse an expired one; under one hour left is logged as a warning.

        Args:
            path: `credentials.json`.
            now: The present moment, with a time zone; the clock's by default.

        Raises:
            NotAuthenticated: There is no such file. Log in.
            TokenExpired: The token's time is over, or it cannot be decoded. Log in again.
            CredentialsCorrupted: The file does not hold what it must; the message names the field.
            Io: It is there and cannot be read.
        """
        moment = datetime.now(UTC) if now is None else now
        found = cls.load_from_path(path)
        try:
            expiry = token_expiry(found.api_token)
        except JwtDecode as exc:
            raise TokenExpired(f"the token in {path} is not a readable JWT, so it counts as expired") from exc
        if found.is_token_expired(moment):
            raise TokenExpired(f"the token in {path} expired at {expiry:%Y-%m-%d %H:%M:%S} UTC")
        if found.expires_within(WARN_BEFORE_EXPIRY, moment):
            logger.warning("the token in {} expires at {:%H:%M:%S} UTC, in less than an hour", path, expiry)
        return found

    def save_to_path(self, path: Path) -> None:
        """Make this the stored login; it is on disk when this returns.

        The directory is created 0700 with its `.gitignore` when it is missing. An existing file that cannot be read
        is set aside first, with a warning.

        Args:
            path: `credentials.json`.

        Raises:
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written; what was there before still stands.
        """
        known: dict[str, Any] = {
            "api_token": self.api_token,
            "api_url": self.api_url,
            "authenticated_at": self.authenticated_at.astimezone(UTC),
            "user_email": self.user_email,
        }
        ensure_cloud_dir(path.parent)
        with locked(path):
            try:
                self._load(path)
            except UnsafeFile:
                raise
            except (CredentialsCorrupted, Io) as exc:
                aside = set_aside(path)
                logger.warning("{}; it is {} now", exc.user_message, aside)
            write_private(path, msgspec.json.format(msgspec.json.encode({**self.unknown_fields, **known})) + b"\n")

    @classmethod
    def delete_from_path(cls, path: Path) -> bool:
        """Remove the stored login, readable or not.

        Args:
            path: `credentials.json`.

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

    def is_token_expired(self, now: datetime | None = None) -> bool:
        """Whether the token's time is over, or it cannot be decoded.

        Args:
            now: The present moment, with a time zone; the clock's by default.
        """
        return is_token_expired(self.api_token, datetime.now(UTC) if now is None else now)

    def expires_within(self, duration: timedelta, now: datetime | None = None) -> bool:
        """Whether the token will have expired by then; True as well when it already has, or cannot be decoded.

        Args:
            duration: How far to look ahead.
            now: The present moment, with a time zone; the clock's by default.
        """
        return is_token_expired(self.api_token, (datetime.now(UTC) if now is None else now) + duration)
