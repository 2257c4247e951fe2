"""What the engine promises about events, as a table: the only part of the specification that a new rule changes."""

from __future__ import annotations

from functools import cache

from .machines import BY_NAME, MACHINES

KEEPS_EVENTS: bool = True
"""Whether an event that a later state has a row for is kept where the present state has none."""
REFUSED: str = "refused"
"""The kind of the record of an event that was refused from an inbox; empty where there is none."""
CANCEL_WINS: bool = True
"""Whether a parent that is cancelled ends cancelled, whatever becomes of its child."""


@cache
def takes(machine: str, state: str, event: str) -> bool:
    """Whether a state has a row for an event."""
    return BY_NAME[event] in MACHINES[machine].accepts(state)


@cache
def keeps(machine: str, state: str, event: str) -> bool:
    """Whether a state that can be reached from this one, by at least one step into a state, has a row for an event."""
    if not KEEPS_EVENTS:
        return False
    table = MACHINES[machine]
    reached: set[str] = set()
    left = [state]
    while left:
        here = left.pop()
        for source, row in table.expanded:
            if source == here and row.to is not None and row.to not in reached:
                reached.add(row.to)
                left.append(row.to)
    return any(takes(machine, each, event) for each in reached)


def may_refuse(machine: str, state: str, status: str, event: str, *, driven: bool) -> bool:
    """Whether `send` may raise `EventNotAccepted` for a flow in this state."""
    if status == "ended" or BY_NAME[event].__name__ not in MACHINES[machine].events:
        return True
    if not driven and not KEEPS_EVENTS:
        return False
    return not takes(machine, state, event) and not keeps(machine, state, event)
