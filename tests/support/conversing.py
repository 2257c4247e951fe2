"""A connection of the loopback server over a stream in memory: what is sent, and what comes back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

import trio
import trio.testing
from systemprompt_cloud.io.loopback.exchange import (
    Connection,
    Idleness,
    Request,
    Serve,
    ShortAnswer,
    answering,
)

KEPT = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /two HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def echo(request: Request) -> ShortAnswer:
    """What was asked for."""
    return ShortAnswer(200, {}, f"{request.method} {request.target}".encode())


ECHO = answering(echo)


async def converse(serve: Serve, pieces: Sequence[bytes], *, hang_up: bool = True) -> bytes:
    """Send pieces, each once the last one has been dealt with; everything that comes back, without the dates."""
    ours, theirs = trio.testing.memory_stream_pair()
    got = b""

    async def connection() -> None:
        async with theirs:
            await Connection(theirs, serve, Idleness()).run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for piece in pieces:
                await ours.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
            if hang_up:
                await ours.send_eof()
        async for chunk in ours:
            got += bytes(chunk)
    return re.sub(rb"date: [^\r]*\r\n", b"", got)


def statuses(answers: bytes) -> list[int]:
    """The statuses of several answers."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers)]
