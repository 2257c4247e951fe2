"""Flow ids: sortable by time, safe in a URL and a file name, easy to say the beginning of.

Ten characters of Crockford's base 32 hold the milliseconds since 1970 (good until the year 10889), eight more are
random. A child's id is its parent's with the machine and the visit it belongs to, and a hash of its key when it has
one, so that a resumed parent finds it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from datetime import datetime
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
KEY_CHARACTERS: Final = 16
"""Of the hash of a child's key: 80 bits."""
_VISIT: Final = re.compile(rf"-([0-9]+)(?:_[a-z2-7]{{{KEY_CHARACTERS}}})?\Z")


def new_flow_id(moment: datetime) -> str:
    """A new id for a flow that starts at `moment`; two flows of the same millisecond differ in 40 random bits."""
    left = int(moment.timestamp() * 1000)
    time = ""
    for _ in range(10):
        left, digit = divmod(left, 32)
        time = ALPHABET[digit] + time
    return time + "".join(secrets.choice(ALPHABET) for _ in range(8))


def child_flow_id(parent: str, machine: str, incarnation: int, key: str | None = None) -> str:
    """The id of the flow of `machine` and `key` that `parent` runs in its visit number `incarnation`."""
    plain = f"{parent}.{machine}-{incarnation}"
    if key is None:
        return plain
    digest = base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().lower()
    return f"{plain}_{digest[:KEY_CHARACTERS]}"


def runs_inside(flow: str, outer: str) -> bool:
    """Whether a flow is a child of another, or a child's child."""
    return flow.startswith(f"{outer}.")


def visit_of_child(child: str) -> int | None:
    """The number of the parent's visit that a child flow belongs to; None when this is no child's id."""
    found = _VISIT.search(child)
    return None if found is None else int(found[1])
