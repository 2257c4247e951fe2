"""Our machine of the table that every library steps through: a ring of ten states, and a reset to the first."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import Context, Event, State, Verdict, on

from .results import Seconds

STATES: Final = 10


class Counted(Context, frozen=True, kw_only=True):
    """A number."""

    n: int = 0


class Ticked(Event, frozen=True):
    """Leads to the next state."""


class Reset(Event, frozen=True):
    """Leads to the first state."""


class Closed(Event, frozen=True):
    """Leads to the end, which a machine of ours must have."""


def plus_one(context: Counted, _event: Event) -> Counted:
    """One more."""
    return msgspec.structs.replace(context, n=context.n + 1)


def machine(update: bool) -> Machine[Counted]:
    """Our machine of this table."""
    names = [f"s{number}" for number in range(STATES)]
    return Machine(
        "ring",
        version=1,
        initial="s0",
        context=Counted,
        states=[*(State(name, "Going round") for name in names), State("end", "Over", verdict=Verdict.SUCCESS)],
        rows=[
            *(
                on(Ticked, name, names[(number + 1) % STATES], update=plus_one if update else None)
                for number, name in enumerate(names)
            ),
            *(on(Reset, name, "s0") for name in names),
            on(Closed, "s0", "end"),
        ],
    )


def steps(count: int, update: bool) -> Seconds:
    """Measure `count` consecutive steps."""
    step, event = machine(update).step, Ticked()
    state, context = "s0", Counted()
    start = time.perf_counter()
    for _ in range(count):
        state, context, _ = step(state, context, event)
    return Seconds(time.perf_counter() - start)
