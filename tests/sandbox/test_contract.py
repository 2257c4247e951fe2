"""The contract: every operation the local cloud describes, called once through the real client.

The description is taken from the running cloud, so an operation that is added to the API fails here until the client
can make it and a line below does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import httpx
import msgspec
import pytest
from systemprompt_cloud.errors import ApiError
from systemprompt_cloud.io.cloud import wire
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.sse.decoder import EventStream
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.provisioning import timeline
from systemprompt_cloud.sandbox.state import SandboxTenant

from .conftest import Bearer, Buy, Paid

METHODS: Final = {"get", "put", "post", "delete", "patch", "head", "options", "trace"}


Progress = TypeVar("Progress", wire.CheckoutEvent, wire.ProvisioningEvent)


async def the_last(stream: EventStream, kind: type[Progress]) -> Progress:
    """Read a stream up to the event that says that the tenant is ready."""
    async for event in stream:
        if event.event != "heartbeat":
            told = msgspec.json.decode(event.data, type=kind)
            if told.event_type == "tenant_ready":
                return told
    raise AssertionError("a stream ends in a StreamLost")


class Customer:
    """Somebody with a tenant, and everything they can call; each method is an operation of the same name.

    Order matters to some: a domain is set before it is read, and the tenant goes last.
    """

    def __init__(self, api: CloudApiClient, sandbox: Sandbox, tenant: SandboxTenant) -> None:
        self.api = api
        self.sandbox = sandbox
        self.tenant = tenant
        self.id = tenant.id

    async def authorize(self) -> None:
        url = await self.api.authorize_url("github", "http://127.0.0.1:8765/callback?state=n")
        assert url.startswith(self.sandbox.url)

    async def me(self) -> None:
        (info,) = (await self.api.me()).tenants
        assert (info.id, info.status, info.subscription_status) == (self.id, "active", "active")

    async def tenants(self) -> None:
        assert [tenant.id for tenant in await self.api.tenants()] == [self.id]

    async def plans(self) -> None:
        assert len(await self.api.plans()) == 3

    async def create_checkout(self) -> None:
        opened = await self.api.create_checkout("pri_sandbox_team", "iad", idempotency_key="order")
        assert opened.checkout_session_id in self.sandbox.cloud.checkouts

    async def checkout_events(self) -> None:
        async with self.api.checkout_events(self.tenant.checkout_session_id) as stream:
            last = await the_last(stream, wire.CheckoutEvent)
        assert last.tenant_id == self.id

    async def tenant_events(self) -> None:
        async with self.api.tenant_events(self.id) as stream:
            last = await the_last(stream, wire.ProvisioningEvent)
        assert last.tenant_id == self.id

    async def report_activity(self) -> None:
        user = (await self.api.me()).user.id
        await self.api.report_activity("cloud_login", user, datetime.now(UTC), idempotency_key="report")
        assert len(self.sandbox.cloud.ledger.activities) == 1

    async def tenant_status(self) -> None:
        assert (await self.api.tenant_status(self.id)).status == "ready"

    async def tenant_secrets(self) -> None:
        url = (await self.api.tenant_status(self.id)).secrets_url
        assert (await self.api.tenant_secrets(url or "")).sync_token

    async def registry_token(self) -> None:
        assert self.tenant.slug in (await self.api.registry_token(self.id)).repository

    async def deploy(self) -> None:
        assert (await self.api.deploy(self.id, "registry.example/app:1", idempotency_key="deploy")).status
        assert self.sandbox.cloud.ledger.deployments[0].image == "registry.example/app:1"

    async def restart_tenant(self) -> None:
        assert (await self.api.restart_tenant(self.id, idempotency_key="restart")).status == "restarting"

    async def retry_provision(self) -> None:
        with pytest.raises(ApiError, match="nothing_to_retry"):
            await self.api.retry_provision(self.id)
        history, self.tenant.steps = self.tenant.steps, timeline(0, fail_after=4)
        assert (await self.api.retry_provision(self.id, idempotency_key="retry")).status == "provisioning"
        self.tenant.steps = history

    async def set_secrets(self) -> None:
        await self.api.set_secrets(self.id, {"B": "2", "A": "1"}, idempotency_key="set")

    async def list_secrets(self) -> None:
        assert await self.api.list_secrets(self.id) == ["A", "B"]

    async def unset_secret(self) -> None:
        await self.api.unset_secret(self.id, "A", idempotency_key="unset")
        assert await self.api.list_secrets(self.id) == ["B"]

    async def set_external_db_access(self) -> None:
        assert (await self.api.set_external_db_access(self.id, True)).external_db_access

    async def rotate_credentials(self) -> None:
        rotated = await self.api.rotate_credentials(self.id, idempotency_key="rotate")
        assert rotated.internal_database_url != rotated.external_database_url

    async def rotate_sync_token(self) -> None:
        assert await self.api.rotate_sync_token(self.id, idempotency_key="sync")

    async def set_custom_domain(self) -> None:
        assert (await self.api.set_custom_domain(self.id, "www.example.org")).dns_instructions.record_type

    async def custom_domain(self) -> None:
        assert (await self.api.custom_domain(self.id)).domain == "www.example.org"

    async def delete_custom_domain(self) -> None:
        await self.api.delete_custom_domain(self.id, idempotency_key="domain")

    async def cancel_subscription(self) -> None:
        await self.api.cancel_subscription(self.id, idempotency_key="cancel")
        assert (await self.api.me()).tenants[0].subscription_status == "canceled"

    async def delete_tenant(self) -> None:
        await self.api.delete_tenant(self.id, idempotency_key="delete")
        assert await self.api.tenants() == []


async def described(http: httpx.AsyncClient, sandbox: Sandbox) -> dict[str, str]:
    """The operations of the served description: `GET /path` by operation id."""
    paths = cast("dict[str, dict[str, Any]]", (await http.get(f"{sandbox.url}/openapi.json")).json()["paths"])
    return {
        operation["operationId"]: f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in METHODS
    }


async def test_every_described_operation_is_called_through_the_client(
    http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """What the cloud describes is what the client can call, each call is answered, and none reaches another one."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        operations = await described(http, sandbox)
        made = [name for name in vars(Customer) if not name.startswith("_")]
        assert sorted(made) == sorted(operations)
        token = bearer(sandbox)["Authorization"].removeprefix("Bearer ")
        async with CloudApiClient(sandbox.url, token) as api:
            customer = Customer(api, sandbox, paid(sandbox))
            for name in made:
                before = sandbox.cloud.ledger.requests[operations[name]]
                call: Callable[[], Awaitable[None]] = getattr(customer, name)
                await call()
                assert sandbox.cloud.ledger.requests[operations[name]] > before, name
        assert set(sandbox.cloud.ledger.requests) == set(operations.values())


async def test_what_a_client_sees_of_a_refusal_is_the_described_body(
    http: httpx.AsyncClient, bearer: Bearer, buy: Buy
) -> None:
    """A tenant that is not there: status, code and message come through the client as the cloud sent them."""
    async with serve_sandbox() as sandbox:
        buy(sandbox)
        token = bearer(sandbox)["Authorization"].removeprefix("Bearer ")
        async with CloudApiClient(sandbox.url, token) as api:
            with pytest.raises(ApiError, match="no tenant of yours") as caught:
                await api.restart_tenant("tnt_nobody")
        assert (caught.value.status, caught.value.code) == (404, "tenant_not_found")
        document = (await http.get(f"{sandbox.url}/openapi.json")).json()
        refused = document["components"]["responses"]["Refused404"]["content"]["application/json"]["schema"]
        assert refused == {"$ref": "#/components/schemas/ErrorBody"}
        assert "404" in document["paths"]["/api/v1/tenants/{id}/restart"]["post"]["responses"]
        assert json.dumps(document).count("#/components/schemas/ErrorBody") >= 9
