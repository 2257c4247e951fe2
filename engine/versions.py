"""Flows that another version of their machine wrote, or a former name of it: carried over to today's table, or refused.

The rule for carrying over is pure and is in `machine/carry.py`. Here it is applied to a stored flow; the result is the
flow's new row and one `migrated` record. The record holds the context in today's terms, so that the history can be
replayed from there without the old table.

A flow that cannot be carried is refused by name and stays as it is. It can still be ended: `abandoned` frees its key,
its secrets and its place in the list, without a table to ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from ..base.moments import moment_text, parse_moment
from ..base.remedies import Remedy
from .deadlines import deadline_text
from .errors import IncompatibleFlow
from .ids import visit_of_child
from .journal.records import QUEUED, FlowRow, Record, record_between
from .machine.carry import carry
from .machine.machine import Machine
from .machine.parts import Context
from .machine.stored import readable

C = TypeVar("C", bound=Context)


class Table(msgspec.Struct, frozen=True):
    """Which table: a machine's version and fingerprint."""

    version: int
    fingerprint: str


class MigratedBody(msgspec.Struct, frozen=True, rename={"origin": "from", "here": "to"}):
    """The body of a `migrated` record.

    Attributes:
        origin: The table that wrote everything before.
        here: The table that writes everything after.
        context: What the flow knows, in the terms of `here`.
    """

    origin: Table
    here: Table
    context: msgspec.Raw


class Begun(NamedTuple):
    """What a flow has begun in its visit.

    Attributes:
        announced: The idempotency keys announced, and not withdrawn since.
        children: The unfinished child flows of the flow, each with today's name of its machine.
    """

    announced: frozenset[str] = frozenset()
    children: Sequence[FlowRow] = ()


class Brought(NamedTuple):
    """A stored flow in today's terms.

    Attributes:
        row: The flow, as it is from now on.
        context: What it knows.
        record: The record to be written with that row; None when today's table wrote the flow.
    """

    row: FlowRow
    context: Context
    record: Record | None


def is_current(machine: Machine[Any], row: FlowRow) -> bool:
    """Whether a stored flow needs no carrying over: today's table wrote it under today's name, or it has ended."""
    own = row.machine == machine.name and machine.wrote(row.version, row.fingerprint)
    return own or row.status == "ended"


def stored_context(machine: Machine[C], row: FlowRow) -> C:
    """What a flow of today's table knows, as it is stored. Raises `IncompatibleFlow` when it cannot be read."""
    try:
        return machine.decode_context(row.context)
    except msgspec.DecodeError as exc:
        raise IncompatibleFlow(f"flow {row.id}: its context cannot be read: {exc}") from exc


def check_columns(row: FlowRow) -> None:
    """Check what a stored flow says about time. Raises `IncompatibleFlow` when it cannot be read."""
    try:
        if row.deadline is not None:
            parse_moment(row.deadline)
    except ValueError as exc:
        raise IncompatibleFlow(f"flow {row.id}: its deadline {row.deadline!r} is not a moment") from exc


def bring(machine: Machine[Any], row: FlowRow, begun: Begun, now: datetime) -> Brought:
    """A stored flow in today's terms; nothing is written.

    Args:
        machine: Today's table.
        row: The flow as it is stored.
        begun: What the flow has announced, and which flows it runs.
        now: The moment of the record, and of a deadline the old table did not have.

    Raises:
        IncompatibleFlow: No migration leads here, or the flow has begun an effect or a child that its new state does
            not declare.
    """
    check_columns(row)
    if is_current(machine, row):
        if row.state not in machine.states and row.status != "ended":
            raise IncompatibleFlow(f"flow {row.id} is in the state {row.state}, which {machine.name} does not have")
        return Brought(row, stored_context(machine, row), None)
    try:
        carried = carry(
            machine,
            version=row.version,
            fingerprint=row.fingerprint,
            state=row.state,
            context=row.context,
            name=row.machine,
        )
        _refuse_forgotten(machine, row, carried.state, begun)
    except IncompatibleFlow as exc:
        own = exc.recovery_hint if exc.recovery_hint != IncompatibleFlow.default_hint else None
        hint = own or "Finish it with the version that started it, or cancel it."
        remedy = exc.remedy if own else Remedy("finish_or_cancel", {"flow": row.id})
        raise IncompatibleFlow(f"flow {row.id}: {exc.user_message}", hint=hint, remedy=remedy) from exc
    moment, context = moment_text(now), msgspec.json.encode(carried.context)
    deadline = deadline_text(machine, carried.state, carried.context, now)
    if row.status == QUEUED or (deadline is not None and row.deadline is not None):
        deadline = row.deadline  # the same visit goes on, or it has not begun
    after = msgspec.structs.replace(
        row,
        machine=machine.name,
        version=machine.version,
        fingerprint=machine.fingerprint,
        state=carried.state,
        context=context.decode(),
        deadline=deadline,
        seq=row.seq + 1,
        updated=moment,
    )
    body = MigratedBody(
        Table(row.version, row.fingerprint), Table(machine.version, machine.fingerprint), msgspec.Raw(context)
    )
    name = f"version {row.version} to {machine.version}"
    if row.machine != machine.name:
        name = f"{row.machine} version {row.version} to {machine.name} version {machine.version}"
    record = record_between(row, after, "migrated", name, msgspec.json.encode(body).decode())
    return Brought(after, carried.context, record)


def _refuse_forgotten(machine: Machine[Any], row: FlowRow, state: str, begun: Begun) -> None:
    # The visit goes on in the new state: a forgotten intent would repeat its effect, a forgotten child be orphaned.
    wanted = machine.states[state]
    if wanted.effect is None and (announced := begun.announced):
        names = ", ".join(sorted(key.split(":", 2)[-1] for key in announced))
        raise IncompatibleFlow(f"it has announced {names}, and {state} has no effect to account for it")
    for child in begun.children:
        if visit_of_child(child.id) == row.incarnation and child.machine not in wanted.children:
            raise IncompatibleFlow(
                f"it runs the flow {child.id}, and {state} runs no {child.machine}",
                hint=f"If {state} runs it, name {child.machine} in the state's `child`; else finish the flow with the "
                "version that started it, or cancel it.",
            )


def abandon(row: FlowRow, reason: str, now: datetime) -> tuple[FlowRow, Record]:
    """The end of a flow whose table is not known any more: its row, and the record that has the reason."""
    after = msgspec.structs.replace(
        row,
        seq=row.seq + 1,
        status="ended",
        verdict="cancelled",
        owner=None,
        context=readable(row.context),  # damaged or not: a flow that cannot be read can be ended
        trouble=None,
        updated=moment_text(now),
    )
    why = readable(reason) or "it was ended without its machine's table"
    body = msgspec.json.encode({"reason": why}).decode()
    return after, record_between(row, after, "abandoned", "abandoned", body)
