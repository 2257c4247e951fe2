"""What the environment says about the cloud: which API, whose token, and whether this is the cloud's own container.

The variables are those of the Rust CLI. SYSTEMPROMPT_API_TOKEN and SYSTEMPROMPT_USER_EMAIL are a login handed to this
one process, and SYSTEMPROMPT_API_URL the API it is for. FLY_APP_NAME is set in the container a tenant runs in, where no
file holds a login and nobody could make one. SYSTEMPROMPT_CLI_REMOTE says that another CLI started this process for
somebody who is elsewhere: a hint to log in soon would reach nobody.

An empty variable counts as unset. What a secret file, a shell or an env file puts around a value (a line end, a byte
order mark, quotes) is no part of it. A token alone is a login: its API knows whose it is. Nothing here reads the
process's environment by itself; it is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from ...base.log import get_logger
from ...errors import CredentialsCorrupted, NotAuthenticated
from ..cloud.accounts import UNKNOWN_EMAIL
from ..cloud.wire import PRODUCTION_URL
from ..http.tokens import bare_token, token_expiry, token_problem
from .credentials import WARN_BEFORE_EXPIRY, CloudCredentials

logger = get_logger(__name__)

API_URL: Final = "SYSTEMPROMPT_API_URL"
API_TOKEN: Final = "SYSTEMPROMPT_API_TOKEN"  # noqa: S105 - the variable's name
USER_EMAIL: Final = "SYSTEMPROMPT_USER_EMAIL"
CLI_REMOTE: Final = "SYSTEMPROMPT_CLI_REMOTE"
CONTAINER: Final = "FLY_APP_NAME"


def environment_api_url(environ: Mapping[str, str]) -> str | None:
    """The API the environment names, without a slash at its end; None when it names none."""
    return _bare(environ, API_URL).rstrip("/") or None


def environment_token(environ: Mapping[str, str]) -> str:
    """The token the environment holds; empty when it holds none. Whether it can be one is not looked at."""
    return _bare(environ, API_TOKEN)


def _bare(environ: Mapping[str, str], name: str) -> str:
    return bare_token(environ.get(name, ""))


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether this process runs in the cloud's own container."""
    return bool(environ.get(CONTAINER))


def no_login_in_container() -> NotAuthenticated:
    """What is wrong where the container's environment holds no login: no file is looked at, so no `login` fixes it."""
    return NotAuthenticated(
        f"{CONTAINER} is set, and {API_TOKEN} is not: this container has no login",
        hint=f"Set {API_TOKEN} in the container's environment.",
    )


def fresh_token_hint() -> str:
    """What fixes a token of the environment that is no longer valid."""
    return f"Set a fresh one, or unset {API_TOKEN}."


def environment_credentials(environ: Mapping[str, str], now: datetime) -> CloudCredentials | None:
    """The login the environment holds; None when it holds none.

    Without an address beside the token, the login has `UNKNOWN_EMAIL`; the API knows it.

    A token with less than an hour left, or with none, is logged as a warning, unless SYSTEMPROMPT_CLI_REMOTE is set.

    Args:
        environ: The environment.
        now: The present moment, with a time zone; the login counts as made then.

    Raises:
        CredentialsCorrupted: A variable breaks its rule; the message names it.
    """
    token = environment_token(environ)
    if not token:
        return None
    if problem := token_problem(token):
        raise CredentialsCorrupted(f"the token in {API_TOKEN} {problem}", hint=fresh_token_hint())
    try:
        found = CloudCredentials(
            api_token=token,
            api_url=environment_api_url(environ) or PRODUCTION_URL,
            authenticated_at=now,
            user_email=_bare(environ, USER_EMAIL) or UNKNOWN_EMAIL,
        )
    except ValueError as exc:
        raise CredentialsCorrupted(
            f"the login in the environment ({API_TOKEN}, {USER_EMAIL}, {API_URL}) cannot be used: {exc}",
            hint=f"Set {USER_EMAIL} to the address {API_TOKEN} belongs to, or unset it; {API_URL} names the API.",
        ) from exc
    expiry = token_expiry(token)
    if expiry is not None and expiry < now + WARN_BEFORE_EXPIRY and not environ.get(CLI_REMOTE):
        logger.warning("the token in %s has expired, or expires in less than an hour", API_TOKEN)
    return found
