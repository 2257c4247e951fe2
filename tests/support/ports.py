"""Ports that nobody else takes while the process that listened on them is dead.

A port that the system chose may be given to somebody else as soon as nobody listens on it; a flow that is resumed needs
the one it had. So these are below the ports that systems give out (32,768 and up on Linux, 49,152 and up elsewhere),
above those of servers, and each process that runs tests has its own.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Final

from systemprompt_cloud.errors import PortBusy
from systemprompt_cloud.io.loopback.serving import bind_loopback

FIRST: Final = 10_000
LANES: Final = 16
"""How many processes may run tests beside each other; `tests/faults/crash_stage.py` has the ports from 20,000 on."""
PORTS: Final = 600
"""Of each of them."""

_lane: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % LANES
_given: Final = count(os.getpid())  # two runs at the same time do not begin at the same one


def own_port() -> int:
    """A port on which nobody listens, and which this process does not get again soon."""
    for number in _given:
        port = FIRST + _lane * PORTS + number % PORTS
        try:
            bind_loopback(port).close()
        except PortBusy:
            continue
        return port
    raise AssertionError("counting never ends")
