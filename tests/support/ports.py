"""Ports that nobody else takes while the process that listened on them is dead.

A port that the system chose may be given to somebody else as soon as nobody listens on it; a flow that is resumed needs
the one it had. So these are below the ports that systems give out (32,768 and up on Linux, 49,152 and up elsewhere),
above those of servers, and each process that runs tests has its own: it holds the mark of its lane for as long as it
lives.
"""

from __future__ import annotations

import socket
from functools import cache
from itertools import count
from typing import Final

from systemprompt_cloud.errors import PortBusy
from systemprompt_cloud.io.loopback.serving import bind_loopback

FIRST: Final = 10_000
LANES: Final = 16
"""How many processes may run tests beside each other."""
PORTS: Final = 600
"""Of each of them."""
MARKS: Final = FIRST + LANES * PORTS
"""The first of the ports that mark a lane as taken."""

_given: Final = count()


@cache
def _lane() -> tuple[int, socket.socket]:
    """The lane of this process, and what marks it as taken."""
    for lane in range(LANES):
        try:
            return lane, bind_loopback(MARKS + lane)
        except PortBusy:
            continue
    raise AssertionError(f"{LANES} other processes run tests on this machine; end one")


def own_port() -> int:
    """A port on which nobody listens, and which this process does not get again soon."""
    lane, _ = _lane()
    for number in _given:
        port = FIRST + lane * PORTS + number % PORTS
        try:
            bind_loopback(port).close()
        except PortBusy:
            continue
        return port
    raise AssertionError("counting never ends")
