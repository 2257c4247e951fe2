"""The streams to decode, and our decoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

from systemprompt_cloud.io.sse.decoder import EventDecoder

from .results import Seconds

EVENT_BYTES: Final = 200
LINE_BYTES: Final = 5_000_000


class Body(NamedTuple):
    """The bytes of a stream, and how many events are in them."""

    data: bytes
    events: int


@cache
def make_body(size: int, line: bool) -> Body:
    """Events of 200 bytes each, with a name, an id and JSON for data; or one line of data of 5 MB after the other."""
    if line:
        count = max(size // LINE_BYTES, 1)
        return Body((b"data: " + b"x" * min(LINE_BYTES, size) + b"\n\n") * count, count)
    count = size // EVENT_BYTES
    parts: list[bytes] = []
    for number in range(count):
        head = b'event: provisioning\nid: %d\ndata: {"event_type":"vm_provisioning_progress","message":"' % number
        parts.append(head + b"m" * (EVENT_BYTES - len(head) - 4) + b'"}\n\n')
    return Body(b"".join(parts), count)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """The bytes in pieces, as a socket gives them."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def timed(size: int, chunk: int, line: bool, decode: Callable[[Iterator[bytes]], int]) -> Seconds:
    """Measure a decoder on a body. Raises `ValueError` when it does not find every event."""
    body = make_body(size, line)
    pieces = list(chunks(body.data, chunk))
    started = time.perf_counter()
    found = decode(iter(pieces))
    taken = time.perf_counter() - started
    if found != body.events:
        raise ValueError(f"found {found} events instead of {body.events}")
    return Seconds(taken)


def ours(size: int, chunk: int, line: bool) -> Seconds:
    """`EventDecoder`."""

    def decode(pieces: Iterator[bytes]) -> int:
        decoder = EventDecoder()
        return sum(len(decoder.feed(piece)) for piece in pieces)

    return timed(size, chunk, line, decode)


def bare(size: int, chunk: int, line: bool) -> Seconds:
    """Decode and split at empty lines, ignoring the rest of the format: the lower bound in Python."""

    def decode(pieces: Iterator[bytes]) -> int:
        rest: list[bytes] = []
        count = 0
        for piece in pieces:
            end = piece.rfind(b"\n\n") + 2
            if end == 1:
                rest.append(piece)
                continue
            rest.append(piece[:end])
            count += len(b"".join(rest).decode().split("\n\n")) - 1
            rest = [piece[end:]]
        return count

    return timed(size, chunk, line, decode)
