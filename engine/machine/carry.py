"""A flow of an older table, carried over to today's by the migrations beside it (`migrations` has the theory)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from ...base.remedies import Remedy
from ..errors import IncompatibleFlow, NotStorable
from .machine import Machine
from .migrations import Migration
from .parts import Context
from .stored import plain

C = TypeVar("C", bound=Context)

_DAMAGED: Final = "Its file was damaged. Cancel the flow and start again."


class Carried(NamedTuple):
    """A flow's state and context in the newer table."""

    state: str
    context: Context


def carry(
    machine: Machine[Any], *, version: int, fingerprint: str, state: str, context: str, name: str | None = None
) -> Carried:
    """Carry a flow of an older table over to this one. Pure.

    Args:
        machine: The table of today, with its migrations.
        version: The version of the table that wrote the flow.
        fingerprint: Its fingerprint.
        state: The flow's state in that table.
        context: What the flow knows, as the JSON it wrote.
        name: The name of the machine that wrote it, where that is a former one.

    Raises:
        IncompatibleFlow: No migration leads here, or its result does not fit this table; the message says which.
    """
    written, here = _tables(machine, version, fingerprint, name)
    path = _whole_path(machine, version, fingerprint, name)
    for migration in path:
        state = migration.states.get(state, state)
    if state not in machine.states or machine.states[state].final:
        raise IncompatibleFlow(f"{written} and is in the state {state}, which cannot be continued here; {here}")
    return Carried(state, _context(machine, path, context, written))


def carry_context(machine: Machine[C], *, version: int, fingerprint: str, context: str) -> C:
    """Carry what a flow knew, in whatever state it was, over to this table. Pure; see `carry`."""
    written, _ = _tables(machine, version, fingerprint, None)
    return _context(machine, _whole_path(machine, version, fingerprint, None), context, written)


def _tables(machine: Machine[Any], version: int, fingerprint: str, name: str | None) -> tuple[str, str]:
    """The two tables, for messages."""
    today = "" if name in {None, machine.name} else f"{machine.name} "
    return (
        f"it was written by {machine.name if name is None else name} version {version} ({fingerprint})",
        f"this is {today}version {machine.version} ({machine.fingerprint})",
    )


def _whole_path(machine: Machine[Any], version: int, fingerprint: str, name: str | None) -> list[Migration]:
    written, here = _tables(machine, version, fingerprint, name)
    if version > machine.version:
        raise IncompatibleFlow(f"{written}; {here}, an older one", hint="Upgrade this program.")
    path: list[Migration] = []
    for migration in _path(machine, version, fingerprint):
        if migration is None:
            raise IncompatibleFlow(f"{written}; {here}, and no migration leads from the one to the other")
        path.append(migration)
    return path


def _context(machine: Machine[C], path: Sequence[Migration], context: str, written: str) -> C:
    try:
        data: Any = plain(context)
    except msgspec.DecodeError as exc:
        raise IncompatibleFlow(f"{written}; its context cannot be read: {exc}", hint=_DAMAGED) from exc
    for migration in path:
        if migration.context is not None:
            try:
                data = migration.context(data)
            except Exception as exc:  # a migration is somebody's function, and may raise what it likes
                raise IncompatibleFlow(
                    f"{written}; the migration from version {migration.version} cannot take its context: {exc!r}",
                    hint="Fix the migration; the flow is unchanged.",
                    remedy=Remedy("fix_migration"),
                ) from exc
    try:
        # Python's own JSON refuses NaN and infinities; msgspec would write null.
        carried = machine.decode_context(json.dumps(msgspec.to_builtins(data, str_keys=True), allow_nan=False))
        machine.encode_context(carried)
        machine.check_timeouts(carried)
    except NotStorable as exc:
        raise IncompatibleFlow(f"{written}; its migrated context cannot be stored: {exc.user_message}") from exc
    except Exception as exc:  # the data is what a migration returned
        raise IncompatibleFlow(
            f"{written}; its migrated context does not fit version {machine.version}: {exc}"
        ) from exc
    return carried


def _path(machine: Machine[Any], version: int, fingerprint: str | None) -> Iterator[Migration | None]:
    """The migrations a flow of that table goes through, one after the other; None where the next one is missing."""
    known = {(each.version, each.fingerprint): each for each in machine.migrations}
    while not (version == machine.version and (fingerprint is None or machine.wrote(version, fingerprint))):
        # One that was written for exactly this table goes before one for its whole version.
        yield known.get((version, fingerprint)) or known.get((version, None))
        # A migration leads to the newest table of the next version, whatever that one's fingerprint is.
        version, fingerprint = min(version + 1, machine.version), None
