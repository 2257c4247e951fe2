"""Flow ids: sortable by time, safe in a URL and a file name, easy to say the beginning of.

Ten characters of Crockford's base 32 hold the milliseconds since 1970 (good until the year 10889), eight more are
random. A child's id is its parent's with the machine and the visit it belongs to, and a hash of its key when it has
one, so that a resumed parent finds it. Where that would become long, deep inside other flows, a hash takes the place of
the parent's id; the id still begins with the outermost flow's. Which flow runs which is not read out of ids: the row
has the parent.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
KEY_CHARACTERS: Final = 16
"""Of the hash of a child's key: 80 bits."""
LONGEST: Final = 160
"""Characters of an id, at the most, whatever flows the flow runs inside."""
PARENT_CHARACTERS: Final = 32
"""Of the hash of a parent's id: 160 bits."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VISIT: Final = re.compile(rf"-([0-9]+)(?:_[a-z2-7]{{{KEY_CHARACTERS}}})?\Z")


def new_flow_id(moment: datetime) -> str:
    """A new id for a flow that starts at `moment`; two flows of the same millisecond differ in 40 random bits."""
    left = (moment - _EPOCH) // timedelta(milliseconds=1)  # a float has not enough digits for far moments
    time = ""
    for _ in range(10):
        left, digit = divmod(left, 32)
        time = ALPHABET[digit] + time
    return time + "".join(secrets.choice(ALPHABET) for _ in range(8))


def child_flow_id(parent: str, machine: str, incarnation: int, key: str | None = None) -> str:
    """The id of the flow of `machine` and `key` that `parent` runs in its visit number `incarnation`."""
    plain = plain_child_flow_id(parent, machine, incarnation, key)
    if len(plain) <= LONGEST:
        return plain
    return plain_child_flow_id(_short_form(parent), machine, incarnation, key)


def plain_child_flow_id(parent: str, machine: str, incarnation: int, key: str | None = None) -> str:
    """`child_flow_id` however long; what long ids were before they were bounded."""
    plain = f"{parent}.{machine}-{incarnation}"
    return plain if key is None else f"{plain}_{_hash(key, KEY_CHARACTERS)}"


def _short_form(parent: str) -> str:
    # No machine's name begins with an underscore, so this is no other flow's id.
    return f"{parent.partition('.')[0][:PARENT_CHARACTERS]}._{_hash(parent, PARENT_CHARACTERS)}"


def _hash(text: str, characters: int) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:characters]


def parent_part(child: str, machine: str) -> str:
    """The part of a child's id that stands for its parent: one of the parent's `child_parts`."""
    found = re.search(rf"\.{re.escape(machine)}{_VISIT.pattern}", child)
    return child.rpartition(".")[0] if found is None else child[: found.start()]


def child_parts(flow: str) -> tuple[str, str]:
    """How the ids of a flow's children may begin."""
    return flow, _short_form(flow)


def visit_of_child(child: str) -> int | None:
    """The number of the parent's visit that a child flow belongs to; None when this is no child's id."""
    found = _VISIT.search(child)
    return None if found is None else int(found[1])
