"""From `flow.send` to durable: `python -m benchmarks.latency`.

The time from calling `flow.send` until it returns, which it does when the event is on disk, beside the time of one raw
commit of the same two statements.
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, median, ratio, run_tables, section, take_turns, workers
from .results import Latencies

EVENTS: Final = 600
QUICK_EVENTS: Final = 20
MANY: Final = 1_000
QUICK_MANY: Final = 20

RAW: Final = Contestant("one raw commit", "benchmarks.raw", "latencies", note="WAL, synchronous=FULL, one thread.")
ALONE: Final = Contestant("one flow alone", "benchmarks.driven_ours", "latencies")
AMONG: Final = Contestant(
    "one at a time, among many", "benchmarks.driven_ours", "latencies", note="the other flows are idle."
)
TOGETHER: Final = Contestant(
    "all at once, of many",
    "benchmarks.driven_ours",
    "latencies",
    arguments={"together": True},
    note="every flow is sent an event at the same time, so the last ones wait for the ones before.",
)


def table(settings: Settings) -> str:
    """p50 and p99, alone and with many flows."""
    events, many = (QUICK_EVENTS, QUICK_MANY) if settings.quick else (EVENTS, MANY)
    flows = {RAW.label: 1, ALONE.label: 1, AMONG.label: many, TOGETHER.label: many}
    counts = {TOGETHER.label: max(events, 2 * many)}
    with workers(settings) as asked:

        def ask(contestant: Contestant) -> Latencies:
            label = contestant.label
            return asked.ask(contestant, Latencies, flows=flows[label], events=counts.get(label, events))

        everybody = (RAW, ALONE, AMONG, TOGETHER)
        taken = take_turns(everybody, settings.rounds, ask, warm=True)
    rows: list[list[str]] = []
    for each in (ALONE, AMONG, TOGETHER):
        row = [f"{each.label} (flows: {flows[each.label]:,})"]
        for part in ("p50", "p99"):
            ours, raw = (median(getattr(latencies, part) for latencies in taken[who.label]) for who in (each, RAW))
            row += [f"{ours * 1e6:,.0f}", f"{raw * 1e6:,.0f}", ratio(ours, raw)]
        rows.append([*row, f"{counts.get(each.label, events):,}"])
    title = f"From `flow.send` to durable, µs (medians of {settings.rounds} rounds; lower is better)"
    head = ["ours", "p50", "raw p50", "ours ÷ raw", "p99", "raw p99", "ours ÷ raw", "events per round"]
    return section(title, head, rows, everybody)


if __name__ == "__main__":
    run_tables([table])
