"""Many event streams at once: `python -m benchmarks.many_streams`.

One provisioning flow per stream, whose events count when they are durable, against one httpx client that reads the same
streams and discards them. The server is a third process with plain sockets. With two cores it has one of them nearly to
itself, so the reader is the bottleneck if `CPU s` is close to `wall s`.
"""

from __future__ import annotations

from typing import Final

from .measure import (
    Contestant,
    Settings,
    Workers,
    markdown,
    median,
    ratio,
    run_tables,
    section,
    spread,
    take_turns,
    workers,
)
from .results import Bytes
from .streams_ours import Streamed

STREAMS: Final = 1_000
QUICK_STREAMS: Final = 20
EVERY: Final = 1.0
QUICK_EVERY: Final = 0.05

DELAYS: Final = (
    "Delays: from written by the server to durable (ours) or read (the loop). Counted are the events written when all "
    "streams were open, or all events when they are sent at once."
)

OURS: Final = Contestant(
    "ours", "benchmarks.streams_ours", "flows", note="provisioning flows until the tenant is ready, all else as it is."
)
BARE: Final = Contestant(
    "a bare httpx loop", "benchmarks.streams_ours", "bare", note="one client, a task for each stream, no decoder."
)
OUR_BYTES: Final = Contestant("ours", "benchmarks.streams_ours", "flow_bytes")
BARE_BYTES: Final = Contestant("a bare httpx loop", "benchmarks.streams_ours", "bare_bytes")


def table(settings: Settings) -> str:
    """Wall time, delays and memory."""
    streams, every = (QUICK_STREAMS, QUICK_EVERY) if settings.quick else (STREAMS, EVERY)
    with workers(settings) as asked:
        rows = [
            _row(settings, asked, f"{streams:,} streams, ten events at once each", streams, 0.0),
            _row(settings, asked, f"{streams:,} streams, an event every {every:g} s each", streams, every),
        ]

        def ask(contestant: Contestant) -> float:
            grown = asked.ask_once(contestant, Bytes, count=streams)
            return grown.size / grown.count / 1000

        held = take_turns((OUR_BYTES, BARE_BYTES), settings.rounds, ask)
    ours, bare = median(held[OUR_BYTES.label]), median(held[BARE_BYTES.label])
    memory = [f"{streams:,} streams, open and idle", f"{ours:,.1f}", f"{bare:,.1f}", f"{ours - bare:,.1f}"]
    head = ["streams", "ours, wall s", "CPU s", "bare loop, wall s", "CPU s", "ours ÷ bare", "our spread"]
    head += ["our delay p50, ms", "p99, ms", "p99 ÷ p50", "bare p50, ms", "p99, ms"]
    title = f"Many event streams (medians of {settings.rounds} rounds; lower is better)"
    memory_head = [
        "memory of a flow and its stream, KB of 1,000 bytes",
        "ours",
        "bare loop",
        "ours - bare",
        "ours ÷ bare",
    ]
    held_table = markdown(memory_head, [[*memory, ratio(ours, bare)]])
    return section(title, head, rows, (OURS, BARE)) + f"\n\n{DELAYS}\n\n{held_table}"


def _row(settings: Settings, asked: Workers, title: str, streams: int, every: float) -> list[str]:
    def ask(contestant: Contestant) -> Streamed:
        return asked.ask(contestant, Streamed, count=streams, every=every)

    taken = take_turns((OURS, BARE), settings.rounds, ask)
    ours, bare = taken[OURS.label], taken[BARE.label]
    wall = median(each.seconds for each in ours)
    p50, p99 = median(each.delays.p50 for each in ours), median(each.delays.p99 for each in ours)
    return [
        title,
        f"{wall:,.2f}",
        f"{median(each.cpu for each in ours):,.2f}",
        f"{median(each.seconds for each in bare):,.2f}",
        f"{median(each.cpu for each in bare):,.2f}",
        ratio(wall, median(each.seconds for each in bare)),
        spread([each.seconds for each in ours]),
        f"{p50 * 1e3:,.1f}",
        f"{p99 * 1e3:,.1f}",
        ratio(p99, p50),
        f"{median(each.delays.p50 for each in bare) * 1e3:,.1f}",
        f"{median(each.delays.p99 for each in bare) * 1e3:,.1f}",
    ]


if __name__ == "__main__":
    run_tables([table])
