"""What a bearer token says about itself, read without verifying it.

The API verifies signatures and is the only one that can: we hold no key. We read the claims for two questions of our
own. Is it worth sending (`exp`), and was it issued by a local cloud (`sandbox`)? Neither answer grants anything, so
an unverified read is safe; nothing else may be decided by these claims.

RFC 7519 section 4.1.4: `exp` is optional, a NumericDate (seconds since the epoch, may have a fraction).
"""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ...errors import JwtDecode

_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


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
        # RFC 7519 section 7.2. A library for it would import all of `cryptography`, and we verify nothing.
        header, payload, _signature = map(_decoded, token.split("."))
        _OBJECT.decode(header)
        return _OBJECT.decode(payload)
    except (ValueError, RecursionError) as exc:
        raise JwtDecode("the token is not a readable JWT") from exc


def _decoded(part: str) -> bytes:
    """A part of a token: base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _exp(token: str) -> float | None:
    exp = token_claims(token).get("exp")
    if exp is None:
        return None
    # bool is an int to Python, and its JSON parser lets NaN and Infinity through.
    if isinstance(exp, bool) or not isinstance(exp, int | float) or (isinstance(exp, float) and not math.isfinite(exp)):
        raise JwtDecode("the token's `exp` is not a number of seconds")
    return exp


def token_expiry(token: str) -> datetime | None:
    """When a token expires.

    Args:
        token: A JWT in compact form.

    Returns:
        The moment in UTC, or None when the token names none. A moment beyond the calendar is its last, or first, one.

    Raises:
        JwtDecode: It is not a JWT, or its `exp` is not a number. Log in again.
    """
    exp = _exp(token)
    if exp is None:
        return None
    try:
        return datetime.fromtimestamp(exp, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC) if exp > 0 else datetime.min.replace(tzinfo=UTC)


def is_token_expired(token: str, now: datetime) -> bool:
    """Whether sending this token is pointless.

    Args:
        token: A JWT in compact form.
        now: The present moment, with a time zone.

    Returns:
        True when `exp` is before now, and when the token cannot be decoded. A token without `exp` does not expire.
    """
    return bool(why_spent(token, now))


def why_spent(token: str, now: datetime) -> str:
    """The same question, answered with the rest of a sentence about the token; empty when it is worth sending."""
    try:
        expiry = token_expiry(token)
    except JwtDecode:
        return "is not a readable token"
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
