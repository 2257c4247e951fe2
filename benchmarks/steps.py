"""The cost of a step: `python -m benchmarks.steps`.

Ours is a pure function: it takes a state, a context and an event, and returns a new state and context. The others
change an object. All step through the same table of ten states, once without an update, and once with a counter (ours
makes a new frozen context for it, the others change an attribute).
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, compared, median, present, run_tables, section, take_turns, workers
from .results import Seconds

COUNT: Final = 20_000
QUICK_COUNT: Final = 500

OURS: Final = Contestant("ours", "benchmarks.steps_table", "steps", note="`Machine.step`.")
PEERS: Final = (
    Contestant(
        "transitions",
        "benchmarks.peers.transitions",
        "steps",
        needs=("transitions",),
        note="the trigger called as a method of the one model.",
    ),
    Contestant(
        "python-statemachine",
        "benchmarks.peers.statemachine",
        "steps",
        needs=("statemachine",),
        note="the event called as a method of the one instance.",
    ),
    Contestant("Automat", "benchmarks.peers.automat", "steps", needs=("automat",), note="`TypeMachineBuilder`."),
)


def table(settings: Settings) -> str:
    """Microseconds a step."""
    rows: list[list[str]] = []
    count = QUICK_COUNT if settings.quick else COUNT
    everybody = [OURS, *present(PEERS)]
    with workers(settings) as asked:
        for update in (False, True):

            def ask(contestant: Contestant, update: bool = update) -> float:
                return asked.ask(contestant, Seconds, count=count, update=update).seconds / count * 1e6

            taken = take_turns(everybody, settings.rounds, ask, warm=True)
            ours = median(taken[OURS.label])
            named = "with an update" if update else "without an update"
            rows += [[f"{peer.label}, {named}", *compared(ours, taken[peer.label])] for peer in everybody[1:]]
    title = f"Cost of a step, µs (medians of {settings.rounds} rounds of {count:,} steps; lower is better)"
    head = ["peer", "ours", "peer's", "ours ÷ peer", "peer's min to max round"]
    return section(title, head, rows, (OURS, *PEERS))


if __name__ == "__main__":
    run_tables([table])
