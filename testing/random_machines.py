"""Random machines: a hypothesis strategy of valid tables, small ones first.

The engine makes the same promises for every machine, so it is tested on tables of every shape: states that are
re-entered, progress that stays, guards that refuse, fixed, shared and late deadlines, effects with every policy.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
from hypothesis import strategies as st

from ..engine.machine.machine import Machine
from ..engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    Row,
    State,
    Verdict,
    on,
)

MAX_STATES: Final = 4


class Tally(Context, frozen=True, kw_only=True):
    """A context with a number, and two timeouts in seconds that states may name."""

    count: int = 0
    patience: float = 60.0
    hurry: float = 5.0


class Rose(Event, frozen=True):
    """The number grew."""

    by: int = 1


class Fell(Event, frozen=True):
    """The number shrank."""

    by: int = 1


class Turned(Event, frozen=True):
    """An event without fields."""


class Came(Event, frozen=True):
    """An event with a text field."""

    what: str = ""


class Finished(Event, frozen=True):
    """Leads from the first state to `done`."""


EVENTS: Final[tuple[type[Event], ...]] = (Rose, Fell, Turned, Came)


def rise(context: Tally, _event: Event) -> Tally:
    """One more."""
    return msgspec.structs.replace(context, count=context.count + 1)


def reset(context: Tally, _event: Event) -> Tally:
    """Set the number to 0."""
    return msgspec.structs.replace(context, count=0)


def explain(context: Tally, event: Event) -> Tally:
    """Store the event's name as the problem."""
    return msgspec.structs.replace(context, problem=type(event).__name__)


def count_is_even(context: Tally, _event: Event) -> bool:
    """Whether the number is even."""
    return context.count % 2 == 0


@st.composite
def machines(draw: st.DrawFn) -> Machine[Tally]:
    """A valid machine of one to four states and two ends that can always be cancelled."""
    names = [f"state_{number}" for number in range(draw(st.integers(1, MAX_STATES)))]
    states = [draw(_states(name)) for name in names]
    rows: dict[tuple[str, type[Event]], list[Row]] = {}
    places = st.sampled_from([*names, "done", STAY])
    updates = st.sampled_from([None, rise, reset])

    def write(source: str, event: type[Event], to: str | None) -> None:
        update = draw(updates)
        if draw(st.booleans()):
            guarded = on(event, source, draw(places), when=count_is_even, update=draw(updates))
            rows[source, event] = [guarded, on(event, source, to, update=update)]
        else:
            rows[source, event] = [on(event, source, to, update=update)]

    for number, name in enumerate(names[1:]):  # a way to every state
        source = draw(st.sampled_from(names[: number + 1]))
        event = next((event for event in EVENTS if (source, event) not in rows), None)
        if event is None:  # the state before this one has a free event: nothing has been led out of it yet
            source, event = names[number], EVENTS[0]
        write(source, event, name)
    for name in names:
        for event in EVENTS:
            if (name, event) not in rows and draw(st.booleans()):
                write(name, event, draw(places))
        if any(state.name == name and state.timeout is not None for state in states):
            rows[name, DeadlinePassed] = [on(DeadlinePassed, name, draw(st.sampled_from([*names, "done"])))]
    return Machine(
        "random",
        version=1,
        initial=names[0],
        context=Tally,
        states=[
            *states,
            State("done", "it is done", verdict=Verdict.SUCCESS),
            State("stopped", "it was stopped", verdict=Verdict.CANCELLED),
        ],
        rows=[
            *(row for written in rows.values() for row in written),
            # From the first state in any case, so that both ends can be reached.
            on(Finished, names[0], "done"),
            on(CancelRequested, ANY, "stopped", update=explain),
        ],
    )


@st.composite
def _states(draw: st.DrawFn, name: str) -> State:
    late: Literal["restart", "continue"] = draw(st.sampled_from(["restart", "continue"]))
    effect = draw(st.sampled_from([None, None, "changes the world"]))
    return State(
        name,
        f"in {name}",
        timeout=draw(st.sampled_from([None, 30.0, "patience", "patience", "hurry"])),
        late=late,
        effect=effect,
        resume=None if effect is None else draw(st.sampled_from(list(ResumePolicy))),
    )
