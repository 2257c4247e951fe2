"""Tests of the faults in which somebody says what is not so: proxies, streams, replicas, the payer's browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.state import PLANS, Checkout
from systemprompt_cloud.testing.clock import WorldClock

from tests.support.bare_stream import read_to_the_end

from .conftest import Bearer, Buy, Paid, events_url

CALLBACK = "http://127.0.0.1:8766/callback?state=n"


def open_checkout(sandbox: Sandbox) -> Checkout:
    """A checkout whose payer is to be sent back to `CALLBACK`."""
    return sandbox.cloud.open_checkout(sandbox.cloud.accounts[0], PLANS[0], "fra", CALLBACK)


def brought_back(sandbox: Sandbox, checkout: Checkout, decision: str) -> dict[str, str]:
    """What the browser brings back after this decision."""
    location = sandbox.cloud.answer_payment(checkout, decision)
    assert location is not None
    assert location.startswith(CALLBACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def test_a_proxys_page_is_no_answer_of_the_api(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The status is the asked one, the body is HTML, the API's headers are absent, and no work is done."""
    async with serve_sandbox(faults=["proxy-page:status=502,path=/checkout"]) as sandbox:
        order = {"price_id": "pri_sandbox_team", "region": "iad"}
        url, headers = f"{sandbox.url}/api/v1/checkout", bearer(sandbox)
        answer = await http.post(url, headers=headers, json=order)
        assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html; charset=utf-8")
        assert not {"idempotency-supported", "x-request-id"} & set(answer.headers)
        assert sandbox.cloud.ledger.checkouts == 0
        assert (await http.post(url, headers=headers, json=order)).status_code == 200


async def test_a_server_without_streams_answers_everything_else(
    http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Every stream is refused for as long as the fault lasts, and the status is told as ever."""
    async with serve_sandbox(faults=["no-stream:status=501"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        for _ in range(3):
            answer = await http.get(events_url(sandbox, tenant), headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (501, "not_found")
        session = f"{sandbox.url}/api/v1/checkout/{tenant.checkout_session_id}/events"
        assert (await http.get(session, headers=headers)).status_code == 501
        status = await http.get(f"{sandbox.url}/api/v1/tenants/{tenant.id}/status", headers=headers)
        assert status.status_code == 200


async def test_a_foreign_event_names_another_tenant(bearer: Bearer, paid: Paid) -> None:
    """It stands once among the ten, without an id, and says what the fault says of a tenant nobody has."""
    faults = ["foreign-event:after=1,says=provisioning_failed"]
    async with serve_sandbox(step_seconds=0, faults=faults) as sandbox:
        tenant = paid(sandbox)
        events = await read_to_the_end(events_url(sandbox, tenant), bearer(sandbox))
    assert [event.id for event in events] == ["1", "", *(str(number) for number in range(2, 11))]
    told: dict[str, Any] = events[1].record
    assert told["event_type"] == "provisioning_failed"
    assert told["tenant_id"] != tenant.id
    assert told["checkout_session_id"] != tenant.checkout_session_id
    assert told["tenant_id"] not in sandbox.cloud.tenants


async def test_a_false_event_is_of_the_streams_own_tenant(bearer: Bearer, paid: Paid) -> None:
    """It says of the right tenant what is not so, and the true events follow."""
    async with serve_sandbox(step_seconds=0, faults=["false-event:after=2"]) as sandbox:
        tenant = paid(sandbox)
        events = await read_to_the_end(events_url(sandbox, tenant), bearer(sandbox))
    assert [event.id for event in events] == ["1", "2", "", *(str(number) for number in range(3, 11))]
    assert events[2].record["tenant_id"] == tenant.id
    assert events[2].record["event_type"] == "provisioning_failed"
    assert events[-1].record["event_type"] == "tenant_ready"


async def test_a_replica_that_is_behind_says_what_was_so(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """The status is older than the work, and a tenant younger than the replica is in neither list; then all is told."""
    clock = WorldClock()
    faults = [f"stale:seconds=1.5,path={path}" for path in ("/status", "/auth/me", "/tenants")]
    async with serve_sandbox(step_seconds=0.1, now=clock, faults=faults) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        clock.time = 1.2
        sandbox.cloud.wake()
        api = f"{sandbox.url}/api/v1"

        async def tenants(path: str) -> list[dict[str, Any]]:
            return (await http.get(f"{api}{path}", headers=headers)).json()["tenants"]

        assert await tenants("/auth/me") == []
        assert [record["id"] for record in await tenants("/auth/me")] == [tenant.id]
        listed = [(await http.get(f"{api}/tenants", headers=headers)).text for _ in range(2)]
        assert [tenant.id in text for text in listed] == [False, True]
        clock.time = 1.7
        url = f"{api}/tenants/{tenant.id}/status"
        seen = [(await http.get(url, headers=headers)).json()["data"]["status"] for _ in range(2)]
        assert seen == ["provisioning", "ready"]


@pytest.mark.parametrize(
    ("says", "decision", "expected"),
    [
        ("error", "pay", {"error": "payment_declined"}),
        ("completed", "decline", {"status": "completed", "tenant_id": "tnt_sandbox_other"}),
        ("pending", "decline", {"status": "pending"}),
        ("nothing", "pay", {"status": "unknown"}),
    ],
)
async def test_a_false_callback_says_nothing_about_the_payment(
    says: str, decision: str, expected: dict[str, str]
) -> None:
    """The browser brings back what the fault says; what was paid is decided by the payer alone, as without it."""
    async with serve_sandbox(faults=[f"false-callback:says={says}"]) as sandbox:
        checkout = open_checkout(sandbox)
        query = brought_back(sandbox, checkout, decision)
        assert query["state"] == "n"
        assert expected.items() <= query.items()
        assert (checkout.tenant is not None) is (decision == "pay")
        assert query.get("tenant_id") not in sandbox.cloud.tenants
        # The fault is used up: the next payer is sent back with what is so.
        assert brought_back(sandbox, open_checkout(sandbox), "pay")["status"] == "completed"


async def test_a_lost_callback_leaves_the_payer_at_a_page(http: httpx.AsyncClient) -> None:
    """The payment stands, the answer is a page, and it names no place to go to."""
    async with serve_sandbox(faults=["lost-callback"]) as sandbox:
        checkout = open_checkout(sandbox)
        url = f"{sandbox.url}/sandbox/pay/{checkout.id}"
        form = (await http.get(url)).text
        csrf = form.split('name="csrf" value="')[1].split('"')[0]
        answer = await http.post(url, data={"csrf": csrf, "decision": "pay"})
        assert (answer.status_code, "location" in answer.headers) == (200, False)
        assert CALLBACK not in answer.text
        assert checkout.tenant is not None


async def test_secrets_once_gives_each_tenants_secrets_to_one_call(
    http: httpx.AsyncClient, bearer: Bearer, buy: Buy
) -> None:
    """A refusal before the tenant is ready gives nothing out; then it is one answer for each tenant, and 410."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["secrets-once"]) as sandbox:
        for _ in range(2):
            checkout = buy(sandbox)
            sandbox.cloud.answer_payment(checkout, "pay")
        first, second = (
            f"{sandbox.url}/api/v1/tenants/{tenant}/provisioned-secrets" for tenant in sandbox.cloud.tenants
        )
        headers = bearer(sandbox)
        assert (await http.get(first, headers=headers)).status_code == 409
        clock.time = 60.0
        answers = [(await http.get(url, headers=headers)) for url in (first, first, second, second)]
        assert [answer.status_code for answer in answers] == [200, 410, 200, 410]
        assert answers[1].json()["error"]["code"] == "gone"
