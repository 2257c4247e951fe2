"""The rules a table must keep, checked while a machine is built; each check raises `MachineInvalid`.

In the order in which they are checked: what has to be right before the next rule makes sense comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from inspect import get_annotations
from itertools import pairwise
from typing import Any, Final, TypeVar, cast, get_args

import msgspec
from msgspec.inspect import StructType, type_info

from ..errors import MachineInvalid
from .functions import check_function
from .parts import ANY, CancelRequested, Context, DeadlinePassed, Event, Late, ResumePolicy, Row, State, Verdict
from .reach import closure
from .storable import RAW_RULE, raw_field
from .timeouts import TIMEOUT_RULE, is_timeout, may_be_timeout

T = TypeVar("T")

DEADLINE: Final = DeadlinePassed.__name__
_OURS: Final[Mapping[str, type[Event]]] = {each.__name__: each for each in (DeadlinePassed, CancelRequested)}
"""The engine's own events, by the names under which it sends them and finds them again."""
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
NAME_RULE: Final = (
    "a name is 1 to 64 letters (a to z), digits, dots, underscores and hyphens, and begins with a letter or a digit"
)
"""Names are part of ids of flows, of the keys of effects, of file names and of URLs."""


def check_names(name: object, version: object, formerly: object, known_as: object) -> None:
    """The machine's own name, its former ones and its version."""
    if not _is_name(name):
        raise MachineInvalid(f"machine {name!r}: {NAME_RULE}", hint=_FORMERLY)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise MachineInvalid(f"machine {name}: the version is a whole number from 1 on, not {version!r}")
    for what, listed in (("formerly", formerly), ("known_as", known_as)):
        texts = _listed(f"machine {name}: {what}", listed)
        for text in texts:
            if not isinstance(text, str):
                raise MachineInvalid(f"machine {name}: {what} lists texts, and {text!r} is none")
            if texts.count(text) > 1:
                raise MachineInvalid(f"machine {name}: {what} has {text!r} twice")
        if what == "formerly" and name in texts:
            raise MachineInvalid(f"machine {name}: formerly has the name it has now")


_FORMERLY: Final = 'Give it another name; formerly=("OLD NAME",) lets flows that are stored under the old one continue.'


def check_context(machine: str, context: object) -> None:
    """The context's class is a frozen `Context` that can be read back."""
    if not (isinstance(context, type) and issubclass(context, Context)):
        raise MachineInvalid(
            f"machine {machine}: the context is no subclass of Context: {_called(cast('object', context))}"
        )
    _check_struct(machine, "context", context)


def check_identity(machine: str, context: type[msgspec.Struct], identity: object) -> None:
    """The identity is a list of the context's fields, each once."""
    fields = _listed(f"machine {machine}: identity", identity)
    for field in fields:
        if field not in context.__struct_fields__:
            raise MachineInvalid(f"machine {machine}: identity names no field of {context.__name__}: {field}")
        if fields.count(field) > 1:
            raise MachineInvalid(f"machine {machine}: identity names {field} twice")


def check_course(machine: str, initial: str, course: object, expanded: Sequence[tuple[str, Row]]) -> tuple[str, ...]:
    """The course begins in the initial state, and a row leads from each of its states to the next, which is new.

    Returns:
        The course.
    """
    states = _listed(f"machine {machine}: course", course)
    if states and states[0] != initial:
        raise MachineInvalid(f"machine {machine}: the course begins in {states[0]}, and a flow in {initial}")
    for before, after in pairwise(states):
        if not any(source == before and row.to == after for source, row in expanded):
            raise MachineInvalid(f"machine {machine}: no row leads from {before} to {after}, as the course has it")
    if len(set(states)) < len(states):
        raise MachineInvalid(f"machine {machine}: the course enters a state twice")
    return tuple(states)


def check_states(machine: str, initial: str, states: Iterable[State]) -> dict[str, State]:
    """Names are valid and unique, what a state declares is of its type, and the initial state is one and not final.

    Returns:
        The states by name.
    """
    states = _members(f"machine {machine}: states", states)
    if not states:
        raise MachineInvalid(f"machine {machine}: it has no states")
    for state in states:
        if not isinstance(state, State):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(f"machine {machine}: {_called(state)} is no State")
    names = [state.name for state in states]
    for name, state in zip(names, states, strict=True):
        if name == ANY:
            raise MachineInvalid(f"machine {machine}: {ANY!r} is not a state's name")
        if not _is_name(name):
            raise MachineInvalid(f"machine {machine}: the state {name!r}: {NAME_RULE}", hint=_MIGRATE)
        if names.count(name) > 1:
            raise MachineInvalid(f"machine {machine}: state {name} is written twice")
        _check_state(f"machine {machine}: {name}", state)
    if initial not in names:
        raise MachineInvalid(f"machine {machine}: the initial state {initial} is not among its states")
    if states[names.index(initial)].final:
        raise MachineInvalid(f"machine {machine}: the initial state {initial} is final")
    return {state.name: state for state in states}


_MIGRATE: Final = (
    'Give it another name; Migration(VERSION, states={"OLD NAME": "NEW"}) lets flows that are in it continue.'
)


def _check_state(where: str, state: State) -> None:
    if state.verdict is not None and not isinstance(state.verdict, Verdict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MachineInvalid(f"{where} has the verdict {state.verdict!r}, which is no Verdict")
    if state.resume is not None and not isinstance(state.resume, ResumePolicy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MachineInvalid(f"{where} has the resume policy {state.resume!r}, which is no ResumePolicy")
    if state.late not in get_args(Late):
        raise MachineInvalid(f"{where} has late={state.late!r}; it is one of {', '.join(get_args(Late))}")
    if state.timeout is not None and not isinstance(state.timeout, str) and not is_timeout(state.timeout):
        raise MachineInvalid(f"{where} has the timeout {state.timeout!r}; {TIMEOUT_RULE}")
    children = _members(f"{where}: child", state.child) if isinstance(state.child, tuple) else (state.child,)
    if not children:
        raise MachineInvalid(f"{where} has child=(); for none it is None")
    for child in children if state.child is not None else ():
        if not _is_name(child):
            raise MachineInvalid(f"{where} runs the machine {child!r}; {NAME_RULE}")
        if children.count(child) > 1:
            raise MachineInvalid(f"{where} names the machine {child} twice")
    _listed(f"{where}: tags", state.tags)


def check_rows(
    machine: str, context: type[Context], states: Mapping[str, State], rows: Iterable[Row]
) -> tuple[Row, ...]:
    """Rows name states that exist, events that can be stored, and functions that can be called.

    Returns:
        The rows.
    """
    rows = _members(f"machine {machine}: rows", rows)
    if not rows:
        raise MachineInvalid(f"machine {machine}: it has no rows")
    events: dict[str, type[Event]] = {}
    for row in rows:
        if not isinstance(row, Row):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(f"machine {machine}: {_called(row)} is no row; write it with on(...)")
        _check_event(machine, row.event, events)
        for function in (row.guard, row.update):
            if function is not None and not callable(function):
                check_function(function, f"machine {machine}: what is to be called for {row.event.__name__}")
        for name, wild in ((row.source, ANY), (row.to, None)):
            if name != wild and (not isinstance(name, str) or name not in states):
                raise MachineInvalid(f"machine {machine}: {row.label} names the unknown state {name}")
        if row.source != ANY and states[row.source].final:
            raise MachineInvalid(f"machine {machine}: the final state {row.source} has a row for {row.label}")
        for what, function in (("guard", row.guard), ("update", row.update)):
            if function is not None:
                where = f"machine {machine}: {row.event.__name__} in {row.source}: the {what}"
                check_function(function, where, context=context, event=row.event)
    return rows


def _check_event(machine: str, event: object, known: dict[str, type[Event]]) -> None:
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise MachineInvalid(f"machine {machine}: {_called(cast('object', event))} is no subclass of Event")
    name = event.__name__
    for used in (name, event.__struct_config__.tag):
        if isinstance(used, str) and _OURS.get(used, event) is not event:
            raise MachineInvalid(
                f"machine {machine}: {_place(event)} is called or tagged {used}, as an event of the engine",
                hint=f"Import {used} from systemprompt_cloud for the engine's own, or choose another name.",
            )
    if (other := known.get(name, event)) is not event:
        raise MachineInvalid(
            f"machine {machine}: two event classes are called {name}: {_place(other)} and {_place(event)}",
            hint="Give one of them another name: an event is stored under the name of its class.",
        )
    if name in known:
        return
    known[name] = event
    _check_struct(machine, "event", event)
    tag = event.__struct_config__.tag
    for each in known.values():
        if each is not event and each.__struct_config__.tag == tag:
            raise MachineInvalid(
                f"machine {machine}: the events {each.__name__} and {name} have one tag, {tag!r}; "
                "their records would look the same"
            )


def _check_struct(machine: str, what: str, struct: type[msgspec.Struct]) -> None:
    where = f"machine {machine}: the {what} {struct.__name__}"
    if not struct.__struct_config__.frozen:
        raise MachineInvalid(f"{where} is not frozen; write class {struct.__name__}(..., frozen=True)")
    try:
        msgspec.json.Decoder(struct)
    except Exception as exc:  # msgspec raises what it likes, and annotations are evaluated here
        raise MachineInvalid(f"{where} cannot be read back from JSON: {exc}") from exc
    # Looking into every type costs more than the rest of a table, so only where a class mentions it; what has it deeper
    # inside is refused when it is to be stored.
    if any("Raw" in str(each) for cls in struct.__mro__ for each in get_annotations(cls).values()):
        field = raw_field(cast("StructType", type_info(struct)))
        if field is not None:
            raise MachineInvalid(f"{where}: {field}: {RAW_RULE}", hint="Give the field the type of what is in it.")


def event_decoder(machine: str, events: Mapping[str, type[Event]]) -> msgspec.json.Decoder[Event]:
    """What reads the events of a table back from JSON."""
    try:
        return msgspec.json.Decoder(cast("type[Event]", reduce(lambda left, right: left | right, events.values())))
    except Exception as exc:  # msgspec raises what it likes
        raise MachineInvalid(f"machine {machine}: its events look the same in JSON: {exc}") from exc


def expand(machine: str, states: Mapping[str, State], rows: Sequence[Row]) -> tuple[tuple[str, Row], ...]:
    """Every (source, row) in the order they are tried: rows for one state first, then those for `ANY`.

    A row that could never be taken, because an unguarded one comes before it, is an error.
    """
    taken: list[tuple[str, Row]] = []
    settled: set[tuple[str, str]] = set()
    written: set[tuple[str, str, object]] = set()
    for row in sorted(rows, key=lambda row: row.source == ANY):
        key = (row.event.__name__, row.source, row.guard if isinstance(row.guard, Hashable) else id(row.guard))
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


def check_promises(
    machine: str, context: type[msgspec.Struct], states: Mapping[str, State], expanded: Sequence[tuple[str, Row]]
) -> None:
    """A timeout has a row without a guard and names a context field, an effect has a policy, an end has neither."""
    handled = {source for source, row in expanded if row.event is DeadlinePassed and row.guard is None}
    for source, row in expanded:
        if row.event is DeadlinePassed and row.to is None:
            raise MachineInvalid(
                f"machine {machine}: {DEADLINE} stays in {source}, where no deadline would be left; "
                "let it lead to a state, to this one for the whole time anew"
            )
    for name, state in states.items():
        if state.timeout is not None and name not in handled:
            raise MachineInvalid(
                f"machine {machine}: {name} has a timeout and no {DEADLINE} row without a guard",
                hint=f"Add a row on({DEADLINE}, {name!r}, ...) without `when`: what happens when no guard holds.",
            )
        if isinstance(state.timeout, str) and state.timeout not in context.__struct_fields__:
            raise MachineInvalid(f"machine {machine}: the timeout of {name} names no context field: {state.timeout}")
        if isinstance(state.timeout, str) and not may_be_timeout(context, state.timeout):
            raise MachineInvalid(
                f"machine {machine}: the timeout of {name} is the field {context.__name__}.{state.timeout}, "
                f"which holds no number; {TIMEOUT_RULE}"
            )
        if state.effect is not None and state.resume is None:
            raise MachineInvalid(f"machine {machine}: {name} has an effect ({state.effect}) and no resume policy")
        if state.final and (state.timeout is not None or state.effect is not None or state.child is not None):
            raise MachineInvalid(f"machine {machine}: the final state {name} cannot do or await anything")


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


def check_result(machine: str, context: type[Context], result: Callable[..., object] | None) -> None:
    """What a finished flow returns is made by a plain function of the context."""
    if result is not None:
        check_function(result, f"machine {machine}: the result", context=context)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def _listed(what: str, listed: Any) -> list[Any]:
    """The members of a list or tuple; one text alone would be taken for a list of its letters."""
    if isinstance(listed, (list, tuple)):
        return [*listed]
    raise MachineInvalid(f"{what} is a list, not {listed!r}", hint=f"Write [{listed!r}]." if listed else None)


def _members(what: str, listed: Iterable[T]) -> tuple[T, ...]:
    if isinstance(listed, (str, bytes, Mapping)) or not isinstance(listed, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MachineInvalid(f"{what} is a list, not {listed!r}")
    return tuple(listed)


def _called(what: object) -> str:
    return getattr(what, "__name__", None) or f"{type(what).__name__} {what!r}"[:80]


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
