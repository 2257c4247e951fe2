"""How much of an answer is read: everything that comes back is untrusted, and a body may never end.

Bodies are asked for as `identity`, because they are small. One that a proxy has compressed all the same is decompressed
within the same bound (`inflating.py`), an event stream as it comes; a compression that is not known is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

import httpx
import trio

from ...base.redaction import printable, redact
from ...base.remedies import Remedy
from ...errors import ApiError, TooLarge
from .answers import request_id
from .broken import broken
from .inflating import Damaged, Inflater, Overlong, codings, inflate

_READ_OF_AN_ERROR: Final = 64 * 1024
_COMPRESSED: Final = "A proxy between here and the API compresses answers; check the API's URL and the proxy."


async def unwind(chunks: AsyncIterator[bytes]) -> None:
    """Finish a half-read body's chain of asynchronous generators.

    httpx nests five of them. Closing the outermost abandons the others to the garbage collector, which trio warns
    about, rightly. A cancelled read unwinds all of them instead, from the innermost on.
    """
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        with suppress(StopAsyncIteration, *broken()):
            while True:
                await anext(chunks)


async def read_body(response: httpx.Response, limit: int, where: str) -> bytes:
    """Read the body of a 2xx answer.

    Args:
        response: Open and streaming.
        limit: Bytes; more are an error.
        where: The request in words.

    Raises:
        TooLarge: The body is over the limit, as it came or decompressed; no more than that and one chunk was read.
        ApiError: It is compressed in a way that is not known, or damaged.
        httpx.TransportError, H2Error: The connection broke, or the body was cut off; for the caller to translate.
    """
    applied = codings(response.headers.get("content-encoding", ""))
    if applied is None:
        raise _encoded(response, where)
    announced = response.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and len(announced) < 20 and int(announced) > limit:
        raise TooLarge(f"{where} answered with {int(announced)} bytes; at most {limit} are read")
    body = await _read_up_to(response, limit)
    if len(body) > limit:
        raise TooLarge(f"{where} answered with more than {limit} bytes; at most {limit} are read")
    try:
        return inflate(bytes(body), applied, limit)
    except Overlong as exc:
        raise TooLarge(f"{where} answered with more than {limit} bytes, compressed; at most {limit} are read") from exc
    except Damaged as exc:
        raise ApiError(
            f"{where} answered with a compressed body that cannot be read: {exc}",
            request_id=request_id(response),
            hint=_COMPRESSED,
            remedy=Remedy("check_compression"),
        ) from exc


async def read_error(response: httpx.Response) -> bytes:
    """Read what there is, up to 64 KiB, of the body of an error: the status counts, the body only explains."""
    with suppress(*broken()):
        body = bytes(await _read_up_to(response, _READ_OF_AN_ERROR))
        try:
            return inflate(body, codings(response.headers.get("content-encoding", "")) or [], _READ_OF_AN_ERROR)
        except Damaged as exc:
            return exc.beginning
        except Overlong:
            return b""
    return b""


async def _read_up_to(response: httpx.Response, limit: int) -> bytearray:
    """Read until the end or until more than `limit` bytes are there."""
    body = bytearray()
    chunks = aiter(response.aiter_raw())
    try:
        while len(body) <= limit:
            try:
                body += await anext(chunks)
            except StopAsyncIteration:
                break
    finally:
        await unwind(chunks)
    return body


def inflater_of(response: httpx.Response, where: str) -> Inflater | None:
    """What decompresses a stream; None where it is sent as it is.

    Raises:
        ApiError: It is compressed in a way that is not known, or twice.
    """
    applied = codings(response.headers.get("content-encoding", ""))
    if applied is None or len(applied) > 1:
        raise _encoded(response, where)
    return Inflater(applied[0]) if applied else None


def _encoded(response: httpx.Response, where: str) -> ApiError:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return ApiError(
        f"{where} answered with a body encoded as {redact(printable(encoding))[:40]!r}, which was not asked for",
        request_id=request_id(response),
        hint=_COMPRESSED,
        remedy=Remedy("check_compression"),
    )
