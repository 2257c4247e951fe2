"""When a visit of a state runs out: decided as the state is entered, and journaled with the event that led there.

The journal has a moment of the wall clock, the only one that means something to another process. The process that
drives the flow counts on a clock that nobody can set, from when the deadline was decided or read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from ..base.clock import Clock
from ..base.moments import moment_text, parse_moment
from .journal.records import FlowRow
from .machine.machine import Machine
from .machine.parts import Context, DeadlinePassed, Event


class Countdown:
    """What is left of a flow's deadline while this process drives it.

    Args:
        clock: The time.
    """

    __slots__ = ("_clock", "_end", "_text")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text: str | None = None
        self._end = 0.0

    def follow(self, deadline: str | None) -> None:
        """The flow's deadline is now this one, as the journal writes it; the same one goes on counting."""
        if deadline != self._text:
            if deadline is not None:
                left = (parse_moment(deadline) - self._clock.now()).total_seconds()
                self._end = self._clock.elapsed() + left
            self._text = deadline

    def moment(self) -> datetime | None:
        """When it passes, as the wall clock shows now; None for never."""
        if self._text is None:
            return None
        return self._clock.now() + timedelta(seconds=self._end - self._clock.elapsed())


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
    if left.deadline is not None and shared:
        return left.deadline
    return deadline_text(machine, entered, context, now)
