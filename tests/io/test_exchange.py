"""One connection of the loopback server, byte for byte: through a stream in memory, so that packets are what we say."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.redaction import new_owner
from systemprompt_cloud.io.loopback.callback import CallbackListener
from systemprompt_cloud.io.loopback.exchange import (
    IDLE_SECONDS,
    LINGER_SECONDS,
    MAX_HEAD,
    SEND_SECONDS,
    Connection,
    Exchange,
    Idleness,
    answering,
)

from tests.support.conversing import ECHO, KEPT, LAST, POST, converse, statuses
from tests.support.tab import NONCE

# --- packets do not matter -----------------------------------------------------------------------------------

HEADERS = st.sampled_from(
    [
        "Host: 127.0.0.1:0",
        "Host: evil.example",
        "Connection: close",
        "Connection: keep-alive",
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Expect: 100-continue",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Origin: null",
        "Sec-Fetch-Dest: image",
        " folded",
        "no colon",
        "\x00: \x01",
        f"X: {'a' * 300}",
        f"X: {'a' * MAX_HEAD}",
    ]
)
TARGETS = st.sampled_from(
    ["/callback", f"/callback?state={NONCE}", "/", "http://127.0.0.1:0/callback", "*", "a b", "é"]
)
METHODS = st.sampled_from(["GET", "GET", "HEAD", "POST", "CONNECT", "OPTIONS", "get", ""])
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "SSH"])
BODIES = st.sampled_from([b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"\r\n", b"\x16\x03\x01", b"\n\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something like a request."""
    first = f"{draw(METHODS)} {draw(TARGETS)} {draw(VERSIONS)}"
    host = draw(st.sampled_from([["Host: 127.0.0.1:0"], ["Host: 127.0.0.1:0"], []]))
    lines = [first, *host, *draw(st.lists(HEADERS, max_size=3)), "", ""]
    return draw(st.sampled_from(["\r\n", "\r\n", "\n"])).join(lines).encode() + draw(BODIES)


STREAMS = st.lists(requests() | st.binary(max_size=30), min_size=1, max_size=3).map(b"".join)


def cut(stream: bytes, places: set[int]) -> list[bytes]:
    """A stream in pieces."""
    edges = [0, *sorted(place for place in places if 0 < place < len(stream)), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@settings(max_examples=250, deadline=None)
@given(stream=STREAMS, places=st.sets(st.integers(0, 400) | st.integers(0, 2 * MAX_HEAD), max_size=12))
async def test_any_packets_give_the_answer_of_one_packet(stream: bytes, places: set[int]) -> None:
    """Requests, several at once, and garbage: how the bytes were split changes nothing."""
    listener = CallbackListener(NONCE, None, new_owner("test"))
    listener.close()  # or a good callback would be held
    for serve in (ECHO, answering(listener.answer)):
        assert await converse(serve, cut(stream, places)) == await converse(serve, [stream])


@settings(max_examples=20, deadline=None)
@given(stream=STREAMS.filter(lambda stream: len(stream) < 500))
async def test_single_bytes_give_the_answer_of_one_packet(stream: bytes) -> None:
    """The slowest way to send."""
    assert await converse(ECHO, [bytes([byte]) for byte in stream]) == await converse(ECHO, [stream])


@pytest.mark.parametrize(("size", "status"), [(MAX_HEAD, 200), (MAX_HEAD + 1, 431), (3 * MAX_HEAD, 431)])
@pytest.mark.parametrize("packet", [1000, MAX_HEAD - 1, MAX_HEAD, MAX_HEAD + 1, 1_000_000])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n"])
async def test_the_bound_on_the_head_is_exact(size: int, status: int, packet: int, end: bytes) -> None:
    """To the byte, in whatever packets it comes."""
    start = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
    head = start + b"a" * (size - len(start) - len(end)) + end
    answer = await converse(ECHO, [head[at : at + packet] for at in range(0, len(head), packet)])
    assert statuses(answer) == [status]


@pytest.mark.parametrize("packet", [1, 1000, 1_000_000])
async def test_what_is_no_request_is_refused_as_such_whatever_its_size(packet: int) -> None:
    """A TLS client is recognised by its first byte, also when all it sends arrives at once."""
    hello = b"\x16\x03\x01" + b"a" * (MAX_HEAD + 1)
    assert statuses(await converse(ECHO, [hello[:packet], hello[packet:]])) == [400]


# --- what HTTP asks of a server -------------------------------------------------------------------------------


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    """Kept alive, pipelined, and closed when the peer says so; what follows that is not answered."""
    answers = await converse(ECHO, [KEPT + KEPT, LAST + KEPT])
    assert re.findall(rb"GET /(one|two)", answers) == [b"one", b"one", b"two"]
    assert answers.count(b"Connection: close") == 1


async def test_http_1_0_is_answered_and_closed() -> None:
    """No keep-alive for who may not know it."""
    answer = await converse(ECHO, [b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"], hang_up=False)
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"3.1"])
async def test_another_version_is_refused(version: bytes) -> None:
    """What looks like HTTP/1 and says it is not (RFC 9110 section 15.6.6)."""
    assert statuses(await converse(ECHO, [b"GET / HTTP/" + version + b"\r\nHost: x\r\n\r\n" + KEPT])) == [505]


async def test_an_answer_to_head_has_no_body_and_its_length() -> None:
    """And the next request on the connection is understood."""
    answers = await converse(ECHO, [KEPT.replace(b"GET", b"HEAD") + LAST])
    assert statuses(answers) == [200, 200]
    head, _, rest = answers.partition(b"\r\n\r\n")
    assert f"content-length: {len('HEAD /one')}".encode() in head
    assert rest.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        POST,
        POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
    ],
)
async def test_a_body_nobody_reads_ends_the_connection(head: bytes) -> None:
    """The answer says so, nothing asks for the body, and no part of it is taken for a request."""
    answers = await converse(ECHO, [head, KEPT + KEPT])
    assert statuses(answers) == [200]
    assert b"connection: close" in answers.lower()


@pytest.mark.parametrize(
    "upgrade", [b"Upgrade: websocket", b"Upgrade: h2c\r\nHTTP2-Settings: AA", b"Upgrade: TLS/1.0, HTTP/3"]
)
async def test_an_upgrade_is_ignored(upgrade: bytes) -> None:
    """The request is a plain one and the connection stays HTTP/1.1 (RFC 9110 section 7.8)."""
    asked = KEPT.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\n" + upgrade + b"\r\n\r\n")
    assert statuses(await converse(ECHO, [asked, LAST])) == [200, 200]


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01", b"\r\n", b"GET /\r\n\r\n", b"GET / HT", POST + b"zz\r\n", b"\0\0"]
)
async def test_an_answer_of_the_server_itself_gives_nothing_away(garbage: bytes) -> None:
    """Refused before anybody was asked: not stored, framed or sniffed either (SECURITY 6)."""

    async def reading(exchange: Exchange) -> None:
        await exchange.read()
        raise LookupError("a bug")

    answer = (await converse(reading, [garbage])).lower()
    assert statuses(answer.upper())[0] in {400, 500}
    for header in (b"cache-control: no-store", b"referrer-policy: no-referrer", b"x-frame-options: deny"):
        assert header in answer


# --- time -------------------------------------------------------------------------------------------------------


async def test_a_peer_that_never_reads_loses_its_connection(autojump_clock: trio.testing.MockClock) -> None:
    """A short answer has a time to be taken, and an answer that nobody took is the last."""
    ours, theirs = trio.testing.memory_stream_pair()
    theirs.send_stream.send_all_hook = trio.sleep_forever
    await ours.send_all(KEPT + KEPT)
    await Connection(theirs, ECHO, Idleness()).run()
    assert trio.current_time() == pytest.approx(SEND_SECONDS)


@pytest.mark.parametrize("start", [b"", b"GET / HT", KEPT])
async def test_a_connection_without_a_request_is_closed(autojump_clock: trio.testing.MockClock, start: bytes) -> None:
    """Silent, half-open or kept alive: after the same time, and without an answer."""
    answers = await converse(ECHO, [start], hang_up=False)
    assert trio.current_time() == pytest.approx(IDLE_SECONDS)
    assert statuses(answers) == ([200] if start == KEPT else [])


async def test_a_trickled_head_has_no_more_time_than_a_silent_one(autojump_clock: trio.testing.MockClock) -> None:
    """Each byte in time does not add up to for ever."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def trickle() -> None:
        while True:
            await ours.send_all(b"a")
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        await Connection(theirs, ECHO, Idleness()).run()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == pytest.approx(IDLE_SECONDS)


async def test_a_peer_that_goes_on_sending_is_left_in_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """The rest of a body is thrown away for a while, so that the peer gets its answer, and not for longer."""
    await converse(ECHO, [POST + b"ab"], hang_up=False)
    assert trio.current_time() == pytest.approx(LINGER_SECONDS)
