"""Which proxy a request goes through, so that its failures can be named as what they are."""

from __future__ import annotations

import os
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from ...base.redaction import printable, redact


class Proxy(msgspec.Struct, frozen=True):
    """A proxy of the environment.

    Attributes:
        variable: The environment variable that names it.
        address: Its host and port; no user, no password.
    """

    variable: str
    address: str

    @property
    def hint(self) -> str:
        """What to look at."""
        return f"Check {self.variable}; NO_PROXY lists the hosts that are reached without a proxy."


def proxy_of(url: httpx.URL) -> Proxy | None:
    """The proxy that httpx takes for a URL, by the environment; None when there is none."""
    proxies = getproxies()
    if proxy_bypass(url.host):
        return None
    for name in (url.scheme, "all"):
        if address := proxies.get(name):
            variable = next((each for each in (f"{name.upper()}_PROXY", f"{name}_proxy") if os.environ.get(each)), "")
            return Proxy(variable or f"{name.upper()}_PROXY", _shown(address))
    return None


def _shown(address: str) -> str:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an address that is none"
    return redact(printable(f"{parts.hostname or ''}{port}"))[:200]
