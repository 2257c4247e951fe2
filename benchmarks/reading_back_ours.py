"""The work of `reading_back.py`: what a transition writes, encoded with and without reading it back."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from systemprompt_cloud import Context, Event, Machine, State, Verdict, on

from .results import Seconds


class Order(Context, frozen=True, kw_only=True):
    """A context of ten fields."""

    number: int = 7
    customer: str = "ada@example.com"
    plan: str = "team"
    region: str = "iad"
    price: float = 49.0
    paid: bool = False
    steps: tuple[str, ...] = ("created", "checked")
    address: str | None = None


class Paid(Event, frozen=True):
    """An event of three fields."""

    receipt: str = "rcpt_2041"
    amount: float = 49.0
    at: str = "2026-11-30T09:00:00.000000Z"


class Kept(Context, frozen=True, kw_only=True):
    """The same with a field of any type, whose types are compared too."""

    number: int = 7
    answer: Any = None


ORDER = Machine(
    "order",
    version=1,
    initial="open",
    context=Order,
    states=[State("open", "Nobody has paid"), State("done", "Paid", verdict=Verdict.SUCCESS)],
    rows=[on(Paid, "open", "done")],
)
KEPT = Machine(
    "kept",
    version=1,
    initial="open",
    context=Kept,
    states=[State("open", "Nobody has paid"), State("done", "Paid", verdict=Verdict.SUCCESS)],
    rows=[on(Paid, "open", "done")],
)


def read_back(count: int, exact: bool) -> Seconds:
    """Encode a context and an event `count` times as a flow does, and read them back."""
    machine: Machine[Any] = ORDER if exact else KEPT
    context: Context = Order() if exact else Kept(answer={"status": "paid", "items": [1, 2, 3]})
    event = Paid()
    start = time.perf_counter()
    for _ in range(count):
        machine.encode_event(event)
        machine.encode_context(context)
    return Seconds(time.perf_counter() - start)


def only_written(count: int, exact: bool) -> Seconds:
    """Encode the same, and believe it."""
    context: Context = Order() if exact else Kept(answer={"status": "paid", "items": [1, 2, 3]})
    event: Event = Paid()
    encode = msgspec.json.encode
    start = time.perf_counter()
    for _ in range(count):
        encode(event).decode()
        encode(context).decode()
    return Seconds(time.perf_counter() - start)
