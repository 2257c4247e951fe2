"""What a usable token is, from the login to every later command, and what a token says about itself.

The API decides which tokens it accepts, and it gives them any form it likes: a bearer token is opaque to its client
(RFC 6750). So one rule holds everywhere: a token is usable when it fits into a header (`token_problem`), and it is
worth sending until it says itself that its time is over (`why_spent`). One that says nothing about its end, or says it
in a way nobody can read, is sent, and the API answers.

Where a token is a JWT its claims are read, unverified: the API verifies signatures and is the only one that can, we
hold no key. They answer two questions of our own. Is it worth sending (`exp`), and was it issued by a local cloud
(`sandbox`)? Neither answer grants anything, so an unverified read is safe; nothing else may be decided by these claims.

RFC 7519 section 4.1.4: `exp` is optional, a NumericDate (seconds since the epoch, may have a fraction). Some issuers
write it as text.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, Final

import jwt

from ...errors import JwtDecode

LONGEST_TOKEN: Final = 65_536
"""Characters of a token; what servers take of a header is far less."""
_AROUND: Final = "\ufeff \t\r\n\v\f"
"""What files, pipes and editors put around a token: a byte order mark, spaces, line ends."""
# RFC 6750 section 2.1 is stricter still; what matters is that it fits in a header.
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


def bare_token(text: str) -> str:
    """A token without what files, shells and editors put around it: white space, a byte order mark, quotes."""
    bare = text.strip(_AROUND)
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1].strip(_AROUND)
    return bare


def token_problem(token: str) -> str:
    """Why this can be no token, as the rest of a sentence about it; empty when it can be one. Quotes nothing of it."""
    if not token:
        return "is empty"
    if len(token) > LONGEST_TOKEN:
        return f"is longer than {LONGEST_TOKEN} characters"
    if len(token.split()) > 1:
        named = token.split(maxsplit=1)[0].casefold() == "bearer"
        return "begins with `Bearer`, which is no part of it" if named else "holds a space or a line end"
    if not _VISIBLE.fullmatch(token):
        return "must be visible ASCII characters only"
    return ""


def token_claims(token: str) -> dict[str, Any]:
    """Read a token's claims, unverified.

    Args:
        token: A JWT in compact form.

    Returns:
        The payload, a JSON object.

    Raises:
        JwtDecode: It is not a JWT. The message does not quote it. Log in again.
    """
    try:
        # pyjwt names key types of `cryptography`, which is not installed because we verify nothing.
        return jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError) as exc:
        raise JwtDecode("the token is not a readable JWT") from exc


def _exp(token: str) -> float | None:
    try:
        exp = token_claims(token).get("exp")
        exp = float(exp) if isinstance(exp, str) else exp
    except (JwtDecode, ValueError):
        return None
    # bool is an int to Python, and its JSON parser lets NaN and Infinity through. Zero and less is no end: no clock is
    # that early, and some issuers mean "never".
    if isinstance(exp, bool) or not isinstance(exp, int | float) or not exp > 0:
        return None
    return None if isinstance(exp, float) and not math.isfinite(exp) else exp


def token_expiry(token: str) -> datetime | None:
    """When a token expires.

    Args:
        token: Any bearer token.

    Returns:
        The moment in UTC, or None when the token names none that can be read. A moment beyond the calendar is its last.
    """
    exp = _exp(token)
    if exp is None:
        return None
    try:
        return datetime.fromtimestamp(exp, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def is_token_expired(token: str, now: datetime) -> bool:
    """Whether sending this token is pointless.

    Args:
        token: Any bearer token.
        now: The present moment, with a time zone.

    Returns:
        True when it names a moment that is before now. A token that names none is sent: the API has the last word.
    """
    return bool(why_spent(token, now))


def why_spent(token: str, now: datetime) -> str:
    """The same question, answered with the rest of a sentence about the token; empty when it is worth sending."""
    expiry = token_expiry(token)
    return "has expired" if expiry is not None and expiry < now else ""


def is_sandbox_token(token: str) -> bool:
    """Whether a local cloud issued this token (claim `sandbox` is true); production must never be sent it.

    Args:
        token: Any bearer token; one that is not a JWT is no sandbox token.
    """
    try:
        return token_claims(token).get("sandbox") is True
    except JwtDecode:
        return False
