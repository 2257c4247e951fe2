"""Bodies that a proxy has compressed are read within their bound; damaged ones and bombs are refused by name."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from systemprompt_cloud.errors import ApiError, NotAuthenticated, TooLarge
from systemprompt_cloud.io.http.inflating import Damaged, Overlong, codings, inflate
from systemprompt_cloud.testing.scripted import client_of, serve_scripted

ME = b'{"user": {"id": "u1", "email": "ada@example.org", "name": "Ada"}, "tenants": []}'
BOMB = gzip.compress(bytes(300_000_000), 1)


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the header of zlib."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    """A gzip file of two parts."""
    return gzip.compress(data[:10]) + gzip.compress(data[10:])


CODED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("GZIP , identity", gzip.compress),
    ("gzip", members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    ("identity", bytes),
    ("", bytes),
]


@pytest.mark.parametrize(("encoding", "code"), CODED)
async def test_a_compressed_answer_is_an_answer(encoding: str, code: Callable[[bytes], bytes]) -> None:
    """Though none was asked for."""
    async with serve_scripted() as server, client_of(server) as client:
        server.plan(Response(code(ME), headers={"Content-Encoding": encoding}))
        assert (await client.me()).user.id == "u1"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (gzip.compress(ME)[:-9], ApiError, "cannot be read: it is cut off"),
        (b"\x1f\x8b nothing like it", ApiError, "cannot be read: it is damaged"),
        (gzip.compress(ME) + b"garbage", ApiError, "cannot be read: it is damaged"),
        (gzip.compress(b"") * 1000, ApiError, "cannot be read: there is more after its end"),
        (BOMB, TooLarge, "more than 4194304 bytes, compressed"),
    ],
    ids=["cut off", "damaged", "garbage", "empty parts", "bomb"],
)
async def test_what_cannot_be_read_is_named(body: bytes, kind: type[ApiError], message: str) -> None:
    """Within a moment, and with a proxy as what to look at."""
    async with serve_scripted() as server, client_of(server) as client:
        server.plan(Response(body, headers={"Content-Encoding": "gzip"}))
        began = time.monotonic()
        with pytest.raises(kind, match=message) as caught:
            await client.me()
        assert time.monotonic() - began < 3
    assert "proxy" in caught.value.recovery_hint


async def test_a_compressed_refusal_is_understood() -> None:
    """Its code and message are the API's."""
    body = gzip.compress(b'{"error": {"code": "plan_closed", "message": "not sold any more"}}')
    async with serve_scripted() as server, client_of(server) as client:
        server.plan(Response(body, status_code=409, headers={"Content-Encoding": "gzip"}))
        with pytest.raises(ApiError, match="plan_closed: not sold any more"):
            await client.me()
        server.plan(Response(BOMB, status_code=401, headers={"Content-Encoding": "gzip"}))
        with pytest.raises(NotAuthenticated):
            await client.me()


@pytest.mark.parametrize("header", ["br", "zstd", "gzip, br", "gzip,gzip,gzip", "gzip;q=1", "compress"])
def test_codings_that_are_not_known(header: str) -> None:
    """Each is refused by whoever asks."""
    assert codings(header) is None


@given(st.binary(max_size=5000), st.sampled_from(CODED))
def test_what_was_coded_comes_back(data: bytes, coded: tuple[str, Callable[[bytes], bytes]]) -> None:
    """Exactly, at its own size as the bound; and is refused one byte below."""
    encoding, code = coded
    applied = codings(encoding)
    assert applied is not None
    room = len(zlib.compress(data)) if len(applied) > 1 else 0
    assert inflate(code(data), applied, max(len(data), room)) == data
    if data and applied and not room:
        with pytest.raises(Overlong):
            inflate(code(data), applied, len(data) - 1)


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_read_or_refused(data: bytes, coding: str) -> None:
    """Nothing else is raised, and never is more made of them than the bound."""
    try:
        assert len(inflate(data, [coding], 100)) <= 100
    except Damaged as exc:
        assert len(exc.beginning) <= 100  # noqa: PT017 - either is right
    except Overlong:
        pass
