"""Which proxy a request goes through, by the environment, so that failures are named as what they are.

The proxy is chosen here and handed to httpx: its own reading of NO_PROXY knows no networks, and fails altogether at
addresses of IPv6 (`no_proxy.py`).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import msgspec

from ...base.redaction import printable, redact
from ...base.remedies import Remedy
from ...errors import Network
from .no_proxy import bypassed

_KINDS: Final = ("http", "https", "socks5", "socks5h")
_NO_ADDRESS: Final = "an address that is none"


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
    """The proxy that is taken for a URL, by the environment; None when there is none."""
    found = _named(url)
    return None if found is None else Proxy(found[0], _shown(found[1]))


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """The same as httpx takes it.

    Raises:
        Network: It is of a kind that is not supported, needs a package that is not installed, or has no good address.
            Nothing was sent.
    """
    found = _named(url)
    if found is None:
        return None
    variable, value = found
    address = value if "://" in value else f"http://{value}"
    kind = address.partition("://")[0].lower()
    if kind not in _KINDS:
        shown = printable(redact(kind))[:20]
        raise _unusable(variable, f"names a proxy of the kind {shown!r}; there are {', '.join(_KINDS)}")
    if kind.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise _unusable(
            variable,
            f"names a SOCKS proxy, {_shown(value)}, and the package for it is not installed",
            hint=f"Install it (pip install 'systemprompt-cloud[socks]'), or set {variable} to an HTTP proxy.",
            remedy=Remedy("install_socks", {"variable": variable}),
        )
    if _shown(value) in {"", _NO_ADDRESS}:
        raise _unusable(variable, "names no proxy")
    try:
        return httpx.Proxy(address)
    except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
        raise _unusable(variable, f"names no proxy: {printable(redact(str(exc)))[:200]}") from exc


def _unusable(variable: str, problem: str, *, hint: str = "", remedy: Remedy | None = None) -> Network:
    error = Network(
        f"{variable} {problem}",
        sent=False,
        hint=hint or f"Set {variable} to http://HOST:PORT or socks5://HOST:PORT, or unset it.",
        remedy=remedy or Remedy("set_proxy", {"variable": variable}),
    )
    error.retryable = False
    return error


def _named(url: httpx.URL) -> tuple[str, str] | None:
    """The variable that names the proxy for a URL, and what it holds."""
    proxies: Mapping[str, str] = getproxies()
    if _is_direct(url, proxies):
        return None
    for name in (url.scheme, "all"):
        if address := proxies.get(name):
            variable = next((each for each in (f"{name}_proxy", f"{name.upper()}_PROXY") if os.environ.get(each)), "")
            return variable or f"{name.upper()}_PROXY", address
    return None


def _is_direct(url: httpx.URL, proxies: Mapping[str, str]) -> bool:
    host = url.raw_host.decode("ascii")
    if any(name.lower().endswith("_proxy") for name in os.environ):
        return bypassed(proxies.get("no", ""), url.scheme, host, url.port)
    return proxy_bypass(host)  # what macOS or Windows have in their settings


def _shown(address: str) -> str:
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    except ValueError:
        return _NO_ADDRESS
    return redact(printable(f"{host}{port}"))[:200]
