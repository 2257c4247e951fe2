"""Bodies and answers of one connection of the loopback server: read, streamed, broken off."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from systemprompt_cloud.io.loopback.exchange import (
    LINGER_SECONDS,
    Connection,
    Disconnected,
    Exchange,
    Idleness,
    ShortAnswer,
)

from tests.support.conversing import ECHO, KEPT, LAST, POST, converse, echo, statuses


@pytest.mark.parametrize(
    "sent",
    [
        [POST + b"abcd" + LAST],
        [POST, b"ab", b"cd", LAST],
        [POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", LAST],
    ],
)
async def test_a_body_that_is_read_keeps_the_connection(sent: list[bytes]) -> None:
    """Whole, in pieces and in chunks."""
    bodies: list[bytes] = []

    async def reading(exchange: Exchange) -> None:
        body = b""
        while piece := await exchange.read():
            body += piece
        bodies.append(body)
        await exchange.respond(ShortAnswer(200, {}))

    assert statuses(await converse(reading, sent)) == [200, 200]
    assert bodies == [b"abcd", b""]


async def test_a_peer_that_waits_is_told_to_go_on_when_somebody_reads() -> None:
    """`Expect: 100-continue` (RFC 9110 section 10.1.1)."""

    async def reading(exchange: Exchange) -> None:
        await exchange.respond(ShortAnswer(200, {}, await exchange.read()))

    asked = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    answers = await converse(reading, [asked, b"abcd"])
    assert statuses(answers) == [100, 200]
    assert answers.endswith(b"abcd")


@pytest.mark.parametrize("body", [b"ab", b""])
async def test_a_body_that_breaks_off_is_a_disconnect(body: bytes) -> None:
    """Whoever reads it learns it, and may still answer a peer that only closed its half."""

    async def reading(exchange: Exchange) -> None:
        if body:
            assert await exchange.read() == body
        for _ in range(2):
            with pytest.raises(Disconnected):
                await exchange.read()
        await exchange.wait_disconnected()
        await exchange.respond(ShortAnswer(400, {}))

    assert statuses(await converse(reading, [POST + body])) == [400]


async def test_a_stream_without_a_length_is_chunked_and_keeps_the_connection() -> None:
    """Or is ended by closing, for a peer of HTTP/1.0."""

    async def streaming(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.send(b"ab", end=False)
        await exchange.send(b"cd", end=True)

    assert (await converse(streaming, [KEPT + LAST])).count(b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n") == 2
    assert (await converse(streaming, [b"GET / HTTP/1.0\r\n\r\n"])).endswith(b"\r\n\r\nabcd")


async def test_an_answer_that_breaks_off_looks_broken() -> None:
    """No last chunk is sent, and no other request answered."""

    async def breaking(exchange: Exchange) -> None:
        await exchange.start(200, [])
        await exchange.send(b"ab", end=False)

    assert (await converse(breaking, [KEPT + KEPT])).endswith(b"\r\n\r\n2\r\nab\r\n")


async def test_a_disconnect_is_seen_while_an_answer_is_on_its_way() -> None:
    """What a pipelining peer sends meanwhile is kept for its turn."""
    seen: list[str] = []

    async def watching(exchange: Exchange) -> None:
        with trio.move_on_after(0.01):
            await exchange.wait_disconnected()
            seen.append(exchange.request.path)
        await exchange.respond(ShortAnswer(200, {}))

    assert statuses(await converse(watching, [KEPT, LAST])) == [200, 200]
    assert seen == ["/two"]


async def test_sending_to_a_peer_that_has_gone_does_nothing() -> None:
    """It raises nothing, and can be cancelled."""
    ours, theirs = trio.testing.memory_stream_pair()
    cancelled: list[bool] = []

    async def endless(exchange: Exchange) -> None:
        await exchange.start(200, [])
        with trio.move_on_after(0.01) as scope:
            while True:
                await exchange.send(b"x", end=False)
        cancelled.append(scope.cancelled_caught)

    await ours.send_all(KEPT)
    await ours.aclose()
    await Connection(theirs, endless, Idleness()).run()
    assert cancelled == [True]


async def test_a_connection_that_breaks_has_ended() -> None:
    """A reset is as good as an end, and no error of ours."""
    _, theirs = trio.testing.memory_stream_pair()
    theirs.receive_stream.close()
    await Connection(theirs, ECHO, Idleness()).run()


async def test_an_answer_after_the_server_was_left_is_the_last() -> None:
    """It says so, what is pipelined is not answered, and nothing waits for the peer to hang up."""
    idleness = Idleness()

    async def left(exchange: Exchange) -> None:
        idleness.end()
        await exchange.respond(await echo(exchange.request))

    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(KEPT + KEPT)
    with trio.fail_after(LINGER_SECONDS / 2):
        await Connection(theirs, left, idleness).run()
    await theirs.aclose()
    answer = bytes(await ours.receive_some())
    assert (statuses(answer), answer.lower().count(b"connection: close")) == ([200], 1)


async def test_a_stream_that_was_left_is_the_last_answer() -> None:
    """It had begun before the server was left, so its head does not say so."""
    idleness = Idleness()

    async def left(exchange: Exchange) -> None:
        await exchange.start(200, [])
        idleness.end()
        await exchange.send(b"ab", end=True)

    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(KEPT + KEPT)
    await Connection(theirs, left, idleness).run()
    await theirs.aclose()
    assert statuses(bytes(await ours.receive_some())) == [200]
