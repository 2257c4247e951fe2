"""Tests of sandbox/redirects.py: where a browser may be sent back to."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.sandbox.answers import WireError
from systemprompt_cloud.sandbox.redirects import check_redirect_uri, origin_of, with_query


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:8765/callback",
        "http://127.0.0.1:8765/callback?state=a-b_c%20d",
        "http://localhost:1/",
        "http://localhost/callback",
    ],
)
def test_loopback_is_accepted(uri: str) -> None:
    """Plain http on this computer is where a native app listens (RFC 8252 section 7.3)."""
    assert check_redirect_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "/callback",
        "//127.0.0.1/callback",
        "https://127.0.0.1:8765/callback",
        "http://example.com/callback",
        "http://127.0.0.1.example.com/",
        "http://localhost@example.com/",
        "http://user@127.0.0.1/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1/#fragment",
        "http://127.0.0.1/#",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://127.1/",
        "http://[::1/",
        "javascript:alert(1)",
        "http://127.0.0.1/\r\nSet-Cookie: a=b",
        "http://127.0.0.1/ x",
        "http://127.0.0.1/ä",
        "http://127.0.0.1/" + "x" * 3000,
    ],
)
def test_everything_else_is_refused(uri: str | None) -> None:
    """Another host, another scheme, tricks with user information, numbers and line breaks: all 400."""
    with pytest.raises(WireError) as caught:
        check_redirect_uri(uri)
    assert (caught.value.status, caught.value.code) == (400, "invalid_redirect_uri")


@given(st.text(max_size=40), st.dictionaries(st.sampled_from("abc"), st.text(max_size=8), min_size=1))
def test_what_is_accepted_stays_on_loopback(tail: str, added: dict[str, str]) -> None:
    """Whatever follows the address, an accepted URI keeps its host, its own query, and gains the parameters."""
    uri = "http://127.0.0.1" + tail
    try:
        check_redirect_uri(uri)
    except WireError:
        return
    location = with_query(uri, added)
    parts = urlsplit(location)
    assert parts.hostname == "127.0.0.1"
    assert parts.query.startswith(urlsplit(uri).query)
    assert parse_qsl(parts.query, keep_blank_values=True)[-len(added) :] == list(added.items())
    assert origin_of(uri).replace(":", "").replace("/", "").replace(".", "").isalnum()


def test_the_query_that_was_there_is_kept_byte_for_byte() -> None:
    """The client's nonce must come back exactly as it was sent."""
    assert (
        with_query("http://127.0.0.1:1/c?state=a%2Bb&x", {"error": "no way"})
        == "http://127.0.0.1:1/c?state=a%2Bb&x&error=no+way"
    )
    assert with_query("http://127.0.0.1:1/c", {"a": "1"}) == "http://127.0.0.1:1/c?a=1"
