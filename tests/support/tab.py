"""A browser's tab that comes back to a callback listener, byte for byte: also with what no browser would send.

`sandbox/browser.py` is the person before it, who is always well-behaved.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio
from systemprompt_cloud.io.loopback.callback import CallbackListener, listen_for_callback
from systemprompt_cloud.io.loopback.pages import success_page

NONCE: Final = "the-right-one-of-forty-three-characters-xyz"
DONE: Final = success_page("Done", "It worked.")


async def exchange(port: int, data: bytes) -> bytes:
    """Send raw bytes, hang up our half, return everything until the server closes."""
    got = b""
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(data)
                await stream.send_eof()
                async for chunk in stream:
                    got += bytes(chunk)
            except trio.BrokenResourceError:
                pass  # a reset after an oversized request; what came before it is what counts
    return got


def request(
    port: int, target: str = f"/callback?state={NONCE}&access_token=t", method: str = "GET", *headers: str
) -> bytes:
    """One well-formed request; a Host among the headers replaces the right one."""
    lines = [*headers, "Connection: close"]
    if not any(line.lower().startswith("host:") for line in lines):
        lines.insert(0, f"Host: 127.0.0.1:{port}")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


def status_of(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


async def ask(listener: CallbackListener, answers: list[bytes], data: bytes | None = None) -> None:
    """Come back with a good callback, or with these bytes, and note what the browser is told."""
    answers.append(await exchange(listener.port, data or request(listener.port)))


@asynccontextmanager
async def still_waiting(nonce: str | None = NONCE) -> AsyncGenerator[CallbackListener]:
    """A listener that must still take a good callback after whatever is done to it inside."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=nonce) as listener, trio.open_nursery() as nursery:
        yield listener
        nursery.start_soon(ask, listener, answers)
        with trio.fail_after(5):
            hit = await listener.wait_hit()
        assert hit.params == {"access_token": "t"}
        hit.accept(DONE)
    assert status_of(answers[0]) == 200
