"""Migrations: how a flow that an older version of a table wrote continues in a newer one.

Theory
------
A flow outlives the program that started it. Its events were facts in the old table, and the old table is gone; so they
are not replayed in the new one. Instead the flow is *carried over*: its state gets the new name and its context the new
shape, by the migrations beside the table and nothing else. The engine journals the result as one record,
and from that record on the history is the new table's.

    PAYMENT = Machine("payment", version=3, ..., migrations=[
        Migration(1, states={"waiting": "awaiting_callback"}),          # from version 1 to version 2
        Migration(2, context=lambda old: {**old, "currency": "EUR"}),   # from version 2 to version 3
    ])

- A migration leads from its version to the next one; a flow of version 1 goes through both.
- A table that changed without a new version has another fingerprint. `Migration(3, fingerprint="...")` leads from that
  table of version 3 to this one; with nothing else said it declares that flows of it simply continue.
- A flow is carried within its visit: the number of the visit stays, and with it the idempotency keys of what it has
  announced and the ids of the child flows it runs. It cannot be carried to an end: cancel it instead.
- What no migration leads from is refused, with the version and fingerprint that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import MachineInvalid
from .functions import check_function
from .parts import State

PlainContext = dict[str, Any]


class Migration(msgspec.Struct, frozen=True):
    """How flows get from one version of a table to the next.

    Args:
        version: The version it leads from; it leads to the one after it, with a fingerprint to the machine's own.
        states: Old state names to new ones; a state that is not listed keeps its name.
        context: The old context as plain JSON data to the new one; None when fields were at most added with a default,
            or removed. Pure.
        fingerprint: Only for flows of exactly this table; needed where the version has not changed.
    """

    version: int
    states: Mapping[str, str] = {}
    context: Callable[[PlainContext], Mapping[str, Any]] | None = None
    fingerprint: str | None = None


def check_migrations(
    machine: str, version: int, fingerprint: str, states: Mapping[str, State], migrations: Sequence[Migration]
) -> None:
    """Check that migrations lead from older tables to existing states, and at most one from each table.

    Raises:
        MachineInvalid: One does not; the message names it.
    """
    known: set[tuple[int, str | None]] = set()
    if not isinstance(migrations, (list, tuple)):
        raise MachineInvalid(f"machine {machine}: migrations is a list, not {migrations!r}")
    for each in migrations:
        if not isinstance(each, Migration):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(f"machine {machine}: {each!r} is no Migration")
        where = f"machine {machine}: the migration from version {each.version}"
        key = (each.version, each.fingerprint)
        if key in known:
            raise MachineInvalid(f"{where} is written twice")
        known.add(key)
        same = each.version == version and each.fingerprint not in (None, fingerprint)
        if not (1 <= each.version < version or same):
            raise MachineInvalid(f"{where} does not lead to version {version} from an older table")
        if each.context is not None:
            check_function(each.context, f"{where}: its context function", context=dict)
        if each.version >= version - 1:
            for name in each.states.values():
                if name not in states or states[name].final:
                    raise MachineInvalid(f"{where} leads to {name}, in which no flow can continue")
