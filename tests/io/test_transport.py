"""What is sent again, what is not, and how long it takes to give up."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import httpx
import pytest
import trio
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.answers import parse_retry_after
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.http.transport import Answer
from systemprompt_cloud.testing.scripted import ME, TOKEN, ScriptedServer, api_error, client_of, serve_bytes
from typing_extensions import override


def test_an_answer_does_not_show_its_body() -> None:
    """It may hold a token, and a traceback or a log line is where one is lost first."""
    shown = repr(Answer("GET /x", httpx.Response(200), b'{"token":"opaque"}'))
    assert "opaque" not in shown
    assert "GET /x" in shown
    assert "200" in shown


class CountingBackoff(Backoff):
    """Waits nothing and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(base=0.0)
        self.asked: list[int] = []

    @override
    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        self.asked.append(attempt)
        return super().delay(attempt, retry_after)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_get_is_repeated_on_passing_failures(server: ScriptedServer, status: int) -> None:
    """A GET changes nothing, so a passing failure costs nobody anything."""
    server.plan(api_error(status), api_error(status), JSONResponse(ME))
    async with client_of(server) as client:
        await client.me()
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
async def test_get_is_not_repeated_on_lasting_refusals(server: ScriptedServer, status: int) -> None:
    """Asking again would give the same answer."""
    server.plan(api_error(status))
    async with client_of(server) as client:
        with pytest.raises(ApiError):
            await client.me()
    assert len(server.requests) == 1


async def test_tries_are_bounded(server: ScriptedServer) -> None:
    """After the last try the error of that try is raised."""
    server.plan(api_error(500), api_error(500), api_error(503))
    async with client_of(server, attempts=3) as client:
        with pytest.raises(ApiError) as bad:
            await client.me()
    assert bad.value.status == 503
    assert len(server.requests) == 3


async def test_retry_after_is_honoured(server: ScriptedServer) -> None:
    """The server is not asked again before the time it named."""
    server.plan(api_error(429, **{"Retry-After": "1"}), JSONResponse(ME))
    async with client_of(server) as client:
        started = trio.current_time()
        await client.me()
        assert trio.current_time() - started >= 1.0


async def test_retry_after_beyond_the_budget_is_told_at_once(server: ScriptedServer) -> None:
    """Sleeping towards a certain failure helps nobody; the error carries the wait for the caller's own plan."""
    server.plan(api_error(503, **{"Retry-After": "3600"}))
    async with client_of(server, retry_budget=5.0) as client:
        with trio.fail_after(2), pytest.raises(ApiError) as bad:
            await client.me()
    assert bad.value.retry_after == 3600.0
    assert len(server.requests) == 1


def test_retry_after_reads_both_forms() -> None:
    """Seconds, or a date, which is read against the server's own clock; anything else is no wish."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def read(value: str, **more: str) -> float | None:
        return parse_retry_after(httpx.Headers({"Retry-After": value} | more), now)

    assert read("120") == 120.0
    assert read("Thu, 01 Jan 2026 00:01:30 GMT") == 90.0
    assert read("Thu, 01 Jan 2026 00:01:30 GMT", Date="Thu, 01 Jan 2026 00:01:00 GMT") == 30.0
    assert read("Wed, 31 Dec 2025 00:00:00 GMT") == 0.0
    assert [read(value) for value in ("", "soon", "-5", "1.5", "1 2")] == [None] * 5
    assert read("9" * 5000) is not None


async def test_post_with_an_unknown_outcome_is_not_repeated(server: ScriptedServer) -> None:
    """A purchase whose answer got lost is reconciled, never silently made twice."""
    server.plan(api_error(503))
    async with client_of(server) as client:
        with pytest.raises(ApiError):
            await client.create_checkout("p", "iad", idempotency_key="k")
        assert client.honours_idempotency is False
    assert len(server.requests) == 1


async def test_post_is_repeated_with_the_same_key_once_the_server_honours_keys(server: ScriptedServer) -> None:
    """A server that says it honours keys may be asked again, with the very same one."""
    promise = {"Idempotency-Supported": "true"}
    answer = JSONResponse({"checkout_url": "u", "transaction_id": "t", "checkout_session_id": "c"}, headers=promise)
    server.plan(api_error(503, **promise), answer)
    async with client_of(server) as client:
        await client.create_checkout("p", "iad", idempotency_key="k-1")
        assert client.honours_idempotency is True
    assert [request.headers["idempotency-key"] for request in server.requests] == ["k-1", "k-1"]


async def test_a_conflict_with_its_own_first_try_is_no_refusal(server: ScriptedServer) -> None:
    """409 to a repetition says that the first try is still worked on: it is asked again. To a first try it is final."""
    promise = {"Idempotency-Supported": "true"}
    answer = JSONResponse({"checkout_url": "u", "transaction_id": "t", "checkout_session_id": "c"}, headers=promise)
    server.plan(api_error(504, **promise), api_error(409), answer, api_error(409))
    async with client_of(server) as client:
        await client.create_checkout("p", "iad", idempotency_key="k-1")
        assert len(server.requests) == 3
        with pytest.raises(ApiError) as refused:
            await client.create_checkout("p", "iad", idempotency_key="k-2")
    assert not refused.value.retryable
    assert len(server.requests) == 4


async def test_post_without_a_key_is_not_repeated(server: ScriptedServer) -> None:
    """The server's promise is about keys; without one there is none."""
    server.plan(api_error(503, **{"Idempotency-Supported": "true"}))
    async with client_of(server) as client:
        with pytest.raises(ApiError):
            await client.restart_tenant("t")
    assert len(server.requests) == 1


async def test_put_is_repeated(server: ScriptedServer) -> None:
    """Setting the same value again changes nothing more (RFC 9110 section 9.2.2)."""
    server.plan(api_error(503), api_error(502), Response(status_code=204))
    async with client_of(server) as client:
        await client.set_secrets("t", {"A": "value"})
    assert server.bodies == [server.bodies[0]] * 3


@pytest.mark.parametrize("status", [404, 410])
async def test_delete_that_is_gone_the_second_time_is_done(server: ScriptedServer, status: int) -> None:
    """The first try's answer was lost on its way back: that the thing is gone now is what was asked for."""
    server.plan(api_error(504), api_error(status))
    async with client_of(server) as client:
        await client.delete_tenant("t")
    assert [request.method for request in server.requests] == ["DELETE", "DELETE"]


@pytest.mark.parametrize("first", [None, 429, 408])
async def test_delete_of_what_was_never_there_is_an_error(server: ScriptedServer, first: int | None) -> None:
    """A 404 to the only try, or after tries that were surely turned away, is news to whoever asked."""
    server.plan(*([api_error(first)] if first else []), api_error(404))
    async with client_of(server) as client:
        with pytest.raises(ApiError) as absent:
            await client.unset_secret("t", "KEY")
    assert absent.value.status == 404


async def test_delete_whose_connection_broke_is_asked_again(server: ScriptedServer) -> None:
    """The server took the request and died: the next try finds out what became of it."""
    tries: list[bytes] = []
    async with serve_bytes(b"", tries) as url, CloudApiClient(url, TOKEN, attempts=2, backoff=Backoff(0.0)) as client:
        with pytest.raises(Network) as broken:
            await client.delete_custom_domain("t")
    assert broken.value.sent
    assert len(tries) == 2


async def test_each_try_has_an_id_and_the_error_names_the_last(server: ScriptedServer) -> None:
    """Whoever runs the API finds the very request in its log; two tries are two requests."""
    server.plan(api_error(503))
    async with client_of(server, attempts=3) as client:
        with pytest.raises(ApiError) as failed:
            await client.me()
    ids = [request.headers["x-request-id"] for request in server.requests]
    assert len(set(ids)) == 3
    assert failed.value.request_id == ids[-1]
    assert failed.value.user_message.endswith(f" (request {ids[-1]})")


@pytest.mark.parametrize("status", [200, 401, 404])
async def test_the_servers_own_request_id_is_the_one_shown(server: ScriptedServer, status: int) -> None:
    """It may replace ours; then its word is what its operators can look for."""
    server.plan(JSONResponse({"no": "record"}, status, {"X-Request-Id": "req_01J:abc/9"}))
    async with client_of(server) as client:
        with pytest.raises((ApiError, NotAuthenticated), match=r" \(request req_01J:abc/9\)$") as failed:
            await client.me()
    assert failed.value.request_id == "req_01J:abc/9"


@pytest.mark.parametrize("theirs", ["", "two words", "x" * 129, "a\x1b[2J"])
async def test_a_request_id_that_is_no_word_is_not_shown(server: ScriptedServer, theirs: str) -> None:
    """What a server sends there is as untrusted as all the rest; ours is shown instead."""
    server.plan(JSONResponse({}, 404, {"X-Request-Id": theirs}))
    async with client_of(server) as client:
        with pytest.raises(ApiError) as failed:
            await client.me()
    assert failed.value.request_id == server.requests[0].headers["x-request-id"]


async def test_a_request_that_never_left_has_no_id_to_look_for() -> None:
    """Nobody's log has it, so nobody is sent looking; one that may have arrived has."""
    async with serve_bytes(b"") as url, CloudApiClient(url, TOKEN, attempts=1) as client:
        with pytest.raises(Network, match=r"\(request [0-9a-f]{16}\)$"):
            await client.me()
    async with CloudApiClient(url, TOKEN, attempts=1) as client:
        with pytest.raises(Network) as unsent:
            await client.me()
    assert unsent.value.request_id is None


async def test_post_that_never_left_is_repeated() -> None:
    """When no connection was made nothing can have happened, so the tries go on until the server is there."""
    backoff = CountingBackoff()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with CloudApiClient(url, TOKEN, attempts=3, backoff=backoff) as client:
            with pytest.raises(Network) as broken:
                await client.create_checkout("p", "iad", idempotency_key="k")
    assert broken.value.sent is False
    assert backoff.asked == [0, 1]


async def test_post_whose_answer_was_cut_off_is_not_repeated() -> None:
    """The request arrived; its outcome is unknown and stays the caller's to find out."""
    asked: list[bytes] = []
    async with serve_bytes(b"", asked) as url, CloudApiClient(url, TOKEN, backoff=Backoff(base=0.0)) as client:
        with pytest.raises(Network) as broken:
            await client.create_checkout("p", "iad", idempotency_key="k")
    assert broken.value.sent is True
    assert len(asked) == 1


async def test_retries_leave_no_line_of_their_library_in_the_log(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells of a retry in our words only."""
    server.plan(api_error(500), JSONResponse(ME))
    async with client_of(server) as client:
        await client.me()
    assert [record for record in caplog.records if record.name == "stamina"] == []
