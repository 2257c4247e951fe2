"""Which URLs are this computer, and which are the same place: the two questions a token's way depends on.

Theory: a token goes only where it came from (RFC 6750 section 5.3), and in the clear only within this computer. Both
rules compare hosts, and two comparisons that differ a little are a hole; so they are made here, and nowhere else.

Nothing here asks a resolver. `localhost` is taken at its word because browsers do (RFC 8252 section 8.3 only forbids to
*listen* on the name); what is served is bound to the address.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from typing_extensions import override

LISTENER_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
"""What a server bound to 127.0.0.1 is called by those who may call it: in a `Host` header, in a redirect URI."""
LOOPBACK_NAMES: Final = LISTENER_NAMES | {"::1"}
"""Hosts that are this computer: plain http to them crosses no network."""

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Origin(NamedTuple):
    """Scheme, host and port: what makes two URLs the same place (RFC 6454 section 4); `str()` is a header's form."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """From the parts of a URL that somebody else has parsed; without a port the scheme's own is meant."""
        return cls(scheme, host.lower(), port or _DEFAULT_PORTS.get(scheme))

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
