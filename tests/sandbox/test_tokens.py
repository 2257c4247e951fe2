"""Tests of sandbox/tokens.py: what a token says, and which tokens are refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from systemprompt_cloud.sandbox.answers import WireError
from systemprompt_cloud.sandbox.tokens import Keyring, TokenOffice

NOW = 1_800_000_000.0


def said_by(token: str) -> dict[str, Any]:
    """A token's payload, read without any library's help (RFC 7519 section 7.2)."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def office(seed: int | None = 0, now: float = NOW) -> TokenOffice:
    return TokenOffice(Keyring(seed).signing_key, wall=lambda: now)


def refusal(office: TokenOffice, header: str | None) -> str:
    with pytest.raises(WireError) as caught:
        office.check(header)
    assert caught.value.status == 401
    assert "Bearer" in caught.value.headers["WWW-Authenticate"]
    return caught.value.code


def test_a_token_says_that_it_is_a_sandbox_token() -> None:
    """Anyone can read off a token who it is for, for how long, and that it is not real."""
    payload = said_by(office().issue("usr_1", "a@sandbox.example"))
    assert payload == {
        "sub": "usr_1",
        "email": "a@sandbox.example",
        "iat": int(NOW),
        "exp": int(NOW) + 86400,
        "iss": "systemprompt-sandbox",
        "sandbox": True,
    }


def test_an_issued_token_is_accepted() -> None:
    """A token of this office gives its claims back; the scheme's case does not matter (RFC 9110 section 11.1)."""
    token = office().issue("usr_1", "a@sandbox.example")
    assert office().check(f"Bearer {token}").sub == "usr_1"
    assert office().check(f"bearer {token}").sub == "usr_1"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic dXNlcjpwdw=="])
def test_without_a_token_the_code_says_so(header: str | None) -> None:
    """A missing token is told apart from a bad one."""
    assert refusal(office(), header) == "missing_token"


def test_an_old_token_is_refused_at_its_very_second() -> None:
    """`exp` is the moment on or after which a token is not accepted (RFC 7519 section 4.1.4)."""
    token = office().issue("usr_1", "a@sandbox.example")
    assert office(now=NOW + 86399).check(f"Bearer {token}").sub == "usr_1"
    assert refusal(office(now=NOW + 86400), f"Bearer {token}") == "token_expired"


def test_foreign_and_forged_tokens_are_refused() -> None:
    """Another seed's token, an unsigned one, one of another issuer and one that hides being a sandbox's: all 401."""
    claims = said_by(office().issue("usr_1", "a@sandbox.example"))
    key = Keyring(0).signing_key
    forged = [
        office(seed=1).issue("usr_1", "a@sandbox.example"),
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode({**claims, "iss": "https://api.systemprompt.io"}, key),
        jwt.encode({**claims, "sandbox": False}, key),
        jwt.encode({**claims, "exp": "soon"}, key),
        jwt.encode({"iss": claims["iss"]}, key),
        "not.a.jwt",
    ]
    assert {refusal(office(), f"Bearer {token}") for token in forged} == {"invalid_token"}


def test_a_seed_decides_every_derived_value() -> None:
    """Equal seeds give equal clouds, other seeds other ones, and no seed a fresh one each time."""
    assert Keyring(7).derive("x", 40) == Keyring(7).derive("x", 40)
    values = {Keyring(7).derive("x"), Keyring(8).derive("x"), Keyring(7).derive("y")}
    assert len(values | {Keyring(None).derive("x"), Keyring(None).derive("x")}) == 5
