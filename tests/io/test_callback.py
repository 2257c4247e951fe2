"""The callback listener and whoever it lets in: held until the flow has decided, once, and told the truth."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import httpx
import pytest
import trio
import trio.testing
from systemprompt_cloud.errors import CallbackRejected, PortBusy
from systemprompt_cloud.io.loopback.callback import MAX_HELD, listen_for_callback, new_nonce

from tests.support.tab import DONE, NONCE, ask, exchange, request, status_of, still_waiting

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
        wrong = request(listener.port, f"/callback?state={NONCE[::-1]}")
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


async def test_who_is_refused_is_hung_up_on() -> None:
    """A program that keeps its connection after a refusal takes no place from the browser."""
    async with still_waiting() as listener:
        stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
        async with stream:
            await stream.send_all(request(listener.port, "/favicon.ico").replace(b"Connection: close\r\n", b""))
            answer = b""
            while part := await stream.receive_some():
                answer += part
        assert status_of(answer) == 404
        assert b"connection: close" in answer.lower()


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


def test_a_nonce_has_the_bits_it_should() -> None:
    """256 bits, URL-safe, never the same."""
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 43 and nonce.replace("-", "").replace("_", "").isalnum() for nonce in nonces)


def test_listening_needs_no_web_framework() -> None:
    """h11 and trio are enough: whoever logs in waits for no other server to load."""
    script = "import sys, systemprompt_cloud.io.loopback.callback; print({*sys.modules} & {'hypercorn', 'starlette'})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
