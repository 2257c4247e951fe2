"""A table that cannot work is refused when it is built, by name: names, classes, functions, timeouts, lists."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.diagrams.mermaid import mermaid
from systemprompt_cloud.diagrams.text import draw_table
from systemprompt_cloud.engine.errors import EventNotAccepted, MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.machines.every import MACHINES

if TYPE_CHECKING:
    from nowhere import Absent  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

E = TypeVar("E", bound=Event)


class Door(Context, frozen=True, kw_only=True):
    """What a door knows."""

    patience: float = 60.0
    grace: float | None = None
    colour: str = ""
    anything: Any = None


class OtherContext(Context, frozen=True, kw_only=True):
    """Another machine's."""


class Asked(Event, frozen=True):
    """Somebody asked to come in."""


class Knocked(Event, frozen=True):
    """Somebody knocked."""


class Melted(Event, frozen=False):  # pyright: ignore[reportGeneralTypeIssues]
    """An event that can be changed."""


class Tagged(Event, frozen=True, tag="one"):
    """An event with a tag of its own."""


class AlsoTagged(Event, frozen=True, tag="one"):
    """Another one with the same."""


class NoContext(msgspec.Struct, frozen=True):
    """A struct that is no context."""


class Stone(msgspec.Struct, frozen=True):
    """Another one; without tags nobody can tell them apart in JSON."""


class Unreadable(Event, frozen=True):
    """An event with a field that msgspec cannot read."""

    what: NoContext | Stone


def another(name: str) -> type[Event]:
    """An event class of a name that another one has."""
    return msgspec.defstruct(name, [("receipt", str)], bases=(Event,), frozen=True)  # pyright: ignore[reportReturnType]


SHUT = State("shut", "s")
OPEN = State("open", "o", verdict=Verdict.SUCCESS)
OFF = State("off", "x", verdict=Verdict.CANCELLED)


def door(rows: Any = (), states: Any = (SHUT, OPEN, OFF), name: Any = "door", **more: Any) -> Machine[Any]:
    """A door's machine, or a broken one."""
    what: dict[str, Any] = {"version": 1, "initial": "shut", "context": Door, **more}
    own = [on(Asked, "shut", "open"), on(CancelRequested, ANY, "off")]
    listed: Any = rows if isinstance(rows, str) else [*rows, *own]
    return Machine(name, states=states, rows=listed, **what)


def shut(**fields: Any) -> tuple[State, ...]:
    """The door's states, with the first changed."""
    return msgspec.structs.replace(SHUT, **fields), OPEN, OFF


def refused(why: str, **how: Any) -> MachineInvalid:
    """Build a broken door."""
    with pytest.raises(MachineInvalid, match=why) as caught:
        door(**how)
    return caught.value


# --- names -----------------------------------------------------------------------------------------------------------

BAD_NAMES: list[Any] = [
    "",
    "a b",
    "a/b",
    "a:b",
    "..",
    ".",
    "-a",
    "_a",
    "pärcel",
    "小包",
    "a\n",
    "a" * 65,
    "²",
    "a\x00",
    7,
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_be_used_everywhere_is_refused(name: Any) -> None:
    """Of a machine, of a state, of a child's machine; the message has the name and the rule."""
    said = re.escape(repr(name))
    assert "formerly" in refused(f"^machine {said}: a name is 1 to 64", name=name).recovery_hint
    assert "Migration" in refused(f"the state {said}: a name", states=(*shut(), State(name, "x"))).recovery_hint
    refused(f"shut runs the machine {said}; a name", states=shut(child=name))


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", fullmatch=True))
def test_every_name_of_the_rule_is_accepted(name: str) -> None:
    """Letters, digits, dots, underscores and hyphens, 64 at most."""
    assert door(name=name).names == (name,)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_is_a_whole_number_from_one_on(version: Any) -> None:
    """Migrations count them."""
    refused(f"machine door: the version is a whole number from 1 on, not {version!r}", version=version)


def test_former_names_are_any_texts_but_the_name_of_today() -> None:
    """What is refused today may be in a journal."""
    assert door(formerly=["my door", "..", ""]).names == ("door", "my door", "..", "")
    refused("formerly has the name it has now", formerly=["door"])
    refused("formerly has 'a' twice", formerly=["a", "a"])
    refused("formerly lists texts, and 3 is none", formerly=[3])


@pytest.mark.parametrize("what", ["formerly", "known_as", "identity", "migrations", "states", "rows"])
def test_one_text_is_no_list(what: str) -> None:
    """A forgotten comma would make a list of letters of it."""
    refused(rf"machine door: {what} is a list, not 'colour'", **{what: "colour"})


def test_tags_are_a_list() -> None:
    """`in` would look for a part of the text."""
    refused("machine door: shut: tags is a list, not 'waiting'", states=shut(tags="waiting"))


def test_the_identity_names_fields() -> None:
    """Each once, and of this context."""
    assert door(identity=("colour", "patience")).identity == ("colour", "patience")
    assert door().identity == ()
    refused("identity names no field of Door: size", identity=["size"])
    refused("identity names colour twice", identity=["colour", "colour"])


# --- classes ---------------------------------------------------------------------------------------------------------


class Melting(Context, frozen=False):  # pyright: ignore[reportGeneralTypeIssues]
    """A context that can be changed."""


class UnreadableContext(Context, frozen=True, kw_only=True):
    """One with a field that msgspec cannot read."""

    what: Absent


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (NoContext, "the context is no subclass of Context: NoContext"),
        (Door(), "the context is no subclass of Context: Door"),
        (dict, "the context is no subclass of Context: dict"),
        (None, "the context is no subclass of Context"),
        (Melting, "the context Melting is not frozen; write class Melting"),
        (UnreadableContext, "the context UnreadableContext cannot be read back from JSON: name 'Absent' is not"),
    ],
)
def test_a_context_is_a_frozen_class_that_can_be_read_back(context: Any, why: str) -> None:
    """Otherwise a flow could not be stored, or not be resumed."""
    refused(f"^machine door: {why}", context=context)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([Row(NoContext, "shut", "open")], "NoContext is no subclass of Event"),  # pyright: ignore[reportArgumentType]
        ([Row(Asked(), "shut", "open")], "Asked Asked() is no subclass of Event"),  # pyright: ignore[reportArgumentType]
        ([("Asked", "shut", "open")], "tuple ('Asked', 'shut', 'open') is no row; write it with on(...)"),
        ([on(Melted, "shut", "open")], "the event Melted is not frozen; write class Melted(..., frozen=True)"),
        ([on(Unreadable, "shut", "open")], "the event Unreadable cannot be read back from JSON: "),
        (
            [on(Tagged, "shut", "open"), on(AlsoTagged, "shut", "off")],
            "events Tagged and AlsoTagged have one tag, 'one'",
        ),
        ([on(another("Asked"), "shut", "off")], "two event classes are called Asked"),
        ([on(Knocked, "shut", ANY)], "Knocked names the unknown state *"),
        ([Row(Knocked, None, "open")], "Knocked names the unknown state None"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_row_has_an_event_that_can_be_stored(rows: Any, why: str) -> None:
    """And leads from a state to a state."""
    refused(f"^machine door: .*{re.escape(why)}", rows=rows)


def test_a_table_needs_states_and_rows() -> None:
    """Nothing is no machine."""
    refused("machine door: it has no states", states=())
    with pytest.raises(MachineInvalid, match="machine door: it has no rows"):
        Machine("door", version=1, initial="shut", context=Door, states=[SHUT, OPEN], rows=[])
    refused("machine door: str 'shut' is no State", states=("shut", OPEN, OFF))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"verdict": "success"}, "shut has the verdict 'success', which is no Verdict"),
        ({"resume": "ask", "effect": "x"}, "shut has the resume policy 'ask', which is no ResumePolicy"),
        ({"late": "never"}, "shut has late='never'; it is one of restart, continue"),
    ],
)
def test_what_a_state_declares_is_of_its_type(fields: dict[str, Any], why: str) -> None:
    """`ask` as a text would never be asked about."""
    refused(f"machine door: {why}", states=shut(**fields))


# --- functions -------------------------------------------------------------------------------------------------------


async def awaited(_context: Door, _event: Asked) -> bool:
    return False


async def yielded(_context: Door, _event: Asked) -> AsyncIterator[bool]:
    yield False


def generated(_context: Door, _event: Asked) -> Iterator[bool]:
    yield False


class Waits:
    """An object that is called and awaited."""

    async def __call__(self, _context: Door, _event: Asked) -> bool:
        return False

    async def method(self, _context: Door, _event: Asked) -> bool:
        return False


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (awaited, "awaited"),
        (yielded, "yielded"),
        (generated, "generated"),
        (functools.partial(awaited), "awaited()"),
        (functools.partial(functools.partial(awaited)), "awaited()"),
        (Waits(), "Waits"),
        (Waits().method, "method"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("what", ["when", "update"])
def test_a_function_of_a_row_is_not_awaited(function: Any, name: str, what: str) -> None:
    """A coroutine is true: such a guard would always hold."""
    which = "guard" if what == "when" else "update"
    why = f"machine door: Asked in shut: the {which} {name} is a coroutine function or a generator"
    refused(re.escape(why), rows=[on(Asked, "shut", "off", **{what: function})])


def test_neither_is_a_result_nor_a_migration() -> None:
    """They are called, too."""

    async def result(_context: Door) -> Mapping[str, object]:
        return {}

    refused("machine door: the result result is a coroutine function", result=result)
    migration = Migration(1, context=result)  # pyright: ignore[reportArgumentType]
    refused("migration from version 1: its context function result is a coroutine", version=2, migrations=[migration])


def test_a_guard_that_returns_something_to_be_awaited_is_found_at_the_step() -> None:
    """Nothing tells before that a plain function returns a coroutine."""

    def hands_on(context: Any, event: Any) -> Any:
        return awaited(context, event)

    table = door([on(Knocked, "shut", "open", when=hands_on)])
    with pytest.raises(MachineInvalid, match=r"the guard of Knocked \[hands_on\] returned a coroutine"):
        table.step("shut", Door(), Knocked())


def at_least(limit: object, _context: Door, _event: Asked) -> bool:
    return limit == 3


def nothing() -> bool:
    return True


def one(_context: Any) -> bool:
    return True


def three(_context: Any, _event: Any, _more: Any) -> bool:
    return True


CANNOT = "cannot be called with (context, event)"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (nothing, f"nothing {CANNOT}"),
        (one, f"one {CANNOT}"),
        (three, f"three {CANNOT}"),
        (functools.partial(at_least, 1, Door()), f"at_least(1, ...) {CANNOT}"),
        ("is_open", "is no function: str"),
        (True, "is no function: bool"),
    ],
)
def test_a_function_takes_the_context_and_the_event(function: Any, why: str) -> None:
    """Nothing less, nothing more."""
    refused(re.escape(why), rows=[on(Knocked, "shut", "off", when=function)])
    refused(re.escape(why), rows=[on(Knocked, "shut", "off", update=function)])


def test_functions_that_take_more_than_they_need_are_called_as_they_are() -> None:
    """Defaults, and parameters for everything."""

    def generous(*things: object, limit: int = 3) -> bool:
        return len(things) < limit

    def defaulted(_context: Context, _event: Event, _limit: int = 3) -> bool:
        return True

    for guard in (generous, defaulted):
        assert door([on(Knocked, "shut", "open", when=guard)]).step("shut", Door(), Knocked()).state == "open"


class Hinged(Protocol):
    """Whatever has a colour."""

    colour: str


def for_other_context(_context: OtherContext, _event: Asked) -> bool:
    return True


def for_other_event(_context: Door, _event: Knocked) -> bool:
    return True


def for_no_event(_context: Door, _event: int) -> bool:
    return True


def for_other_union(_context: Door, _event: Knocked | CancelRequested | None) -> bool:
    return True


class Asks:
    """An object for another event."""

    def __call__(self, _context: Door, _event: Knocked) -> bool:
        return True


def bound_first(_limit: int, _context: OtherContext, _event: Asked) -> bool:
    return True


@pytest.mark.parametrize(
    ("guard", "why"),
    [
        (for_other_context, "for_other_context takes an OtherContext as its context, and is given a Door"),
        (for_other_event, "for_other_event takes a Knocked as its event, and is given an Asked"),
        (for_no_event, "for_no_event takes an int as its event, and is given an Asked"),
        (for_other_union, "for_other_union takes a .* as its event, and is given an Asked"),
        (Asks(), "Asks takes a Knocked as its event, and is given an Asked"),
        (functools.partial(bound_first, 2), r"bound_first\(2\) takes an OtherContext as its context"),
    ],
)
def test_a_function_for_another_class_is_refused(guard: Any, why: str) -> None:
    """What its annotation says is believed."""
    refused(f"machine door: Asked in shut: the guard {why}", rows=[on(Asked, "shut", "off", when=guard)])


def for_base(_context: Context, _event: Event) -> bool:
    return True


def for_one_of_them(_context: Door | OtherContext, _event: Asked | Knocked | None) -> bool:
    return True


def for_any(_context: Any, _event: object) -> bool:
    return True


def for_a_kind(_context: Door, _event: E, *_more: E) -> bool:
    return True


def for_a_protocol(_context: Hinged, _event: Asked) -> bool:
    return True


def for_nobody_knows(_context: Absent, _event: Asked) -> Absent:  # pyright: ignore[reportUnknownParameterType]
    return True


FITTING: list[Any] = [for_base, for_one_of_them, for_any, for_a_kind, for_a_protocol, for_nobody_knows, max, isinstance]


@pytest.mark.parametrize("guard", FITTING)
def test_what_may_fit_is_accepted(guard: Any) -> None:
    """Base classes, unions, `Any`, type variables, protocols, names that are not known, built-in functions."""
    door([on(Asked, "shut", "off", when=guard)])


def test_one_annotation_that_cannot_be_resolved_hides_no_other() -> None:
    """Each is resolved by itself."""

    def half_known(_context: Absent, _event: Knocked) -> bool:  # pyright: ignore[reportUnknownParameterType]
        return True

    refused("half_known takes a Knocked as its event", rows=[on(Asked, "shut", "off", when=cast("Any", half_known))])


class Weekday:
    """A guard that is an object; it cannot be hashed."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, _context: Door, _event: Asked) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.mark.parametrize(
    ("guard", "label"),
    [
        (functools.partial(at_least, 2), "at_least(2)"),
        (functools.partial(at_least, "high"), "at_least(high)"),
        (functools.partial(at_least, "a" * 30), "at_least(...)"),
        (Weekday(), "Weekday"),
        (Weekday().__call__, "Weekday"),
    ],
    ids=lambda value: value if isinstance(value, str) else "guard",
)
def test_a_guard_without_a_name_gets_one(guard: Any, label: str) -> None:
    """In the row, in the drawings and in the description; the table's identity has no names."""
    table = door([on(Asked, "shut", "off", when=guard)])
    assert table.rows[0].label == f"Asked [{label}]"
    assert label in draw_table(table)
    assert table.describe()["rows"][0][3] == label
    assert "Asked" in mermaid(table)
    assert table.step("shut", Door(), Asked()).state in {"open", "off"}
    plain = door([on(Asked, "shut", "off", when=for_base)])
    assert table.fingerprint == plain.fingerprint


# --- timeouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, -math.inf, math.nan, 1e12, True, False])
def test_a_timeout_is_finite_and_positive(timeout: Any) -> None:
    """A state that times out at once, or in a million years, is a mistake."""
    why = re.escape(f"shut has the timeout {timeout!r}; a timeout is a finite, positive number")
    refused(why, states=shut(timeout=timeout), rows=[on(DeadlinePassed, ANY, "off")])


@pytest.mark.parametrize("field", ["colour", "problem"])
def test_a_timeout_is_no_text(field: str) -> None:
    """The field must be able to hold a number."""
    why = f"the timeout of shut is the field Door.{field}, which holds no number"
    refused(why, states=shut(timeout=field), rows=[on(DeadlinePassed, ANY, "off")])


@pytest.mark.parametrize("timeout", [0.5, 1, 60, "patience", "grace", "anything"])
def test_a_timeout_is_a_number_or_a_field_for_one(timeout: Any) -> None:
    """A field that may be None is no limit then."""
    table = door(states=shut(timeout=timeout), rows=[on(DeadlinePassed, ANY, "off")])
    assert table.timeout_of("shut", Door(grace=None, anything=None)) in {0.5, 1.0, 60.0, None}


def test_a_timeout_nobody_handles_is_said_before_a_state_nothing_leads_to() -> None:
    """The forgotten row is the reason for both."""
    states = (*shut(timeout=5.0), State("expired", "e", verdict=Verdict.FAILURE))
    refused("shut has a timeout and no DeadlinePassed row", states=states)


# --- events that come later ------------------------------------------------------------------------------------------


def test_an_event_is_kept_for_a_state_that_can_still_come() -> None:
    """By one step into a state or more: not for a row of the state itself, unless it can be entered again."""
    table = Machine(
        "order",
        version=1,
        initial="a",
        context=Context,
        states=[State("a", "a"), State("b", "b"), State("c", "c"), OFF],
        rows=[
            on(Asked, "a", "b"),
            on(Knocked, "a", STAY),
            on(Knocked, "c", "off"),
            on(Tagged, "b", "c"),
            on(Tagged, "c", "c"),
        ],
    )
    kept = {
        state: {e.__name__ for e in (Asked, Knocked, Tagged, Melted) if table.keeps(state, e)} for state in table.states
    }
    assert kept == {"a": {"Knocked", "Tagged"}, "b": {"Knocked", "Tagged"}, "c": {"Knocked", "Tagged"}, "off": set()}
    assert not table.keeps("nowhere", Asked)
    assert not table.keeps("a", another("Knocked"))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_what_is_kept_is_what_a_walk_over_the_table_finds(machine: Machine[Any]) -> None:
    """The same answer, found by walking from state to state."""
    for state in machine.states:
        seen: set[str] = set()
        frontier = {row.to for source, row in machine.expanded if source == state and row.to is not None}
        while frontier - seen:
            seen |= frontier
            frontier = {row.to for source, row in machine.expanded if source in seen and row.to is not None}
        wanted = set[type[Event]]().union(*(machine.accepts(each) for each in seen))
        assert {event for event in machine.events.values() if machine.keeps(state, event)} == wanted


# --- what is no event ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [None, 3, "Asked", {"event": "Asked"}, Asked, Door()])
def test_what_is_no_event_is_refused_by_its_type(sent: Any) -> None:
    """A class of events, a text and a dictionary are no events."""
    with pytest.raises(EventNotAccepted, match="which is no event") as caught:
        door().step("shut", Door(), sent)
    assert type(sent).__qualname__ in caught.value.user_message


def test_an_event_of_another_class_of_the_name_is_not_accepted() -> None:
    """It was a row of the other one that took it."""
    with pytest.raises(EventNotAccepted, match="door in state shut does not accept Asked"):
        door().step("shut", Door(), msgspec.convert({"event": "Asked", "receipt": "r"}, another("Asked")))


def test_our_own_tables_are_accepted() -> None:
    """They were built when they were imported; their functions are named and plain."""
    functions: list[Callable[..., object]] = [
        function for machine in MACHINES for row in machine.rows for function in (row.guard, row.update) if function
    ]
    assert all(re.fullmatch(r"[a-z_]+", function.__name__) for function in functions)
