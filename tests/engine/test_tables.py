"""A table that cannot work is refused when it is built, by name: names, classes, functions, timeouts, lists."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.errors import EventNotAccepted, MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    Context,
    DeadlinePassed,
    Event,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.machines.every import MACHINES

from tests.support.door import OFF, OPEN, SHUT, Asked, Door, Knocked, door, refused, shut

if TYPE_CHECKING:
    from nowhere import Absent  # pyright: ignore[reportMissingImports, reportUnknownVariableType]


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


def test_a_timeout_nobody_may_handle_is_refused() -> None:
    """Where every guard refuses, the state would be left by nothing; a row for every state is enough."""
    never = on(DeadlinePassed, "shut", "open", when=lambda _context, _event: False)
    refused("shut has a timeout and no DeadlinePassed row without a guard", states=shut(timeout=5.0), rows=[never])
    assert door(states=shut(timeout=5.0), rows=[never, on(DeadlinePassed, ANY, "off")])


def named_like(name: str, tag: str | bool) -> type[Event]:
    """Somebody's own event class of that name and tag."""
    return cast("type[Event]", msgspec.defstruct(name, [("item", str, "")], bases=(Event,), frozen=True, tag=tag))


@pytest.mark.parametrize("name", ["DeadlinePassed", "CancelRequested"])
def test_the_names_of_the_engines_events_are_its_own(name: str) -> None:
    """Another class of such a name, or tag, would be taken for the engine's, or never be sent."""
    for cls in (named_like(name, tag=True), named_like("Postponed", tag=name)):
        refused(f"is called or tagged {name}, as an event of the engine", rows=[on(cls, "shut", "open")])
    assert door(rows=[on(DeadlinePassed, "shut", "open")])


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
        wanted = set[type[Event]]().union(*(machine.accepts(each) for each in seen)) - {DeadlinePassed}
        assert {event for event in machine.events.values() if machine.keeps(state, event)} == wanted


# --- what is no event ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [None, 3, "Asked", {"event": "Asked"}, Asked, Door()])
def test_what_is_no_event_is_refused_by_its_type(sent: Any) -> None:
    """A class of events, a text and a dictionary are no events."""
    with pytest.raises(EventNotAccepted, match="which is no event") as caught:
        door().step("shut", Door(), sent)
    named = f"the class {sent.__name__} itself" if isinstance(sent, type) else type(sent).__qualname__
    assert named in caught.value.user_message


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


def test_the_end_of_a_states_time_is_never_kept() -> None:
    """It would end a later state's time before it has begun."""
    table = Machine(
        "two-waits",
        version=1,
        initial="first",
        context=Context,
        states=[
            State("first", "waits", timeout=1.0),
            State("second", "waits", timeout=1.0),
            State("late", "late", verdict=Verdict.FAILURE),
        ],
        rows=[on(DeadlinePassed, "first", "second"), on(DeadlinePassed, "second", "late")],
    )
    assert not table.keeps("first", DeadlinePassed)
