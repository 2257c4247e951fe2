"""sseclient-py, given the chunks as its source."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from ..decoders import timed
from ..results import Seconds


def decode(size: int, chunk: int, line: bool) -> Seconds:
    """How long it takes for the body."""
    module: Any = importlib.import_module("sseclient")

    def run(pieces: Iterator[bytes]) -> int:
        return sum(1 for _ in module.SSEClient(pieces).events())

    return timed(size, chunk, line, run)
