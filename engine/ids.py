"""Flow ids: sortable by time, safe in a URL and a file name, easy to say the beginning of.

Ten characters of Crockford's base 32 hold the milliseconds since 1970 (good until the year 10889), eight more are
random. A child's id is its parent's with the machine and the visit it belongs to, so that a resumed parent finds it.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_flow_id(moment: datetime) -> str:
    """A new id for a flow that starts at `moment`; two flows of the same millisecond differ in 40 random bits."""
    left = int(moment.timestamp() * 1000)
    time = ""
    for _ in range(10):
        left, digit = divmod(left, 32)
        time = ALPHABET[digit] + time
    return time + "".join(secrets.choice(ALPHABET) for _ in range(8))


def child_flow_id(parent: str, machine: str, incarnation: int) -> str:
    """The id of the flow of `machine` that `parent` runs in its visit number `incarnation`."""
    return f"{parent}.{machine}-{incarnation}"


def runs_inside(flow: str, outer: str) -> bool:
    """Whether a flow is a child of another, or a child's child."""
    return flow.startswith(f"{outer}.")


def visit_of_child(child: str) -> int:
    """The number of the parent's visit that a child flow belongs to."""
    return int(child.rpartition("-")[2])
