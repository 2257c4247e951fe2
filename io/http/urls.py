"""Which URLs are this computer, which are the same place, and which may be an API: where a token may go.

Theory: a token goes only where it came from (RFC 6750 section 5.3), and in the clear only within this computer. Both
rules compare hosts, and two comparisons that differ a little are a hole; so they are made here, and nowhere else. Of
an API's URL only what every parser reads alike is taken: a host in plain letters (an international one as `xn--...`).
And under it an id that somebody typed is one segment of a path, or no id.

Nothing here asks a resolver. `localhost` is taken at its word because browsers do (RFC 8252 section 8.3 only forbids to
*listen* on the name); what is served is bound to the address.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override

from ...errors import UnsafeUrl

LISTENER_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
"""What a server bound to 127.0.0.1 is called by those who may call it: in a `Host` header, in a redirect URI."""
LOOPBACK_NAMES: Final = LISTENER_NAMES | {"::1"}
"""Hosts that are this computer: plain http to them crosses no network."""

# RFC 3986 appendix A: everything a URL can hold. So no space, quote mark, backslash, backtick or control character.
URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
# A name as it can be looked up (RFC 1035 section 2.3.4; `_` is used all the same), or an IPv6 address.
_HOST: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f:]+:[0-9a-f:.]*")
LONGEST_ID: Final = 255
"""Characters of an id, many more than the API gives one: a longer one may make a path no server or client takes."""
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Origin(NamedTuple):
    """Scheme, host and port: what makes two URLs the same place (RFC 6454 section 4); `str()` is a header's form."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """From the parts of a URL that somebody else has parsed; without a port the scheme's own is meant."""
        return cls(scheme, host.lower(), _DEFAULT_PORTS.get(scheme) if port is None else port)

    @classmethod
    def parse(cls, url: str) -> Origin:
        """From a URL.

        Raises:
            ValueError: It is not one.
        """
        parts = urlsplit(url)
        return cls.of(parts.scheme, parts.hostname or "", parts.port)

    @override
    def __str__(self) -> str:
        """Without the port where it is the scheme's own (RFC 6454 section 6.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = self.port is None or self.port == _DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{host}" + ("" if own else f":{self.port}")


def may_be_an_id(value: str) -> bool:
    """Whether it can be an id the API gave: short Unicode text that stays one segment of a path.

    That is neither empty nor a dot segment, which would name another path (RFC 3986 section 5.2.4).
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False  # what somebody typed was no text
    return value not in {"", ".", ".."} and len(value) <= LONGEST_ID


def check_api_url(url: str, called: str = "the API URL") -> Origin:
    """Refuse an API's address that no token may be sent to.

    Args:
        url: https, or http on loopback; a path prefix is allowed, user, query and fragment are not.
        called: What gave it, an option say, for the message.

    Returns:
        The place it names. Whoever parses the URL with something else makes sure that it is the same.

    Raises:
        UnsafeUrl: It is anything else. Check --api-url.
    """
    from ...base.redaction import printable, redact

    # Before any parser has seen it. Also an empty query, behind which every path would be one.
    if {"@", "?", "#"} & set(url):
        raise UnsafeUrl(f"{called} must not hold a user, a query or a fragment (@, ? or #)")
    with suppress(ValueError):
        place = Origin.parse(url)
        can_be = URL_CHARACTERS.fullmatch(url) and _HOST.fullmatch(place.host) and place.port != 0
        if can_be and (place.scheme == "https" or (place.scheme == "http" and place.host in LOOPBACK_NAMES)):
            return place
    shown = redact(printable(url))
    raise UnsafeUrl(f"{called} must be https, or http on this machine, to a host and port there can be: {shown!r}")
