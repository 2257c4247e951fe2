"""The rules a table must keep, checked while a machine is built; each check raises `MachineInvalid`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from ..errors import MachineInvalid
from .parts import ANY, DeadlinePassed, Row, State
from .reach import closure

DEADLINE: Final = DeadlinePassed.__name__


def check_states(machine: str, initial: str, states: Sequence[tuple[str, bool]]) -> None:
    """Names are unique, and the initial state is one of them and not final."""
    names = [name for name, _ in states]
    for name in names:
        if names.count(name) > 1:
            raise MachineInvalid(f"machine {machine}: state {name} is written twice")
        if name == ANY:
            raise MachineInvalid(f"machine {machine}: {ANY!r} is not a state's name")
    if initial not in names:
        raise MachineInvalid(f"machine {machine}: the initial state {initial} is not among its states")
    if dict(states)[initial]:
        raise MachineInvalid(f"machine {machine}: the initial state {initial} is final")


def expand(machine: str, states: Mapping[str, State], rows: Sequence[Row]) -> tuple[tuple[str, Row], ...]:
    """Every (source, row) in the order they are tried: rows for one state first, then those for `ANY`.

    A row that could never be taken, because an unguarded one comes before it, is an error.
    """
    taken: list[tuple[str, Row]] = []
    settled: set[tuple[str, str]] = set()
    written: set[tuple[str, str, object]] = set()
    for row in sorted(rows, key=lambda row: row.source == ANY):
        for name in (row.source, row.to):
            if name not in (ANY, None) and name not in states:
                raise MachineInvalid(f"machine {machine}: {row.label} names the unknown state {name}")
        if row.source != ANY and states[row.source].final:
            raise MachineInvalid(f"machine {machine}: the final state {row.source} has a row for {row.label}")
        key = (row.event.__name__, row.source, row.guard)
        if key in written:
            raise MachineInvalid(f"machine {machine}: {row.label} in {row.source} is written twice")
        written.add(key)
        sources = [row.source] if row.source != ANY else [name for name, state in states.items() if not state.final]
        free = [name for name in sources if (row.event.__name__, name) not in settled]
        if not free:
            raise MachineInvalid(f"machine {machine}: {row.label} in {row.source} is shadowed by a row before it")
        taken += [(name, row) for name in free]
        if row.guard is None:
            settled |= {(row.event.__name__, name) for name in free}
    return tuple(taken)


def check_paths(machine: str, initial: str, states: Mapping[str, State], expanded: Sequence[tuple[str, Row]]) -> None:
    """Every state can be reached, and from every state a final one can be reached."""
    arrows = {(source, row.to) for source, row in expanded if row.to is not None}
    reached = closure({initial}, arrows)
    if lost := [name for name in states if name not in reached]:
        raise MachineInvalid(f"machine {machine}: nothing leads to {', '.join(lost)}")
    ends = {name for name, state in states.items() if state.final}
    ending = closure(ends, {(to, source) for source, to in arrows})
    if stuck := [name for name in states if name not in ending]:
        raise MachineInvalid(f"machine {machine}: no end can be reached from {', '.join(stuck)}")


def check_promises(
    machine: str, context: type[msgspec.Struct], states: Mapping[str, State], expanded: Sequence[tuple[str, Row]]
) -> None:
    """A timeout has a row and names a context field, an effect has a resume policy, a final state has neither."""
    handled = {source for source, row in expanded if row.event.__name__ == DEADLINE}
    for source, row in expanded:
        if row.event.__name__ == DEADLINE and row.to is None:
            raise MachineInvalid(
                f"machine {machine}: {DEADLINE} stays in {source}, where no deadline would be left; "
                "let it lead to a state, to this one for the whole time anew"
            )
    for name, state in states.items():
        if state.timeout is not None and name not in handled:
            raise MachineInvalid(f"machine {machine}: nobody handles the timeout of {name}; give it a {DEADLINE} row")
        if isinstance(state.timeout, str) and state.timeout not in context.__struct_fields__:
            raise MachineInvalid(f"machine {machine}: the timeout of {name} names no context field: {state.timeout}")
        if state.effect is not None and state.resume is None:
            raise MachineInvalid(f"machine {machine}: {name} has an effect ({state.effect}) and no resume policy")
        if state.final and (state.timeout is not None or state.effect is not None or state.child is not None):
            raise MachineInvalid(f"machine {machine}: the final state {name} cannot do or await anything")


def check_identity(machine: str, context: type[msgspec.Struct], identity: Sequence[str]) -> None:
    """The identity is a list of the context's fields, each once."""
    if isinstance(identity, str):
        raise MachineInvalid(f"machine {machine}: identity is the string {identity!r}; write ({identity!r},)")
    for field in identity:
        if field not in context.__struct_fields__:
            raise MachineInvalid(f"machine {machine}: identity names no field of {context.__name__}: {field}")
        if list(identity).count(field) > 1:
            raise MachineInvalid(f"machine {machine}: identity names {field} twice")
