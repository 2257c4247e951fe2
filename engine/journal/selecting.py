"""Which flows are wanted, and how SQLite finds a page of them without reading the others.

A page is put together from one query for each status and machine: each of them reads an index in the order of the rows'
numbers, newest first, and stops at the limit. One query for all would read and sort every flow that fits. A `+` before
a column keeps SQLite from using that column's index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import msgspec

from .records import Status


class FlowFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which flows are wanted; what is not given does not matter.

    Attributes:
        statuses: One of these.
        machines: Of one of these machines, by the names they are stored under.
        key: With this key.
        parent: Run by this flow; None for those that no flow runs.
        before: Started before the flow with this id: the next page after it.
        limit: At most so many.
    """

    statuses: Sequence[Status] = ()
    machines: Sequence[str] = ()
    key: str | None = None
    parent: str | msgspec.UnsetType | None = msgspec.UNSET
    before: str | None = None
    limit: int = 100


def queries(wanted: FlowFilter, before: int | None) -> Iterator[tuple[str, Sequence[object]]]:
    """What follows SELECT, and its values, for each of the queries whose flows together are the page.

    Args:
        wanted: What is asked for.
        before: The number of the row of `wanted.before`.
    """
    for status, machine in product(wanted.statuses or (None,), wanted.machines or (None,)):
        yield _query(wanted, status, machine, before)


def _query(
    wanted: FlowFilter, status: Status | None, machine: str | None, before: int | None
) -> tuple[str, Sequence[object]]:
    by_parent = isinstance(wanted.parent, str)
    by_key = wanted.key is not None and machine is not None and not by_parent
    by_status = status not in (None, "ended") and not by_parent and not by_key
    by_machine = not by_parent and not by_status
    clauses = ["1"]
    values: list[object] = []

    def equal(column: str, value: object, *, indexed: bool) -> None:
        clauses.append(f"{'' if indexed else '+'}{column} = ?")
        values.append(value)

    if by_parent:
        equal("parent", wanted.parent, indexed=True)
    elif wanted.parent is None:
        clauses.append("parent IS NULL")
    if machine is not None:
        equal("machine", machine, indexed=by_machine)
    if wanted.key is not None:
        equal("key", wanted.key, indexed=by_key)
    if status is not None:
        equal("status", status, indexed=by_status)
    if by_status:
        clauses.append("status <> 'ended'")  # only so SQLite sees that its index of the unfinished is enough
    if before is not None:
        clauses.append("rowid < ?")
        values.append(before)
    return f"WHERE {' AND '.join(clauses)} ORDER BY rowid DESC LIMIT ?", (*values, wanted.limit)
