"""Which table a flow was written by: a hash of what the table declares, stored with every flow.

The identity is what stored flows depend on: states, events and their fields, the context's fields, which event leads
where, and whether a row has a guard or an update. It does not include the names of Python functions, texts for people,
or what only diagrams use: renaming a private function must not make stored flows unreadable. A guard or an update whose
meaning changes needs a new version of the machine.

Releases up to 0.1.0 hashed the names of functions too; `named_fingerprint` computes their identity, so that their flows
are still recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from .parts import Context, Event, Row, State

_ADDED: Final = frozenset({"problem_code"})
"""Fields of `Context` that came after 0.1.0."""


def fingerprint(
    name: str,
    version: int,
    initial: str,
    context: type[Context],
    events: Mapping[str, type[Event]],
    states: Iterable[State],
    rows: Sequence[Row],
) -> str:
    """The identity of a table, in 16 hexadecimal digits."""
    fields = [field for field in context.__struct_fields__ if field not in Context.__struct_fields__]
    facts = [[row.event.__name__, row.source, row.to, row.guard is not None, row.update is not None] for row in rows]
    return _hash(name, version, initial, fields, events, states, facts)


def named_fingerprint(
    name: str,
    version: int,
    initial: str,
    context: type[Context],
    events: Mapping[str, type[Event]],
    states: Iterable[State],
    rows: Sequence[Row],
) -> str:
    """The identity as releases up to 0.1.0 computed it, from the names of functions too."""
    fields = [field for field in context.__struct_fields__ if field not in _ADDED]
    facts = [[row.event.__name__, row.source, row.to, _name(row.guard), _name(row.update)] for row in rows]
    return _hash(name, version, initial, fields, events, states, facts)


def _facts(state: State) -> dict[str, Any]:
    """What flows depend on in a state, in the order the hash has them."""
    return {
        "name": state.name,
        "meaning": "",  # kept, empty, because it is in the fingerprints of stored flows
        "timeout": state.timeout,
        "late": state.late,
        "verdict": state.verdict,
        "effect": bool(state.effect),
        "resume": state.resume,
        "child": state.child,
    }


def _name(function: Callable[..., object] | None) -> str | None:
    return None if function is None else getattr(function, "__name__", None)


def _hash(
    name: str,
    version: int,
    initial: str,
    fields: list[str],
    events: Mapping[str, type[Event]],
    states: Iterable[State],
    rows: list[list[Any]],
) -> str:
    table = {
        "name": name,
        "version": version,
        "initial": initial,
        "context": fields,
        "events": {tag: list(events[tag].__struct_fields__) for tag in sorted(events)},
        "states": [_facts(state) for state in states],
        "rows": rows,
    }
    return hashlib.sha256(msgspec.json.encode(table)).hexdigest()[:16]
