"""Decompress a body that was read whole, never to more than its bound, or a stream, a piece at a time.

Compressed answers are not asked for, and some proxies compress all the same (RFC 9110 section 8.4). A few bytes may
stand for gigabytes, so what comes out is counted while it comes out, and nothing over the bound is in memory. Known
are `gzip` and `deflate`, also one inside the other; `deflate` is taken with its zlib header, as the RFC has it, and
without, as some servers send it.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS

_MEMBERS: Final = 64
"""Parts of a gzip body (RFC 1952 section 2.2): each is begun anew, which thousands of empty ones would abuse."""

PIECE: Final = 64 * 1024
"""Bytes of a stream that are decompressed at once."""

_CODINGS: Final = 2
"""Codings one inside the other."""


class Overlong(Exception):
    """There is more in it than the bound."""


class Damaged(Exception):
    """It is not what its coding says, or is cut off.

    Attributes:
        beginning: What could be read of it.
    """

    def __init__(self, reason: str, beginning: bytes = b"") -> None:
        super().__init__(reason)
        self.beginning = beginning


def codings(header: str) -> list[str] | None:
    """The codings of a `Content-Encoding`, in the order they were applied; None when one is not known here."""
    names = [name.strip().lower() for name in header.split(",")]
    wanted = [name.removeprefix("x-") for name in names if name not in {"", "identity"}]
    return wanted if len(wanted) <= _CODINGS and {"gzip", "deflate"}.issuperset(wanted) else None


def inflate(body: bytes, applied: list[str], limit: int) -> bytes:
    """Undo codings.

    Args:
        body: What was read.
        applied: From `codings`.
        limit: The most bytes that may come out, of each coding.

    Raises:
        Overlong: More come out.
        Damaged: They cannot be undone.
    """
    for coding in reversed(applied):
        if coding == "gzip":
            body = _undo(body, _GZIP, limit, _MEMBERS)
        else:
            body = _undo(body, _ZLIB if _has_header(body) else _RAW, limit, 1)
    return body


class Inflater:
    """Decompresses a stream as it comes. What comes out is in pieces of at most `PIECE` bytes, made one at a time.

    Args:
        coding: `gzip` or `deflate`.
    """

    def __init__(self, coding: str) -> None:
        self._kind: int | None = _GZIP if coding == "gzip" else None
        self._part: Any = None
        self._left = b""
        self._has_more = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream; only when `take` has nothing left of the last ones."""
        self._left += chunk

    def take(self) -> bytes:
        """The next piece of what was fed; empty when the rest of the stream is needed first.

        Raises:
            Damaged: It is not what its coding says.
        """
        if self._kind is None:
            if len(self._left) < 2:
                return b""
            self._kind = _ZLIB if _has_header(self._left) else _RAW
        while self._left or self._has_more:
            if self._part is None:
                self._part = zlib.decompressobj(self._kind)
            elif self._part.eof:
                if self._kind != _GZIP:
                    raise Damaged("there is more after its end")
                self._part = zlib.decompressobj(self._kind)
            try:
                piece: bytes = self._part.decompress(self._left, PIECE)
            except zlib.error as exc:
                raise Damaged("it is damaged") from exc
            self._left = self._part.unused_data if self._part.eof else self._part.unconsumed_tail
            self._has_more = len(piece) == PIECE and not self._part.eof
            if piece:
                return piece
        return b""


def _has_header(body: bytes) -> bool:
    """Whether it begins as zlib's format does (RFC 1950 section 2.2)."""
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _undo(body: bytes, kind: int, limit: int, members: int) -> bytes:
    out = bytearray()
    left = body
    while left:
        if not members:
            raise Damaged("there is more after its end", bytes(out))
        members -= 1
        part = zlib.decompressobj(kind)
        try:
            out += part.decompress(left, limit + 1 - len(out))
        except zlib.error as exc:
            raise Damaged("it is damaged", bytes(out)) from exc
        if len(out) > limit:
            raise Overlong
        if not part.eof:
            raise Damaged("it is cut off", bytes(out))
        left = part.unused_data
    return bytes(out)
