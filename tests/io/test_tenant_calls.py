"""What is asked of a tenant, against a real server on loopback: each call's method, path and body, and its answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.errors import ApiError
from systemprompt_cloud.io.cloud import wire
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.testing.scripted import serve_scripted

DOMAIN = wire.CustomDomainResponse(
    domain="app.example",
    status="pending",
    verified=False,
    dns_target="t1.example",
    dns_instructions=wire.DnsInstructions(record_type="CNAME", host="app", value="t1.example", ttl=300),
)
TOKEN = wire.RegistryToken(registry="r", username="u", token="opaque-registry-token", repository="t1", tag="v1")
ROTATED = wire.RotateCredentialsResponse(
    status="ok", message="m", internal_database_url="opaque-internal-url", external_database_url="opaque-outside-url"
)
DEPLOYED = wire.DeployResponse(status="deploying", app_url="https://app.example")
STATUS = wire.StatusResponse(status="restarting")


def data(value: Any) -> dict[str, Any]:
    return {"data": msgspec.to_builtins(value)}


Call = Callable[[CloudApiClient], Awaitable[Any]]
# The call; the request it makes; what the server answers (None: 204); what the call gives.
CALLS: list[tuple[Call, str, Any, Any, Any]] = [
    (lambda api: api.registry_token("t 1"), "GET /registry-token", None, data(TOKEN), TOKEN),
    (
        lambda api: api.deploy("t 1", "i:1", idempotency_key="k"),
        "POST /deploy",
        {"image": "i:1"},
        data(DEPLOYED),
        DEPLOYED,
    ),
    (
        lambda api: api.restart_tenant("t 1", idempotency_key="k"),
        "POST /restart",
        None,
        {"status": "restarting"},
        STATUS,
    ),
    (
        lambda api: api.retry_provision("t 1", idempotency_key="k"),
        "POST /retry-provision",
        None,
        {"status": "restarting"},
        STATUS,
    ),
    (lambda api: api.delete_tenant("t 1", idempotency_key="k"), "DELETE ", None, None, None),
    (lambda api: api.cancel_subscription("t 1", idempotency_key="k"), "POST /subscription/cancel", None, None, None),
    (lambda api: api.list_secrets("t 1"), "GET /secrets", None, {"keys": ["A", "B"]}, ["A", "B"]),
    (
        lambda api: api.set_secrets("t 1", {"A": "opaque-value-of-a"}, idempotency_key="k"),
        "PUT /secrets",
        {"secrets": {"A": "opaque-value-of-a"}},
        None,
        None,
    ),
    (
        lambda api: api.unset_secret("t 1", "A/../B", idempotency_key="k"),
        "DELETE /secrets/A%2F..%2FB",
        None,
        None,
        None,
    ),
    (
        lambda api: api.rotate_credentials("t 1", idempotency_key="k"),
        "POST /rotate-credentials",
        None,
        msgspec.to_builtins(ROTATED),
        ROTATED,
    ),
    (
        lambda api: api.rotate_sync_token("t 1", idempotency_key="k"),
        "POST /rotate-sync-token",
        None,
        {"data": {"sync_token": "opaque-sync-token"}},
        "opaque-sync-token",
    ),
    (lambda api: api.custom_domain("t 1"), "GET /custom-domain", None, data(DOMAIN), DOMAIN),
    (
        lambda api: api.set_custom_domain("t 1", "app.example", idempotency_key="k"),
        "POST /custom-domain",
        {"domain": "app.example"},
        data(DOMAIN),
        DOMAIN,
    ),
    (lambda api: api.delete_custom_domain("t 1", idempotency_key="k"), "DELETE /custom-domain", None, None, None),
]


async def test_each_call_is_the_request_of_the_table() -> None:
    """Method, path and body are the documented ones; the token goes along; what changes something carries its key."""
    async with serve_scripted() as server, CloudApiClient(server.url, "a-bearer-token") as api:
        for call, request, body, answer, expected in CALLS:
            server.plan(Response(status_code=204) if answer is None else JSONResponse(answer))
            assert await call(api) == expected
            asked, sent = server.requests[-1], server.bodies[-1]
            method, _, rest = request.partition(" ")
            assert (asked.method, asked.scope["raw_path"].decode()) == (method, f"/api/v1/tenants/t%201{rest}")
            assert (json.loads(sent) if sent else None) == body, request
            assert asked.headers["authorization"] == "Bearer a-bearer-token"
            assert asked.headers.get("idempotency-key") == (None if method == "GET" else "k")
        assert len(server.requests) == len(CALLS)


@pytest.mark.parametrize("bad", ["", ".", "..", "x" * 70_000], ids=["empty", "here", "above", "huge"])
async def test_a_key_cannot_become_another_path(bad: str) -> None:
    """`unset_secret` with a dot segment must not reach the tenant itself: that DELETE would end it."""
    async with serve_scripted() as server, CloudApiClient(server.url, "t") as api:
        with pytest.raises(ApiError, match="not an id"):
            await api.unset_secret("t1", bad)
        with pytest.raises(ApiError, match="not an id"):
            await api.delete_tenant(bad)
        assert server.requests == []


async def test_what_is_secret_is_known_to_the_redactor() -> None:
    """Tokens, database URLs and values of secrets that passed through a call are hidden until the client is closed."""
    values = [
        "opaque-registry-token",
        "opaque-internal-url",
        "opaque-outside-url",
        "opaque-sync-token",
        "opaque-value-of-a",
    ]
    async with serve_scripted() as server, CloudApiClient(server.url, "a-bearer-token") as api:
        for call, _, _, answer, _ in CALLS:
            server.plan(Response(status_code=204) if answer is None else JSONResponse(answer))
            await call(api)
        for value in values:
            assert redact(f"<{value}>") == "<***>"
    for value in values:
        assert redact(f"<{value}>") == f"<{value}>"


async def test_secret_values_are_hidden_also_when_setting_them_failed() -> None:
    """A server that quotes what it refuses does not get a value into an error."""
    server_error = {"error": {"code": "bad_value", "message": "the value 'hunter2-hunter2' is weak"}}
    async with serve_scripted() as server, CloudApiClient(server.url, "t") as api:
        server.plan(JSONResponse(server_error, 422))
        with pytest.raises(ApiError, match="bad_value") as refused:
            await api.set_secrets("t1", {"PASSWORD": "hunter2-hunter2"})
    assert "hunter2" not in refused.value.user_message


async def test_a_tenant_without_a_domain_is_a_404() -> None:
    """The absence of a domain is an answer the caller can tell from a failure."""
    async with serve_scripted() as server, CloudApiClient(server.url, "t", backoff=Backoff(base=0.0)) as api:
        server.plan(JSONResponse({"error": {"code": "not_found", "message": "no domain"}}, 404))
        with pytest.raises(ApiError) as absent:
            await api.custom_domain("t1")
    assert absent.value.status == 404
