"""What the engine's types allow and what they refuse. This file is checked by basedpyright, and never run.

What is refused has a comment that expects the error: where there is none, the comment is an error itself.
"""

from __future__ import annotations

from typing import assert_type

import msgspec
from systemprompt_cloud.engine import (
    ANY,
    CancelRequested,
    Context,
    Engine,
    Event,
    Flow,
    Machine,
    Program,
    Row,
    State,
    Verdict,
    Visit,
    await_signal,
    on,
)


class Order(Context, frozen=True, kw_only=True):
    """What an order knows."""

    number: int = 0


class Trip(Context, frozen=True, kw_only=True):
    """What a trip knows."""

    city: str = ""


class Paid(Event, frozen=True):
    """An order was paid."""

    amount: int


class Left(Event, frozen=True):
    """A trip began."""


def count(order: Order, event: Paid) -> Order:
    """An update of an order."""
    return msgspec.structs.replace(order, number=event.amount)


def is_first(order: Order, _event: Paid) -> bool:
    """A guard of an order."""
    return order.number == 0


def leave(trip: Trip, _event: Left) -> Trip:
    """An update of a trip."""
    return trip


STATES = [
    State("waiting", "waiting", child="trip"),
    State("paid", "paid", verdict=Verdict.SUCCESS),
    State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
]
ORDER = Machine(
    "order",
    version=1,
    initial="waiting",
    context=Order,
    states=STATES,
    rows=[on(Paid, "waiting", "paid", when=is_first, update=count), on(CancelRequested, ANY, "cancelled")],
)
TRIP = Machine(
    "trip",
    version=1,
    initial="waiting",
    context=Trip,
    states=STATES,
    rows=[on(Left, "waiting", "paid", update=leave), on(CancelRequested, ANY, "cancelled")],
)
TRIPS = Program(TRIP, {"waiting": [await_signal]})

# --- rows -------------------------------------------------------------------------------------------------------------

assert_type(on(Paid, "waiting", "paid", update=count), Row[Order])
on(Left, "waiting", "paid", update=count)  # pyright: ignore[reportArgumentType] the update takes another event
on(Left, "waiting", "paid", when=is_first)  # pyright: ignore[reportArgumentType] the guard takes another event
on(Paid, "waiting", "paid", update=is_first)  # pyright: ignore[reportArgumentType] an update returns a context
Machine(
    "mixed",
    version=1,
    initial="waiting",
    context=Order,
    states=STATES,
    rows=[
        on(Left, "waiting", "paid", update=leave),  # pyright: ignore[reportArgumentType] a row of another context
    ],
)

# --- flows ------------------------------------------------------------------------------------------------------------


async def start(engine: Engine) -> None:
    """A flow is started with its machine's context, and has it."""
    flow = await engine.start(ORDER, Order(number=1), key="1")
    assert_type(flow, Flow[Order])
    assert_type(flow.context.number, int)
    await engine.start(ORDER, Trip())  # pyright: ignore[reportArgumentType] another machine's context
    _ = flow.context.city  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    await flow.send(Paid(amount=1))
    await flow.send(Order())  # pyright: ignore[reportArgumentType] a context is no event


async def show(flow: Flow) -> str:
    """A flow of any machine."""
    return flow.context.problem


async def show_all(orders: list[Flow[Order]]) -> list[str]:
    """A flow of one machine is a flow of any machine."""
    return [await show(flow) for flow in orders]


# --- activities -------------------------------------------------------------------------------------------------------


async def pay(visit: Visit[Order]) -> Event:
    """A visit has its flow's context, and starts a child with the child's."""
    assert_type(visit.context, Order)
    await visit.run_child(TRIPS, Trip(city="Lyon"))
    await visit.run_child(TRIPS, visit.context)  # pyright: ignore[reportArgumentType] the parent's context
    return Paid(amount=visit.context.number)


assert_type(Program(ORDER, {"waiting": [pay]}), Program[Order])
