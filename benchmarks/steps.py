"""The cost of a step: `python -m benchmarks.steps`.

Ours is pure: a state, a context and an event go in, a new state and a new context come out. The others change an
object. All step through the same table of ten states; once without anything to update, once with a number to raise by
one (ours makes a new frozen context for it, the others change an attribute).
"""

from __future__ import annotations

from typing import Final

from .measure import (
    Contestant,
    Settings,
    absent,
    markdown,
    median,
    notes,
    present,
    ratio,
    run_tables,
    spread,
    take_turns,
    workers,
)
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
            for contestant in everybody:  # warm
                asked.ask(contestant, Seconds, count=count // 10, update=update)
            taken = take_turns(
                everybody,
                settings.rounds,
                lambda each, update=update: asked.ask(each, Seconds, count=count, update=update).seconds / count * 1e6,
            )
            ours = median(taken[OURS.label])
            for peer in everybody[1:]:
                theirs = median(taken[peer.label])
                rows.append(
                    [
                        f"{peer.label}, {'with an update' if update else 'nothing to update'}",
                        f"{ours:,.2f}",
                        f"{theirs:,.2f}",
                        ratio(ours, theirs),
                        spread(taken[peer.label]),
                    ]
                )
    return "\n\n".join(
        [
            f"## Cost of a step, µs (medians of {settings.rounds} rounds of {count:,} steps; lower is better)",
            markdown(["peer", "ours", "peer's", "ours ÷ peer", "peer's fastest to slowest round"], rows),
            notes((OURS, *PEERS)) + absent(PEERS),
        ]
    )


if __name__ == "__main__":
    run_tables([table])
