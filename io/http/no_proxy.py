"""NO_PROXY: which hosts are reached without a proxy, in every form that programs write it.

Theory. There is no standard, and every program reads it in its own way; a value that was written for one is met by all.
So everything is taken that curl, Go, Python, Ruby or Kubernetes understand, and what none of them does matches nothing:
an odd entry is never an error. Entries are divided by commas or spaces. Each is one of

- `*`: every host;
- a name, `corp.example`: that host, and all under it; a dot or `*.` before it (`.corp.example`) makes no difference;
- a name with `*` in it, `10.1.*` or `api-*.corp.example`: what fits;
- an address, `10.1.2.3`, `::1` or `[::1]`, however it is written: that address;
- a network, `10.0.0.0/8`, `fd00::/8` or `[fd00::]/8`: every address in it;
- one of these with a port, `corp.example:8080` or `[::1]:8080`: at that port only;
- one of these after a scheme, `https://corp.example`: for that scheme only;
- `<local>`: every name without a dot.

Names are compared without regard to case, to a dot at their end, and to how letters beyond ASCII are encoded. Nothing
is looked up: a network matches addresses that are in the URL, not those a name leads to.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

_DIVIDED: Final = re.compile(r"[,\s]+")
_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^/]*)/?")
_BRACKETS: Final = re.compile(r"\[(?P<host>[^\[\]]*)\](?P<length>/\d{1,3})?(?::(?P<port>\d{1,5}))?")
_PORT: Final = re.compile(r"(?P<host>[^:]*):(?P<port>\d{1,5})")
_LONGEST: Final = 253
"""Characters of a name; a longer entry matches nothing (RFC 1035 section 2.3.4)."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Address = IPv4Address | IPv6Address


class _Place(NamedTuple):
    """Where a request goes."""

    scheme: str
    host: str
    address: Address | None
    port: int | None


def bypassed(no_proxy: str, scheme: str, host: str, port: int | None) -> bool:
    """Whether a host is reached without a proxy.

    Args:
        no_proxy: The value of NO_PROXY.
        scheme: The URL's, in lower case.
        host: The URL's host; an address without brackets.
        port: The URL's port; None for the scheme's own.
    """
    name = _name(host)
    place = _Place(scheme, name, _address(name), _DEFAULT_PORTS.get(scheme) if port is None else port)
    return any(_matches(entry, place) for entry in _DIVIDED.split(no_proxy) if entry)


def _matches(entry: str, place: _Place) -> bool:
    if scheme := _SCHEME.fullmatch(entry):
        if scheme["scheme"].lower() not in {place.scheme, "all"}:
            return False
        entry = scheme["rest"]
    bracketed = _BRACKETS.fullmatch(entry)
    if bracketed:
        host, port = f"{bracketed['host']}{bracketed['length'] or ''}", bracketed["port"]
    elif ported := _PORT.fullmatch(entry):  # one colon: an address of IPv6 has more
        host, port = ported["host"], ported["port"]
    else:
        host, port = entry, None
    if port is not None and int(port) != place.port:
        return False
    return _is_host(_name(host), place)


def _is_host(wanted: str, place: _Place) -> bool:
    if wanted == "*":
        return True
    if not wanted or len(wanted) > _LONGEST:
        return False
    if wanted == "<local>":
        return "." not in place.host and place.address is None
    if "/" in wanted:
        return place.address is not None and _in_network(place.address, wanted)
    if (address := _address(wanted)) is not None:
        return address == place.address
    wanted = wanted.removeprefix("*").lstrip(".")
    if "*" in wanted:
        return "[" not in wanted and "?" not in wanted and fnmatchcase(place.host, wanted)
    if not wanted or place.address is not None:
        return False
    return place.host == wanted or place.host.endswith(f".{wanted}")


def _in_network(address: Address, wanted: str) -> bool:
    try:
        network = ip_network(wanted, strict=False)
    except ValueError:
        return False
    if network.version == 6 and address.version == 4 and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        return mapped is not None and address in ip_network((mapped, network.prefixlen - 96), strict=False)
    return address.version == network.version and address in network


def _name(host: str) -> str:
    """A host or entry in one spelling: lower case, as it is looked up, without a dot at its end."""
    lower = host.strip("[]").lower().removesuffix(".")
    if lower.isascii():
        return lower
    try:
        return lower.encode("idna").decode("ascii")
    except UnicodeError:
        return lower


def _address(text: str) -> Address | None:
    try:
        found = ip_address(text.partition("%")[0])  # what follows names a network card of this computer
    except ValueError:
        return None
    # The same host, written for the other protocol (RFC 4291 section 2.5.5.2).
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
