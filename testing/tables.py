"""Cases for tests, made from a machine's table: nothing is listed by hand, so nothing is forgotten.

A table says everything about what its machine does: which event leads where, and, by what is missing, what is refused.
`row_cases` finds for every row a situation in which exactly that row is taken, its guard satisfied and the guards of
the rows before it refused; `illegal_cases` gives every event of the machine in every state that has no row for it. The
values come from the types of the fields (hypothesis searches them), always the same ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any, Final, NamedTuple, cast

import msgspec
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from msgspec import inspect

from ..engine.machine.machine import Machine
from ..engine.machine.parts import Context, Event, Row

MAX_TRIES: Final = 2000
_SETTINGS: Final = settings(
    max_examples=MAX_TRIES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=(HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large),
)
_EXACT: Final = 2**53
"""Beyond this a JSON number may lose digits in another program; no table of ours counts so far."""


class RowCase(NamedTuple):
    """A situation in which exactly one row is taken.

    Attributes:
        state: Where the flow stands.
        row: The row that is taken.
        context: What the flow knows.
        event: What happens.
    """

    state: str
    row: Row
    context: Context
    event: Event

    @property
    def id(self) -> str:
        """A name for the case, unique within its machine."""
        return f"{self.state}-{self.row.label}-{self.row.to or 'stay'}"


class IllegalCase(NamedTuple):
    """An event in a state that has no row for it.

    Attributes:
        state: Where the flow stands.
        context: What the flow knows.
        event: What happens.
    """

    state: str
    context: Context
    event: Event

    @property
    def id(self) -> str:
        """A name for the case, unique within its machine."""
        return f"{self.state}-{type(self.event).__name__}"


def row_cases(machine: Machine[Any]) -> list[RowCase]:
    """One case for every (source, row) of the table, `ANY` written out.

    Raises:
        ValueError: No case was found for a row: its guard, or those of the rows before it, never let it be taken.
    """
    return list(_row_cases(machine))


def illegal_cases(machine: Machine[Any]) -> list[IllegalCase]:
    """One case for every (state, event type) without a row, final states included."""
    context = example(structs(machine.context_type))
    events = {event: example(structs(event)) for event in machine.events.values()}
    return [
        IllegalCase(state, context, sample)
        for state in machine.states
        for event, sample in events.items()
        if event not in machine.accepts(state)
    ]


def row_taken(machine: Machine[Any], state: str, context: Context, event: Event) -> Row | None:
    """The row of the table that takes the event: the first whose guard holds; None if there is none."""
    for source, row in machine.expanded:
        if source == state and row.event is type(event) and (row.guard is None or row.guard(context, event)):
            return row
    return None


def structs(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Every value a struct (an event, a context) can have, as its fields' types tell.

    Raises:
        TypeError: A field has a type that this function does not support.
    """
    return _strategy(inspect.type_info(struct))


def example(strategy: st.SearchStrategy[Any]) -> Any:
    """The simplest value of a strategy, the same each time."""
    return find(strategy, lambda _: True, settings=_SETTINGS, random=random.Random(0))  # noqa: S311 no secret


def _row_cases(machine: Machine[Any]) -> Iterator[RowCase]:
    strategy = structs(machine.context_type)
    contexts: list[Context] = [example(strategy)]
    events = {event: [example(structs(event))] for event in machine.events.values()}
    for state, row in machine.expanded:

        def takes(pair: tuple[Context, Event], state: str = state, row: Row = row) -> bool:
            return row_taken(machine, state, *pair) is row

        # What took another row is tried before anything is searched for, because a search takes long.
        pair = next(filter(takes, product(contexts, events[row.event])), None)
        if pair is None:
            pairs = st.tuples(strategy, structs(row.event))
            try:
                pair = find(pairs, takes, settings=_SETTINGS, random=random.Random(0))  # noqa: S311 no secret
            except NoSuchExample as exc:
                found_nothing = f"machine {machine.name}: nothing was found that takes {row.label} in {state}"
                raise ValueError(found_nothing) from exc
            contexts.append(pair[0])
            events[row.event].append(pair[1])
        yield RowCase(state, row, *pair)


def _strategy(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType():
            fields = {field.name: _strategy(field.type) for field in kind.fields}
            return st.builds(cast("Any", kind.cls), **fields)
        case inspect.StrType():
            return st.text(max_size=20)
        case inspect.IntType():
            return st.integers(-_EXACT, _EXACT)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)  # JSON has neither
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.EnumType():
            return st.sampled_from(list(cast("Any", kind.cls)))
        case inspect.UnionType():
            return st.one_of(*map(_strategy, kind.types))
        case inspect.TupleType():
            return st.tuples(*map(_strategy, kind.item_types))
        case inspect.VarTupleType():
            return st.lists(_strategy(kind.item_type), max_size=4).map(tuple)
        case inspect.ListType():
            return st.lists(_strategy(kind.item_type), max_size=4)
        case inspect.DictType():
            return st.dictionaries(_strategy(kind.key_type), _strategy(kind.value_type), max_size=4)
        case _:
            raise TypeError(f"no values are known for a field of the type {kind!r}")
