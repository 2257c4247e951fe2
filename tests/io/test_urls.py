"""Which URLs are the same place, and which hosts are this computer: asked by all that sends a token somewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.io.http.urls import LISTENER_NAMES, LOOPBACK_NAMES, Origin


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://api.systemprompt.io", "https://API.systemprompt.io:443/v1?x=y#z", True),
        ("http://127.0.0.1", "http://127.0.0.1:80/", True),
        ("http://127.0.0.1", "http://127.0.0.1:0", False),
        ("http://[::1]:8080/a", "http://[::1]:8080/b", True),
        ("https://api.systemprompt.io", "http://api.systemprompt.io", False),
        ("https://api.systemprompt.io", "https://api.systemprompt.io:8443", False),
        ("https://api.systemprompt.io", "https://api.systemprompt.io.evil.example", False),
        ("https://api.systemprompt.io", "https://api.systemprompt.io@evil.example", False),
        ("http://127.0.0.1:8000", "http://localhost:8000", False),
    ],
)
def test_scheme_host_and_port_make_a_place(one: str, other: str, same: bool) -> None:
    """Path, query, fragment, case and a port that goes without saying make no difference; anything else does."""
    assert (Origin.parse(one) == Origin.parse(other)) is same


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("https://api.systemprompt.io:443/x", "https://api.systemprompt.io"),
        ("http://127.0.0.1:8765/callback?state=secret", "http://127.0.0.1:8765"),
        ("http://[::1]:80/", "http://[::1]"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_headers_write_it(url: str, written: str) -> None:
    """Without path and query, without the scheme's own port, a literal address in brackets (RFC 6454 section 6.2)."""
    assert str(Origin.parse(url)) == written


@given(
    st.sampled_from(["http", "https"]),
    st.sampled_from(sorted(LOOPBACK_NAMES)) | st.from_regex(r"[a-z]{1,8}\.example", fullmatch=True),
    st.none() | st.integers(1, 65535),
)
def test_what_is_written_is_read_again(scheme: str, host: str, port: int | None) -> None:
    """Writing an origin and reading it gives the same place."""
    origin = Origin.of(scheme, host, port)
    assert Origin.parse(str(origin)) == origin


def test_who_may_be_called_and_what_is_listened_on() -> None:
    """::1 is this computer too, but nothing of ours listens there: everything is bound to 127.0.0.1."""
    assert {"127.0.0.1", "localhost"} == LISTENER_NAMES
    assert {"::1"} == LOOPBACK_NAMES - LISTENER_NAMES
