"""Memory of an idle flow: `python -m benchmarks.memory`.

How much the resident set of a fresh process grows when idle flows are started, divided by their number. Every round is
a fresh process. Linux only.
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, compared, median, present, run_tables, section, take_turns, workers
from .results import Bytes

FLOWS: Final = 10_000
QUICK_FLOWS: Final = 200

OURS: Final = Contestant("ours", "benchmarks.ours", "idle_bytes", note="each driven, its state's nursery open.")
OTHERS: Final = (
    Contestant(
        "two bare trio tasks",
        "benchmarks.ours",
        "bare_task_bytes",
        note="one in the nursery of the other, both asleep: the lower bound for a flow with a nursery.",
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
            grown = asked.ask_once(contestant, Bytes, flows=counts.get(contestant.label, flows))
            return grown.size / grown.count / 1000

        taken = take_turns(everybody, settings.rounds, ask)
    ours = median(taken[OURS.label])
    rows: list[list[str]] = []
    for peer in everybody[1:]:
        own, *figures = compared(ours, taken[peer.label], ",.1f")
        rows.append([f"{peer.label}, {counts.get(peer.label, flows):,} flows", f"{own} ({flows:,} flows)", *figures])
    title = f"Memory of an idle flow, KB of 1,000 bytes (medians of {settings.rounds} processes; lower is better)"
    head = ["peer", "ours", "peer's", "ours ÷ peer", "peer's min to max round"]
    return section(title, head, rows, (OURS, *OTHERS))


if __name__ == "__main__":
    run_tables([table])
