"""The decoder's time grows with the bytes and its memory does not, whatever shape they come in.

Times are this thread's processor time, compared with each other in the same run: never with a clock.
"""

from __future__ import annotations

import codecs
import tracemalloc
from collections.abc import Callable
from time import thread_time

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder  # its public face only reads responses
from systemprompt_cloud.errors import TooLarge
from systemprompt_cloud.io.sse import EventDecoder

KIB = 1024
MIB = 1024 * KIB


def fastest(*works: Callable[[], object], rounds: int = 5) -> list[float]:
    """The processor time of each, the best of several rounds in which they take turns."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for number, work in enumerate(works):
            started = thread_time()
            work()
            best[number] = min(best[number], thread_time() - started)
    return best


def feed_until_refused(decoder: EventDecoder, piece: bytes, most: int) -> None:
    for _ in range(0, most, len(piece)):
        decoder.feed(piece)


def feed_line(size: int, chunk: int) -> None:
    decoder = EventDecoder()
    decoder.feed(b"data: ")
    piece = b"x" * chunk
    for _ in range(size // chunk):
        decoder.feed(piece)
    (event,) = decoder.feed(b"\n\n")
    assert len(event.data) == size


@pytest.mark.parametrize(
    ("size", "chunk"), [(5 * MIB, KIB), (64 * KIB, 1), (256 * KIB, 7)], ids=["1 KiB", "1 byte", "7 bytes"]
)
def test_a_long_line_in_small_chunks_is_linear(size: int, chunk: int) -> None:
    """Four times the line takes about four times as long; looking again at what is there would make it sixteen."""
    quarter, whole = fastest(
        lambda: feed_line(size // 4 // chunk * chunk, chunk), lambda: feed_line(size // chunk * chunk, chunk)
    )
    assert whole < 9 * quarter


SHAPES = {
    "lines of data that never end": b"data: a\n",
    "empty lines": b"\n",
    "CR by CR": b"\r",
    "nearly the common event": b"id: 1\nevent: e\nid: 2\ndata: a\nx\n",
    "comments": b":\n",
    "ids with NULL": b"id: \0\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_stream_of_any_shape_is_linear(shape: str) -> None:
    """No input makes the regular expression, or the lines that wait for their event, go over the same bytes again."""

    def run(size: int, chunk: int) -> None:
        decoder, stream = EventDecoder(), SHAPES[shape] * (size // len(SHAPES[shape]))
        for at in range(0, len(stream), chunk):
            decoder.feed(stream[at : at + chunk])

    for chunk in (KIB, MIB):
        quarter, whole = fastest(lambda: run(16 * KIB, chunk), lambda: run(64 * KIB, chunk))  # noqa: B023 -- run here
        assert whole < 9 * quarter


@pytest.mark.parametrize("chunk", [16 * KIB, 100 * MIB], ids=["in chunks", "at once"])
def test_a_line_of_100_mb_is_refused_in_bounded_memory(chunk: int) -> None:
    """The line is given up at its bound: what is held never exceeds a small multiple of that."""
    decoder, piece = EventDecoder(max_line=MIB), b"x" * chunk
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="at most 1048576 are taken"):
            feed_until_refused(decoder, piece, 100 * MIB)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MIB
    assert held < 64 * KIB


def test_an_event_of_tiny_lines_is_refused_in_bounded_memory() -> None:
    """Lines of one character are held as their text, not as a string each."""
    decoder = EventDecoder(max_event=128 * KIB)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="event of at least"):
            feed_until_refused(decoder, b"data:x\n" * 1000, 100 * MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MIB


def test_it_is_faster_than_httpx_sse() -> None:
    """200-byte events in 64 KiB chunks: far over the aim's half, so that a busy machine does not fail this.

    The aim, four times, is measured by `make bench`.
    """
    stream = b"".join(b"id: %d\nevent: provisioning\ndata: %s\n\n" % (n, b"x" * 160) for n in range(5000))
    chunks = [stream[at : at + 64 * KIB] for at in range(0, len(stream), 64 * KIB)]

    def ours() -> None:
        decoder = EventDecoder()
        assert sum(len(decoder.feed(chunk)) for chunk in chunks) == 5000

    def theirs() -> None:
        text, lines, events = codecs.getincrementaldecoder("utf-8")("replace"), SSELineDecoder(), SSEDecoder()
        found = [events.decode(line) for chunk in chunks for line in lines.decode(text.decode(chunk))]
        assert sum(event is not None for event in found) == 5000

    mine, other = fastest(ours, theirs)
    assert other > 2 * mine
