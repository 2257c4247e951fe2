"""From one version of a table to the next: what a flow that was written by an older table is in the newer one.

Theory
------
A flow outlives the program that started it. Its events were facts in the old table, and the old table is gone; so they
are not replayed in the new one. Instead the flow is *carried*: the state it stands in gets its new name, the context
its new shape, both by what is written beside the table and nothing else. The engine journals the result as one record,
and from that record on the history is the new table's.

    PAYMENT = Machine("payment", version=3, ..., migrations=[
        Migration(1, states={"waiting": "awaiting_callback"}),          # from version 1 to version 2
        Migration(2, context=lambda old: {**old, "currency": "EUR"}),   # from version 2 to version 3
    ])

- A migration leads from its version to the next one; a flow of version 1 goes through both.
- A table that changed without a new version has another fingerprint. `Migration(3, fingerprint="...")` leads from that
  table of version 3 to this one; with nothing else said it declares that flows of it simply go on.
- A flow is carried within its visit: the number of the visit stays, and with it the idempotency keys of what it has
  announced and the ids of the child flows it runs. It cannot be carried to an end: cancel it instead.
- What no migration leads from is refused, with the version and fingerprint that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ..errors import CLI, IncompatibleFlow, MachineInvalid

if TYPE_CHECKING:
    from .machine import Context, Machine

PlainContext = dict[str, Any]


class Migration(msgspec.Struct, frozen=True):
    """From one version of a table to the next.

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


class Carried(NamedTuple):
    """Where a flow stands in the newer table."""

    state: str
    context: Context


def check_migrations(machine: Machine[Any]) -> None:
    """Migrations lead from older tables to states there are; two never lead from the same one.

    Raises:
        MachineInvalid: One does not.
    """
    known: set[tuple[int, str | None]] = set()
    for each in machine.migrations:
        where = f"machine {machine.name}: the migration from version {each.version}"
        key = (each.version, each.fingerprint)
        if key in known:
            raise MachineInvalid(f"{where} is written twice")
        known.add(key)
        same = each.version == machine.version and each.fingerprint not in (None, machine.fingerprint)
        if not (1 <= each.version < machine.version or same):
            raise MachineInvalid(f"{where} does not lead to version {machine.version} from an older table")
        if each.version >= machine.version - 1:
            for name in each.states.values():
                if name not in machine.states or machine.states[name].final:
                    raise MachineInvalid(f"{where} leads to {name}, which is no state a flow can go on in")


def carry(machine: Machine[Any], *, version: int, fingerprint: str, state: str, context: str) -> Carried:
    """What a flow of an older table is in this one. Pure.

    Args:
        machine: The table of today, with its migrations.
        version: The version of the table that wrote the flow.
        fingerprint: Its fingerprint.
        state: Where the flow stands in it.
        context: What the flow knows, as the JSON it wrote.

    Raises:
        IncompatibleFlow: No migration leads here, or what it makes does not fit; the message says which.
    """
    written = f"it was written by {machine.name} version {version} ({fingerprint})"
    here = f"this is version {machine.version} ({machine.fingerprint})"
    if version > machine.version:
        raise IncompatibleFlow(f"{written}; {here}, an older one", hint="Upgrade systemprompt-cloud.")
    data: Any = msgspec.json.decode(context)
    for migration in _way(machine, version, fingerprint):
        if migration is None:
            raise IncompatibleFlow(f"{written}; {here}, and no migration leads from the one to the other")
        state = migration.states.get(state, state)
        if migration.context is not None:
            try:
                data = migration.context(data)
            except (LookupError, TypeError, ValueError, AttributeError) as exc:
                raise IncompatibleFlow(
                    f"{written}; the migration from version {migration.version} cannot take its context: {exc!r}",
                    hint=f"The migration has to be mended; the flow is untouched. See `{CLI} flows check`.",
                ) from exc
    if state not in machine.states or machine.states[state].final:
        raise IncompatibleFlow(f"{written} and stands in {state}, in which no flow can go on here; {here}")
    try:
        return Carried(state, machine.decode_context(msgspec.json.encode(data)))
    except (msgspec.DecodeError, TypeError) as exc:
        raise IncompatibleFlow(
            f"{written}; its migrated context does not fit version {machine.version}: {exc}"
        ) from exc


def _way(machine: Machine[Any], version: int, fingerprint: str | None) -> Iterator[Migration | None]:
    """The migrations a flow of that table goes through, one after the other; None where the next one is missing."""
    known = {(each.version, each.fingerprint): each for each in machine.migrations}
    while (version, fingerprint) not in {(machine.version, machine.fingerprint), (machine.version, None)}:
        # One that was written for exactly this table goes before one for its whole version.
        yield known.get((version, fingerprint)) or known.get((version, None))
        # Where it leads to the next version's table is the newest of that version: its fingerprint is not asked for.
        version, fingerprint = min(version + 1, machine.version), None
