"""Where the local cloud's pages may send a browser back to: a listener on this computer, and nowhere else.

An open redirector on loopback would still be one, and it would carry a token. So a redirect URI is taken only when it
is plain http on 127.0.0.1 or localhost (RFC 8252 section 7.3), without user information, and without a fragment (RFC
6749 section 3.1.2). A query is allowed and kept byte for byte: the client's nonce lives there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlencode, urlsplit

from ..io.http.urls import Origin
from .answers import WireError

LONGEST: Final = 2048
"""Characters of a redirect URI."""
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
# Printable ASCII without the number sign, and without the backslash that browsers read as a slash.
_REST = r"[/?][!\"$-\[\]-~]*"
REDIRECT_URI: Final = rf"^http://(?:127[.]0[.]0[.]1|localhost)(?::{_PORT})?(?:{_REST})?$(?!\n)"
"""The whole rule, in the words Python and JSON Schema share (see `requests.py`)."""


def check_redirect_uri(uri: str | None) -> str:
    """Return `uri` when a browser may be sent there.

    Raises:
        WireError: 400 `invalid_redirect_uri`, saying what it must be.
    """
    if uri is None or len(uri) > LONGEST or not re.match(REDIRECT_URI, uri):
        raise WireError(
            400,
            "invalid_redirect_uri",
            "the redirect_uri must be http on 127.0.0.1 or localhost, with a port that can be connected to if any, "
            f"without user information and fragment, of at most {LONGEST} characters a URL can hold",
        )
    return uri


def origin_of(uri: str) -> str:
    """The origin of a checked redirect URI, built from its parsed parts so that it is safe inside a header."""
    return str(Origin.parse(uri))


def with_query(uri: str, parameters: Mapping[str, str]) -> str:
    """`uri` with `parameters` added behind whatever query it has already."""
    parts: SplitResult = urlsplit(uri)
    query = "&".join(filter(None, (parts.query, urlencode(parameters))))
    return parts._replace(query=query).geturl()
