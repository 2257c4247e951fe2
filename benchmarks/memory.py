"""Memory of an idle flow: `python -m benchmarks.memory`.

How much the resident set of a fresh process grows when flows are started that then stand in a state and wait, divided
by their number. Every round is a process of its own. Linux only.
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
from .results import Bytes

FLOWS: Final = 10_000
QUICK_FLOWS: Final = 200

OURS: Final = Contestant("ours", "benchmarks.ours", "idle_bytes", note="each driven, its state's nursery open.")
OTHERS: Final = (
    Contestant(
        "two bare trio tasks",
        "benchmarks.ours",
        "bare_task_bytes",
        note="one in the nursery of the other, both asleep: what a flow that is a nursery cannot go below.",
    ),
    Contestant(
        "python-statemachine",
        "benchmarks.peers.statemachine",
        "idle_bytes",
        needs=("statemachine",),
        note="an instance that exists; nothing runs in it.",
    ),
    Contestant(
        "DBOS",
        "benchmarks.peers.dbos",
        "idle_bytes",
        needs=("dbos",),
        note="an asynchronous workflow that waits in memory; a tenth of the flows, since each start is a commit.",
    ),
)


def table(settings: Settings) -> str:
    """Bytes for each idle flow."""
    flows = QUICK_FLOWS if settings.quick else FLOWS
    counts = {"DBOS": flows // 10}
    everybody = [OURS, *present(OTHERS)]
    with workers(settings) as asked:

        def ask(contestant: Contestant) -> float:
            grown = asked.ask(contestant, Bytes, flows=counts.get(contestant.label, flows))
            asked.stop(contestant.label)  # what one round left behind would be there for the next one to use
            return grown.size / grown.count

        taken = take_turns(everybody, settings.rounds, ask)
    ours = median(taken[OURS.label])
    rows = [
        [
            f"{peer.label}, {counts.get(peer.label, flows):,} flows",
            f"{ours / 1000:,.1f} ({flows:,} flows)",
            f"{median(taken[peer.label]) / 1000:,.1f}",
            ratio(ours, median(taken[peer.label])),
            spread(taken[peer.label]),
        ]
        for peer in everybody[1:]
    ]
    return "\n\n".join(
        [
            f"## Memory of an idle flow, KB of 1,000 bytes (medians of {settings.rounds} processes; lower is better)",
            markdown(["peer", "ours", "peer's", "ours ÷ peer", "peer's smallest to largest round"], rows),
            notes((OURS, *OTHERS)) + absent(OTHERS),
        ]
    )


if __name__ == "__main__":
    run_tables([table])
