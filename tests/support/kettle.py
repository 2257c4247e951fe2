"""A kettle: a machine with every kind of row, and the parts to make broken ones of."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    Context,
    Event,
    Row,
    State,
    Verdict,
    on,
)


class Kettle(Context, frozen=True, kw_only=True):
    """What a kettle knows."""

    degrees: int = 20
    patience: float = 60.0


class Heated(Event, frozen=True):
    """The water got warmer."""

    by: int


class Filled(Event, frozen=True):
    """Water was put in."""


class Unplugged(Event, frozen=True):
    """The plug was pulled."""


class Forgotten(Event, frozen=True):
    """An event no table here names."""


class NotANumberError(Exception):
    """A bug in an update."""


def warmer(context: Kettle, event: Heated) -> Kettle:
    return msgspec.structs.replace(context, degrees=context.degrees + event.by)


def broken(_context: Kettle, _event: Event) -> Kettle:
    raise NotANumberError


def boils(context: Kettle, event: Heated) -> bool:
    return context.degrees + event.by >= 100


def steams(context: Kettle, event: Heated) -> bool:
    return context.degrees + event.by >= 80


EMPTY = State("empty", "no water in it")
HEATING = State("heating", "getting warmer")
STEAMING = State("steaming", "nearly there")
BOILED = State("boiled", "done", verdict=Verdict.SUCCESS)
COLD = State("cold", "given up", verdict=Verdict.FAILURE)
STATES = (EMPTY, HEATING, STEAMING, BOILED, COLD)
ROWS = (
    on(Filled, "empty", "heating"),
    on(Heated, "heating", "boiled", when=boils, update=warmer),
    on(Heated, "heating", "steaming", when=steams, update=warmer),
    on(Heated, "heating", STAY, update=warmer),
    on(Filled, "heating", "heating"),
    on(Heated, "steaming", "boiled", update=warmer),
    on(Unplugged, "heating", "empty"),
    on(Unplugged, ANY, "cold"),
)


def kettle(
    *,
    states: tuple[State, ...] = STATES,
    rows: tuple[Row, ...] = ROWS,
    initial: str = "empty",
    version: int = 1,
    name: str = "kettle",
    context: type[Kettle] = Kettle,
    known_as: Sequence[str] = (),
) -> Machine[Kettle]:
    """The kettle's machine, or a broken one."""
    return Machine(name, version=version, initial=initial, context=context, states=states, rows=rows, known_as=known_as)


KETTLE = kettle()
