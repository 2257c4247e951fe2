"""Tests of sandbox/upkeep.py and sandbox/tenant_calls.py: what is done to a tenant, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jwt
import pytest
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.state import SandboxTenant
from systemprompt_cloud.testing.clock import WorldClock

from .conftest import Bearer, Paid


class Asking:
    """Somebody's calls about one tenant."""

    def __init__(
        self, http: httpx.AsyncClient, sandbox: Sandbox, headers: dict[str, str], tenant: SandboxTenant
    ) -> None:
        self.http = http
        self.headers = headers
        self.url = f"{sandbox.url}/api/v1/tenants/{tenant.id}"
        self.me_url = f"{sandbox.url}/api/v1/auth/me"

    async def ask(self, method: str, path: str = "", body: object = None, key: str | None = None) -> httpx.Response:
        headers = self.headers | ({} if key is None else {"Idempotency-Key": key})
        return await self.http.request(method, self.url + path, headers=headers, json=body)

    async def refused(self, method: str, path: str = "", body: object = None) -> tuple[int, str]:
        """Status and code of a call that is refused."""
        answer = await self.ask(method, path, body)
        return answer.status_code, answer.json()["error"]["code"]

    async def status(self) -> dict[str, Any]:
        return (await self.ask("GET", "/status")).json()["data"]

    async def info(self) -> dict[str, Any]:
        return (await self.http.get(self.me_url, headers=self.headers)).json()["tenants"][0]


CHANGES = [
    ("GET", "/registry-token", None),
    ("POST", "/deploy", {"image": "app:1"}),
    ("POST", "/restart", None),
    ("POST", "/retry-provision", None),
    ("PUT", "/secrets", {"secrets": {"A": "1"}}),
    ("GET", "/secrets", None),
    ("DELETE", "/secrets/A", None),
    ("PUT", "/external-db-access", {"enabled": True}),
    ("POST", "/rotate-credentials", None),
    ("POST", "/rotate-sync-token", None),
    ("POST", "/custom-domain", {"domain": "www.example.org"}),
    ("GET", "/custom-domain", None),
    ("DELETE", "/custom-domain", None),
    ("POST", "/subscription/cancel", None),
    ("DELETE", "", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_nobody_reaches_anothers_tenant(
    method: str, path: str, body: object, http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Without a token it is 401, with somebody else's 404, and nothing is changed."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        assert await Asking(http, sandbox, {}, tenant).refused(method, path, body) == (401, "missing_token")
        grace = Asking(http, sandbox, bearer(sandbox, 1), tenant)
        assert await grace.refused(method, path, body) == (404, "tenant_not_found")
        assert not sandbox.cloud.ledger.changes
        assert tenant.id in sandbox.cloud.tenants


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [change for change in CHANGES if change[1].startswith(("/reg", "/dep", "/res", "/ret", "/rot", "/ext"))],
)
async def test_what_is_being_built_is_not_worked_on(
    method: str, path: str, body: object, http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Until the infrastructure is there, and when there is nothing to retry, it is 409."""
    async with serve_sandbox(step_seconds=1000) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        assert await asking.refused(method, path, body) in {(409, "not_ready"), (409, "nothing_to_retry")}


async def test_a_deployment_takes_its_time_and_ends_ready(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Its status says deploying, in several words, then ready again; meanwhile there is no second one."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        clock.time = 10.0
        answer = await asking.ask("POST", "/deploy", {"image": "registry.example:5000/team/app:1.2"})
        assert set(answer.json()["data"]) == {"status", "app_url"}
        assert answer.json()["data"]["status"] == "deploying"
        told: list[str] = []
        for clock.time in (10.0, 11.0, 12.5):
            status = await asking.status()
            assert status["status"] == "deploying"
            told.append(status["message"])
        assert len(set(told)) == 3
        assert await asking.refused("POST", "/deploy", {"image": "app:2"}) == (409, "busy")
        assert await asking.refused("POST", "/restart") == (409, "busy")
        clock.time = 13.0
        assert ((await asking.status())["status"], (await asking.status())["app_url"]) == ("ready", status["app_url"])
        ledger = (await http.get(f"{sandbox.url}/sandbox/ledger")).json()
        image = {"tenant_id": tenant.id, "image": "registry.example:5000/team/app:1.2", "succeeds": True}
        assert (ledger["deployments"], ledger["changes"]) == ([image], {"deploy": 1})


@pytest.mark.parametrize(
    "image",
    ["", "-app", "App", "a//b", "app:", "app:-1", "app@sha256:0", "a b", "app\n", "https://x/y", "a/b:c:d", "x" * 256],
)
async def test_what_names_no_image_is_not_deployed(
    image: str, http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """422, and the ledger holds no deployment."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        assert await asking.refused("POST", "/deploy", {"image": image}) == (422, "invalid_body")
        assert sandbox.cloud.ledger.deployments == []


async def test_a_first_deploy_makes_a_waiting_tenant_ready(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """A tenant that stopped at infrastructure_ready tells tenant_ready on its stream once its image runs."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["needs-deploy"]) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        clock.time = 9.1
        assert await asking.refused("POST", "/restart") == (409, "nothing_runs")
        async with http.stream("GET", asking.url + "/events", headers=asking.headers) as stream:
            lines = stream.aiter_lines()
            async for line in lines:
                if "infrastructure_ready" in line:
                    break
            assert (await asking.ask("POST", "/deploy", {"image": "app"})).status_code == 200
            clock.time = 12.1
            sandbox.cloud.wake()
            last = [json.loads(line[6:]) async for line in lines if line.startswith('data: {"')]
        assert [event["event_type"] for event in last] == ["tenant_ready"]
        assert (await asking.status())["app_url"] == last[0]["app_url"]


async def test_a_failed_deployment_says_why_and_can_be_made_up_for(
    http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Under `deploy-failure` the first deployment is accepted and fails, and the next one is well."""
    async with serve_sandbox(step_seconds=0, faults=["deploy-failure"]) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        assert (await asking.ask("POST", "/deploy", {"image": "app:1"})).status_code == 200
        status = await asking.status()
        assert (status["status"], "did not start" in status["message"]) == ("failed", True)
        assert (await asking.ask("POST", "/deploy", {"image": "app:2"})).status_code == 200
        assert (await asking.status())["status"] == "ready"
        assert [made.succeeds for made in sandbox.cloud.ledger.deployments] == [False, True]


async def test_a_restart_is_a_step_long(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Restarting, then ready as before."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        clock.time = 20.0
        assert (await asking.ask("POST", "/restart")).json() == {"status": "restarting"}
        assert (await asking.status())["status"] == "restarting"
        clock.time = 21.0
        assert (await asking.status())["status"] == "ready"


async def test_a_failed_provisioning_can_be_tried_again(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """It goes on where it had failed, is ready in the end, and its history holds no failure any more."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["provisioning-failure:after=4"]) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        clock.time = 5.0
        assert (await asking.status())["status"] == "failed"
        assert (await asking.ask("POST", "/retry-provision")).json() == {"status": "provisioning"}
        assert await asking.refused("POST", "/retry-provision") == (409, "nothing_to_retry")
        clock.time = 6.0
        assert (await asking.status())["message"] == "Starting a virtual machine"
        clock.time = 11.0
        assert (await asking.status())["status"] == "ready"
        # Who had heard of the failure, event 5, gets what is newer; who had heard nothing gets ten events.
        assert [step.number for step in tenant.steps] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


async def test_a_provisioning_can_fail_more_than_once(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """With `times=2` the second attempt fails as well, and the third does not."""
    async with serve_sandbox(step_seconds=0, faults=["provisioning-failure:after=4,times=2"]) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        for expected in ("failed", "ready"):
            await asking.ask("POST", "/retry-provision")
            assert (await asking.status())["status"] == expected


async def test_a_deleted_tenant_is_gone_everywhere(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """204; then 404 at every call, no line in any list, and the streams that were open end."""
    async with serve_sandbox(step_seconds=1000) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        checkout = f"{sandbox.url}/api/v1/checkout/{tenant.checkout_session_id}/events"
        async with http.stream("GET", asking.url + "/events", headers=asking.headers) as stream:
            async with http.stream("GET", checkout, headers=asking.headers) as other:
                assert (await asking.ask("DELETE")).status_code == 204
                assert "tenant_ready" not in (await other.aread()).decode()
            assert "tenant_ready" not in (await stream.aread()).decode()
        for method, path, body in [*CHANGES, ("GET", "/status", None), ("GET", "/events", None)]:
            assert await asking.refused(method, path, body) == (404, "tenant_not_found")
        assert (await http.get(checkout, headers=asking.headers)).status_code == 404
        assert (await http.get(asking.me_url, headers=asking.headers)).json()["tenants"] == []
        listed = await http.get(f"{sandbox.url}/api/v1/tenants", headers=asking.headers)
        assert listed.json() == {"data": []}


async def test_secrets_are_named_and_never_shown(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Setting adds and replaces, listing names, removing removes; no answer and no ledger holds a value."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        first = await asking.ask("PUT", "/secrets", {"secrets": {"B_2": "hush-1", "_a": "hush-2"}})
        assert (first.status_code, first.content) == (204, b"")
        await asking.ask("PUT", "/secrets", {"secrets": {"_a": "hush-3"}})
        assert tenant.secrets == {"B_2": "hush-1", "_a": "hush-3"}
        assert (await asking.ask("GET", "/secrets")).json() == {"keys": ["B_2", "_a"]}
        assert (await asking.ask("DELETE", "/secrets/B_2")).status_code == 204
        assert await asking.refused("DELETE", "/secrets/B_2") == (404, "secret_not_found")
        seen = [await asking.ask("GET", path) for path in ("/secrets", "/status", "/provisioned-secrets")]
        seen += [await http.get(f"{sandbox.url}/sandbox/ledger"), await http.get(sandbox.url)]
        assert not any("hush" in answer.text for answer in seen)


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        ({"1A": "x"}, (422, "invalid_body")),
        ({"A-B": "x"}, (422, "invalid_body")),
        ({"": "x"}, (422, "invalid_body")),
        ({"Ä": "x"}, (422, "invalid_body")),
        ({"A\n": "x"}, (422, "invalid_body")),
        ({"A" * 129: "x"}, (422, "invalid_body")),
        ({"A": "x" * 4097}, (422, "invalid_body")),
        ({"A": "x\0"}, (422, "invalid_body")),
        ({"A": 1}, (422, "invalid_body")),
        ({f"A{number}": "x" for number in range(101)}, (422, "invalid_body")),
        ({f"B{number}": "x" for number in range(100)}, (409, "too_many_secrets")),
    ],
)
async def test_secrets_have_bounds(
    secrets: dict[str, Any], expected: tuple[int, str], http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """A name that no environment variable has, a value too long, too many of them: nothing is set."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        tenant.secrets = {"THERE": "1"}
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        assert await asking.refused("PUT", "/secrets", {"secrets": secrets}) == expected
        assert tenant.secrets == {"THERE": "1"}


async def test_rotated_credentials_replace_the_old_ones(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """New URLs inside and outside, which every later answer gives; the old ones are given nowhere again."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        old = (await asking.ask("GET", "/provisioned-secrets")).json()
        rotated = (await asking.ask("POST", "/rotate-credentials", key="k")).json()
        assert set(rotated) == {"status", "message", "internal_database_url", "external_database_url"}
        assert "sslmode=require" in rotated["external_database_url"]
        new = (await asking.ask("GET", "/provisioned-secrets")).json()
        assert new["database_url"] == rotated["internal_database_url"] != old["database_url"]
        assert (await asking.ask("POST", "/rotate-credentials", key="k")).json() == rotated
        access = await asking.ask("PUT", "/external-db-access", {"enabled": True})
        assert access.json()["data"]["database_url"] == rotated["external_database_url"]
        token = (await asking.ask("POST", "/rotate-sync-token")).json()
        assert set(token["data"]) == {"sync_token"}
        assert (await asking.ask("GET", "/provisioned-secrets")).json()["sync_token"] == token["data"]["sync_token"]
        assert token["data"]["sync_token"] != old["sync_token"]


async def test_a_registry_token_is_for_one_repository_and_a_short_time(
    http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Its claims say which repository, it is over in a quarter of an hour, and no API call takes it."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        given = (await asking.ask("GET", "/registry-token")).json()["data"]
        assert set(given) == {"registry", "username", "token", "repository", "tag"}
        claims: dict[str, Any] = jwt.decode(given["token"], options={"verify_signature": False})
        assert claims["access"] == [{"type": "repository", "name": given["repository"], "actions": ["pull", "push"]}]
        assert (claims["exp"] - claims["iat"], claims["sandbox"]) == (900, True)
        asking.headers = {"Authorization": f"Bearer {given['token']}"}
        assert await asking.refused("GET", "/status") == (401, "invalid_token")


async def test_a_domain_is_verified_after_a_while(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Pending with its DNS record first, active three steps later; set again it stays as it is, and it can go."""
    clock = WorldClock()
    async with serve_sandbox(step_seconds=1.0, now=clock, wall=lambda: 1_800_000_000.0) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        assert await asking.refused("GET", "/custom-domain") == (404, "domain_not_found")
        clock.time = 10.0
        domain = (await asking.ask("POST", "/custom-domain", {"domain": "WWW.Example.org"})).json()["data"]
        record = {"record_type": "CNAME", "host": "www.example.org", "value": domain["dns_target"], "ttl": 300}
        assert domain["dns_instructions"] == record
        assert (domain["domain"], domain["status"], domain["verified"]) == ("www.example.org", "pending", False)
        assert (domain["created_at"], domain["verified_at"]) == ("2027-01-15T08:00:00Z", None)
        clock.time = 13.0
        domain = (await asking.ask("GET", "/custom-domain")).json()["data"]
        assert (domain["status"], domain["verified"]) == ("active", True)
        assert domain["verified_at"] == "2027-01-15T08:00:03Z"
        assert (await asking.ask("POST", "/custom-domain", {"domain": "www.example.org"})).json()["data"] == domain
        assert (await asking.ask("DELETE", "/custom-domain")).status_code == 204
        assert await asking.refused("DELETE", "/custom-domain") == (404, "domain_not_found")


@pytest.mark.parametrize(
    "domain", ["", "localhost", "a..b", "-a.example", "a_b.example", "1.2.3.4", "é.example", "x.y\n"]
)
async def test_what_is_no_domain_is_refused(domain: str, http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """422, and the tenant has none."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        assert await asking.refused("POST", "/custom-domain", {"domain": domain}) == (422, "invalid_body")
        assert tenant.domain is None


async def test_a_domain_is_one_tenants(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Another tenant cannot have it as well; once it is given up, it can."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        one, other = (Asking(http, sandbox, bearer(sandbox), paid(sandbox)) for _ in range(2))
        wanted = {"domain": "www.example.org"}
        assert (await one.ask("POST", "/custom-domain", wanted)).status_code == 200
        assert await other.refused("POST", "/custom-domain", wanted) == (409, "domain_taken")
        await one.ask("DELETE", "/custom-domain")
        assert (await other.ask("POST", "/custom-domain", wanted)).status_code == 200


async def test_a_subscription_ends_once(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """204 each time, canceled in `/auth/me`, one change in the ledger, and the tenant still runs."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        asking = Asking(http, sandbox, bearer(sandbox), paid(sandbox))
        assert (await asking.info())["subscription_status"] == "active"
        for _ in range(2):
            assert (await asking.ask("POST", "/subscription/cancel")).status_code == 204
        assert ((await asking.info())["subscription_status"], (await asking.status())["status"]) == (
            "canceled",
            "ready",
        )
        assert sandbox.cloud.ledger.changes["cancel_subscription"] == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "/restart"), ("POST", "/rotate-sync-token"), ("DELETE", "")])
async def test_a_repeated_key_acts_once(
    method: str, path: str, http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """Calls without a body honour an Idempotency-Key like any other, also the one after which nothing is there."""
    async with serve_sandbox(step_seconds=1.0, now=WorldClock()) as sandbox:
        tenant = paid(sandbox)
        tenant.started = -100.0
        asking = Asking(http, sandbox, bearer(sandbox), tenant)
        first, second = [await asking.ask(method, path, key="k") for _ in range(2)]
        assert (first.status_code, first.content) == (second.status_code, second.content)
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert (sandbox.cloud.ledger.changes.total(), sandbox.cloud.ledger.replayed) == (1, 1)
