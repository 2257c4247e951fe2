"""Plans made by hypothesis, which shrinks a failing one by itself."""

from __future__ import annotations

from typing import Final, get_args

from hypothesis import strategies as st

from .plan import (
    CALLS,
    EVENTS,
    FOREVER,
    HABITS,
    KINDS,
    MACHINES,
    ORDERS,
    QUIET,
    SHORT,
    WRITES,
    Burst,
    Kind,
    Latency,
    Operation,
    Plan,
    Start,
)

MOST_PROCESSES: Final = 3
DELAYS: Final = st.integers(0, 8)
WHAT: Final[dict[Kind, st.SearchStrategy[str]]] = {
    "send": st.sampled_from(EVENTS),
    "order": st.sampled_from(ORDERS),
    "fail_writes": st.sampled_from(WRITES),
    "close": st.sampled_from(("", "abruptly")),
    "resume": st.sampled_from(("person", "handover")),
}


def starts() -> st.SearchStrategy[Start]:
    """Ways to start a flow."""
    return st.builds(
        Start,
        machine=st.sampled_from(MACHINES),
        habit=st.sampled_from(HABITS),
        key=st.sampled_from((None, "one", "two")),
        secret=st.booleans(),
        patience=st.sampled_from((FOREVER, SHORT, 0.3)),
        after_end=st.sampled_from(("again", "return")),
    )


@st.composite
def operations(draw: st.DrawFn, kind: Kind | None = None) -> Operation:
    """An operation, of one kind or of any."""
    chosen: Kind = draw(st.sampled_from(list(KINDS))) if kind is None else kind
    return Operation(
        chosen,
        process=draw(st.integers(0, MOST_PROCESSES - 1)),
        flow=draw(st.integers(0, 7)),
        after=draw(DELAYS),
        timeout=draw(st.none() | DELAYS) if chosen in CALLS else None,
        what=draw(WHAT[chosen]) if chosen in WHAT else "",
        times=draw(st.integers(-2 if chosen == "set_clock" else 0, 5)) if chosen not in CALLS else 0,
    )


def bursts(kind: Kind | None = None) -> st.SearchStrategy[Burst]:
    """Operations that run at the same time."""
    several = st.lists(operations(kind), min_size=1, max_size=4).map(tuple)
    return st.builds(Burst, operations=several, gap=st.integers(QUIET, 12))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Histories: some flows are started, then anything happens."""
    first = draw(bursts("start"))
    return Plan(
        seed=draw(st.integers(0, 2**16)),
        processes=draw(st.integers(1, MOST_PROCESSES)),
        latency=draw(st.sampled_from(get_args(Latency))),
        starts=tuple(draw(st.lists(starts(), min_size=1, max_size=4))),
        bursts=(first, *draw(st.lists(bursts(), max_size=6))),
    )
