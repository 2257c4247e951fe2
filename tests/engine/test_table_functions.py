"""The functions of a table: what they are, what they take, what they are called."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import pytest
from systemprompt_cloud.diagrams.mermaid import mermaid
from systemprompt_cloud.diagrams.text import draw_table
from systemprompt_cloud.engine.errors import MachineInvalid, NotStorable
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import (
    CancelRequested,
    Context,
    Event,
    on,
)

from tests.support.door import Asked, Door, Knocked, OtherContext, door, refused

if TYPE_CHECKING:
    from nowhere import Absent  # pyright: ignore[reportMissingImports, reportUnknownVariableType]


E = TypeVar("E", bound=Event)


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


@pytest.mark.parametrize("returned", [None, OtherContext(), Door])
def test_an_update_that_returns_no_context_is_found_at_the_step(returned: Any) -> None:
    """By the table alone, as by the engine."""

    def lose(_context: Door, _event: Knocked) -> Door:
        return returned

    table = door([on(Knocked, "shut", "open", update=lose)])
    with pytest.raises(NotStorable, match="Door"):
        table.step("shut", Door(), Knocked())


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
