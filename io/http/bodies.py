"""A request's body that may be left half-sent.

httpx reads even the empty body of a GET from an asynchronous generator. A request that is cancelled while it is being
written leaves that generator unfinished, and trio, which collects nobody's generators, warns about each
(`ResourceWarning`). Flows are cancelled all the time, so their requests carry a body that is no generator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import trio
from typing_extensions import override


class WholeBody(httpx.AsyncByteStream):
    """Bytes, given in one piece, as often as they are asked for.

    Args:
        content: All of it.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._content)


class _Once(AsyncIterator[bytes]):
    def __init__(self, content: bytes) -> None:
        self._left: bytes | None = content

    @override
    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._left is None:
            raise StopAsyncIteration
        left, self._left = self._left, None
        return left


def may_be_left(request: httpx.Request) -> httpx.Request:
    """Give a request whose body is known a body that survives being left half-sent; returns the same request."""
    request.stream = WholeBody(request.content)
    return request
