"""A flow's history read as a path: the visits it made to states, and what happened in each.

A history is a list of changes; some of them lead into a state, the others (progress, announced effects, parking,
resuming) happen within one. Which is which stands in the machine's table, so that a state entered again and a state
that was never left can be told apart although both changes name the same state twice. Without the table, a state is
entered where the state changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ..engine.history import Change
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Row


class Stay(NamedTuple):
    """One stay in a state.

    Attributes:
        state: The state's name.
        entry: The change that led here; for the first visit of a whole history the one of kind `started`.
        within: What happened here, in order.
        exit: The change that led away, or None while the flow stands here.
    """

    state: str
    entry: Change
    within: tuple[Change, ...]
    exit: Change | None


def rows_taken(machine: Machine[Any] | None, change: Change) -> list[Row]:
    """The rows of the table that agree with the change: one, or several when only their guards tell them apart.

    Empty when the change is no event, or the table (of another version) has no such row, or is not known.
    """
    if change.kind != "event" or machine is None:
        return []
    return [
        row
        for source, row in machine.expanded
        if source == change.from_state
        and row.event.__name__ == change.event
        and (source if row.to is None else row.to) == change.to_state
    ]


def leads_on(machine: Machine[Any] | None, change: Change) -> bool:
    """Whether the change entered a state, rather than happening within one."""
    if change.kind != "event":
        return False
    if change.from_state != change.to_state:
        return True
    rows = rows_taken(machine, change)
    return bool(rows) and all(row.to is not None for row in rows)


def event_label(machine: Machine[Any] | None, change: Change) -> str:
    """The event as it stands on the drawn arrow: with its guard, when it is certain which row was taken."""
    rows = rows_taken(machine, change)
    return rows[0].label if len(rows) == 1 else change.event


def steps_of_rows(machine: Machine[Any], changes: Sequence[Change]) -> dict[int, list[int]]:
    """The steps that took each row, by the row's number in the table; a row that stays has the step 0."""
    numbers = {id(row): number for number, row in enumerate(machine.rows)}
    steps: dict[int, list[int]] = {}
    step = 0
    for change in changes:
        on = leads_on(machine, change)
        step += on
        for row in rows_taken(machine, change)[:1]:
            steps.setdefault(numbers[id(row)], []).append(step if on else 0)
    return steps


def visits(machine: Machine[Any] | None, changes: Sequence[Change]) -> list[Stay]:
    """The path, visit by visit; empty for an empty history."""
    path: list[Stay] = []
    if not changes:
        return path
    entry, state = changes[0], changes[0].from_state
    within: list[Change] = []
    for change in changes:
        if leads_on(machine, change):
            path.append(Stay(state, entry, tuple(within), change))
            entry, state, within = change, change.to_state, []
        elif change.kind != "started":
            within.append(change)
    path.append(Stay(state, entry, tuple(within), None))
    return path


def children_by_visit(
    machine: Machine[Any] | None, path: Sequence[Stay], children: Sequence[Sequence[Change]]
) -> dict[int, list[Sequence[Change]]]:
    """The children of one flow by the number of the visit that ran them: the last one begun before they were."""
    inside: dict[int, list[Sequence[Change]]] = {}
    for child in children:
        running = [
            number
            for number, visit in enumerate(path)
            if machine is None
            or (visit.state in machine.states and child[0].machine in machine.states[visit.state].children)
        ]
        begun = [number for number in running if moment(path[number].entry) <= moment(child[0])]
        if begun or running:
            inside.setdefault((begun or running)[-1 if begun else 0], []).append(child)
    return inside


def moment(change: Change) -> datetime:
    """When a change was committed."""
    return datetime.fromisoformat(change.at)
