"""Which hosts NO_PROXY exempts: every form of it that a program understands, and none that is an error."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.io.http.no_proxy import bypassed

FORMS = [
    ("*", "https://anything.example", True),
    ("a.example, *", "https://anything.example", True),
    ("", "https://corp.example", False),
    (" , ,", "https://corp.example", False),
    ("corp.example", "https://corp.example", True),
    ("corp.example", "https://api.corp.example", True),
    ("corp.example", "https://api.corp.example:8443", True),
    ("corp.example", "https://acorp.example", False),
    (".corp.example", "https://api.corp.example", True),
    (".corp.example", "https://corp.example", True),
    ("*.corp.example", "https://api.corp.example", True),
    ("*.corp.example", "https://acorp.example", False),
    ("CORP.example.", "https://api.corp.EXAMPLE", True),
    ("corp.example", "https://api.corp.example.", True),
    ("api-*.corp.example", "https://api-7.corp.example", True),
    ("api-*.corp.example", "https://web.corp.example", False),
    ("a.example corp.example\tb.example", "https://corp.example", True),
    ("bücher.example", "https://xn--bcher-kva.example", True),
    ("xn--bcher-kva.example", "https://api.bücher.example", True),
    ("corp.example:443", "https://corp.example", True),
    ("corp.example:443", "https://corp.example:8443", False),
    ("corp.example:8443", "https://corp.example:8443", True),
    (".corp.example:8443", "https://api.corp.example:8443", True),
    ("https://corp.example", "https://corp.example", True),
    ("http://corp.example", "https://corp.example", False),
    ("https://corp.example:8443/", "https://corp.example:8443", True),
    ("<local>", "https://intranet", True),
    ("<local>", "https://corp.example", False),
    ("10.1.2.3", "https://10.1.2.3", True),
    ("10.1.2.3:8443", "https://10.1.2.3:8443", True),
    ("10.1.2.3:8443", "https://10.1.2.3", False),
    ("10.1.*", "https://10.1.2.3", True),
    ("10.0.0.0/8", "https://10.200.1.1", True),
    ("10.9.9.9/8", "https://10.200.1.1", True),
    ("10.0.0.0/8", "https://11.0.0.1", False),
    ("10.0.0.0/8", "https://10.corp.example", False),
    ("3", "https://10.1.2.3", False),
    ("2.3", "https://10.1.2.3", False),
    ("::1", "https://[::1]", True),
    ("[::1]", "https://[::1]", True),
    ("[0:0::0:1]", "https://[::1]", True),
    ("[FD00::A]:8443", "https://[fd00::a]:8443", True),
    ("[fd00::a]:8443", "https://[fd00::a]", False),
    ("fd07:b51a:cc66:f0::/64", "https://[fd07:b51a:cc66:f0::7]", True),
    ("[fd00::]/8", "https://[fd12::1]", True),
    ("fd00::/8", "https://[fe80::1]", False),
    ("fe80::1%eth0", "https://[fe80::1]", True),
    ("::ffff:10.1.2.3", "https://10.1.2.3", True),
    ("::ffff:10.0.0.0/104", "https://10.1.2.3", True),
    ("10.0.0.0/33,fd00::/200,[,]:9,:1,//,*:x,[::1,1.2.3.4.5/2", "https://10.1.2.3", False),
    ("10.0.0.0/8/8", "https://10.1.2.3", False),
    ("x" * 100_000, "https://corp.example", False),
]


def is_direct(no_proxy: str, address: str) -> bool:
    """Whether the host of a URL is reached without a proxy."""
    url = httpx.URL(address)
    return bypassed(no_proxy, url.scheme, url.raw_host.decode("ascii"), url.port)


@pytest.mark.parametrize(("no_proxy", "address", "direct"), FORMS)
def test_every_form(no_proxy: str, address: str, direct: bool) -> None:
    """As curl, Go, Python and Kubernetes write it."""
    assert is_direct(no_proxy, address) is direct


@pytest.mark.parametrize(("no_proxy", "address", "direct"), FORMS)
def test_one_entry_does_not_change_what_another_means(no_proxy: str, address: str, direct: bool) -> None:
    """Whatever is before it or after it."""
    for beside in ("other.test", "[::9", "1.2.3.0/24", "[fd99::1]:5"):
        assert is_direct(f"{beside},{no_proxy}", address) is direct
        assert is_direct(f"{no_proxy} {beside}", address) is direct


@given(st.text(), st.sampled_from(["corp.example", "10.1.2.3", "::1", ""]), st.none() | st.integers(0, 65535))
@example("[٣]:٣", "10.1.2.3", None)
@example("http://[::1", "::1", 1)
def test_nothing_in_it_is_an_error(no_proxy: str, host: str, port: int | None) -> None:
    """It was written for other programs."""
    bypassed(no_proxy, "https", host, port)


names = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), min_size=2, max_size=4).map(".".join)


@given(names, names)
def test_a_name_means_itself_and_all_under_it(wanted: str, host: str) -> None:
    """However it begins."""
    under = host == wanted or host.endswith(f".{wanted}")
    for form in (wanted, f".{wanted}", f"*.{wanted}", f"{wanted}:443", f"https://{wanted}", wanted.upper()):
        assert is_direct(form, f"https://{host}") is under
        assert is_direct(form, f"https://{host}.{wanted}")
        assert not is_direct(form, f"https://{host}x{wanted}.test")


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_a_network_means_its_addresses(base: object, bits: int, other: object) -> None:
    """As the module `ipaddress` counts them; in brackets and without."""
    one = ip_address(str(base))
    network = ip_network((one, min(bits, one.max_prefixlen)), strict=False)
    host = str(other)
    there = ip_address(host)
    mapped = isinstance(there, IPv6Address) and there.ipv4_mapped
    if mapped:
        there = mapped
    inside = there.version == network.version and there in network
    url = f"https://[{host}]" if ":" in host else f"https://{host}"
    if isinstance(network, IPv4Network) or network.prefixlen < 96:
        assert is_direct(str(network), url) is inside
    assert is_direct(str(network), f"https://[{one}]" if one.version == 6 else f"https://{one}") or isinstance(
        network, IPv6Network
    )
    if isinstance(network, IPv6Network):
        assert is_direct(f"[{network.network_address}]/{network.prefixlen}", url) is is_direct(str(network), url)
