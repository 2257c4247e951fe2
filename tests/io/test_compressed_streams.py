"""Event streams that a proxy has compressed are read as they come, within the bounds of plain ones."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from systemprompt_cloud.errors import StreamLost, TooLarge
from systemprompt_cloud.io.http.inflating import PIECE, Damaged, Inflater
from systemprompt_cloud.io.sse.decoder import EventStream
from systemprompt_cloud.testing.scripted import Handler, client_of, event_stream, serve_scripted

EVENTS = [f"data: event {number}\n\n".encode() for number in range(5)]
WBITS = {"gzip": 16 + zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS, "raw": -zlib.MAX_WBITS}


def flushed(kind: str, pieces: list[bytes]) -> list[bytes]:
    """Each piece compressed, and flushed as a proxy does for a stream."""
    packer = zlib.compressobj(wbits=WBITS[kind])
    return [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]


def packed_stream(*chunks: bytes, coding: str = "gzip") -> Handler:
    """An answer that says it is compressed, and stays open."""
    plain = event_stream(*chunks, hold=True)

    async def handle(request: Request) -> Response:
        answer = await plain(request)
        answer.headers["Content-Encoding"] = coding
        return answer

    return handle


@pytest.mark.parametrize(("coding", "kind"), [("gzip", "gzip"), ("deflate", "zlib"), ("deflate", "raw")])
async def test_events_of_a_compressed_stream_arrive_as_they_are_sent(coding: str, kind: str) -> None:
    """On a real connection that stays open: nothing waits for the end of the compression."""
    async with serve_scripted() as server:
        server.plan(packed_stream(*flushed(kind, EVENTS), coding=coding))
        async with client_of(server) as client, client.tenant_events("t") as stream:
            assert [(await anext(stream)).data for _ in EVENTS] == [f"event {number}" for number in range(5)]
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_bomb_meets_the_bound_of_a_line() -> None:
    """Half a megabyte that stands for a hundred: an error with its size, and no more memory than a plain line takes."""
    bomb = gzip.compress(bytes(100_000_000), 1)
    async with serve_scripted() as server:
        server.plan(packed_stream(bomb))
        async with client_of(server) as client, client.tenant_events("t") as stream:
            tracemalloc.start()
            try:
                with pytest.raises(TooLarge, match="sent a line of at least"):
                    await anext(stream)
                assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
            finally:
                tracemalloc.stop()


async def read_all(stream: EventStream) -> None:
    """Read until the stream is lost."""
    async for _ in stream:
        pass


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"data: plain\n\n", "it is damaged"),
        (gzip.compress(EVENTS[0])[:-9] + b"\0" * 9, "it is damaged"),
        (gzip.compress(EVENTS[0]) + b"data: more\n\n", "it is damaged"),
    ],
    ids=["plain", "checksum", "rest"],
)
async def test_damage_is_a_lost_stream(sent: bytes, said: str) -> None:
    """The reader connects again, or polls."""
    async with serve_scripted() as server:
        server.plan(packed_stream(sent))
        async with client_of(server) as client, client.tenant_events("t") as stream:
            with pytest.raises(StreamLost, match=said):
                await read_all(stream)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "raw": lambda data: b"".join(flushed("raw", [data])),
    "members": lambda data: gzip.compress(data[:9]) + gzip.compress(b"") + gzip.compress(data[9:]),
}


@given(
    kind=st.sampled_from(sorted(PACK)),
    data=st.one_of(st.binary(max_size=300), st.sampled_from([bytes(PIECE), bytes(3 * PIECE + 1)])),
    cuts=st.integers(1, 50),
)
def test_a_stream_may_be_cut_anywhere(kind: str, data: bytes, cuts: int) -> None:
    """The same bytes come out, in pieces of bounded size."""
    packed, inflater = PACK[kind](data), Inflater("gzip" if kind in {"gzip", "members"} else "deflate")
    pieces: list[bytes] = []
    for at in range(0, len(packed), cuts):
        inflater.feed(packed[at : at + cuts])
        while piece := inflater.take():
            pieces.append(piece)
    assert b"".join(pieces) == data
    assert all(len(piece) <= PIECE for piece in pieces)


def test_what_follows_the_end_of_deflate_is_damage() -> None:
    """Only gzip has members."""
    inflater = Inflater("deflate")
    inflater.feed(zlib.compress(b"x") + b"y")
    assert inflater.take() == b"x"
    with pytest.raises(Damaged, match="more after its end"):
        inflater.take()
