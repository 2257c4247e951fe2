"""Faults that no type says are found by calling a table; a table without them has none."""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, cast

import msgspec
import pytest
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.testing.checks import table_faults


class Cart(Context, frozen=True, kw_only=True):
    """A list in it can be changed in place."""

    many: int = 0
    notes: list[str] = msgspec.field(default_factory=list[str])


class Added(Event, frozen=True):
    """Something was added."""

    notes: tuple[str, ...] = ()


class Paid(Event, frozen=True):
    """The end."""


def cart(*, update: Any = None, when: Any = None) -> Machine[Cart]:
    """A cart whose one row has this update or guard."""
    return Machine(
        "cart",
        version=1,
        initial="filling",
        context=Cart,
        states=[
            State("filling", "being filled"),
            State("paid", "paid", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Added, "filling", STAY, update=update, when=when),
            on(Paid, "filling", "paid"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


def count_up(context: Cart, event: Added) -> Cart:
    """As it should be."""
    return msgspec.structs.replace(context, many=context.many + len(event.notes) + 1)


def change(context: Cart, _event: Added) -> Cart:
    """In place, and gives that back."""
    context.notes.append("more")
    return context


def append(context: Cart, _event: Added) -> Cart:
    """Deep inside, also where a new one is given back."""
    context.notes.append("more")
    return msgspec.structs.replace(context, many=1)


_numbers = itertools.count()


def number(context: Cart, _event: Added) -> Cart:
    """Another one each time."""
    return msgspec.structs.replace(context, many=next(_numbers))


def draw(context: Cart, _event: Added) -> Cart:
    """By chance, and mostly the same."""
    return msgspec.structs.replace(context, many=int(random.random() > 1e-9))  # noqa: S311 it is what is found


def shuffle(context: Cart, _event: Added) -> Cart:
    """The same of a library function in Python."""
    return msgspec.structs.replace(context, many=random.randint(1, 1))  # noqa: S311 it is what is found


def name_anew(context: Cart, _event: Added) -> Cart:
    """From the system's source of chance."""
    return msgspec.structs.replace(context, many=len(str(uuid.uuid4())))


def in_order(context: Cart, _event: Added) -> Cart:
    """A generator with a seed gives the same numbers in every process."""
    return msgspec.structs.replace(context, many=random.Random(context.many).randint(1, 6))  # noqa: S311


def forget(_context: Cart, _event: Added) -> Cart:
    """Returns nothing."""
    return cast("Cart", None)


def unstorable(context: Cart, _event: Added) -> Cart:
    """A list where a number belongs."""
    return msgspec.structs.replace(context, many=cast("int", []))


def crash(_context: Cart, _event: Added) -> Cart:
    """Has a bug."""
    raise KeyError("discount")


def guess(_context: Cart, _event: Added) -> bool:
    """Another answer each time."""
    return next(_numbers) % 2 == 0


def in_time(_context: Cart, _event: Added) -> bool:
    """The same answer for an hour."""
    return time.time() < 1e12


def this_year(_context: Cart, _event: Added) -> bool:
    """The same answer for a year."""
    return datetime.now(UTC).year == date.today().year  # noqa: DTZ011 it is what is found


def count(context: Cart, _event: Added) -> bool:
    """A number where a yes or no belongs."""
    return cast("bool", context.many + 1)


def spoil(context: Cart, _event: Added) -> bool:
    """Changes what it is asked about."""
    context.notes.append("asked")
    return True


@pytest.mark.parametrize(
    ("update", "fault"),
    [
        (change, "changes the context in place"),
        (append, "changes the context in place"),
        (number, "another answer to the same arguments"),
        (draw, "calls random.random: "),
        (shuffle, "calls random.getrandbits: "),
        (name_anew, "calls os.urandom: "),
        (forget, "returns NoneType, not Cart"),
        (unstorable, r"cannot be stored: Cart\.many"),
        (crash, "raises KeyError: 'discount'"),
    ],
)
def test_a_faulty_update_is_found(update: Callable[[Cart, Added], Cart], fault: str) -> None:
    """Once, with the state, the event and its name."""
    (found,) = table_faults(cart(update=update))
    assert found.startswith(f"filling, Added: the update {update.__name__} ")
    assert fault.replace("\\", "") in found


@pytest.mark.parametrize(
    ("guard", "fault"),
    [
        (guess, "another answer to the same arguments"),
        (in_time, "calls time.time: "),
        (this_year, "calls date.today, datetime.now: "),
        (count, "returns int, not True or False"),
        (spoil, "in place"),
    ],
)
def test_a_faulty_guard_is_found(guard: Callable[[Cart, Added], bool], fault: str) -> None:
    """The same."""
    (found,) = table_faults(cart(when=guard))
    assert found.startswith(f"filling, Added: the guard {guard.__name__} ")
    assert fault in found


def test_a_table_that_keeps_the_rules_has_no_fault() -> None:
    """Nor have ours."""
    assert table_faults(cart(update=count_up)) == []
    assert table_faults(cart(update=in_order)) == []


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_our_tables_have_none(machine: Machine[Any]) -> None:
    """Every row of every machine of this package."""
    assert table_faults(machine) == []
