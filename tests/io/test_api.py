"""The calls against a real server on loopback: what is sent, to whom, and what comes back."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, UnsafeUrl
from systemprompt_cloud.io.cloud import wire
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.testing.scripted import ME, TOKEN, ScriptedServer, client_of, make_token


async def test_authorize_url_sends_no_token(server: ScriptedServer) -> None:
    """Nobody is logged in yet, or is logging in anew: the old token has no business here."""
    server.plan(JSONResponse({"authorize_url": "https://github.example/login"}))
    async with client_of(server) as client:
        found = await client.authorize_url(wire.OAuthProvider.GITHUB, "http://127.0.0.1:8765/callback?state=a&b=c")
    assert found == "https://github.example/login"
    (request,) = server.requests
    assert request.url.path == "/api/v1/auth/oauth/github"
    assert request.query_params["redirect_uri"] == "http://127.0.0.1:8765/callback?state=a&b=c"
    assert "authorization" not in request.headers


async def test_me_sends_the_token_in_the_header_only(server: ScriptedServer) -> None:
    """The bearer header carries the token, the URL does not."""
    server.plan(JSONResponse(ME))
    async with client_of(server) as client:
        me = await client.me()
    assert me.user.email == "ada@example.com"
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(request.url)


async def test_lists_and_envelopes(server: ScriptedServer) -> None:
    """Tenants come in an envelope, plans as a bare list."""
    server.plan(
        JSONResponse({"data": [{"id": "t", "name": "One"}]}),
        JSONResponse([{"id": "p", "name": "P", "paddle_price_id": "pri"}]),
    )
    async with client_of(server) as client:
        assert await client.tenants() == [wire.Tenant(id="t", name="One")]
        assert (await client.plans())[0].paddle_price_id == "pri"
    assert [request.url.path for request in server.requests] == ["/api/v1/tenants", "/api/v1/checkout/plans"]


async def test_create_checkout_sends_its_key_and_body(server: ScriptedServer) -> None:
    """The purchase carries the idempotency key of its intent."""
    answer = {"checkout_url": "https://pay.example/x", "transaction_id": "tx", "checkout_session_id": "cs"}
    server.plan(JSONResponse(answer))
    async with client_of(server) as client:
        found = await client.create_checkout("pri", "iad", "http://127.0.0.1:8766/callback", idempotency_key="f:1:buy")
    assert found == wire.CheckoutResponse(**answer)
    assert server.requests[0].headers["idempotency-key"] == "f:1:buy"
    assert json.loads(server.bodies[0]) == {
        "price_id": "pri",
        "region": "iad",
        "redirect_uri": "http://127.0.0.1:8766/callback",
    }


async def test_status_secrets_and_external_access(server: ScriptedServer) -> None:
    """The calls after provisioning, with the secrets URL as a path and as an absolute URL."""
    secrets = {"jwt_secret": "j", "database_url": "d", "internal_database_url": "i", "app_url": "a"}
    access = {"tenant_id": "t", "external_db_access": True, "database_url": "d"}
    server.plan(
        JSONResponse({"data": {"status": "ready", "secrets_url": "/api/v1/s?once=1"}}),
        JSONResponse(secrets),
        JSONResponse(secrets),
        JSONResponse({"data": access}),
    )
    async with client_of(server) as client:
        status = await client.tenant_status("t")
        assert status.secrets_url is not None
        assert (await client.tenant_secrets(status.secrets_url)).jwt_secret == "j"
        assert (await client.tenant_secrets(f"{server.url}/elsewhere")).app_url == "a"
        assert (await client.set_external_db_access("t", True)).external_db_access
    assert [str(request.url).removeprefix(server.url) for request in server.requests] == [
        "/api/v1/tenants/t/status",
        "/api/v1/s?once=1",
        "/elsewhere",
        "/api/v1/tenants/t/external-db-access",
    ]
    assert json.loads(server.bodies[3]) == {"enabled": True}
    assert "idempotency-key" not in server.requests[3].headers


async def test_report_activity_is_in_utc_and_takes_an_empty_answer(server: ScriptedServer) -> None:
    """The time goes out as RFC 3339 UTC whatever zone it came in; 204 is an answer."""
    server.plan(Response(status_code=204))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    async with client_of(server) as client:
        await client.report_activity(wire.ActivityEvent.LOGIN, "u1", at, idempotency_key="k")
        with pytest.raises(ValueError, match="time zone"):
            await client.report_activity("cloud_login", "u1", at.replace(tzinfo=None), idempotency_key="k")
    assert json.loads(server.bodies[0]) == {
        "event": "cloud_login",
        "timestamp": "2026-01-02T01:04:05Z",
        "data": {"user_id": "u1"},
    }


async def test_ids_are_percent_encoded_and_dot_segments_refused(server: ScriptedServer) -> None:
    """An id cannot become another path."""
    server.plan(JSONResponse({"data": {"status": "x"}}))
    async with client_of(server) as client:
        await client.tenant_status("a/../b?c#d é")
        for bad in ("", ".", "..", "\udcff", "x" * 256):
            with pytest.raises(ApiError, match="not an id"):
                await client.tenant_status(bad)
            with pytest.raises(ApiError, match="not an id"):
                async with client.tenant_events(bad):
                    pass
    (request,) = server.requests
    assert request.scope["raw_path"] == b"/api/v1/tenants/a%2F..%2Fb%3Fc%23d%20%C3%A9/status"


async def test_a_base_url_that_leaves_no_room_for_a_path(server: ScriptedServer) -> None:
    """httpx takes URLs of 65536 characters at most; what is longer is an error of ours, and nothing is sent."""
    async with CloudApiClient(f"{server.url}/{'a' * 65_510}", TOKEN) as client:
        with pytest.raises(UnsafeUrl, match="make none"):
            await client.me()
    assert server.requests == []


async def test_base_url_may_have_a_path(server: ScriptedServer) -> None:
    """An API behind a prefix keeps it in every call."""
    server.plan(JSONResponse(ME))
    async with CloudApiClient(server.url + "/cloud/", TOKEN) as client:
        assert client.api_url == server.url + "/cloud"
        await client.me()
    assert server.requests[0].url.path == "/cloud/api/v1/auth/me"


@pytest.mark.parametrize("url", ["https://api.example", "http://localhost:9", "http://[::1]:9", "http://127.0.0.1:9/"])
def test_safe_api_urls_are_taken(url: str) -> None:
    """https anywhere, http on loopback."""
    assert CloudApiClient(url, TOKEN).api_url == url.rstrip("/")


def test_sandbox_token_is_refused_by_production() -> None:
    """A local cloud's token is worth nothing elsewhere, and is not sent there."""
    with pytest.raises(NotAuthenticated, match="local cloud"):
        CloudApiClient(wire.PRODUCTION_URL, make_token(sandbox=True))
    CloudApiClient("http://127.0.0.1:9", make_token(sandbox=True))


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Evil: 1", "tökentöken"])
def test_tokens_no_header_can_carry_are_refused(token: str) -> None:
    """A token file with rubbish in it cannot add a header, and is not quoted."""
    with pytest.raises(NotAuthenticated) as refused:
        CloudApiClient("https://api.example", token)
    assert token == "" or token not in refused.value.user_message


async def test_without_a_token_nothing_is_sent(server: ScriptedServer) -> None:
    """A call that needs a token and has none does not go out."""
    server.plan(JSONResponse(ME))
    async with client_of(server, token=None) as client:
        with pytest.raises(NotAuthenticated, match="not logged in"):
            await client.me()
    assert server.requests == []


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/s",
        "//evil.example/s",
        "/\\evil.example/s",
        "relative/s",
        "http://127.0.0.1:1/s",
        "",
        "@e/s",
    ],
)
async def test_secrets_url_elsewhere_is_refused(server: ScriptedServer, link: str) -> None:
    """The link the API gives is followed on the API's own origin only."""
    server.plan(JSONResponse({}))
    async with client_of(server) as client:
        with pytest.raises(UnsafeUrl):
            await client.tenant_secrets(link)
        with pytest.raises(UnsafeUrl):
            await client.tenant_secrets(server.url.replace("http://", "http://user:pw@") + "/s")
    assert server.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(server: ScriptedServer, status: int) -> None:
    """A redirect to another origin is an error that names it without its query; the token stays."""
    server.plan(Response(status_code=status, headers={"Location": "https://evil.example/x?code=abcdefgh"}))
    async with client_of(server) as client:
        with pytest.raises(ApiError, match=rf"{status}, a redirect to https://evil.example/x; ") as refused:
            await client.me()
    assert "abcdefgh" not in refused.value.user_message
    assert len(server.requests) == 1


@pytest.mark.parametrize("location", ["javascript:alert(1)", "http://[::1", "http://h:port/", "https://xn--.example/"])
async def test_a_redirect_to_what_is_no_url_is_an_error_of_ours(server: ScriptedServer, location: str) -> None:
    """httpx reads the target though it is told not to follow; what it raises then is none of its transport errors."""
    server.plan(Response(status_code=302, headers={"Location": location}))
    async with client_of(server) as client:
        with pytest.raises(Network, match="URL") as broken:
            await client.set_custom_domain("t", "www.example.org")
    assert broken.value.sent
    assert len(server.requests) == 1


async def test_loopback_calls_ignore_the_proxy(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment must not see what happens on this computer."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.plan(JSONResponse(ME))
    async with client_of(server) as client:
        assert (await client.me()).user.id == "u1"


async def test_unusable_proxy_settings_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy setting nobody can use says where to look instead of a traceback."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://127.0.0.1:1")
    with pytest.raises(Network, match="proxy") as refused:
        async with CloudApiClient("https://api.example", TOKEN):
            pass
    assert "HTTPS_PROXY" in refused.value.recovery_hint
    assert not refused.value.retryable
