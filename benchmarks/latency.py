"""From `flow.send` to durable: `python -m benchmarks.latency`.

The time from calling `flow.send` until it returns, which it does when the event is on disk, beside the time of one raw
commit of the same two statements.
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, markdown, median, notes, ratio, run_tables, take_turns, workers
from .results import Latencies

EVENTS: Final = 600
QUICK_EVENTS: Final = 20
MANY: Final = 1_000
QUICK_MANY: Final = 20

RAW: Final = Contestant("one raw commit", "benchmarks.raw", "latencies", note="WAL, synchronous=FULL, one thread.")
ALONE: Final = Contestant("one flow alone", "benchmarks.ours", "latencies")
AMONG: Final = Contestant(
    "one at a time, among many", "benchmarks.ours", "latencies", note="the other flows stand and wait."
)
TOGETHER: Final = Contestant(
    "all at once, of many",
    "benchmarks.ours",
    "latencies",
    arguments={"together": True},
    note="every flow is sent an event at the same moment, so the last ones wait for all before them.",
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
        for contestant in everybody:
            ask(contestant)  # warm
        taken = take_turns(everybody, settings.rounds, ask)
    p50 = {label: median(each.p50 for each in rounds) for label, rounds in taken.items()}
    p99 = {label: median(each.p99 for each in rounds) for label, rounds in taken.items()}
    rows = [
        [
            f"{each.label} (flows: {flows[each.label]:,})",
            f"{p50[each.label] * 1e6:,.0f}",
            f"{p50[RAW.label] * 1e6:,.0f}",
            ratio(p50[each.label], p50[RAW.label]),
            f"{p99[each.label] * 1e6:,.0f}",
            f"{p99[RAW.label] * 1e6:,.0f}",
            ratio(p99[each.label], p99[RAW.label]),
            f"{counts.get(each.label, events):,}",
        ]
        for each in (ALONE, AMONG, TOGETHER)
    ]
    head = ["ours", "p50", "raw p50", "ours ÷ raw", "p99", "raw p99", "ours ÷ raw", "events a round"]
    return "\n\n".join(
        [
            f"## From `flow.send` to durable, µs (medians of {settings.rounds} rounds; lower is better)",
            markdown(head, rows),
            notes(everybody),
        ]
    )


if __name__ == "__main__":
    run_tables([table])
