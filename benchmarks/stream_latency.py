"""From bytes on the socket to a durable transition: `python -m benchmarks.stream_latency`.

A server in another process puts the time of writing into each event; the event counts when its transition is on disk.
The baseline is an httpx loop that only reads the bytes. There are few streams, so that they do not wait for each other.
"""

from __future__ import annotations

from typing import Final

from .measure import Contestant, Settings, median, ratio, run_tables, section, take_turns, workers
from .streams_ours import Streamed

STREAMS: Final = 40
QUICK_STREAMS: Final = 4
EVERY: Final = 0.2
QUICK_EVERY: Final = 0.02

OURS: Final = Contestant(
    "ours", "benchmarks.streams_ours", "flows", note="decoded, stepped, committed with an fsync, published."
)
BARE: Final = Contestant("a bare httpx loop", "benchmarks.streams_ours", "bare", note="only reads.")


def table(settings: Settings) -> str:
    """p50 and p99."""
    streams, every = (QUICK_STREAMS, QUICK_EVERY) if settings.quick else (STREAMS, EVERY)
    with workers(settings) as asked:

        def ask(contestant: Contestant) -> Streamed:
            return asked.ask(contestant, Streamed, count=streams, every=every)

        taken = take_turns((OURS, BARE), settings.rounds, ask)
    row = [f"a bare httpx loop, {streams} streams"]
    for part in ("p50", "p99"):
        ours, bare = (median(getattr(each.delays, part) for each in taken[who.label]) for who in (OURS, BARE))
        row += [f"{ours * 1e3:,.2f}", f"{bare * 1e3:,.2f}", ratio(ours, bare)]
    title = f"From bytes on the socket to durable, ms (medians of {settings.rounds} rounds; lower is better)"
    head = ["peer", "ours p50", "peer's p50", "ours ÷ peer", "ours p99", "peer's p99", "ours ÷ peer"]
    return section(title, head, [row], (OURS, BARE))


if __name__ == "__main__":
    run_tables([table])
