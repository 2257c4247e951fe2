"""Tests of sandbox/api.py: every call's shape against docs/reference/wire.md section 1, over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.testing.clock import WorldClock

from .conftest import Bearer, Buy, Paid

ORDER = {"price_id": "pri_sandbox_team", "region": "iad", "redirect_uri": "http://127.0.0.1:8766/callback?state=n"}

TOKEN_CALLS = [
    ("GET", "/api/v1/auth/me"),
    ("GET", "/api/v1/tenants"),
    ("GET", "/api/v1/checkout/plans"),
    ("POST", "/api/v1/checkout"),
    ("GET", "/api/v1/checkout/cs_1/events"),
    ("GET", "/api/v1/tenants/tnt_1/events"),
    ("GET", "/api/v1/tenants/tnt_1/status"),
    ("GET", "/api/v1/tenants/tnt_1/provisioned-secrets"),
    ("PUT", "/api/v1/tenants/tnt_1/external-db-access"),
    ("POST", "/api/v1/activity"),
]


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, whose body must be the API's."""
    body: dict[str, dict[str, Any]] = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    return answer.status_code, body["error"]["code"]


async def test_authorize_gives_a_page_on_this_cloud(http: httpx.AsyncClient) -> None:
    """No token is asked for, and the answer is a URL and nothing else."""
    async with serve_sandbox() as sandbox:
        for provider in ("github", "google"):
            answer = await http.get(
                f"{sandbox.url}/api/v1/auth/oauth/{provider}",
                params={"redirect_uri": "http://127.0.0.1:8765/callback?state=n"},
            )
            assert answer.status_code == 200
            assert set(answer.json()) == {"authorize_url"}
            assert answer.json()["authorize_url"].startswith(sandbox.url + "/")


async def test_authorize_refuses_other_providers_and_places(http: httpx.AsyncClient) -> None:
    """An unknown provider is 404; a redirect URI that is not loopback, or missing, is 400."""
    async with serve_sandbox() as sandbox:
        base = f"{sandbox.url}/api/v1/auth/oauth"
        good = {"redirect_uri": "http://127.0.0.1:8765/callback"}
        assert error_of(await http.get(f"{base}/gitlab", params=good)) == (404, "unknown_provider")
        assert error_of(await http.get(f"{base}/github")) == (400, "invalid_redirect_uri")
        evil = {"redirect_uri": "https://evil.example/callback"}
        assert error_of(await http.get(f"{base}/github", params=evil)) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(("method", "path"), TOKEN_CALLS)
async def test_every_other_call_needs_a_good_token(method: str, path: str, http: httpx.AsyncClient) -> None:
    """Without a token, or with one of another cloud, nothing is answered but 401 with a challenge (RFC 6750)."""
    async with serve_sandbox(seed=1) as other, serve_sandbox() as sandbox:
        account = other.cloud.accounts[0]
        foreign = {"Authorization": f"Bearer {other.cloud.tokens.issue(account.id, account.email)}"}
        bare = await http.request(method, sandbox.url + path)
        assert error_of(bare) == (401, "missing_token")
        assert bare.headers["www-authenticate"].startswith("Bearer ")
        assert error_of(await http.request(method, sandbox.url + path, headers=foreign)) == (401, "invalid_token")


async def test_a_token_ages_by_the_handed_in_clock(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The same token is good and then expired, and the code says which."""
    wall = WorldClock()
    async with serve_sandbox(wall=wall, token_lifetime=60) as sandbox:
        headers = bearer(sandbox)
        assert (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)).status_code == 200
        wall.time = 61
        assert error_of(await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)) == (401, "token_expired")


async def test_me_of_somebody_new(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """A user, no customer yet, no tenants."""
    async with serve_sandbox() as sandbox:
        body = (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=bearer(sandbox))).json()
        assert set(body) == {"user", "customer", "tenants"}
        assert set(body["user"]) == {"id", "email", "name"}
        assert "sandbox" in body["user"]["id"]
        assert (body["customer"], body["tenants"]) == (None, [])


async def test_plans_are_a_bare_list(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """The one answer without an envelope."""
    async with serve_sandbox() as sandbox:
        answer = await http.get(f"{sandbox.url}/api/v1/checkout/plans", headers=bearer(sandbox))
        body: list[dict[str, Any]] = answer.json()
        assert type(body) is list
        assert len(body) == 3
        for plan in body:
            assert set(plan) == {"id", "name", "paddle_price_id", "memory_mb_default", "volume_gb", "max_tenants"}
            assert "Sandbox" in plan["name"]


async def test_checkout_gives_what_can_be_followed(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """A page on this cloud, a transaction and a session; the redirect URI may be left out."""
    async with serve_sandbox() as sandbox:
        for order in (ORDER, {"price_id": "pri_sandbox_starter", "region": "gru"}):
            answer = await http.post(f"{sandbox.url}/api/v1/checkout", headers=bearer(sandbox), json=order)
            assert answer.status_code == 200
            assert set(answer.json()) == {"checkout_url", "transaction_id", "checkout_session_id"}
            assert answer.json()["checkout_url"].startswith(sandbox.url + "/")
        assert (await http.get(f"{sandbox.url}/sandbox/ledger")).json()["checkouts"] == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (ORDER | {"price_id": "pri_gold"}, (422, "unknown_price")),
        (ORDER | {"region": "mars"}, (422, "unknown_region")),
        (ORDER | {"redirect_uri": "http://evil.example/"}, (400, "invalid_redirect_uri")),
        ({"region": "iad"}, (422, "invalid_body")),
        (ORDER | {"region": 7}, (422, "invalid_body")),
        ([], (422, "invalid_body")),
    ],
)
async def test_an_impossible_order_changes_nothing(
    body: object, expected: tuple[int, str], http: httpx.AsyncClient, bearer: Bearer
) -> None:
    """It is refused by name, and the ledger counts no checkout."""
    async with serve_sandbox() as sandbox:
        answer = await http.post(f"{sandbox.url}/api/v1/checkout", headers=bearer(sandbox), json=body)
        assert error_of(answer) == expected
        assert sandbox.cloud.ledger.checkouts == 0


async def test_bodies_are_json_and_bounded(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Another content type is 415, broken JSON 422, more than 64 KiB 413."""
    async with serve_sandbox() as sandbox:
        url, headers = f"{sandbox.url}/api/v1/checkout", bearer(sandbox)
        assert error_of(await http.post(url, headers=headers, data=ORDER)) == (415, "unsupported_media_type")
        as_json = headers | {"Content-Type": "application/json"}
        assert error_of(await http.post(url, headers=as_json, content=b"{")) == (422, "invalid_body")
        assert error_of(await http.post(url, headers=as_json, content=b" " * 70_000)) == (413, "too_large")


async def test_a_tenant_from_payment_to_ready(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Status, secrets, `/auth/me` and the list follow one clock: working, then ready with its addresses."""
    clock = WorldClock()
    async with serve_sandbox(now=clock, step_seconds=1.0) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        api = f"{sandbox.url}/api/v1"

        async def get(path: str) -> Any:
            return (await http.get(api + path, headers=headers)).json()

        status = await get(f"/tenants/{tenant.id}/status")
        assert set(status) == {"data"}
        assert set(status["data"]) == {"status", "message", "app_url", "secrets_url"}
        assert (status["data"]["status"], status["data"]["secrets_url"]) == ("provisioning", None)
        early = await http.get(f"{api}/tenants/{tenant.id}/provisioned-secrets", headers=headers)
        assert error_of(early) == (409, "not_ready")
        assert (await get("/auth/me"))["tenants"][0]["status"] == "pending"

        clock.time = 6.0
        assert (await get(f"/tenants/{tenant.id}/status"))["data"]["message"] == "The virtual machine is booting"

        clock.time = 10.0
        status = (await get(f"/tenants/{tenant.id}/status"))["data"]
        assert status["status"] == "ready"
        assert status["app_url"].startswith("https://")
        secrets = (await http.get(sandbox.url + status["secrets_url"], headers=headers)).json()
        assert set(secrets) == {
            "jwt_secret",
            "database_url",
            "internal_database_url",
            "app_url",
            "sync_token",
            "anthropic_api_key",
            "openai_api_key",
            "gemini_api_key",
        }
        assert "@db-sandbox" in secrets["database_url"]
        assert secrets["database_url"].endswith("sslmode=disable")
        assert (await http.get(sandbox.url + status["secrets_url"], headers=headers)).json() == secrets

        me = await get("/auth/me")
        assert set(me["customer"]) == {"id", "status"}
        info = me["tenants"][0]
        assert set(info) == {
            "id",
            "name",
            "subscription_id",
            "subscription_status",
            "app_id",
            "hostname",
            "region",
            "status",
            "plan",
            "external_db_access",
            "database_url",
        }
        assert set(info["plan"]) == {"id", "name", "memory_mb", "volume_gb"}
        assert (info["id"], info["status"], info["region"]) == (tenant.id, "active", "fra")
        assert "Sandbox" in info["name"]
        assert ":***@" in info["database_url"]

        listed = await get("/tenants")
        assert set(listed) == {"data"}
        assert set(listed["data"][0]) == {"id", "name", "fly_app_name", "fly_hostname", "hostname"}


async def test_external_access_moves_the_database_host(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Enabling answers with the public host and required TLS, disabling with the inner one again."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        url = f"{sandbox.url}/api/v1/tenants/{paid(sandbox).id}/external-db-access"
        answer = (await http.put(url, headers=bearer(sandbox), json={"enabled": True})).json()
        assert set(answer) == {"data"}
        assert set(answer["data"]) == {"tenant_id", "external_db_access", "database_url"}
        assert answer["data"]["external_db_access"] is True
        assert "@db-sandbox.systemprompt.io:" in answer["data"]["database_url"]
        assert answer["data"]["database_url"].endswith("sslmode=require")
        me = (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=bearer(sandbox))).json()
        assert me["tenants"][0]["external_db_access"] is True
        answer = (await http.put(url, headers=bearer(sandbox), json={"enabled": False})).json()
        assert answer["data"]["database_url"].endswith("sslmode=disable")
        assert error_of(await http.put(url, headers=bearer(sandbox), json={"enabled": "yes"})) == (422, "invalid_body")


async def test_external_access_waits_for_the_tenant(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """There is no database to open while it is being made."""
    async with serve_sandbox(step_seconds=1000) as sandbox:
        url = f"{sandbox.url}/api/v1/tenants/{paid(sandbox).id}/external-db-access"
        assert error_of(await http.put(url, headers=bearer(sandbox), json={"enabled": True})) == (409, "not_ready")


async def test_activity_is_written_down(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """A login report is 204 and stands in the ledger as it was sent."""
    async with serve_sandbox() as sandbox:
        user_id = sandbox.cloud.accounts[0].id
        report = {"event": "cloud_login", "timestamp": "2026-05-04T03:02:01Z", "data": {"user_id": user_id}}
        answer = await http.post(f"{sandbox.url}/api/v1/activity", headers=bearer(sandbox), json=report)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await http.get(f"{sandbox.url}/sandbox/ledger")).json()["activities"] == [report]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"event": "cloud_party"}, (422, "unknown_event")),
        ({"timestamp": "yesterday"}, (422, "invalid_timestamp")),
        ({"timestamp": "2026-05-04T03:02:01"}, (422, "invalid_timestamp")),
        ({"data": {"user_id": "somebody"}}, (403, "not_yours")),
        ({"data": {}}, (422, "invalid_body")),
    ],
)
async def test_an_activity_that_cannot_be_is_refused(
    change: dict[str, Any], expected: tuple[int, str], http: httpx.AsyncClient, bearer: Bearer
) -> None:
    """Unknown events, times without an offset and other people's activities are not written down."""
    async with serve_sandbox() as sandbox:
        user_id = sandbox.cloud.accounts[0].id
        report = {"event": "cloud_login", "timestamp": "2026-05-04T03:02:01Z", "data": {"user_id": user_id}} | change
        answer = await http.post(f"{sandbox.url}/api/v1/activity", headers=bearer(sandbox), json=report)
        assert error_of(answer) == expected
        assert sandbox.cloud.ledger.activities == []


async def test_nobody_sees_what_is_another_accounts(http: httpx.AsyncClient, bearer: Bearer, buy: Buy) -> None:
    """A tenant and a checkout of somebody else are as absent as ones that never were."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        checkout = buy(sandbox)
        sandbox.cloud.answer_payment(checkout, "pay")
        assert checkout.tenant is not None
        grace, api = bearer(sandbox, 1), f"{sandbox.url}/api/v1"
        for tenant_id in (checkout.tenant.id, "tnt_none", "%2e%2e"):
            for last in ("status", "events", "provisioned-secrets"):
                answer = await http.get(f"{api}/tenants/{tenant_id}/{last}", headers=grace)
                assert error_of(answer) == (404, "tenant_not_found")
        answer = await http.get(f"{api}/checkout/{checkout.id}/events", headers=grace)
        assert error_of(answer) == (404, "checkout_not_found")
        assert (await http.get(f"{api}/tenants", headers=grace)).json() == {"data": []}


async def test_the_ledger_counts_requests_by_template(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Refused calls count too, ids do not make new rows, and looking at the ledger is not counted."""
    async with serve_sandbox() as sandbox:
        for tenant_id in ("a", "b"):
            await http.get(f"{sandbox.url}/api/v1/tenants/{tenant_id}/status", headers=bearer(sandbox))
        await http.get(f"{sandbox.url}/api/v1/auth/me")
        first = (await http.get(f"{sandbox.url}/sandbox/ledger")).json()
        assert (await http.get(f"{sandbox.url}/sandbox/ledger")).json() == first
        assert first == {
            "checkouts": 0,
            "tenants": 0,
            "activities": [],
            "deployments": [],
            "changes": {},
            "requests": {"GET /api/v1/tenants/{id}/status": 2, "GET /api/v1/auth/me": 1},
            "replayed": 0,
        }


async def test_equal_seeds_are_equal_clouds(http: httpx.AsyncClient, bearer: Bearer) -> None:
    """Ids depend on the seed only, and a token outlives a restart with the same seed."""
    sessions: list[str] = []
    headers: dict[str, str] = {}
    for _ in range(2):
        async with serve_sandbox(seed=42) as sandbox:
            headers = headers or bearer(sandbox)
            answer = await http.post(f"{sandbox.url}/api/v1/checkout", headers=headers, json=ORDER)
            sessions.append(answer.json()["checkout_session_id"])
    assert sessions[0] == sessions[1]
