"""An order's context and its machine: fields of every type that a context may have."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, cast

import msgspec
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    State,
    Verdict,
    on,
)


class Size(IntEnum):
    """Comes back from `Any` as a number."""

    SMALL = 1


class Colour(StrEnum):
    """Comes back from `Any` as a text."""

    RED = "red"


class Item(msgspec.Struct, frozen=True):
    """A line of an order."""

    price: float = 0.0
    note: str = ""


class GiftItem(Item, frozen=True):
    """One that has more than `Item` declares."""

    card: str = ""


class Loose(msgspec.Struct, frozen=True, eq=False):
    """One that `==` says nothing about."""

    amount: float | None = None
    more: Any = None


class Order(Context, frozen=True, kw_only=True):
    """A context with fields of many types."""

    amount: float = 0.0
    limit: float | None = None
    note: str = ""
    count: int = 0
    items: tuple[Item, ...] = ()
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    wide: dict[int, list[float]] = msgspec.field(default_factory=dict)
    loose: Loose = Loose()
    due: datetime | None = None
    exact: Decimal = Decimal(0)
    patience: float = 60.0
    grace: int | None = None
    anything: Any = None


class Renamed(Context, frozen=True, kw_only=True, rename="camel"):
    """A context whose fields are called otherwise in JSON."""

    unit_price: float = 0.0


class Priced(Event, frozen=True):
    """An event with a number."""

    amount: float | None


class Unknown(Event, frozen=True):
    """An event no table here names."""


def machine(context: type[Context] = Order) -> Machine[Any]:
    timed = "patience" in context.__struct_fields__
    return Machine(
        "order",
        version=1,
        initial="open",
        context=context,
        states=[
            State("open", "o", timeout="patience" if timed else None),
            State("priced", "p", timeout="grace" if timed else None),
            State("off", "x", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Priced, "open", "priced"), on(DeadlinePassed, ANY, "off"), on(CancelRequested, ANY, "off")],
    )


def inside(value: Any) -> dict[Any, Any] | None:
    """What is directly in a value, by key, index or name; None when there is nothing in such a value."""
    match value:
        case dict():
            return dict(cast("dict[Any, Any]", value))
        case list() | tuple():
            return dict(enumerate(cast("list[Any]", value)))
        case msgspec.Struct():
            return {name: getattr(value, name) for name in value.__struct_fields__}
        case _:
            return None


def kinds_of(value: Any) -> Any:
    """The types in a value, all the way down."""
    kind = cast("type", value.__class__)
    members = inside(value)
    if members is None:
        return kind
    return kind, {(type(key), key): kinds_of(member) for key, member in members.items()}


def plainly_equal(value: Any, back: Any) -> bool:
    """Equality that also looks into `Loose`, and tells a tuple from a list."""
    members, others = inside(value), inside(back)
    if members is None or others is None:
        return bool(value == back)
    same_type = type(value) is type(back)
    return same_type and members.keys() == others.keys() and all(plainly_equal(members[k], others[k]) for k in members)
