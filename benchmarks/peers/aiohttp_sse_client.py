"""aiohttp-sse-client, reading an aiohttp `StreamReader` that has the chunks in it: no socket, no HTTP."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from ..decoders import make_body, timed
from ..results import Seconds


def decode(size: int, chunk: int, line: bool) -> Seconds:
    """How long it takes for the body; it has no end of its own, so it is asked for as many events as there are."""
    client: Any = importlib.import_module("aiohttp_sse_client.client")
    aiohttp: Any = importlib.import_module("aiohttp")
    wanted = make_body(size, line).events

    async def read(pieces: Iterator[bytes]) -> int:
        def nothing(**_options: object) -> None: ...

        calm = SimpleNamespace(_reading_paused=False, pause_reading=nothing, resume_reading=nothing)
        reader = aiohttp.StreamReader(calm, 2**26, loop=asyncio.get_running_loop())
        for piece in pieces:
            reader.feed_data(piece)
        reader.feed_eof()
        source = client.EventSource("http://localhost/", session=SimpleNamespace())
        source._response = SimpleNamespace(status=200, content=reader)
        for _ in range(wanted):
            await anext(source)
        return wanted

    return timed(size, chunk, line, lambda pieces: asyncio.run(read(pieces)))
