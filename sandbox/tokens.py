"""The local cloud's bearer tokens: real, signed JWTs that say of themselves that they are not real.

A client must not be able to tell this cloud from the other by the shape of its tokens, so they are signed
(HS256, RFC 7518 section 3.2), carry an expiry and are verified on every call. And nobody must ever mistake one for the
other, so every token says `"sandbox": true` and names its issuer: the client refuses to send such a token anywhere
but to loopback, and this cloud refuses every token it did not sign itself.

The clock is handed in: verification compares `exp` with it and never with the process's own clock, so a test decides
when a token is old.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, Final

import jwt
import msgspec

from .answers import unauthorized

ISSUER: Final = "systemprompt-sandbox"
ALGORITHM: Final = "HS256"
LIFETIME: Final = 24 * 60 * 60.0
"""Seconds a token is good for."""
REGISTRY_LIFETIME: Final = 15 * 60.0
"""Seconds a registry token is good for: long enough to push, too short to keep."""


class Keyring:
    """What one local cloud signs with and derives its made-up values from.

    Args:
        seed: Equal seeds give equal clouds: the same ids, secrets and signing key, so a token outlives a restart of
            the sandbox. None takes fresh randomness. A seed is no protection and needs to be none: these tokens
            open nothing but a sandbox on loopback.
    """

    def __init__(self, seed: int | None) -> None:
        self._root = secrets.token_bytes(32) if seed is None else hashlib.sha256(f"sandbox:{seed}".encode()).digest()

    @property
    def signing_key(self) -> bytes:
        """The HS256 key: 256 bits, as RFC 7518 section 3.2 asks."""
        return self._bytes("signing-key")

    def derive(self, label: str, length: int = 12) -> str:
        """A value of `length` (at most 64) hexadecimal digits that depends on the seed and the label only."""
        return self._bytes(label).hex()[:length]

    def _bytes(self, label: str) -> bytes:
        return hmac.new(self._root, label.encode(), hashlib.sha256).digest()


class TokenClaims(msgspec.Struct, frozen=True):
    """What a token says (RFC 7519 section 4.1): `sub` is the account's id, `iat` and `exp` are seconds since 1970."""

    sub: str
    email: str
    iat: int
    exp: int
    iss: str
    sandbox: bool


class TokenOffice:
    """Issues tokens and checks them.

    Args:
        key: The HS256 key.
        wall: The time now, in seconds since the epoch.
        lifetime: Seconds from issue to expiry.
    """

    def __init__(self, key: bytes, *, wall: Callable[[], float], lifetime: float = LIFETIME) -> None:
        self._key = key
        self._wall = wall
        self._lifetime = lifetime

    def issue(self, subject: str, email: str) -> str:
        """A fresh token for an account."""
        return self._signed({"sub": subject, "email": email}, self._lifetime)

    def issue_registry(self, tenant_id: str, repository: str) -> str:
        """A fresh token for pushing to one repository, with the claims registries know; no call here takes it."""
        access = [{"type": "repository", "name": repository, "actions": ["pull", "push"]}]
        return self._signed({"sub": tenant_id, "aud": "registry", "access": access}, REGISTRY_LIFETIME)

    def _signed(self, claims: dict[str, Any], lifetime: float) -> str:
        issued = self._wall()
        stamps = {"iat": int(issued), "exp": int(issued + lifetime), "iss": ISSUER, "sandbox": True}
        return jwt.encode(claims | stamps, self._key, algorithm=ALGORITHM)

    def check(self, authorization: str | None) -> TokenClaims:
        """Read an `Authorization` header.

        Returns:
            The token's claims: signed here, complete and not expired.

        Raises:
            WireError: 401 with code `missing_token`, `invalid_token` or `token_expired` (RFC 6750 section 3.1).
        """
        scheme, _, token = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized("missing_token", "this call needs `Authorization: Bearer <token>`")
        try:
            # `exp` and `iat` are left to the handed-in clock below; the names are still required to be there.
            payload = jwt.decode(
                token.strip(),
                self._key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["sub", "iat", "exp", "iss"], "verify_exp": False, "verify_iat": False},
            )
            claims = msgspec.convert(payload, TokenClaims)
        except (jwt.InvalidTokenError, msgspec.ValidationError) as exc:
            raise unauthorized("invalid_token", "the token was not issued by this sandbox") from exc
        if not claims.sandbox:
            raise unauthorized("invalid_token", "this is not a sandbox token")
        if claims.exp <= self._wall():
            raise unauthorized("token_expired", "the sandbox token has expired; log in again")
        return claims
