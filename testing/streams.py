"""Event streams in memory, for tests in which time is moved: bodies that follow a script, a transport of answers.

On real sockets a watchdog of 30 seconds takes 30 seconds. In memory, under trio's `MockClock`, it takes none.

    transport = ScriptedTransport(events(b"data: a\\n\\n", 60.0), 204)
    async with httpx.AsyncClient(transport=transport) as client, EventSource.at(client, "https://test/") as source:
        ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import trio
from typing_extensions import override

ScriptedStep = bytes | float | Exception
"""Of a body: bytes are sent, numbers are seconds of silence, an exception is raised."""


class Script(httpx.AsyncByteStream):
    """A body that follows a script and then ends.

    Args:
        steps: What happens, in order.

    Attributes:
        closed: Whether its reader has let go of it.
    """

    def __init__(self, *steps: ScriptedStep) -> None:
        self.closed = False
        self._left = list(steps)

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Playing(self._left)

    @override
    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = True


class _Playing(AsyncIterator[bytes]):
    """Not a generator: readers leave bodies half-read, and trio warns about generators left so."""

    def __init__(self, left: list[ScriptedStep]) -> None:
        self._left = left

    @override
    async def __anext__(self) -> bytes:
        while self._left:
            step = self._left.pop(0)
            if isinstance(step, bytes):
                await trio.lowlevel.checkpoint()
                return step
            if isinstance(step, Exception):
                raise step
            await trio.sleep(step)
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration


ScriptedAnswer = httpx.Response | int | float | Exception
"""A response, the status of an empty one, what the connection fails with, or seconds until the next of these."""


def answer(status: int, *steps: ScriptedStep, headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer with a scripted body, which also stands in its `extensions["script"]`."""
    script = Script(*steps)
    return httpx.Response(status, headers=headers or {}, stream=script, extensions={"script": script})


def events(*steps: ScriptedStep, headers: dict[str, str] | None = None) -> httpx.Response:
    """A 200 answer with an event stream as its body."""
    return answer(200, *steps, headers={"Content-Type": "text/event-stream"} | (headers or {}))


class ScriptedTransport(httpx.AsyncBaseTransport):
    """Gives each request the next answer.

    Args:
        answers: In order; a request beyond them is an AssertionError.

    Attributes:
        requests: Every request, in order.
        at: When each came, by trio's clock.
    """

    def __init__(self, *answers: ScriptedAnswer) -> None:
        self.requests: list[httpx.Request] = []
        self.at: list[float] = []
        self._answers = list(answers)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        while True:
            assert self._answers, f"no answer is planned to {request.method} {request.url}"
            planned = self._answers.pop(0)
            if isinstance(planned, httpx.Response):
                return planned
            if isinstance(planned, int):
                return answer(planned)
            if isinstance(planned, Exception):
                raise planned
            await trio.sleep(planned)
