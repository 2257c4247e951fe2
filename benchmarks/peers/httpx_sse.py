"""httpx-sse's decoders, driven as its `aiter_sse` drives them: bytes to text, text to lines, lines to events."""

from __future__ import annotations

import codecs
import importlib
from collections.abc import Iterator
from typing import Any

from ..decoders import timed
from ..results import Seconds


def decode(size: int, chunk: int, line: bool) -> Seconds:
    """How long it takes for the body."""
    decoders: Any = importlib.import_module("httpx_sse._decoders")

    def run(pieces: Iterator[bytes]) -> int:
        text, lines, events = codecs.getincrementaldecoder("utf-8")(), decoders.SSELineDecoder(), decoders.SSEDecoder()
        count = 0
        for piece in pieces:
            for each in lines.decode(text.decode(piece)):
                if events.decode(each) is not None:
                    count += 1
        return count

    return timed(size, chunk, line, run)
