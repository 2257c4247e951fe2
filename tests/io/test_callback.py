"""The callback listener: who gets in, who does not, and that the browser is always told the truth."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.errors import CallbackRejected, PortBusy
from systemprompt_cloud.io.callback import (
    MAX_HELD,
    CallbackHit,
    CallbackListener,
    StatusView,
    listen_for_callback,
    new_nonce,
)
from systemprompt_cloud.io.log import redact
from systemprompt_cloud.io.pages import success_page, waiting_page
from systemprompt_cloud.io.serving import MAX_HEAD

NONCE = "the-right-one-of-forty-three-characters-xyz"
DONE = success_page("Done", "It worked.")


async def exchange(port: int, data: bytes) -> bytes:
    """Send raw bytes, hang up our half, return everything until the server closes."""
    got = b""
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            try:
                await stream.send_all(data)
                await stream.send_eof()
                async for chunk in stream:
                    got += bytes(chunk)
            except trio.BrokenResourceError:
                pass  # a reset after an oversized request; what came before it is what counts
    return got


def request(
    port: int, target: str = f"/callback?state={NONCE}&access_token=t", method: str = "GET", *headers: str
) -> bytes:
    """One well-formed request; a Host among the headers replaces the right one."""
    lines = [*headers, "Connection: close"]
    if not any(line.lower().startswith("host:") for line in lines):
        lines.insert(0, f"Host: 127.0.0.1:{port}")
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def ask(listener: CallbackListener, answers: list[bytes], data: bytes | None = None) -> None:
    answers.append(await exchange(listener.port, data or request(listener.port)))


@asynccontextmanager
async def still_waiting(nonce: str | None = NONCE) -> AsyncGenerator[CallbackListener]:
    """A listener that must still take a good callback after whatever is done to it inside."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=nonce) as listener, trio.open_nursery() as nursery:
        yield listener
        nursery.start_soon(ask, listener, answers)
        with trio.fail_after(5):
            hit = await listener.wait_hit()
        assert hit.params == {"access_token": "t"}
        hit.accept(DONE)
    assert status_of(answers[0]) == 200


# --- the good way ----------------------------------------------------------------------------------------


async def test_a_good_callback_is_held_until_it_is_accepted() -> None:
    """The browser sees the page of the flow's decision and nothing before it."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        assert listener.redirect_uri == f"http://127.0.0.1:{listener.port}/callback?state={NONCE}"
        nursery.start_soon(ask, listener, answers)
        hit = await listener.wait_hit()
        assert hit.params == {"access_token": "t"}
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        hit.accept(DONE)
    assert status_of(answers[0]) == 200
    assert answers[0].decode().endswith(DONE)


async def test_an_error_of_the_provider_with_the_nonce_is_a_hit() -> None:
    """`error=` with the right nonce reaches the flow, description and all."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        target = f"/callback?state={NONCE}&error=access_denied&error_description=She+said+%22no%22"
        nursery.start_soon(ask, listener, answers, request(listener.port, target))
        hit = await listener.wait_hit()
        assert hit.params == {"error": "access_denied", "error_description": 'She said "no"'}
        hit.accept(DONE)
    assert status_of(answers[0]) == 200


async def test_localhost_is_a_right_host_too() -> None:
    """We never send that name (RFC 8252 section 8.3), but an API may rewrite the address to it: it is let in."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        good = request(listener.port, f"/callback?state={NONCE}", "GET", f"Host: localhost:{listener.port}")
        nursery.start_soon(ask, listener, answers, good)
        (await listener.wait_hit()).accept(DONE)
    assert status_of(answers[0]) == 200


async def test_a_refused_callback_may_come_again() -> None:
    """`refuse` answers 503 and leaves the nonce usable."""
    answers: list[bytes] = []
    async with still_waiting() as listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener, answers)
        (await listener.wait_hit()).refuse(DONE)
    assert status_of(answers[0]) == 503
    assert answers[0].decode().endswith(DONE)


async def test_cancelling_the_wait_loses_no_hit() -> None:
    """A hit that arrives after a cancelled `wait_hit` goes to the next one."""
    async with still_waiting() as listener:
        with trio.move_on_after(0):
            await listener.wait_hit()


# --- who does not get in (SECURITY 3 and 5) ----------------------------------------------------------------

WRONG = "another-one-of-the-same-forty-three-letters"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"/callback?state={WRONG}&access_token=evil", 400),
        (f"/callback?state={NONCE[:-1]}&access_token=evil", 400),
        (f"/callback?state={NONCE}x&access_token=evil", 400),
        ("/callback?state=%C3%A9&access_token=evil", 400),
        ("/callback?state=&access_token=evil", 400),
        ("/callback?access_token=evil", 400),
        ("/callback", 400),
        ("/callback?error=access_denied", 400),
        (f"/callback?error=access_denied&state={WRONG}", 400),
        (f"/callback?state={NONCE}&state={NONCE}", 400),
        (f"/callback?state={WRONG}&state={NONCE}&access_token=evil", 400),
        (f"/callback?state={NONCE}&state={WRONG}&access_token=evil", 400),
        (f"/callback?state={NONCE}&access_token=a&access_token=b", 400),
        (f"/callback?state={NONCE}&access_token=%ff", 400),
        (f"/callback?state={NONCE}&error=%1b%5b2J", 400),
        (f"/callback?state={NONCE}" + "".join(f"&p{n}=1" for n in range(40)), 400),
        ("/favicon.ico", 404),
        ("/", 404),
        (f"/callback/?state={NONCE}", 404),
        (f"//callback?state={NONCE}", 404),
        (f"/%63allback?state={NONCE}", 404),
        (f"/x/../callback?state={NONCE}", 404),
        (f"/Callback?state={NONCE}", 404),
        ("/status/t1", 404),
    ],
)
async def test_a_wrong_request_is_refused_and_the_wait_goes_on(target: str, status: int) -> None:
    """Missing, wrong or doubled nonce, also with `error=`, and every other path: 4xx, then a good one succeeds."""
    async with still_waiting() as listener:
        assert status_of(await exchange(listener.port, request(listener.port, target))) == status


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "DELETE", "TRACE"])
async def test_other_methods_are_refused_and_the_wait_goes_on(method: str) -> None:
    """Only GET is a browser coming back; the right nonce does not make up for it."""
    async with still_waiting() as listener:
        data = request(listener.port, f"/callback?state={NONCE}&x=1", method, f"Host: 127.0.0.1:{listener.port}")
        answer = await exchange(listener.port, data)
        assert status_of(answer) == 405
        assert b"\r\nallow: GET\r\n" in answer
        assert method != "HEAD" or answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: evil.example"], 400),
        (["Host: evil.example:{port}"], 400),
        (["Host: 127.0.0.1"], 400),
        (["Host: 127.0.0.1:1"], 400),
        (["Host: 127.0.0.1:{port}.evil.example"], 400),
        (["Host: 127.0.0.2:{port}"], 400),
        (["Host:"], 400),
        (["Host: 127.0.0.1:{port}", "Host: evil.example"], 400),
        (["Origin: https://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin: https://127.0.0.1:{port}"], 403),
        (["Origin: http://127.0.0.1:1"], 403),
        (["Sec-Fetch-Dest: iframe"], 403),
        (["Sec-Fetch-Dest: image"], 403),
        (["Sec-Fetch-Dest: script"], 403),
    ],
)
async def test_a_foreign_host_or_origin_is_refused_even_with_the_nonce(headers: list[str], status: int) -> None:
    """DNS rebinding and cross-site requests end in 4xx, and the wait goes on."""
    async with still_waiting() as listener:
        filled = [header.format(port=listener.port) for header in headers]
        data = request(listener.port, f"/callback?state={NONCE}&access_token=evil", "GET", *filled)
        assert status_of(await exchange(listener.port, data)) == status


async def test_a_missing_host_is_refused() -> None:
    """HTTP/1.1 without Host, and HTTP/1.0 that need not send one, are both turned away."""
    async with still_waiting() as listener:
        for version in ("1.1", "1.0"):
            data = f"GET /callback?state={NONCE} HTTP/{version}\r\nConnection: close\r\n\r\n".encode()
            assert status_of(await exchange(listener.port, data)) == 400


async def test_an_absolute_form_target_is_refused() -> None:
    """A request meant for a proxy is not one for us, whatever Host it carries (RFC 9112 section 3.2.2)."""
    async with still_waiting() as listener:
        for host in ("evil.example", f"127.0.0.1:{listener.port}"):
            target = f"http://{host}/callback?state={NONCE}&access_token=evil"
            assert status_of(await exchange(listener.port, request(listener.port, target))) == 404


@pytest.mark.parametrize("where", ["url", "header", "body"])
async def test_oversized_requests_are_refused_and_the_wait_goes_on(where: str) -> None:
    """A head over the bound is 4xx; a body nobody asked for is not read."""
    async with still_waiting() as listener:
        big = "a" * (MAX_HEAD + 1)
        data = {
            "url": request(listener.port, f"/callback?state={NONCE}&access_token={big}"),
            "header": request(listener.port, f"/callback?state={NONCE}", "GET", f"X: {big}"),
            "body": request(listener.port, "/callback", "POST", "Content-Length: 4000000") + b"x" * 4_000_000,
        }[where]
        answer = await exchange(listener.port, data)
        assert not answer or 400 <= status_of(answer) < 500


async def test_fifty_half_open_connections_do_not_stop_a_good_callback() -> None:
    """Silent connections and half-sent requests neither block the callback nor hold up the end."""
    with trio.fail_after(3):
        streams: list[trio.SocketStream] = []
        async with still_waiting() as listener:
            for number in range(50):
                stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
                await stream.send_all(request(listener.port)[: number * 2])
                streams.append(stream)
        for stream in streams:
            await stream.aclose()


async def test_a_web_socket_is_refused() -> None:
    """An upgrade with the right nonce is not a callback."""
    async with still_waiting() as listener:
        data = request(
            listener.port,
            f"/callback?state={NONCE}",
            "GET",
            f"Host: 127.0.0.1:{listener.port}",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ).replace(b"Connection: close", b"Connection: Upgrade")
        assert status_of(await exchange(listener.port, data)) == 403


@settings(max_examples=60, deadline=None)
@given(
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
    | st.lists(st.tuples(st.sampled_from(["state", "error", "access_token", ""]), st.text(max_size=8)), max_size=5).map(
        urlencode
    )
)
async def test_no_query_gets_in_without_the_nonce(query: str) -> None:
    """Whatever else the query says, without the nonce it is 400 and no hit."""
    async with still_waiting() as listener:
        assert status_of(await exchange(listener.port, request(listener.port, f"/callback?{query}"))) == 400


# --- single use ---------------------------------------------------------------------------------------------


async def test_a_replay_after_accept_is_a_conflict() -> None:
    """The nonce is used up: the same and a different callback get 409, a wrong nonce still 400 (SECURITY 3)."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener, answers)
        (await listener.wait_hit()).accept(DONE)
        assert status_of(await exchange(listener.port, request(listener.port))) == 409
        other = request(listener.port, f"/callback?state={NONCE}&access_token=evil")
        assert status_of(await exchange(listener.port, other)) == 409
        wrong = request(listener.port, f"/callback?state={WRONG}")
        assert status_of(await exchange(listener.port, wrong)) == 400
        with trio.move_on_after(0.01) as scope:
            await listener.wait_hit()
        assert scope.cancelled_caught
    assert status_of(answers[0]) == 200


async def test_of_two_browsers_at_once_one_gets_in() -> None:
    """The first is accepted, the second is told it was used; neither is left hanging."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        for token in ("one", "two"):
            data = request(listener.port, f"/callback?state={NONCE}&access_token={token}")
            nursery.start_soon(ask, listener, answers, data)
        hit = await listener.wait_hit()
        second = await listener.wait_hit()
        hit.accept(DONE)
        with pytest.raises(CallbackRejected):
            second.accept(DONE)
    assert sorted(map(status_of, answers)) == [200, 409]


async def test_after_a_refusal_the_other_browser_is_heard() -> None:
    """Two browsers, the first refused: the second is the next hit."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        for token in ("one", "two"):
            data = request(listener.port, f"/callback?state={NONCE}&access_token={token}")
            nursery.start_soon(ask, listener, answers, data)
        first = await listener.wait_hit()
        first.refuse(DONE)
        second = await listener.wait_hit()
        assert {first.params["access_token"], second.params["access_token"]} == {"one", "two"}
        second.accept(DONE)
    assert sorted(map(status_of, answers)) == [200, 503]


async def test_a_reload_while_waiting_is_the_same_callback() -> None:
    """An impatient person who reloads sees the page of the one hit, not a conflict with themselves."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener, answers)
        hit = await listener.wait_hit()
        nursery.start_soon(ask, listener, answers)
        await trio.testing.wait_all_tasks_blocked(0.05)
        hit.accept(DONE)
    assert [status_of(answer) for answer in answers] == [200, 200]


async def test_a_pipelined_second_request_is_no_second_hit() -> None:
    """Two requests in one packet: the second waits for the first and then meets a used nonce."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        first = request(listener.port).replace(b"Connection: close\r\n", b"")
        second = request(listener.port, f"/callback?state={NONCE}&access_token=evil")
        nursery.start_soon(ask, listener, answers, first + second)
        hit = await listener.wait_hit()
        assert hit.params == {"access_token": "t"}
        hit.accept(DONE)
        with trio.move_on_after(0.05) as scope:
            await listener.wait_hit()
        assert scope.cancelled_caught
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert b"evil" not in answers[0]
    assert answers[0].count(b"HTTP/1.1 ") == 1 or b"HTTP/1.1 409" in answers[0]


async def test_a_hit_is_decided_once() -> None:
    """Whoever decides a second time is told, and the browser keeps the first answer."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener, answers)
        hit = await listener.wait_hit()
        hit.refuse(DONE)
        with pytest.raises(CallbackRejected):
            hit.accept(DONE)
    assert status_of(answers[0]) == 503


# --- without a nonce (SECURITY 4) ---------------------------------------------------------------------------


async def test_without_a_nonce_the_redirect_uri_has_no_query() -> None:
    """The unbound callback takes what comes, once, and never more than a few at a time."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=None) as listener, trio.open_nursery() as nursery:
        assert listener.redirect_uri == f"http://127.0.0.1:{listener.port}/callback"
        for number in range(MAX_HELD + 1):
            data = request(listener.port, f"/callback?state=whatever&access_token={number}")
            nursery.start_soon(ask, listener, answers, data)
        hit = await listener.wait_hit()
        assert "state" not in hit.params
        while not answers:
            await trio.testing.wait_all_tasks_blocked()
        assert status_of(answers[0]) == 503
        hit.accept(DONE)
    assert sorted(map(status_of, answers)) == [200, *[409] * (MAX_HELD - 1), 503]


# --- the end ------------------------------------------------------------------------------------------------


async def test_closing_first_tells_the_browser_that_nothing_was_recorded() -> None:
    """A browser held when the listener goes gets 503 and "reload this page"."""
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery, listen_for_callback(port=0, nonce=NONCE) as listener:
        nursery.start_soon(ask, listener, answers)
        await listener.wait_hit()
    assert status_of(answers[0]) == 503
    assert b"reload this page" in answers[0]


async def test_cancellation_right_after_accept_still_answers_the_browser() -> None:
    """`accept` has returned, so the browser gets its page, though everything around is cancelled in the same step."""
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with listen_for_callback(port=0, nonce=NONCE) as listener:
                nursery.start_soon(ask, listener, answers)
                hit = await listener.wait_hit()
                hit.accept(DONE)
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
    assert status_of(answers[0]) == 200
    assert answers[0].decode().endswith(DONE)


async def test_cancellation_before_a_decision_answers_that_nothing_was_recorded() -> None:
    """Ctrl-C while the flow looks at the hit: the browser is told to reload, not left with a broken page."""
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with listen_for_callback(port=0, nonce=NONCE) as listener:
                nursery.start_soon(ask, listener, answers)
                await listener.wait_hit()
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert status_of(answers[0]) == 503


async def test_an_error_inside_arrives_as_raised_and_the_browser_is_told() -> None:
    """The flow's own error is not wrapped, and the held browser still gets its 503."""
    answers: list[bytes] = []
    async with trio.open_nursery() as nursery:
        caught: list[CallbackRejected] = []
        try:
            async with listen_for_callback(port=0, nonce=NONCE) as listener:
                nursery.start_soon(ask, listener, answers)
                await listener.wait_hit()
                raise CallbackRejected("the flow's own")
        except CallbackRejected as exc:
            caught.append(exc)
        assert caught[0].user_message == "the flow's own"
    assert status_of(answers[0]) == 503


async def test_a_browser_that_went_away_still_counts() -> None:
    """What was brought is the flow's, also when the tab was closed before the answer."""
    with trio.fail_after(2):
        async with listen_for_callback(port=0, nonce=NONCE) as listener:
            stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
            await stream.send_all(request(listener.port))
            hit = await listener.wait_hit()
            await stream.aclose()
            hit.accept(DONE)


async def test_outside_the_listener_the_connection_is_refused_and_the_port_is_free() -> None:
    """After it nobody listens, and a second listener takes the same port at once (SECURITY 1, 2)."""
    port = 0
    for _ in range(3):
        answers: list[bytes] = []
        async with listen_for_callback(port=port, nonce=NONCE) as listener, trio.open_nursery() as nursery:
            port = listener.port
            nursery.start_soon(ask, listener, answers)
            (await listener.wait_hit()).accept(DONE)
        assert status_of(answers[0]) == 200
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


async def test_a_busy_port_is_named() -> None:
    """The second of two runs on one port is told which port, and the first goes on waiting (SECURITY 2)."""
    async with still_waiting() as listener:
        with pytest.raises(PortBusy, match=str(listener.port)):
            async with listen_for_callback(port=listener.port, nonce=NONCE):
                pytest.fail("must not be entered")


async def test_a_resumed_wait_takes_the_open_tab() -> None:
    """A new listener with the journaled nonce and port accepts what the old one's tab brings (SECURITY 3)."""
    async with listen_for_callback(port=0, nonce=NONCE) as listener:
        uri = listener.redirect_uri
    answers: list[int] = []

    async def tab() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers.append((await client.get(f"{uri}&access_token=t")).status_code)

    async with listen_for_callback(port=listener.port, nonce=NONCE) as again, trio.open_nursery() as nursery:
        assert again.redirect_uri == uri
        nursery.start_soon(tab)
        (await again.wait_hit()).accept(DONE)
    assert answers == [200]


# --- what is shown (SECURITY 6, 8) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/callback", ""),
        ("/nothing", ""),
        ("/callback", "Host: evil.example"),
        ("/status/t", ""),
        ("/callback", "A: b"),
    ],
)
async def test_every_answer_carries_the_protecting_headers(target: str, host: str) -> None:
    """Also a refusal must not be stored, framed, sniffed or quoted as a referrer."""
    async with listen_for_callback(port=0, nonce=NONCE, status_page=lambda: StatusView("working")) as listener:
        answer = await exchange(listener.port, request(listener.port, target, "GET", *([host] if host else [])))
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nreferrer-policy: no-referrer" in head
    assert b"\r\ncache-control: no-store" in head
    assert b"\r\nx-content-type-options: nosniff" in head
    assert b"\r\nserver:" not in head
    if not target.startswith("/status"):
        assert b"content-security-policy: default-src 'none'" in head
        assert b"frame-ancestors 'none'" in head


async def test_no_answer_repeats_what_was_sent() -> None:
    """A refusal shows nothing of the query, so there is nothing to inject and no token on the page."""
    async with still_waiting() as listener:
        target = "/callback?state=QUERYVALUE&access_token=QUERYVALUE&error=%3Cscript%3EQUERYVALUE"
        assert b"QUERYVALUE" not in await exchange(listener.port, request(listener.port, target))


def test_a_hit_does_not_show_its_values() -> None:
    """The repr names the parameters only: values are tokens, and reprs end in logs and tracebacks."""
    shown = repr(CallbackHit({"access_token": "the-secret"}, lambda: None))
    assert "access_token" in shown
    assert "the-secret" not in shown


async def test_nonce_and_token_are_known_to_the_redactor() -> None:
    """From the moment they are met, nonce and token are hidden wherever they turn up."""
    nonce, answers = new_nonce(), list[bytes]()
    async with listen_for_callback(port=0, nonce=nonce) as listener, trio.open_nursery() as nursery:
        assert nonce not in redact(f"the nonce is {nonce}")
        target = f"/callback?state={nonce}&access_token=opaque-token-42"
        nursery.start_soon(ask, listener, answers, request(listener.port, target))
        (await listener.wait_hit()).accept(DONE)
        assert "opaque-token-42" not in redact("the token is opaque-token-42")


async def test_the_waiting_page_is_served_its_status() -> None:
    """`/status/anything` is JSON of the current view, under the same Host and Origin checks."""
    view = StatusView("provisioning", "Making the database")
    answers: list[bytes] = []
    async with (
        listen_for_callback(port=0, nonce=NONCE, status_page=lambda: view) as listener,
        trio.open_nursery() as nursery,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", trust_env=False) as client,
    ):
        nursery.start_soon(ask, listener, answers)
        (await listener.wait_hit()).accept(waiting_page("cs_1"))
        answer = await client.get("/status/cs_1", headers={"Sec-Fetch-Dest": "empty"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"status": "provisioning", "message": "Making the database", "app_url": None}
        view = StatusView("ready", app_url="https://t.example")
        assert (await client.get("/status/whatever")).json()["app_url"] == "https://t.example"
        assert (await client.post("/status/cs_1")).status_code == 405
        assert (await client.get("/status/cs_1", headers={"Host": "evil.example"})).status_code == 400
        assert (await client.get("/status/cs_1", headers={"Origin": "https://evil.example"})).status_code == 403
    assert b"connect-src 'self'" in answers[0]


def test_a_nonce_has_the_bits_it_should() -> None:
    """At least 128 bits, URL-safe, never the same."""
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 43 and nonce.replace("-", "").replace("_", "").isalnum() for nonce in nonces)
