"""When a visit of a state runs out: decided as the state is entered, and journaled with the event that led there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ..base.moments import moment_text
from .journal.records import QUEUED, FlowRow
from .machine.machine import Machine
from .machine.parts import Context, DeadlinePassed, Event


def deadline_text(machine: Machine[Any], state: str, context: Context, now: datetime) -> str | None:
    """When a visit of `state` that begins now runs out, as the journal writes it; None for never."""
    seconds = machine.timeout_of(state, context)
    return None if seconds is None else moment_text(now + timedelta(seconds=seconds))


def deadline_on_entry(
    machine: Machine[Any], left: FlowRow, entered: str, context: Context, event: Event, now: datetime
) -> str | None:
    """The deadline of a state that an event leads to: that of the state which was left, where the two share one.

    Args:
        machine: The table.
        left: The flow as it was before the event.
        entered: The state it leads to.
        context: What the flow knows after the event.
        event: The event.
        now: The moment of the event.
    """
    # A deadline that has passed is used up: kept, it would pass again at once, and so on for ever.
    shared = machine.shares_deadline(left.state, entered) and not isinstance(event, DeadlinePassed)
    if left.deadline is not None and left.status != QUEUED and shared:
        return left.deadline
    return deadline_text(machine, entered, context, now)
