"""The loopback server: where it binds, how it ends, and what a broken peer cannot do to it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systemprompt_cloud.errors import PortBusy
from systemprompt_cloud.io.loopback.exchange import MAX_HEAD, Exchange, Request, Serve, ShortAnswer, answering
from systemprompt_cloud.io.loopback.serving import MAX_CONNECTIONS, HandOver, bind_loopback, serve_loopback

GOOD = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEPT = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


def text(body: str | bytes) -> ShortAnswer:
    """A plain answer."""
    return ShortAnswer(200, {"Content-Type": "text/plain"}, body.encode() if isinstance(body, str) else body)


def app(handler: Callable[[Request], Awaitable[ShortAnswer]] | None = None) -> Serve:
    """What answers every request with this handler, or with a greeting."""

    async def hello(_: Request) -> ShortAnswer:
        return text("hello")

    return answering(handler or hello)


async def dial(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def read_all(stream: trio.SocketStream) -> bytes:
    got = b""
    try:
        async for chunk in stream:
            got += bytes(chunk)
    except trio.BrokenResourceError:
        pass  # a reset also ends what we wanted to read
    return got


async def exchange(port: int, data: bytes) -> bytes:
    """Send raw bytes and return everything that comes back until the server closes."""
    with trio.fail_after(8):
        async with await dial(port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            return await read_all(stream)


async def test_it_serves_on_the_address_and_not_on_the_other_loopbacks() -> None:
    """Only 127.0.0.1 is bound: neither another loopback address nor IPv6 reaches it (SECURITY 1)."""
    async with serve_loopback(app()) as port:
        assert (await exchange(port, GOOD)).endswith(b"hello")
        for family, address in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_STREAM) as other:
                assert other.connect_ex((address, port)) != 0


async def test_before_and_after_the_connection_is_refused() -> None:
    """Outside the `async with` nobody listens (SECURITY 1)."""
    async with serve_loopback(app()) as port:
        pass
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_a_taken_port_is_named_on_entering() -> None:
    """PortBusy names the port, and the one who has it goes on undisturbed (SECURITY 2)."""
    async with serve_loopback(app()) as port:
        with pytest.raises(PortBusy, match=f"port {port} on 127.0.0.1 is taken"):
            async with serve_loopback(app(), port=port):
                pytest.fail("must not be entered")
        assert (await exchange(port, GOOD)).endswith(b"hello")


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_number_that_is_no_port_is_said_to_be_none(port: int) -> None:
    """A typing mistake is an error of ours with the range, not an OverflowError."""
    with pytest.raises(PortBusy, match="from 0 to 65535"):
        async with serve_loopback(app(), port=port):
            pytest.fail("must not be entered")


async def test_a_port_of_all_interfaces_is_busy_too() -> None:
    """A server of another program on 0.0.0.0 is not shadowed by ours."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104
        other.listen()
        with pytest.raises(PortBusy):
            async with serve_loopback(app(), port=other.getsockname()[1]):
                pytest.fail("must not be entered")


async def test_a_second_run_binds_right_after_the_first() -> None:
    """Connections the first run closed linger in TIME_WAIT and do not keep the port (SECURITY 2)."""
    port = 0
    for _ in range(3):
        async with serve_loopback(app(), port=port) as port, httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "hello"


async def test_an_error_of_the_body_arrives_as_it_was_raised() -> None:
    """The nursery inside does not wrap a caller's error in an ExceptionGroup."""
    with pytest.raises(PortBusy, match="from the body"):
        async with serve_loopback(app()):
            raise PortBusy("from the body")


async def test_an_answer_on_its_way_is_finished_when_leaving() -> None:
    """Leaving waits for the answer of a request that is being worked on."""
    leave = trio.Event()

    async def slow(request: Request) -> ShortAnswer:
        leave.set()
        await trio.testing.wait_all_tasks_blocked()
        return text("finished")

    got: list[bytes] = []

    async def ask(port: int) -> None:
        got.append(await exchange(port, GOOD))

    async with trio.open_nursery() as nursery, serve_loopback(app(slow)) as port:
        nursery.start_soon(ask, port)
        await leave.wait()
    assert got[0].endswith(b"finished")


async def test_an_answer_on_its_way_survives_the_cancellation_around_it() -> None:
    """A cancelled surrounding scope ends the wait, not the answer."""
    received, answer = trio.Event(), trio.Event()

    async def slow(request: Request) -> ShortAnswer:
        received.set()
        await answer.wait()
        return text("finished")

    got: list[bytes] = []

    async def ask(port: int) -> None:
        got.append(await exchange(port, GOOD))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with serve_loopback(app(slow)) as port:
                nursery.start_soon(ask, port)
                await received.wait()
                scope.cancel()
                answer.set()
                await trio.sleep_forever()
        assert scope.cancelled_caught
    assert got[0].endswith(b"finished")


async def test_an_answer_that_never_ends_is_cut_after_the_grace() -> None:
    """An event stream does not keep the server from ending."""

    async def endless(exchange: Exchange) -> None:
        await exchange.start(200, [(b"content-type", b"text/event-stream")])
        await exchange.send(b": here\n\n", end=False)
        await trio.sleep_forever()

    with trio.fail_after(2):
        async with serve_loopback(endless, grace=0.05) as port:
            stream = await dial(port)
            await stream.send_all(GOOD)
            assert b"200" in await stream.receive_some()
        await read_all(stream)
        await stream.aclose()


async def test_a_peer_that_never_reads_does_not_hold_the_end_up() -> None:
    """A write that is stuck in a full socket is ended by the bound."""

    async def huge(request: Request) -> ShortAnswer:
        return text(b"x" * 64_000_000)

    with trio.fail_after(5):
        async with serve_loopback(app(huge), grace=0.05) as port:
            stream = await dial(port)
            await stream.send_all(GOOD)
            await stream.receive_some(1)
        await stream.aclose()


async def test_half_open_connections_are_closed_at_once_when_leaving() -> None:
    """A connection that has sent half a request does not use up the grace."""
    with trio.fail_after(2):
        async with serve_loopback(app(), grace=60) as port:
            streams = [await dial(port) for _ in range(5)]
            for stream in streams:
                await stream.send_all(b"GET / HT")
            assert (await exchange(port, GOOD)).endswith(b"hello")
        for stream in streams:
            assert await read_all(stream) == b""
            await stream.aclose()


async def test_a_flood_of_silent_connections_only_delays() -> None:
    """More connections than are held wait in the queue; when the silent ones go, the good one is served."""
    async with serve_loopback(app()) as port:
        silent = [await dial(port) for _ in range(MAX_CONNECTIONS)]
        async with trio.open_nursery() as nursery:
            answers: list[bytes] = []

            async def ask() -> None:
                answers.append(await exchange(port, GOOD))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            for stream in silent:
                await stream.aclose()
        assert answers[0].endswith(b"hello")


async def test_a_head_over_the_bound_is_refused() -> None:
    """An oversized URL or header is a 4xx and the end of that connection, not memory (SECURITY 5, 15)."""
    async with serve_loopback(app()) as port:
        long_url = b"GET /" + b"a" * (MAX_HEAD + 1)
        long_header = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (MAX_HEAD + 1)
        for head in (long_url, long_header):
            assert (await exchange(port, head)).startswith(b"HTTP/1.1 4")
        assert (await exchange(port, GOOD)).endswith(b"hello")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",  # a TLS hello
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\xff\xff\xff",
        WEBSOCKET + b"\x81\xff\xff\xff",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        GOOD * 30,
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabcGET / H",
    ],
)
async def test_a_broken_peer_ends_only_its_own_connection(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is sent, the server goes on serving and prints nothing."""
    async with serve_loopback(app(), grace=0.05) as port:
        async with await dial(port) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            with trio.move_on_after(0.2):
                await read_all(stream)
        assert (await exchange(port, GOOD)).endswith(b"hello")
    assert "Traceback" not in capfd.readouterr().err


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(
        st.sampled_from([GOOD, b"\r\n", b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"abc"])
        | st.binary(max_size=40),
        max_size=8,
    ).map(b"".join),
    hang_up=st.booleans(),
)
async def test_no_bytes_take_the_server_down(data: bytes, hang_up: bool) -> None:
    """Random bytes, with or without hanging up rudely, leave the next request answered."""
    async with serve_loopback(app(), grace=0) as port:
        async with await dial(port) as stream:
            if hang_up:  # SO_LINGER 0: close with a reset
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            try:
                await stream.send_all(data)
                await stream.send_eof()
            except trio.BrokenResourceError:
                pass
        assert (await exchange(port, GOOD)).endswith(b"hello")


async def test_an_error_in_the_app_is_a_500_and_the_server_goes_on() -> None:
    """A bug in an endpoint ends that request only."""

    async def broken(request: Request) -> ShortAnswer:
        raise RuntimeError("a bug")

    async with serve_loopback(app(broken)) as port:
        for _ in range(2):
            assert (await exchange(port, GOOD)).startswith(b"HTTP/1.1 500")


async def test_who_connects_between_two_servers_is_answered_by_the_second() -> None:
    """The port of the first one stays open where another one follows: nobody is refused in between."""
    hand_over = HandOver()
    async with serve_loopback(app(), hand_over=hand_over, follows=lambda: True) as port:
        pass
    async with await dial(port) as stream:
        await stream.send_all(GOOD)
        async with serve_loopback(app(), port=port, hand_over=hand_over) as again:
            assert again == port
            with trio.fail_after(8):
                assert (await read_all(stream)).endswith(b"hello")
    with pytest.raises(OSError, match="connect"):
        await dial(port)


@pytest.mark.parametrize("end", ["closed", "forgotten", "another port"])
async def test_a_port_that_was_kept_for_nobody_is_free_again(end: str) -> None:
    """Closed, forgotten with its owner, or not what the next server asks for."""
    hand_over = HandOver()
    async with serve_loopback(app(), hand_over=hand_over, follows=lambda: True) as port:
        pass
    with pytest.raises(PortBusy):
        bind_loopback(port)
    if end == "closed":
        hand_over.close()
    elif end == "forgotten":
        del hand_over
    else:
        async with serve_loopback(app(), hand_over=hand_over) as other:
            assert other != port
    bind_loopback(port).close()
