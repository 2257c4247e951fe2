"""Decoding event streams: `python -m benchmarks.decoding`.

The same bytes, in memory and cut into the same chunks, through each decoder: no socket and no HTTP is in these figures.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .decoders import make_body
from .measure import (
    Contestant,
    ContestantFailed,
    Settings,
    Workers,
    median,
    present,
    ratio,
    run_tables,
    section,
    spread,
    take_turns,
    workers,
)
from .peers import eventsource_parser
from .results import Seconds

SIZE: Final = 50_000_000
QUICK_SIZE: Final = 400_000


class Shape(NamedTuple):
    """A stream to decode: lines of 5 MB or events of 200 bytes, in chunks of `chunk` bytes; `part` divides the size."""

    title: str
    chunk: int
    line: bool
    part: int = 1


SHAPES: Final = (
    Shape("200-byte events, 64 KiB chunks", 65_536, line=False),
    Shape("200-byte events, 1 KiB chunks", 1_024, line=False, part=5),
    Shape("5 MB lines, 64 KiB chunks", 65_536, line=True),
    Shape("5 MB lines, 1 KiB chunks", 1_024, line=True, part=5),
)

OURS: Final = Contestant("ours", "benchmarks.decoders", "ours", note="`EventDecoder`.")
OTHERS: Final = (
    Contestant(
        "httpx-sse",
        "benchmarks.peers.httpx_sse",
        "decode",
        needs=("httpx_sse",),
        note="its line decoder and event decoder behind an incremental UTF-8 decoder, as `aiter_sse` puts them.",
    ),
    Contestant(
        "aiohttp-sse-client",
        "benchmarks.peers.aiohttp_sse_client",
        "decode",
        needs=("aiohttp_sse_client",),
        note="over an aiohttp `StreamReader` that has all the chunks.",
    ),
    Contestant("sseclient-py", "benchmarks.peers.sseclient_py", "decode", needs=("sseclient",)),
    Contestant(
        "split and decode",
        "benchmarks.decoders",
        "bare",
        note="splits at empty lines and ignores the rest of the format: not a decoder.",
    ),
)
NODE: Final = Contestant(
    "eventsource-parser (node)",
    "benchmarks.peers.eventsource_parser",
    "decode",
    note="in JavaScript, its second run of two in one process.",
)
FAILED: Final = ("failed", "", "", "")


def table(settings: Settings) -> str:
    """MB/s and events/s of each decoder for each shape."""
    with workers(settings) as asked:
        rows = [row for shape in SHAPES for row in _rows(settings, asked, shape)]
    title = f"Decoding event streams (medians of {settings.rounds} rounds; higher is better)"
    head = ["stream, peer", "ours MB/s", "ours events/s", "peer MB/s", "peer events/s", "ours ÷ peer", "peer's spread"]
    missing = "" if eventsource_parser.present() else f"\n\nNot installed here: {NODE.label}."
    return section(title, head, rows, (OURS, *OTHERS, NODE)) + missing


def _rows(settings: Settings, asked: Workers, shape: Shape) -> list[list[str]]:
    size = (QUICK_SIZE if settings.quick else SIZE) // shape.part
    body = make_body(size, shape.line)
    per_event = len(body.data) / body.events

    def ask(contestant: Contestant) -> float | None:
        try:
            taken = asked.ask(contestant, Seconds, size=size, chunk=shape.chunk, line=shape.line)
        except ContestantFailed:
            return None
        return len(body.data) / taken.seconds

    def both(rates: list[float]) -> list[str]:
        return [f"{median(rates) / 1e6:,.1f}", f"{median(rates) / per_event:,.0f}"]

    everybody = [OURS, *present(OTHERS), *([NODE] if eventsource_parser.present() else [])]
    rates = take_turns(everybody, settings.rounds, ask)
    ours, *others = ([rate for rate in rates[each.label] if rate] for each in everybody)
    return [
        [
            f"{shape.title}, {peer.label}",
            *both(ours),
            *([*both(theirs), ratio(median(ours), median(theirs)), spread(theirs)] if theirs else FAILED),
        ]
        for peer, theirs in zip(everybody[1:], others, strict=True)
    ]


if __name__ == "__main__":
    run_tables([table])
