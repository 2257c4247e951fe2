"""Machines of any shape, for what has to hold for every table."""

from __future__ import annotations

from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from systemprompt_cloud.engine.errors import MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, Context, Event, Row, State, Verdict, on

EVENTS = [type(f"Event{number}", (Event,), {"__doc__": "Something happened."}, frozen=True) for number in range(6)]
ENDS = [State(verdict.value, f"it is {verdict}", verdict=verdict) for verdict in Verdict]
MEANINGS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=60)


def yes(_context: Context, _event: Event) -> bool:
    """A guard."""
    return True


@st.composite
def machines(draw: st.DrawFn) -> Machine[Any]:
    """A machine of one to six working states and three ends: each reaches an end, and is reached from the first."""
    names = [f"state_{number}" for number in range(draw(st.integers(1, 6)))]
    ends = [end.name for end in ENDS]
    states = [State(name, draw(MEANINGS).strip() or "working") for name in names]
    rows: list[Row[Any]] = [
        on(EVENTS[0], name, after) for name, after in zip(names, [*names[1:], "success"], strict=True)
    ]
    rows += [on(EVENTS[1], names[0], "failure"), on(EVENTS[5], ANY, "cancelled")]
    taken: set[tuple[str, int]] = {(names[0], 1), (ANY, 1)}
    for _ in range(draw(st.integers(0, 10))):
        source, event = draw(st.sampled_from([*names, ANY])), draw(st.integers(1, 4))
        to = draw(st.sampled_from([*names, *ends, STAY]))
        if (source, event) in taken:
            continue
        taken.add((source, event))
        if draw(st.booleans()):
            rows.append(on(EVENTS[event], source, to, when=yes))
        rows.append(on(EVENTS[event], source, STAY if to is not STAY else names[0]))
    course = [*names, "success"] if draw(st.booleans()) else []
    table: dict[str, Any] = {"states": [*states, *ENDS], "rows": rows, "course": course}
    try:
        return Machine("drawn", version=1, initial=names[0], context=Context, **table)
    except MachineInvalid:  # a row for any state that no state is left for
        reject()
