"""The ways through a machine, each with the contexts and events that take it: found in the table, not written by hand.

A path leads from the initial state to an end. `paths` lists all of them up to a number of loops; `covering_paths`
a few that together take every row. Each step carries a concrete context and event, so a path can be stepped, sent to a
real flow, drawn, or named in a failing test. A way whose guards contradict each other is no path, and is left out.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeAlias, cast

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from ..engine.machine.machine import Machine
from ..engine.machine.parts import AnyC, C, Context, Event, Row
from .stage import contexts_of, simplest_context
from .tables import example, row_taken, structs

Way: TypeAlias = tuple[tuple[str, Row], ...]
"""Source and row of each step."""

MAX_WAYS: Final = 50
"""How many ways to a row, and from there to an end, are tried before it counts as out of reach."""
_SETTINGS: Final = settings(
    max_examples=500,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large),
)


class PathStep(NamedTuple):
    """One event on the way.

    Attributes:
        state: Where the flow stands.
        context: What it knows there.
        event: What happens.
        row: The row that is taken.
    """

    state: str
    context: Context
    event: Event
    row: Row


class Path(NamedTuple, Generic[AnyC]):
    """One way from the initial state to an end.

    Attributes:
        steps: In order.
        end: The final state.
        context: What the flow knows there.
    """

    steps: tuple[PathStep, ...]
    end: str
    context: AnyC

    @property
    def id(self) -> str:
        """A name for the path, unique within its machine."""
        return "-".join([step.row.label for step in self.steps] + [self.end])

    @property
    def begins(self) -> AnyC:
        """The context to start the flow with."""
        return cast("AnyC", self.steps[0].context)

    @property
    def events(self) -> list[Event]:
        """What has to happen, in order."""
        return [step.event for step in self.steps]


def paths(machine: Machine[C], *, loops: int = 0) -> list[Path[C]]:
    """All paths, the same ones in the same order every time.

    Args:
        machine: Its table.
        loops: How often a path may come back to each state it has been in; progress that stays counts as coming back.
            The number of paths grows fast with it.
    """
    return list(_walk(machine, machine.initial, (), Counter({machine.initial: 1}), loops + 1))


def covering_paths(machine: Machine[C]) -> list[Path[C]]:
    """A few paths that together take every row at least once, each as short as its row allows.

    Raises:
        ValueError: No path through a row was found: its guard contradicts everything that leads there.
    """
    chosen, closed = list[Path[C]](), set[Way]()
    left = dict.fromkeys(machine.expanded)
    # The rows far from the start first: a path to them takes the others on the way.
    distances = _distances(machine)
    for source, row in sorted(machine.expanded, key=lambda pair: -distances[pair[0]]):
        if (source, row) not in left:
            continue
        path = _path_through(machine, source, row, chosen, closed)
        if path is None:
            raise ValueError(f"machine {machine.name}: no path was found that takes {row.label} in {source}")
        for step in path.steps:
            left.pop((step.state, step.row), None)
        chosen.append(path)
    return chosen


def _walk(machine: Machine[Any], state: str, way: Way, visits: Counter[str], limit: int) -> Iterator[Path]:
    if machine.states[state].final:
        path = _fill(machine, way)
        if path is not None:
            yield path
        return
    # Guards are tried out on the way, so that nothing is looked for behind a door that cannot be opened.
    if way and way[-1][1].guard is not None and _fill(machine, way) is None:
        return
    for source, row in machine.expanded:
        to = row.to or source
        if source == state and visits[to] < limit:
            visits[to] += 1
            yield from _walk(machine, to, (*way, (source, row)), visits, limit)
            visits[to] -= 1


def _path_through(machine: Machine[Any], source: str, row: Row, known: Sequence[Path], closed: set[Way]) -> Path | None:
    """A path that takes a row: a short way there, the row, a short way to an end; whatever the guards let through.

    Ways that no event opens are added to `closed`.
    """
    ends = [name for name, state in machine.states.items() if state.final]
    for there in islice(_ways(machine, machine.initial, {source}), MAX_WAYS):
        if there in closed:
            continue
        way = (*there, (source, row))
        if _fill(machine, way, known) is None:  # nothing that comes later opens it
            if _fill(machine, there, known) is None:
                closed.add(there)
            continue
        for onward in islice(_ways(machine, row.to or source, ends), MAX_WAYS):
            if (path := _fill(machine, (*way, *onward), known)) is not None:
                return path
    return None


def _ways(machine: Machine[Any], start: str, goals: Collection[str]) -> Iterator[Way]:
    """The ways from a state to the first of the goals that come to no state twice, the shortest first."""
    onward = deque[tuple[str, Way]]([(start, ())])
    while onward:
        state, way = onward.popleft()
        if state in goals:
            yield way
            continue
        been = {state, *(source for source, _ in way)}
        for source, row in machine.expanded:
            if source == state and row.to is not None and row.to not in been:
                onward.append((row.to, (*way, (source, row))))


def _fill(machine: Machine[Any], way: Way, known: Sequence[Path] = ()) -> Path | None:
    """Contexts and events with which exactly these rows are taken; None when there seem to be none.

    What led through the same rows on known paths is tried before anything is searched for, because a search takes long.
    """
    taken = {(step.state, step.row): step.event for path in known for step in path.steps}
    events = tuple(taken.get(pair) or _simplest_event(pair[1].event) for pair in way)
    simplest = simplest_context(machine)
    plain = (simplest, *(_simplest_event(row.event) for _, row in way))
    begins = dict.fromkeys((simplest, *(path.begins for path in known)))
    for values in (plain, *((context, *events) for context in begins)):
        if (path := _follow(machine, way, values)) is not None:
            return path

    def fits(values: tuple[Any, ...]) -> bool:
        return _follow(machine, way, values) is not None

    # Mostly what fits by itself: little is left to look for, and to make simple.
    free = (st.one_of(st.just(event), structs(row.event)) for event, (_, row) in zip(events, way, strict=True))
    values = st.tuples(st.one_of(st.just(simplest), contexts_of(machine)), *free)
    try:
        found = find(values, fits, settings=_SETTINGS, random=random.Random(0))  # noqa: S311 no secret
    except NoSuchExample:
        return None
    return _follow(machine, way, found)


def _follow(machine: Machine[Any], way: Way, values: Sequence[Any]) -> Path | None:
    context: Context = values[0]
    steps: list[PathStep] = []
    state = machine.initial
    for (source, row), event in zip(way, values[1:], strict=True):
        if row_taken(machine, source, context, event) is not row:
            return None
        steps.append(PathStep(source, context, event, row))
        context = context if row.update is None else row.update(context, event)
        state = row.to or source
    return Path(tuple(steps), state, context)


@cache
def _simplest_event(event: type[Event]) -> Event:
    return example(structs(event))


def _distances(machine: Machine[Any]) -> dict[str, int]:
    distances = {machine.initial: 0}
    onward = deque([machine.initial])
    while onward:
        state = onward.popleft()
        for source, row in machine.expanded:
            if source == state and row.to is not None and row.to not in distances:
                distances[row.to] = distances[state] + 1
                onward.append(row.to)
    return distances
