"""httpx's URLs under the rules of `urls.py`: where a request, and a token with it, may be sent.

What is compared is what is called: hosts are taken from httpx's own parts, as they are looked up. Messages name a
request by its URL without user and query.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import httpx

from ...base.redaction import printable, redact
from ...errors import ApiError, UnsafeUrl
from .urls import LOOPBACK_NAMES, Origin, check_api_url, may_be_an_id

NO_HOST: Final = "a part of a name between two dots has 1 to 63 characters (RFC 1035 section 2.3.4)"


NOT_A_URL: Final = (httpx.InvalidURL, UnicodeError)
"""What httpx raises of a URL that is none: the second of a host that begins as an encoded one, and is not."""


def parse_api_url(api_url: str) -> httpx.URL:
    """Parse a base URL tokens may be sent to; `urls.check_api_url` says which.

    Returns:
        The URL, without a slash at its end.

    Raises:
        UnsafeUrl: It is none, or httpx would call another place than the one that was checked; nothing was sent.
    """
    place = check_api_url(api_url)
    try:
        url = httpx.URL(api_url.rstrip("/"))
        agreed = _origin(url) == place and bool(url.host)  # asked for later, when httpx chooses a proxy
    except NOT_A_URL as exc:
        raise UnsafeUrl(f"the API URL is not one: {exc}") from exc
    if not agreed:
        raise UnsafeUrl(f"the API URL is not read alike by all: {redact(printable(api_url))!r}")
    return url


def may_be_a_host(url: httpx.URL) -> bool:
    """Whether the URL's host is one that can be looked up; a resolver's answer to any other is a bare UnicodeError."""
    try:
        url.raw_host.decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True


def is_loopback(url: httpx.URL) -> bool:
    """Whether the URL's host is this computer: 127.0.0.1, ::1 or localhost."""
    return _origin(url).host in LOOPBACK_NAMES


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether scheme, host and port agree (RFC 6454 section 5)."""
    return _origin(one) == _origin(other)


def _origin(url: httpx.URL) -> Origin:
    """From httpx's own parts, the host as it is looked up: what is compared must be what is called."""
    return Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)


def link_under(base: httpx.URL, link: str) -> httpx.URL:
    """Resolve a link the API gave, without leaving the API.

    Args:
        base: The API's base URL.
        link: An absolute URL of the same origin, or a path starting with one slash, taken under the base URL.

    Raises:
        UnsafeUrl: It leads anywhere else; a token must not follow it.
    """
    # "//host/" and "/\host/" are other hosts to some parsers, whatever ours thinks of them.
    is_path = link.startswith("/") and not link.startswith(("//", "/\\"))
    try:
        url = httpx.URL(f"{base}{link}" if is_path else link)
    except httpx.InvalidURL as exc:
        raise UnsafeUrl(f"the API gave a link that is not a URL: {exc}") from exc
    if not same_origin(url, base) or url.userinfo:
        raise UnsafeUrl(f"the API at {base} gave a link that leads elsewhere: {without_query(url)}")
    return url


def path_segment(value: str) -> str:
    """Percent-encode an id as one segment of a path.

    Raises:
        ApiError: It can be none (`urls.may_be_an_id`).
    """
    if not may_be_an_id(value):
        raise ApiError(f"{value!r} is not an id the API gives", hint="Check the id.")
    return quote(value, safe="")


def without_query(url: httpx.URL) -> str:
    """The URL as messages may show it: no user, query or fragment, and redacted."""
    return redact(printable(str(url.copy_with(username=None, password=None, query=None, fragment=None))))
