"""Tests of sandbox/endpoint.py: idempotency keys, and the scripted faults of plain calls."""

from __future__ import annotations

import json

import httpx
import pytest
import trio
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox

from .conftest import Bearer, Paid

ORDER = {"price_id": "pri_sandbox_team", "region": "iad"}


async def order(http: httpx.AsyncClient, sandbox: Sandbox, headers: dict[str, str], **change: str) -> httpx.Response:
    return await http.post(f"{sandbox.url}/api/v1/checkout", headers=headers, json=ORDER | change)


async def test_the_same_key_and_body_is_one_checkout(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The second request gets the first one's answer, and the ledger says that it was replayed."""
    async with serve_sandbox() as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "flow:1:pay"}
        first, second = await order(http, sandbox, headers), await order(http, sandbox, headers)
        assert first.json() == second.json()
        assert first.headers["idempotency-supported"] == second.headers["idempotency-supported"] == "true"
        assert (sandbox.cloud.ledger.checkouts, sandbox.cloud.ledger.replayed) == (1, 1)


async def test_the_same_json_written_otherwise_is_the_same_body(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Spaces and the order of keys do not make it another request."""
    async with serve_sandbox() as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "k", "Content-Type": "application/json"}
        url = f"{sandbox.url}/api/v1/checkout"
        first = await http.post(url, headers=headers, content=b'{"price_id":"pri_sandbox_team","region":"iad"}')
        second = await http.post(url, headers=headers, content=b'{ "region": "iad", "price_id": "pri_sandbox_team" }')
        assert first.json() == second.json()


async def test_a_key_is_not_for_two_requests(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Another body, or another call, with a used key is 422 and has no effect."""
    async with serve_sandbox() as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "k"}
        await order(http, sandbox, headers)
        other = await order(http, sandbox, headers, region="fra")
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        elsewhere = await http.post(f"{sandbox.url}/api/v1/activity", headers=headers, json=ORDER)
        assert elsewhere.json()["error"]["code"] == "idempotency_key_reused"
        assert sandbox.cloud.ledger.checkouts == 1


async def test_keys_belong_to_accounts(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Two people may choose the same key."""
    async with serve_sandbox() as sandbox:
        for person in (0, 1):
            await order(http, sandbox, bearer(sandbox, person) | {"Idempotency-Key": "k"})
        assert (sandbox.cloud.ledger.checkouts, sandbox.cloud.ledger.replayed) == (2, 0)


async def test_a_refused_request_does_not_use_its_key_up(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """A refusal had no effect, so the corrected request may carry the same key."""
    async with serve_sandbox() as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "k"}
        assert (await order(http, sandbox, headers, region="mars")).status_code == 422
        assert (await order(http, sandbox, headers)).status_code == 200


async def test_a_key_must_be_one(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Empty and endless keys are 400."""
    async with serve_sandbox() as sandbox:
        for key in ("", "k" * 256):
            answer = await order(http, sandbox, bearer(sandbox) | {"Idempotency-Key": key})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_idempotency_key")


async def test_activity_and_external_access_honour_keys(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """A repeated report stands once in the ledger; a replayed PUT does not undo what came after it."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        report = {
            "event": "cloud_login",
            "timestamp": "2026-05-04T03:02:01Z",
            "data": {"user_id": sandbox.cloud.accounts[0].id},
        }
        for _ in range(2):
            answer = await http.post(
                f"{sandbox.url}/api/v1/activity", headers=headers | {"Idempotency-Key": "a"}, json=report
            )
            assert answer.status_code == 204
        assert len(sandbox.cloud.ledger.activities) == 1
        url = f"{sandbox.url}/api/v1/tenants/{tenant.id}/external-db-access"
        for key, enabled in (("on", True), ("off", False), ("on", True)):
            answer = await http.put(url, headers=headers | {"Idempotency-Key": key}, json={"enabled": enabled})
            assert answer.json()["data"]["external_db_access"] is enabled
        assert tenant.external_db_access is False


async def test_no_idempotency_is_not_announced_and_not_done(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Under this fault the same key buys twice, and no answer claims otherwise."""
    async with serve_sandbox(faults=["no-idempotency"]) as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "k"}
        answers = [await order(http, sandbox, headers) for _ in range(2)]
        assert not any("idempotency-supported" in answer.headers for answer in answers)
        assert sandbox.cloud.ledger.checkouts == 2


# --- faults ---


async def test_error_answers_as_often_as_asked(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The status and Retry-After are the asked ones, the work is not done, other paths are untouched."""
    async with serve_sandbox(faults=["error:status=503,retry_after=2,times=2,path=/checkout"]) as sandbox:
        headers = bearer(sandbox)
        assert (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)).status_code == 200
        for _ in range(2):
            answer = await order(http, sandbox, headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json()["error"]["code"] == "sandbox_fault"
        assert sandbox.cloud.ledger.checkouts == 0
        assert (await order(http, sandbox, headers)).status_code == 200


async def test_error_without_retry_after(http: httpx.AsyncClient) -> None:
    """A plain 500 says nothing about when to come back; faults strike before the token is looked at."""
    async with serve_sandbox(faults=["error:status=500"]) as sandbox:
        answer = await http.get(f"{sandbox.url}/api/v1/auth/me")
        assert answer.status_code == 500
        assert "retry-after" not in answer.headers


async def test_content_type_is_a_captive_portal(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """200 and HTML, with nothing of the API about it."""
    async with serve_sandbox(faults=["content-type:path=/me"]) as sandbox:
        answer = await http.get(f"{sandbox.url}/api/v1/auth/me", headers=bearer(sandbox))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "idempotency-supported" not in answer.headers
        assert (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=bearer(sandbox))).json()


async def test_unauthorized_strikes_midway(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """After two good calls the token is refused once; calls without a good token do not count."""
    async with serve_sandbox(faults=["unauthorized:after=2"]) as sandbox:
        url, headers = f"{sandbox.url}/api/v1/auth/me", bearer(sandbox)
        assert (await http.get(url)).status_code == 401
        assert [(await http.get(url, headers=headers)).status_code for _ in range(4)] == [200, 200, 401, 200]


async def test_lose_answer_does_the_work_first(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The connection breaks, the checkout exists, and the same key finds it again."""
    async with serve_sandbox(faults=["lose-answer:path=/checkout"]) as sandbox:
        headers = bearer(sandbox) | {"Idempotency-Key": "k"}
        with pytest.raises(httpx.RemoteProtocolError):
            await order(http, sandbox, headers)
        assert sandbox.cloud.ledger.checkouts == 1
        assert (await order(http, sandbox, headers)).json()["checkout_session_id"] in sandbox.cloud.checkouts
        assert (sandbox.cloud.ledger.checkouts, sandbox.cloud.ledger.replayed) == (1, 1)


async def test_slow_waits_on_the_worlds_clock(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The answer comes when the world's clock has passed the seconds, and not before."""
    time = 0.0
    async with serve_sandbox(faults=["slow:seconds=30,path=/me"], now=lambda: time) as sandbox:
        asked, answered = f"{sandbox.url}/api/v1/auth/me", trio.Event()

        async def ask() -> None:
            assert (await http.get(asked, headers=bearer(sandbox))).status_code == 200
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            # A whole other call goes by, and the slow one is still waiting.
            while not sandbox.cloud.ledger.requests["GET /api/v1/auth/me"]:
                await http.get(f"{sandbox.url}/sandbox/ledger")
            await http.get(f"{sandbox.url}/api/v1/tenants", headers=bearer(sandbox))
            assert not answered.is_set()
            time = 30.0
            sandbox.cloud.wake()
            await answered.wait()


async def test_a_slow_answer_does_not_keep_the_sandbox_from_ending(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Leaving the context ends what is still waiting."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(1.5):
            async with serve_sandbox(faults=["slow:seconds=600"]) as sandbox:

                async def ask() -> None:
                    await http.get(f"{sandbox.url}/api/v1/auth/me", headers=bearer(sandbox))

                nursery.start_soon(ask)
                while not sandbox.cloud.ledger.requests["GET /api/v1/auth/me"]:
                    await http.get(f"{sandbox.url}/sandbox/ledger")


# --- what a request may look like ---


@pytest.mark.parametrize(
    "body",
    [
        b'{"region": "\xff"}',
        b'{"x":' + b"[" * 60_000,
        b'{"x": "\\ud800"',
        b"\xef\xbb\xbf{}",
        b'{"x": 1e999}',
        b"9" * 5000,
        b"",
    ],
    ids=["not UTF-8", "too deep", "cut off", "byte order mark", "out of range", "huge number", "empty"],
)
async def test_a_body_that_cannot_be_read_is_refused(body: bytes, http: httpx.AsyncClient, bearer: Bearer) -> None:
    """422 in the API's words, with an Idempotency-Key as without, and the connection goes on."""
    async with serve_sandbox() as sandbox:
        headers = bearer(sandbox) | {"Content-Type": "application/json"}
        for extra in ({}, {"Idempotency-Key": "k"}):
            answer = await http.post(f"{sandbox.url}/api/v1/checkout", headers=headers | extra, content=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_body")
        assert sandbox.cloud.ledger.checkouts == 0


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "Content-Type"])
async def test_a_header_that_says_two_things_is_refused(name: str, http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Which of two tokens or keys is meant is not for a server to guess."""
    async with serve_sandbox() as sandbox:
        headers = {"Content-Type": "application/json", "Idempotency-Key": "k"} | bearer(sandbox)
        twice = [*headers.items(), (name, headers[name])]
        answer = await http.post(f"{sandbox.url}/api/v1/checkout", headers=twice, content=json.dumps(ORDER))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "duplicate_header")


async def test_a_redirect_uri_is_given_once(http: httpx.AsyncClient) -> None:
    """Of two, the one that was looked at must not be another than the one that is used."""
    async with serve_sandbox() as sandbox:
        good = ("redirect_uri", "http://127.0.0.1:1/")
        answer = await http.get(f"{sandbox.url}/api/v1/auth/oauth/github", params=[good, good])
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_redirect_uri")


async def test_an_answer_names_its_request(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The caller's own id when it can go into a log, a new one otherwise; refusals and unknown paths have one too."""
    async with serve_sandbox() as sandbox:
        url, headers = f"{sandbox.url}/api/v1/auth/me", bearer(sandbox)
        own = await http.get(url, headers=headers | {"X-Request-Id": "build-7:a.b_c"})
        assert own.headers["x-request-id"] == "build-7:a.b_c"
        for bad in ("", "a b", "<script>", "x" * 129, "-x"):
            given = (await http.get(url, headers=headers | {"X-Request-Id": bad})).headers["x-request-id"]
            assert given.startswith("req_sandbox_")
        others = [
            await http.get(url),
            await http.delete(url),
            await http.get(f"{sandbox.url}/api/v1/nothing"),
            await http.get(url, headers={"Host": "rebound.example"}),
        ]
        assert [answer.status_code for answer in others] == [401, 405, 404, 421]
        assert len({answer.headers["x-request-id"] for answer in others}) == 4


async def test_another_method_is_told_which_there_are(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """405 names every method of the path (RFC 9110 section 15.5.6), whichever calls they belong to."""
    async with serve_sandbox() as sandbox:
        for method in ("PATCH", "OPTIONS", "TRACE", "BREW"):
            answer = await http.request(method, f"{sandbox.url}/api/v1/tenants/t/secrets", headers=bearer(sandbox))
            assert (answer.status_code, answer.headers["allow"]) == (405, "PUT, GET")
            assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_another_path_is_not_redirected(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """A slash more is another path: 404, and no token is sent after a redirect."""
    async with serve_sandbox() as sandbox:
        answer = await http.get(f"{sandbox.url}/api/v1/tenants/", headers=bearer(sandbox))
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
