"""Who is logged in: `credentials.json`, shared with the Rust CLI.

The file is `{api_token, api_url, authenticated_at, user_email}`. Three rules apply. A missing file means that
nobody is logged in, and nothing else does: one that cannot be read, or holds something else, is an error that names
it. A save never destroys what could not be read: it is set aside first. And the token shows in no representation of
the record, because a traceback or a log line is where a token is lost first.

By default the token is in the file, which the Rust CLI reads. On request it is kept in the system's keyring, and a
marker is in its place (`keyring_entries.py`); the Rust CLI cannot use such a login. `load_from_path` is the one
place where a marker becomes a token.
"""

from __future__ import annotations

import os
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

from ...base.decoding import UNREADABLE
from ...base.errors import CloudError, Io, UnsafeFile
from ...base.files import locked, remove_private
from ...base.log import get_logger
from ...base.redaction import register_held
from ...errors import CredentialsCorrupted, KeyringUnavailable, NotAuthenticated, TokenExpired
from ..cloud.accounts import EMAIL, UNKNOWN_EMAIL
from ..http.tokens import is_token_expired, token_expiry, token_problem
from .keyring_entries import entry_named, forget_all, forget_others, is_marker, put, usable, variable_wish
from .keyring_store import KeyringStore
from .stores import held, read_shared, write_plain
from .unknown import Timestamp, plain_record, read_record

logger = get_logger(__name__)

WARN_BEFORE_EXPIRY: Final = timedelta(hours=1)


def _is_web_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


class CloudCredentials(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One login.

    Attributes:
        api_token: The bearer token (`io/http/tokens.py`). Of a login that was only peeked at, it may be a marker.
        api_url: The API that issued it, and the only one it may be sent to.
        authenticated_at: When the login was saved, with a time zone.
        user_email: Whose it is.
        unknown_fields: What a newer version wrote into the file beside these; written back as it was.

    Raises:
        ValueError: A field breaks its rule; the message names the field and does not quote the token.
    """

    api_token: str
    api_url: str
    authenticated_at: Timestamp
    user_email: str
    unknown_fields: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not is_marker(self.api_token) and (problem := token_problem(self.api_token)):
            raise ValueError(f"api_token: {problem}")
        if not _is_web_url(self.api_url):
            raise ValueError("api_url: must be an http or https URL with a host")
        if self.authenticated_at.tzinfo is None:
            raise ValueError("authenticated_at: must have a time zone")
        if not EMAIL.fullmatch(self.user_email):
            raise ValueError("user_email: must be an e-mail address")
        if not self.in_keyring:
            register_held(self, [self.api_token])

    @override
    def __repr__(self) -> str:
        return f"CloudCredentials(user_email={self.user_email!r}, api_url={self.api_url!r}, api_token=***)"

    @property
    def in_keyring(self) -> bool:
        """Whether the token itself is in the system's keyring: this login was only peeked at."""
        return is_marker(self.api_token)

    @classmethod
    def load_from_path(cls, path: Path, *, store: KeyringStore | None = None) -> Self:
        """Read the stored login, expired or not.

        Args:
            path: `credentials.json`.
            store: Where the token is when the file says that it is in the keyring; it remembers what it was asked. By
                default a new one, which asks the system.

        Raises:
            NotAuthenticated: There is no such file. Log in.
            CredentialsCorrupted: It is not JSON, or a field is missing or breaks its rule; the message names both. Or
                its token should be in the keyring and is not there.
            KeyringUnavailable: Its token is in the keyring, and that is locked, absent or silent. The hint says what
                to do.
            UnsafeFile: It is a symbolic link or belongs to somebody else. Remove it.
            Io: It is there and cannot be read; the next login sets it aside.
        """
        found = cls.peek_at_path(path)
        store = store or KeyringStore()
        while found.in_keyring:
            if (whole := found._from_keyring(path, store)) is not None:
                return whole
            # Another process may have logged in between our look at the file and our look into the keyring.
            now = cls.peek_at_path(path)
            if now == found:
                raise CredentialsCorrupted(
                    f"the system's keyring has no matching token for {path}",
                    hint=NotAuthenticated.default_hint,
                    remedy=NotAuthenticated.default_remedy,
                )
            found = now
        return found

    def _from_keyring(self, path: Path, store: KeyringStore) -> Self | None:
        """The same with its token; None when the keyring holds none, or one of another login."""
        entry = entry_named(path, self.api_token)
        if (token := store.remembered(entry, self._account)) is not None:
            return msgspec.structs.replace(self, api_token=token)
        try:
            secret = store.get(entry)
        except KeyringUnavailable as exc:
            raise KeyringUnavailable(
                f"the token of {path} cannot be had: {exc.user_message}", hint=exc.recovery_hint, remedy=exc.remedy
            ) from exc
        try:
            kept = None if secret is None else read_record(msgspec.json.decode(secret, type=dict[str, Any]), type(self))
        except UNREADABLE:
            return None  # somebody changed it
        if kept is None or kept.in_keyring or kept._account != self._account:
            return None
        store.remember(entry, self._account, kept.api_token)
        return msgspec.structs.replace(self, api_token=kept.api_token)

    @property
    def _account(self) -> tuple[str, datetime, str]:
        return self.api_url, self.authenticated_at, self.user_email

    @classmethod
    def peek_at_path(cls, path: Path) -> Self:
        """Read what the file says about the stored login and leave the keyring alone: its token may be a marker.

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
            raise NotAuthenticated(f"not logged in: there is no {path}")
        return found

    @classmethod
    def _load(cls, path: Path) -> Self | None:
        try:
            return read_shared(path, "credentials", lambda raw: read_record(raw, cls), CredentialsCorrupted)
        except UnsafeFile as exc:
            raise UnsafeFile(exc.user_message, hint=f"Remove it: rm {shlex.quote(str(path))}") from exc
        except Io as exc:
            raise Io(
                exc.user_message,
                hint=CredentialsCorrupted.default_hint,
                remedy=CredentialsCorrupted.default_remedy,
            ) from exc

    @classmethod
    def load_and_validate_from_path(
        cls, path: Path, now: datetime | None = None, *, store: KeyringStore | None = None
    ) -> Self:
        """Read the stored login and refuse an expired one; under one hour left is logged as a warning.

        Args:
            path: `credentials.json`.
            now: The present moment, with a time zone; the clock's by default.
            store: As for `load_from_path`.

        Raises:
            NotAuthenticated: There is no such file. Log in.
            TokenExpired: The token's time is over. Log in again.
            CredentialsCorrupted: The file does not hold what it must; the message names the field.
            KeyringUnavailable: The token is in the keyring, which cannot be used.
            Io: It is there and cannot be read.
        """
        moment = datetime.now(UTC) if now is None else now
        found = cls.load_from_path(path, store=store)
        expiry = token_expiry(found.api_token)
        if expiry is not None and expiry < moment:
            raise TokenExpired(f"the token in {path} expired at {expiry:%Y-%m-%d %H:%M:%S} UTC")
        if found.expires_within(WARN_BEFORE_EXPIRY, moment):
            logger.warning("the token in %s expires at %s UTC, in less than an hour", path, f"{expiry:%H:%M:%S}")
        return found

    def save_to_path(self, path: Path, *, keyring: bool | None = None, store: KeyringStore | None = None) -> None:
        """Make this the stored login; it is on disk when this returns.

        The directory is created 0700 with its `.gitignore` when it is missing. An existing file that cannot be read
        is set aside first, with a warning.

        Args:
            path: `credentials.json`.
            keyring: Whether the token goes into the system's keyring instead of the file. None: as the variable
                SYSTEMPROMPT_KEYRING says, else as it is with the login that this one replaces. When the keyring cannot
                be used the token goes into the file, with a warning.
            store: The keyring.

        Raises:
            ValueError: This login was only peeked at: its token is not known.
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written; what was there before is unchanged.
        """
        if self.in_keyring:
            raise ValueError("api_token: it is a marker; load the login instead of peeking at it")
        store = store or KeyringStore()
        wanted = self._wants_keyring(path, keyring) and usable(store, path)
        with held(path, self._load) as before:
            plain = plain_record(self)
            if wanted:
                plain = put(store, path, plain, before.api_token if before else "")
            write_plain(path, plain)
            forget_others(store, path, plain["api_token"])

    def _wants_keyring(self, path: Path, keyring: bool | None) -> bool:
        wish = variable_wish(os.environ) if keyring is None else keyring
        if wish is not None:
            return wish
        try:
            return self.peek_at_path(path).in_keyring
        except CloudError:
            return False  # there is no login whose choice to keep; what is there is looked at under the lock

    @classmethod
    def delete_from_path(cls, path: Path, *, store: KeyringStore | None = None) -> bool:
        """Remove the stored login, readable or not, from the keyring first.

        A keyring that cannot be used is a warning; the file is removed all the same, and the note beside it stays (see
        `keyring_entries.note_of`), so that the next time tries again.

        Args:
            path: `credentials.json`.
            store: The keyring.

        Returns:
            Whether there was one.

        Raises:
            UnsafeFile: It is a symbolic link or belongs to somebody else.
            Io: It cannot be removed.
        """
        if not path.parent.is_dir():
            return False
        store = store or KeyringStore()
        with locked(path):
            try:
                found = cls._load(path)
            except UnsafeFile:
                raise
            except CloudError:
                found = None  # what it says does not matter any more
            forget_all(store, path, found.api_token if found else "")
            return remove_private(path)

    def is_token_expired(self, now: datetime | None = None) -> bool:
        """Whether the token says that its time is over; one that says nothing about it is the API's to judge.

        Args:
            now: The present moment, with a time zone; the clock's by default.
        """
        return is_token_expired(self.api_token, datetime.now(UTC) if now is None else now)

    def expires_within(self, duration: timedelta, now: datetime | None = None) -> bool:
        """Whether the token will have expired by then; True as well when it already has.

        Args:
            duration: How far to look ahead.
            now: The present moment, with a time zone; the clock's by default.
        """
        return is_token_expired(self.api_token, (datetime.now(UTC) if now is None else now) + duration)

    async def with_owner(self) -> Self:
        """The same with the address of whose it is: asked from the API where only the token is known.

        Raises:
            NotAuthenticated: The API does not accept the token.
            Network: The API was not reached.
            ApiError: It answered with another error.
            UnsafeUrl: `api_url` is not one a token may be sent to.
        """
        if self.user_email != UNKNOWN_EMAIL:
            return self
        from ..cloud.api import CloudApiClient  # who only reads the file needs no HTTP client

        async with CloudApiClient(self.api_url, self.api_token) as api:
            return msgspec.structs.replace(self, user_email=(await api.me()).user.email)

    async def validate_with_api(self) -> bool:
        """Ask the API it came from whether the token still counts.

        Returns:
            True when the API took it; False when it was refused, or is a local cloud's and was not sent.

        Raises:
            Network: The API was not reached, so nobody knows. Try again.
            ApiError: It answered with another error than 401.
            UnsafeUrl: `api_url` is not one a token may be sent to.
        """
        from ..cloud.api import CloudApiClient  # who only reads the file needs no HTTP client

        try:
            async with CloudApiClient(self.api_url, self.api_token) as api:
                await api.me()
        except NotAuthenticated:
            return False
        return True
