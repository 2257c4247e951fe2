"""Where the local cloud's pages may send a browser back to: a listener on this computer, and nowhere else.

An open redirector on loopback would still be one, and it would carry a token. So a redirect URI is taken only when it
is plain http on 127.0.0.1 or localhost (RFC 8252 section 7.3), without user information, and without a fragment (RFC
6749 section 3.1.2). A query is allowed and kept byte for byte: the client's nonce lives there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from ..io.urls import LISTENER_NAMES, Origin
from .answers import WireError

_LONGEST: Final = 2048


def check_redirect_uri(uri: str | None) -> str:
    """Return `uri` when a browser may be sent there.

    Raises:
        WireError: 400 `invalid_redirect_uri`, saying which rule it breaks.
    """
    if not uri:
        raise _bad("it is missing")
    # Before parsing: `urlsplit` drops tabs and line breaks silently, and browsers read a backslash as a slash.
    if len(uri) > _LONGEST or not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        raise _bad("it is too long or holds characters a URL cannot hold")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as exc:
        raise _bad("it is not a URL") from exc
    if parts.scheme != "http" or parts.hostname not in LISTENER_NAMES:
        raise _bad("it must be http on 127.0.0.1 or localhost")
    if "@" in parts.netloc or "#" in uri or port == 0:
        raise _bad("it must have no user information, no fragment and a port that can be connected to")
    return uri


def origin_of(uri: str) -> str:
    """The origin of a checked redirect URI, built from its parsed parts so that it is safe inside a header."""
    return str(Origin.parse(uri))


def with_query(uri: str, parameters: Mapping[str, str]) -> str:
    """`uri` with `parameters` added behind whatever query it has already."""
    parts: SplitResult = urlsplit(uri)
    query = "&".join(filter(None, (parts.query, urlencode(parameters))))
    return parts._replace(query=query).geturl()


def _bad(reason: str) -> WireError:
    return WireError(400, "invalid_redirect_uri", f"the redirect_uri cannot be used: {reason}")
