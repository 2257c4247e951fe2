"""The decoder's time grows with the bytes and its memory does not, whatever shape they come in.

Times are this thread's processor time, compared with each other in the same run: never with a clock. Sixteen times the
bytes cost sixteen times as much where the time grows with them, and 256 times as much where it grows with their square;
what tells the two apart is four times away from both, so that a busy machine does not.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from time import thread_time

import pytest
from systemprompt_cloud.errors import TooLarge
from systemprompt_cloud.io.sse.decoder import EventDecoder

KIB = 1024
MIB = 1024 * KIB
TIMES = 16
BOUND = 64


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
    """What is there of it already is not looked at again with every chunk."""
    part, whole = fastest(
        lambda: feed_line(size // TIMES // chunk * chunk, chunk), lambda: feed_line(size // chunk * chunk, chunk)
    )
    assert whole < BOUND * part


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
        part, whole = fastest(partial(run, 16 * KIB, chunk), partial(run, TIMES * 16 * KIB, chunk))
        assert whole < BOUND * part


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
