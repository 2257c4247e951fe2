"""Bad answers of a real server: each becomes the error that says what it was, and none is believed."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, TokenExpired, TooLarge
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.testing.scripted import (
    ME,
    TOKEN,
    Endless,
    ScriptedServer,
    api_error,
    client_of,
    make_token,
    serve_bytes,
)


async def test_api_error_shows_code_and_message(server: ScriptedServer) -> None:
    """What the API says is passed on, with the request it answered."""
    server.plan(api_error(404, "not_found", "no such tenant"))
    async with client_of(server) as client:
        with pytest.raises(
            ApiError, match=r"GET http://127\S+/api/v1/tenants/t/status: not_found: no such tenant"
        ) as bad:
            await client.tenant_status("t")
    assert (bad.value.status, bad.value.code, bad.value.retryable) == (404, "not_found", False)


async def test_html_is_recognised_as_not_the_api(server: ScriptedServer) -> None:
    """A captive portal or proxy page is named for what it is, with a good status and with a bad one."""
    page = "<!DOCTYPE html><html><body>Please log in to the WiFi</body></html>"
    server.plan(HTMLResponse(page), HTMLResponse(page, 403), Response(page, media_type="application/json"))
    async with client_of(server) as client:
        for _ in range(3):
            with pytest.raises(ApiError, match=r"answered (403 )?with an HTML page, not the API"):
                await client.me()


async def test_long_and_hostile_error_text_is_cut_and_cleaned(server: ScriptedServer) -> None:
    """At most 500 characters, no terminal escape, no token."""
    text = f"\x1b[2J\x07boom {TOKEN} " + "x" * 10_000
    server.plan(PlainTextResponse(text, 400), api_error(400, "c", text))
    async with client_of(server) as client:
        for _ in range(2):
            with pytest.raises(ApiError) as bad:
                await client.me()
            assert len(bad.value.user_message) < 650
            assert "boom" in bad.value.user_message
            assert "\x1b" not in bad.value.user_message
            assert TOKEN[:40] not in bad.value.user_message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "an empty body"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "it is not an object"),
        (b'{"user": {"id": 1, "email": "e"}}', r"user\.id is not text"),
        (b'{"user": null}', "user is not an object"),
        (b'{"new": ' + b"[" * 100_000, "not JSON"),
    ],
)
async def test_wrong_shapes_name_the_path_and_the_field(server: ScriptedServer, body: bytes, said: str) -> None:
    """A 2xx that is not the promised record is an error saying which call and which field; it is not repeated."""
    server.plan(Response(body, media_type="application/json"))
    async with client_of(server) as client:
        with pytest.raises(ApiError, match=said) as bad:
            await client.me()
    assert "/api/v1/auth/me" in bad.value.user_message
    assert len(server.requests) == 1


async def test_huge_bodies_are_refused(server: ScriptedServer) -> None:
    """Announced or not, a body over the bound is an error and not memory."""
    server.plan(Response(b"x" * 20_000), StreamingResponse(Endless(b"x" * 65536)))
    async with client_of(server, max_body=10_000) as client:
        with pytest.raises(TooLarge, match="20000 bytes; at most 10000"):
            await client.me()
        with pytest.raises(TooLarge, match="more than 10000 bytes"):
            await client.me()


async def test_endless_error_body_still_gives_the_status(server: ScriptedServer) -> None:
    """The body only explains the status, so only its beginning is read."""
    server.plan(StreamingResponse(Endless(b"no " * 1000), 418))
    async with client_of(server) as client:
        with pytest.raises(ApiError, match="answered 418: no no no"):
            await client.me()


async def test_a_compression_that_is_not_known_is_refused(server: ScriptedServer) -> None:
    """By name; nothing compressed was asked for."""
    server.plan(Response(b"\x1f\x8b", headers={"Content-Encoding": "br"}))
    async with client_of(server) as client:
        with pytest.raises(ApiError, match="encoded as 'br', which was not asked for"):
            await client.me()
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"user": {"id"',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n",
    ],
    ids=["cut-off", "cut-off-chunked", "nothing", "not-http", "bad-length"],
)
async def test_broken_answers_are_network_errors(answer: bytes) -> None:
    """A cut-off body or something that is not HTTP is never half an answer."""
    async with serve_bytes(answer) as url, CloudApiClient(url, TOKEN, attempts=1) as client:
        with pytest.raises(Network) as broken:
            await client.me()
    assert broken.value.sent
    assert broken.value.__cause__ is not None


async def test_cut_off_error_body_still_gives_the_status() -> None:
    """The status arrived, whatever happened to its explanation."""
    async with (
        serve_bytes(b"HTTP/1.1 404 No\r\nContent-Length: 500\r\n\r\nhalf") as url,
        CloudApiClient(url, TOKEN) as client,
    ):
        with pytest.raises(ApiError, match="answered 404") as bad:
            await client.me()
    assert bad.value.status == 404


async def test_slow_answers_end_at_the_deadline_of_the_whole_request(server: ScriptedServer) -> None:
    """A server that sends a byte now and then does not hold a call for ever."""
    server.plan(StreamingResponse(Endless(b" ", every=0.02), media_type="application/json"))
    async with client_of(server, timeout=0.2, attempts=1) as client:
        with trio.fail_after(3), pytest.raises(Network, match=r"no complete answer within 0\.2 s") as late:
            await client.me()
    assert late.value.sent


async def test_refused_connection_was_not_sent() -> None:
    """The port is closed: the request surely never arrived, and the message says where it should have gone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        async with CloudApiClient(f"http://127.0.0.1:{port}", TOKEN, attempts=1) as client:
            with pytest.raises(
                Network, match=rf"127.0.0.1:{port}/api/v1/auth/me: cannot connect: Connection refused"
            ) as no:
                await client.me()
    assert no.value.sent is False


async def test_refused_token_is_never_tried_twice(server: ScriptedServer) -> None:
    """401 needs a person, not another try."""
    server.plan(api_error(401))
    async with client_of(server) as client:
        with pytest.raises(NotAuthenticated, match="the token was not accepted") as refused:
            await client.me()
    assert not isinstance(refused.value, TokenExpired)
    assert refused.value.remedy == Remedy("log_in")
    assert len(server.requests) == 1


async def test_expired_token_is_named_as_such(server: ScriptedServer) -> None:
    """When the token's own `exp` has passed, the reason is known."""
    server.plan(api_error(401))
    async with client_of(server, make_token(exp=1)) as client:
        with pytest.raises(TokenExpired, match="has expired"):
            await client.me()


@pytest.mark.parametrize(
    ("off", "said"),
    [(timedelta(hours=-2, minutes=-3), "2:03:00 ahead of"), (timedelta(hours=30), "1 day, 6:00:00 behind")],
)
async def test_wrong_clock_is_mentioned_when_the_token_is_refused(
    server: ScriptedServer, off: timedelta, said: str
) -> None:
    """A clock that is hours off is the likely reason and is said."""
    server.plan(api_error(401, Date=format_datetime(datetime.now(UTC) + off, usegmt=True)))
    async with client_of(server) as client:
        with pytest.raises(NotAuthenticated, match=rf"this computer's clock is {said} the server's"):
            await client.me()
        assert client.clock_skew is not None
        assert abs(client.clock_skew + off) < timedelta(seconds=5)


async def test_right_clock_is_not_mentioned(server: ScriptedServer) -> None:
    """Within five minutes nothing is said, and an earlier finding is forgotten."""
    wrong = format_datetime(datetime.now(UTC) - timedelta(hours=9), usegmt=True)
    server.plan(JSONResponse(ME, headers={"Date": wrong}), api_error(401))
    async with client_of(server) as client:
        await client.me()
        assert client.clock_skew is not None
        with pytest.raises(NotAuthenticated) as refused:
            await client.me()
        assert client.clock_skew is None
    assert "clock" not in refused.value.user_message
