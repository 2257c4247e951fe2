"""A port of one's own stays that while nobody listens on it."""

from __future__ import annotations

import socket
from pathlib import Path

from systemprompt_cloud.io.loopback.serving import bind_loopback

from tests.support.ports import own_port


def test_no_port_is_given_twice() -> None:
    """Nor one that somebody listens on."""
    first = own_port()
    with bind_loopback(first + 1):
        others = [own_port() for _ in range(20)]
    assert len({first, first + 1, *others}) == 2 + len(others)


def test_the_system_gives_it_to_nobody() -> None:
    """It is below every port that somebody gets who asks for any."""
    proc = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(proc.read_text().split()[0]) if proc.exists() else 49_152
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        assert own_port() < lowest <= any_port.getsockname()[1]
