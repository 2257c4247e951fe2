"""What the engine's types allow and what they refuse. This file is checked by basedpyright and mypy, and never run.

What is refused has a comment for each of them that expects the error: where there is none, the comment is an error.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import assert_type

import msgspec
from systemprompt_cloud.engine import (
    ANY,
    STAY,
    Activity,
    CancelRequested,
    Context,
    Engine,
    Event,
    Flow,
    Machine,
    Outcome,
    Program,
    Retry,
    Row,
    State,
    Verdict,
    Visit,
    activity,
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


def is_well(_context: Context, _event: Event) -> bool:
    """A guard of any machine."""
    return True


LEAVING = on(Left, "waiting", "paid", update=leave)
GUARDED = on(Paid, "waiting", STAY, when=is_well)
assert_type(ORDER, Machine[Order])
assert_type(on(Paid, "waiting", "paid", update=count), Row[Order])
ROWS: list[Row[Order]] = [on(Paid, "waiting", "paid", update=count), GUARDED]
Machine("mixed", version=1, initial="waiting", context=Order, states=STATES, rows=ROWS)
# An update takes the row's event and makes a context, a guard takes the row's event, and both take the table's context.
on(Left, "waiting", "paid", update=count)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
on(Left, "waiting", "paid", when=is_first)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
on(Paid, "waiting", "paid", update=is_first)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
Machine("mixed", version=1, initial="waiting", context=Order, states=STATES, rows=[LEAVING])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
Machine("mixed", version=1, initial="waiting", context=Order, states=STATES, rows=[GUARDED, LEAVING])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

# --- flows ------------------------------------------------------------------------------------------------------------


async def start(engine: Engine) -> None:
    """A flow is started with its machine's context, and has it."""
    flow = await engine.start(ORDER, Order(number=1), key="1")
    assert_type(flow, Flow[Order])
    assert_type(flow.context.number, int)
    await flow.send(Paid(amount=1))
    # Another machine's context, what that one knows, and a context where an event is wanted.
    await engine.start(ORDER, Trip())  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    _ = flow.context.city  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    await flow.send(Order())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def finish(flow: Flow[Order]) -> None:
    """What a flow knew at its end has its type, too."""
    outcome = await flow.wait()
    assert_type(outcome, Outcome[Order])
    assert_type(outcome.context.number, int)
    _ = outcome.context.city  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


def summarize(outcome: Outcome) -> str:
    """The outcome of any machine."""
    return outcome.context.problem or outcome.state


def summarize_all(orders: list[Outcome[Order]]) -> list[str]:
    """The outcome of one machine is one of any machine."""
    return [summarize(each) for each in orders]


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
    outcome = await visit.run_child(TRIPS, Trip(city="Lyon"))
    assert_type(outcome.context.city, str)
    # The parent's context, and a context where an event is wanted.
    await visit.run_child(TRIPS, visit.context)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await visit.send(visit.context)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return Paid(amount=visit.context.number)


async def watch(visit: Visit[Order]) -> AsyncGenerator[Event, None]:
    """Several events."""
    yield Paid(amount=visit.context.number)


async def pay_at(_till: str, _visit: Visit[Order]) -> None:
    """One that is given more than a visit."""


async def look(visit: Visit[Context]) -> None:
    """One of any machine."""
    assert_type(visit.context.problem, str)


async def drive(_visit: Visit[Trip]) -> Event:
    """One of another machine."""
    return Left()


async def answer(visit: Visit[Order]) -> Order:
    """One that returns no event."""
    return visit.context


assert_type(Program(ORDER, {"waiting": [pay]}), Program[Order])
assert_type(Program(ORDER, {"waiting": [pay, watch, look, await_signal, partial(pay_at, "left")]}), Program[Order])
LISTED: Sequence[Activity[Order]] = [pay, look, activity(pay, retry=Retry(2))]
UNCHECKED: Activity = pay
ANYWHERE: Activity[Context] = look
Program(ORDER, {"waiting": LISTED})
Program(ORDER, {"waiting": [UNCHECKED, ANYWHERE]})
# The activity takes another machine's visit, or returns no event; retried or not.
Program(ORDER, {"waiting": [drive]})  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Program(ORDER, {"waiting": [pay, answer]})  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Program(ORDER, {"waiting": [activity(drive, retry=Retry(2))]})  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
WRONG: Activity[Order] = drive  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
NARROW: Activity[Context] = pay  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
