"""Which states can still come, seen from a state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .parts import Event, Row


def closure(start: Iterable[str], arrows: Iterable[tuple[str, str]]) -> set[str]:
    """Every state that can be reached from `start` along the arrows, with `start` itself."""
    listed = list(arrows)
    reached = set(start)
    frontier = set(reached)
    while frontier:
        frontier = {to for source, to in listed if source in frontier} - reached
        reached |= frontier
    return reached


def later_events(states: Iterable[str], expanded: Sequence[tuple[str, Row]]) -> Mapping[str, frozenset[type[Event]]]:
    """For each state, the events that have a row in some state that can be entered from it by one or more steps."""
    arrows = {(source, row.to) for source, row in expanded if row.to is not None}
    rows: dict[str, set[type[Event]]] = {}
    for source, row in expanded:
        rows.setdefault(source, set()).add(row.event)
    later: dict[str, frozenset[type[Event]]] = {}
    for state in states:
        coming = closure({to for source, to in arrows if source == state}, arrows)
        later[state] = frozenset(event for name in coming for event in rows.get(name, ()))
    return later
