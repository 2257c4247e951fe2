"""The orders of a journal that may be paid and have no tenant: what is known of them must not be removed."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from ...engine.journal.journal import Journal
from ...engine.journal.records import FlowRow


def orders_in_doubt(journal: Journal) -> frozenset[str]:
    """The ids of the root flows that hold such an order.

    One whose payment page was made and that ended otherwise than in a tenant, after the last one of the same kind that
    ended in one: the next order of that kind looks at it before anything is bought.
    """
    found, settled = set[str](), set[tuple[str, ...]]()
    for row in journal.flows(machine="checkout", limit=sys.maxsize):
        try:
            known = msgspec.json.decode(row.context, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError):  # it may be one
            found.add(_root(journal, row))
            continue
        kind = tuple(str(known.get(name, "")) for name in ("api_url", "price_id", "region", "account"))
        if row.verdict == "success":
            settled.add(kind)
        elif row.status == "ended" and known.get("checkout_session_id") and kind not in settled:
            found.add(_root(journal, row))
    return frozenset(found)


def _root(journal: Journal, row: FlowRow) -> str:
    while row.parent is not None and (parent := journal.flow(row.parent)) is not None:
        row = parent
    return row.id
