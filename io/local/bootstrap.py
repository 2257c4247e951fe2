"""Where a process that works as somebody gets their credentials from, once, at its start.

Theory. A server, a worker or a script asks at one place, early, and everything after relies on the answer. The rules:

- In the cloud's container (FLY_APP_NAME) the environment holds the login or there is none; a file is never looked at.
- Elsewhere a login in the environment was meant for this very process and goes before the file.
- What was found is shown to its API. A refusal is an error, with one exception: in the container it is a warning,
  because there nobody can log in, and what does not need the API should still run.

`Bootstrap` is an ordinary object: make one, hand it to whoever needs it. `CredentialsBootstrap` is the one for the
whole process that the Rust crate has. Either is *initialised* once; a second `init` is a mistake of the program's and
says so, and `try_init` is for code that may come second. Loading happens before the lock is taken, so that the lock is
never held across an await or a file: whoever finishes first sets the answer, and everybody gets that one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...errors import CredentialsBootstrapError, NotAuthenticated, TokenExpired
from ..http.tokens import why_spent
from .credentials import CloudCredentials
from .environment import API_TOKEN, environment_credentials, fresh_token_hint, in_container
from .keyring_store import KeyringStore
from .paths import CloudPaths, resolve_cloud_paths
from .project import current_directory

logger = get_logger(__name__)


def find_credentials(
    environ: Mapping[str, str] | None = None,
    paths: CloudPaths | None = None,
    now: datetime | None = None,
    *,
    keyring: KeyringStore | None = None,
) -> CloudCredentials | None:
    """The login this process should work with, from the environment or from the file; the API is not asked.

    Args:
        environ: The environment; the process's own by default.
        paths: Where the file is; found as the command line finds it by default.
        now: The present moment, with a time zone; the clock's by default.
        keyring: Where the token may be kept; a new store, which remembers nothing, by default.

    Returns:
        The login. None only in the cloud's container, when the environment holds none.

    Raises:
        NotAuthenticated: Neither the environment nor a file holds a login.
        TokenExpired: The token's time is over (in the container that is a warning). Log in again.
        CredentialsCorrupted: The file or the variables do not hold what they must; the message says what.
        UnsafeFile: The file is a symbolic link or belongs to somebody else.
        Io: The file is there and cannot be read, or the current directory was removed.
    """
    env = os.environ if environ is None else environ
    moment = datetime.now(UTC) if now is None else now
    found = environment_credentials(env, moment)
    if in_container(env):
        return found
    if found is not None:
        if why := why_spent(found.api_token, moment):
            raise TokenExpired(f"the token in {API_TOKEN} {why}", hint=fresh_token_hint())
        return found
    where = resolve_cloud_paths(None, env, current_directory()) if paths is None else paths
    return CloudCredentials.load_and_validate_from_path(where.credentials, moment, store=keyring)


class Bootstrap:
    """The credentials of a process, or of a part of it, found once. May be used from several threads.

    Args:
        environ: The environment; the process's own, as it is when it is looked at, by default.
        paths: Where the file is; found as the command line finds it by default.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, paths: CloudPaths | None = None) -> None:
        self._environ = environ
        self._paths = paths
        self._lock = threading.Lock()
        self._initialized = False
        self._credentials: CloudCredentials | None = None

    async def init(self) -> CloudCredentials | None:
        """Find the credentials and show them to their API.

        Returns:
            The credentials; None only in the cloud's container, when its environment holds none.

        Raises:
            CredentialsBootstrapError: It was initialised before; use `get`, or `try_init`.
            NotAuthenticated: There is no login, or the API does not accept it. Log in.
            TokenExpired: The token's time is over. Log in again.
            CredentialsCorrupted: What was found is not what it must be; the message says what.
            Network: The API was not reached, so nobody knows. Try again.
            ApiError: The API answered with another error.
            Io: The file is there and cannot be read.
        """
        if self.is_initialized:
            raise _already()
        found = await self._find()
        with self._lock:
            if self._initialized:
                raise _already()
            self._initialized, self._credentials = True, found
        return found

    async def try_init(self) -> CloudCredentials | None:
        """Like `init`, and when it was initialised before, or by somebody else meanwhile, the credentials of then."""
        if not self.is_initialized:
            found = await self._find()
            with self._lock:
                if not self._initialized:
                    self._initialized, self._credentials = True, found
        return self.get()

    def get(self) -> CloudCredentials | None:
        """The credentials; None when it was initialised without any.

        Raises:
            CredentialsBootstrapError: It was not initialised.
        """
        with self._lock:
            if not self._initialized:
                raise CredentialsBootstrapError(
                    "not_initialized",
                    "the credentials are asked for before they were looked for",
                    hint="Call `await CredentialsBootstrap.init()` first (or that of your own Bootstrap).",
                )
            return self._credentials

    def require(self) -> CloudCredentials:
        """The credentials.

        Raises:
            CredentialsBootstrapError: It was not initialised, or without any.
        """
        found = self.get()
        if found is None:
            raise CredentialsBootstrapError(
                "not_available",
                "this process has no cloud credentials",
                hint=f"Set {API_TOKEN} in the container's environment.",
            )
        return found

    @property
    def is_initialized(self) -> bool:
        """Whether the credentials were looked for, successfully."""
        with self._lock:
            return self._initialized

    def expires_within(self, duration: timedelta, now: datetime | None = None) -> bool:
        """Whether there are credentials whose token will have expired by then; False without any, or before `init`.

        Args:
            duration: How far to look ahead.
            now: The present moment, with a time zone; the clock's by default.
        """
        with self._lock:
            found = self._credentials
        return found is not None and found.expires_within(duration, now)

    def reload(self) -> CloudCredentials:
        """Look for the credentials again, after a login, say; `get` gives the new ones from then on. Asks no API.

        Raises:
            CredentialsBootstrapError: In the container: its environment holds no login any more.
            NotAuthenticated: There is no login. What `get` gives stays, here and below.
            TokenExpired: The token's time is over.
            CredentialsCorrupted: What was found is not what it must be.
            Io: The file is there and cannot be read.
        """
        found = find_credentials(self._environ, self._paths)
        if found is not None:
            with self._lock:
                self._initialized, self._credentials = True, found
            return found
        raise CredentialsBootstrapError(
            "not_available",
            f"the environment holds no login any more: {API_TOKEN} is not set",
            hint=f"Set {API_TOKEN} in the container's environment.",
        )

    async def _find(self) -> CloudCredentials | None:
        environ = os.environ if self._environ is None else self._environ
        # A file, or the keyring, which may take seconds.
        found = await trio.to_thread.run_sync(find_credentials, environ, self._paths)
        if found is None:
            return None
        try:
            if not await found.validate_with_api():
                raise NotAuthenticated(f"{found.api_url} does not accept the stored token of {found.user_email}")
            return await found.with_owner()
        except CloudError as exc:
            if not in_container(environ):
                raise
            logger.warning("the credentials in the environment could not be confirmed: %s", exc.user_message)
        return found


def _already() -> CredentialsBootstrapError:
    return CredentialsBootstrapError(
        "already_initialized",
        "the credentials were looked for already",
        hint="Use `get()`; `try_init()` where either may come first; `reload()` after a new login.",
    )


_PROCESS: Final = Bootstrap()


class CredentialsBootstrap:
    """The one `Bootstrap` of the whole process, under the names the Rust crate has. It is not instantiated."""

    init = staticmethod(_PROCESS.init)
    try_init = staticmethod(_PROCESS.try_init)
    get = staticmethod(_PROCESS.get)
    require = staticmethod(_PROCESS.require)
    expires_within = staticmethod(_PROCESS.expires_within)
    reload = staticmethod(_PROCESS.reload)

    @staticmethod
    def is_initialized() -> bool:
        """Whether the credentials were looked for, successfully."""
        return _PROCESS.is_initialized
