"""One rule for tokens: what fits into a header is sent until it says that its time is over; no claim is trusted."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.errors import JwtDecode
from systemprompt_cloud.io.http.tokens import (
    LONGEST_TOKEN,
    bare_token,
    is_sandbox_token,
    is_token_expired,
    token_claims,
    token_expiry,
    token_problem,
)

KEY = "a test key of more than thirty-two bytes"
NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def token(**claims: Any) -> str:
    """A signed token with these claims."""
    # pyjwt names key types of `cryptography`, which is not installed.
    return jwt.encode(claims, KEY, algorithm="HS256")


def raw_token(payload: bytes) -> str:
    """A token with any payload at all."""
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
    return b".".join((head, base64.urlsafe_b64encode(payload).rstrip(b"="), b"")).decode()


def test_claims_are_read_without_the_key() -> None:
    """The API verifies; here an expired token with an unknown signature is still read."""
    assert token_claims(token(sub="u", exp=1)) == {"sub": "u", "exp": 1}


@pytest.mark.parametrize("broken", ["", "opaque", "a.b", "a.b.c", "ä.ö.ü", raw_token(b"[]"), raw_token(b"[" * 100_000)])
def test_what_is_no_jwt_is_named_without_being_quoted(broken: str) -> None:
    """The error says that the token is unreadable and does not show it."""
    with pytest.raises(JwtDecode) as caught:
        token_claims(broken)
    assert caught.value.user_message == "the token is not a readable JWT"
    assert caught.value.requires_login
    assert token_expiry(broken) is None
    assert not is_token_expired(broken, NOW)
    assert not is_sandbox_token(broken)


def test_expiry_is_a_moment_in_utc() -> None:
    """`exp` is seconds since the epoch (RFC 7519 section 4.1.4)."""
    assert token_expiry(token(exp=NOW.timestamp())) == NOW
    assert token_expiry(token(sub="u")) is None


@pytest.mark.parametrize(("seconds", "expired"), [(-1, True), (0, False), (1, False)])
def test_a_token_is_expired_when_exp_is_before_now(seconds: int, expired: bool) -> None:
    """Expired means exp < now, to the second."""
    assert is_token_expired(token(exp=int(NOW.timestamp()) + seconds), NOW) is expired


def test_a_token_grows_old_with_the_clock() -> None:
    """The same token is good now and expired when the clock has passed its end."""
    with freeze_time(NOW) as clock:
        fresh = token(exp=int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
        assert not is_token_expired(fresh, datetime.now(UTC))
        clock.tick(timedelta(hours=1, seconds=1))
        assert is_token_expired(fresh, datetime.now(UTC))


def test_a_token_without_exp_does_not_expire() -> None:
    """`exp` is optional; the API has the last word."""
    assert not is_token_expired(token(sub="u"), NOW)


@pytest.mark.parametrize(
    "exp", [b'"soon"', b'""', b'"NaN"', b'"1e999"', b"true", b"NaN", b"Infinity", b"[]", b"null", b"0", b"-1", b'"0"']
)
def test_an_exp_that_names_no_moment_is_none(exp: bytes) -> None:
    """The token is sent, and the API answers: what nobody can read is no reason to refuse what it accepts."""
    odd = raw_token(b'{"exp":' + exp + b"}")
    assert token_expiry(odd) is None
    assert not is_token_expired(odd, NOW)


@pytest.mark.parametrize(("seconds", "expired"), [(-1, True), (1, False)])
@pytest.mark.parametrize("shape", ["{}", "{}.5", " {} "])
def test_an_exp_that_is_text_is_read_as_its_number(shape: str, seconds: int, expired: bool) -> None:
    """Some issuers write all claims as text."""
    exp = shape.format(int(NOW.timestamp()) + seconds)
    assert is_token_expired(token(exp=exp), NOW) is expired


@pytest.mark.parametrize(("exp", "expired"), [(10**30, False), (1e300, False), (10**400, False), (-(10**30), False)])
def test_a_moment_beyond_the_calendar_does_not_crash(exp: float, expired: bool) -> None:
    """Milliseconds sent as seconds, or worse, are far in the future, not an exception."""
    assert is_token_expired(raw_token(json.dumps({"exp": exp}).encode()), NOW) is expired


def test_a_local_clouds_token_is_known_by_its_claim() -> None:
    """Only `sandbox: true` marks a sandbox token; a truthy word does not."""
    assert is_sandbox_token(token(sandbox=True))
    assert not is_sandbox_token(token(sandbox="yes"))
    assert not is_sandbox_token(token(sub="u"))


@given(st.text() | st.binary().map(raw_token))
def test_no_text_makes_the_reader_crash(text: str) -> None:
    """Whatever stands where a token should, the answer is yes or no."""
    assert is_token_expired(text, NOW) in {True, False}
    assert is_sandbox_token(text) in {True, False}


# --- what can be a token -------------------------------------------------------------------------------------------

AROUND = st.text(st.sampled_from("\ufeff \t\r\n"), max_size=6)
TOKENS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).filter(
    lambda text: text[0] not in "\"'"
)


@given(before=AROUND, found=TOKENS, after=AROUND, quote=st.sampled_from(["", "'", '"']), inside=AROUND)
def test_what_is_around_a_token_is_no_part_of_it(before: str, found: str, after: str, quote: str, inside: str) -> None:
    """Line ends of files, the byte order mark of PowerShell, the quotes of env files."""
    assert bare_token(f"{before}{quote}{inside}{found}{inside}{quote}{after}") == found
    assert bare_token(bare_token(found)) == found
    assert token_problem(found) == ""


@given(st.text())
def test_what_is_no_token_is_named_and_never_sent(text: str) -> None:
    """Any text is either a token that fits into a header, or has one sentence that says why not."""
    bare = bare_token(text)
    fits = 0 < len(bare) <= LONGEST_TOKEN and all(0x21 <= ord(char) <= 0x7E for char in bare)
    assert (token_problem(bare) == "") is fits


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("one\ntwo", "holds a space or a line end"),
        ("Bearer abc", "begins with `Bearer`, which is no part of it"),
        ("töken", "must be visible ASCII characters only"),
        ("x" * (LONGEST_TOKEN + 1), "is longer than 65536 characters"),
    ],
)
def test_the_problem_of_a_token_is_a_sentence(text: str, problem: str) -> None:
    """It says what to change, and quotes nothing of the token."""
    assert token_problem(text) == problem
