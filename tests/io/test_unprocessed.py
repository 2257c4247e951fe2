"""Requests that surely were not processed are sent again, and HTTP/2 peers that misbehave are lost connections.

The server speaks HTTP/2 frame by frame, so that it can end connections as proxies do (RFC 9113).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.errors import Network, StreamLost
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.answers import http_date, parse_retry_after
from systemprompt_cloud.io.http.goaway import PREFACE, Frames, OrderlyEnd
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.http.texts import LONGEST_TEXT, shown

GOAWAY_LATER = bytes.fromhex("0000080700000000007fffffff00000000")
DEPLOYED = b'{"data":{"status":"ready"}}'


class Peer:
    """One connection of the server.

    Attributes:
        number: 1 for the first connection, and so on.
    """

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], number: int) -> None:
        self.number = number
        self._stream = stream
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))

    async def requests(self) -> AsyncGenerator[int]:
        """The stream of every request that has come whole."""
        self._state.initiate_connection()
        await self.flush()
        while data := await self._stream.receive_some():
            for event in self._state.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    yield event.stream_id
            await self.flush()

    async def answer(self, stream: int, body: bytes = DEPLOYED, kind: str = "application/json") -> None:
        """Answer a request."""
        self._state.send_headers(stream, [(":status", "200"), ("content-type", kind)])
        self._state.send_data(stream, body, end_stream=kind == "application/json")
        await self.flush()

    async def refuse(self, stream: int) -> None:
        """Refuse a request: it was not processed."""
        self._state.reset_stream(stream, 7)
        await self.flush()

    async def raw(self, data: bytes) -> None:
        """Send these bytes."""
        await self._stream.send_all(data)

    async def flush(self) -> None:
        """Send what is to be sent."""
        await self._stream.send_all(self._state.data_to_send())


Behaviour = Callable[[Peer, int], Awaitable[None]]


class H2Server:
    """Counts the requests, and does with them what a test wants.

    Attributes:
        requests: How many came.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests = 0
        self.connections = 0

    async def serve(self, context: ssl.SSLContext, raw: trio.SocketStream) -> None:
        """Serve a connection until it ends."""
        self.connections += 1
        stream = trio.SSLStream(raw, context, server_side=True)
        peer = Peer(stream, self.connections)
        try:
            async for each in peer.requests():
                self.requests += 1
                await self.behaviour(peer, each)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour
) -> AsyncGenerator[tuple[CloudApiClient, H2Server]]:
    """A client of a server that does this with each request."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType] its own type
    server = H2Server(behaviour)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(server.serve, context), 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        api = CloudApiClient(f"https://localhost:{port}", "token", timeout=5.0, backoff=Backoff(base=0.01, cap=0.02))
        async with api as client:
            yield client, server
        nursery.cancel_scope.cancel()


async def deploy(client: CloudApiClient) -> str:
    """A POST that must not arrive twice."""
    return (await client.deploy("t", "registry.example/app:1", idempotency_key="k")).status


async def test_a_refused_stream_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REFUSED_STREAM (section 8.7): also a POST whose keys nobody is known to honour."""

    async def behaviour(peer: Peer, stream: int) -> None:
        await (peer.refuse(stream) if peer.number == 1 else peer.answer(stream))

    async with serving(tmp_path, monkeypatch, behaviour) as (client, server):
        assert await deploy(client) == "ready"
        assert server.requests == 2


async def test_a_server_that_only_refuses_was_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says that nothing was processed, so that nobody is asked what became of it."""

    async def behaviour(peer: Peer, stream: int) -> None:
        await peer.refuse(stream)

    async with serving(tmp_path, monkeypatch, behaviour) as (client, _):
        with pytest.raises(Network) as caught:
            await deploy(client)
        assert caught.value.sent is False


async def test_an_answer_after_an_orderly_goaway_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams up to its last id go on (section 6.8); the next request goes to another connection."""

    async def behaviour(peer: Peer, stream: int) -> None:
        await peer.raw(GOAWAY_LATER)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await peer.answer(stream)

    async with serving(tmp_path, monkeypatch, behaviour) as (client, server):
        for _ in range(2):
            assert await deploy(client) == "ready"
        assert (server.requests, server.connections) == (2, 2)


@pytest.mark.parametrize("error", [0, 11], ids=["orderly", "enhance your calm"])
async def test_a_request_above_the_last_id_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """GOAWAY names an id below it: it surely was not processed, whatever the error code is."""

    async def behaviour(peer: Peer, stream: int) -> None:
        if peer.number == 1:
            await peer.raw((8).to_bytes(3) + b"\x07\x00" + bytes(4) + bytes(4) + error.to_bytes(4))
        else:
            await peer.answer(stream)

    async with serving(tmp_path, monkeypatch, behaviour) as (client, server):
        assert await deploy(client) == "ready"
        assert server.requests == 2


async def test_a_protocol_error_on_an_open_stream_is_a_lost_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WINDOW_UPDATE of 0 (section 6.9): what h2 raises past httpx is a stream that was lost."""

    async def behaviour(peer: Peer, stream: int) -> None:
        await peer.answer(stream, b": hi\n\nevent: provisioning\ndata: {}\n\n", "text/event-stream")
        await peer.raw(b"\x00\x00\x04\x08" + bytes(9))

    async with serving(tmp_path, monkeypatch, behaviour) as (client, _), client.tenant_events("t") as stream:
        with pytest.raises(StreamLost, match="the event stream was lost"):
            async for _event in stream:
                pass


@pytest.mark.parametrize("damage", [b"\x00\x00\x04\x08" + bytes(9), b"\xff" * 64], ids=["window", "garbage"])
async def test_a_protocol_error_before_an_answer_is_a_network_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    """Not a traceback; and whether it was processed is unknown."""

    async def behaviour(peer: Peer, _stream: int) -> None:
        await peer.raw(damage)

    async with serving(tmp_path, monkeypatch, behaviour) as (client, _):
        with pytest.raises(Network) as caught:
            await deploy(client)
        assert caught.value.sent is True


# --- the frames ----------------------------------------------------------------------------------------------------


def frame(kind: int, payload: bytes, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, 0]) + stream.to_bytes(4) + payload


def goaway(last: int, error: int) -> bytes:
    return frame(7, last.to_bytes(4) + error.to_bytes(4) + b"why")


FRAMES = st.lists(
    st.one_of(
        st.builds(frame, st.sampled_from([0, 1, 4, 8]), st.binary(max_size=40), st.integers(0, 9)),
        st.builds(goaway, st.integers(0, 9), st.integers(0, 2)),
    ),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(1, 30), max_size=20))
def test_frames_are_found_however_they_come_in_pieces(frames: list[bytes], cuts: list[int]) -> None:
    """Everything but what is wanted goes through unchanged, in order."""
    seen: list[bytes] = []

    def take(found: bytes) -> bytes:
        seen.append(found)
        return b""

    reader, data, out = Frames(7, take), b"".join(frames), b""
    while data:
        size = cuts.pop() if cuts else len(data)
        out += reader.feed(data[:size])
        data = data[size:]
    assert seen == [each for each in frames if each[3] == 7]
    assert out == b"".join(each for each in frames if each[3] != 7)


@pytest.mark.parametrize(
    ("last", "error", "received"),
    [
        (3, 0, frame(3, (7).to_bytes(4), 5) + frame(3, (7).to_bytes(4), 7)),
        (2**31 - 1, 0, b""),
        (3, 11, frame(3, (7).to_bytes(4), 5) + frame(3, (7).to_bytes(4), 7) + goaway(3, 11)),
        (0, 11, b"".join(frame(3, (7).to_bytes(4), stream) for stream in (1, 3, 5, 7))),
    ],
    ids=["some were not taken", "all go on", "an error", "an error, and none was taken"],
)
def test_what_httpcore_gets_in_place_of_a_goaway(last: int, error: int, received: bytes) -> None:
    """A reset for each stream that was not processed, whatever the error; an error of the others goes through."""
    retired: list[bool] = []
    end = OrderlyEnd(lambda: retired.append(True))
    end.sent(PREFACE + frame(4, b""))
    for stream in (1, 3, 5, 7):
        end.sent(frame(1, b"headers", stream))
    assert end.received(goaway(last, error)) == received
    assert retired == [True]


# --- kept connections, proxies, dates, texts -------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
USER = b'{"user":{"id":"u","email":"a@b.example"}}'


async def test_a_post_does_not_go_out_on_a_connection_that_may_have_been_closed() -> None:
    """The server closes after each answer without saying so; the POST arrives once, on a connection of its own."""
    posts = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal posts
        async with stream:
            head = bytes(await stream.receive_some())
            posts += head.startswith(b"POST")
            body = DEPLOYED if head.startswith(b"POST") else USER
            await stream.send_all(OK % (len(body), body))

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        async with CloudApiClient(f"http://127.0.0.1:{port}", "token") as client:
            for _ in range(5):
                await client.me()
                assert await deploy(client) == "ready"
        nursery.cancel_scope.cancel()
    assert posts == 5


@given(
    st.text(max_size=60) | st.from_regex(r"\A[A-Z][a-z]{2}, \d{1,4} [A-Z][a-z]{2} \d{1,5} [\d:]{1,8} [+-]?\w{1,5}\Z")
)
def test_no_date_is_a_traceback(value: str) -> None:
    """A server may write anything into `Date` and `Retry-After`."""
    moment = http_date(value)
    assert moment is None or moment.utcoffset() is not None


@pytest.mark.parametrize(
    "value", ["Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "0", "Mon, 99 Foo", "-", "\x00"]
)
def test_dates_at_the_ends_of_time(value: str) -> None:
    """They are no date, or one that can be reckoned with."""
    headers = httpx.Headers({"retry-after": value, "date": value})
    assert (parse_retry_after(headers, datetime.now(UTC)) or 0.0) >= 0.0


@given(st.text(max_size=400), st.integers(1, 50))
def test_a_text_is_cut_between_two_words(text: str, limit: int) -> None:
    """Never longer than the limit and the sign; what is kept is the beginning."""
    cut = shown(text, limit)
    assert len(cut) <= max(limit + 2, 5)


def test_no_part_of_a_secret_is_left_by_a_cut() -> None:
    """A token across the cut goes as a whole."""
    token = "eyJhbGciOiJIUzI1NiJ9." + "a" * 80 + ".signature"
    assert "aaa" not in shown("x" * (LONGEST_TEXT - 50) + " " + token)
    assert shown("eyJ" * 320_000) == "…"
