"""Commands on a store of many flows: `python -m benchmarks.many`.

Listing the newest twenty flows, and resuming an unfinished one, in a store with 100,000 finished flows. A figure is the
time of a command after its imports, including opening the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .measure import Contestant, Settings, median, present, ratio, run_tables, section, spread, take_turns, workers
from .results import Filled, Seconds

FLOWS: Final = 100_000
QUICK_FLOWS: Final = 500

LIST: Final = Contestant("ours: list", "benchmarks.ours", "newest", note="opens the journal, reads the newest twenty.")
RESUME: Final = Contestant(
    "ours: resume",
    "benchmarks.ours",
    "resumed",
    note="opens an engine, claims the flow, records `resumed` durably, begins to drive it.",
)
RAW_LIST: Final = Contestant("raw SQLite: list", "benchmarks.raw", "newest", note="opens the same file, one SELECT.")
RAW_RESUME: Final = Contestant(
    "raw SQLite: resume", "benchmarks.raw", "resumed", note="opens the same file, selects the flow, two commits."
)
HAREL_LIST: Final = Contestant(
    "harel: list",
    "benchmarks.peers.harel",
    "newest",
    needs=("harel",),
    note="`SqliteStore.list_executions(limit=20)`, in its own order.",
)
HAREL_RESUME: Final = Contestant(
    "harel: resume",
    "benchmarks.peers.harel",
    "resumed",
    needs=("harel",),
    note="`DurableRunner.process` of one event: harel has no step for resuming a flow.",
)
EVERYBODY: Final = (LIST, RESUME, RAW_LIST, RAW_RESUME, HAREL_LIST, HAREL_RESUME)
PAIRS: Final = ((LIST, RAW_LIST), (LIST, HAREL_LIST), (RESUME, RAW_RESUME), (RESUME, HAREL_RESUME))


def table(settings: Settings) -> str:
    """Milliseconds to list and to resume."""
    flows = QUICK_FLOWS if settings.quick else FLOWS
    everybody = present(EVERYBODY)
    homes = {"benchmarks.ours": settings.directory / "ours", "benchmarks.peers.harel": settings.directory / "harel"}
    homes["benchmarks.raw"] = homes["benchmarks.ours"]
    with workers(settings) as asked:

        def fill(module: str, home: Path) -> str:
            filler = Contestant(f"filling {home.name}", module, "fill")
            home.mkdir()
            return asked.ask_once(filler, Filled, home=str(home), flows=flows).flow

        modules = dict.fromkeys(each.module for each in everybody if each.module != "benchmarks.raw")
        unfinished = {module: fill(module, homes[module]) for module in modules}
        unfinished["benchmarks.raw"] = unfinished["benchmarks.ours"]

        def ask(contestant: Contestant) -> float:
            module = contestant.module
            answer = asked.ask(contestant, Seconds, home=str(homes[module]), flow=unfinished[module])
            return answer.seconds * 1e3

        taken = take_turns(everybody, settings.rounds * 3, ask, warm=True)
    rows = [
        [
            f"{ours.label.removeprefix('ours: ')}, {peer.label.split(':')[0]}",
            f"{median(taken[ours.label]):,.2f}",
            f"{median(taken[peer.label]):,.2f}",
            ratio(median(taken[ours.label]), median(taken[peer.label])),
            spread(taken[ours.label]),
        ]
        for ours, peer in PAIRS
        if peer.label in taken
    ]
    title = f"Among {flows:,} finished flows, ms (medians of {settings.rounds * 3} rounds; lower is better)"
    head = ["command, peer", "ours", "peer's", "ours ÷ peer", "our min to max round"]
    return section(title, head, rows, EVERYBODY)


if __name__ == "__main__":
    run_tables([table])
