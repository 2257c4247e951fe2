"""The Rust crate's three calls return what they return there, and keep the promises of the flows they run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from systemprompt_cloud.engine.errors import FlowFailed, FlowParked
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.errors import LoginDenied, UnsafeUrl
from systemprompt_cloud.flows.originals import (
    checkout_redirect_uri,
    run_checkout_callback_flow,
    run_oauth_flow,
    wait_for_provisioning,
)
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.cloud.wire import CheckoutResponse, ProvisioningEvent
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.io.loopback.pages import CheckoutTemplates, OAuthTemplates
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.provisioning import MESSAGES
from systemprompt_cloud.sandbox.state import PLANS

from tests.support.rehearsal import REGION, Rehearsal, open_rehearsal, quick_client

LOGIN_PAGES = OAuthTemplates(
    success_html="<!doctype html><title>Ours</title><p>Welcome: {{MESSAGE}}</p>",
    error_html="<!doctype html><title>Ours</title><p>Sorry: {{MESSAGE}}</p>",
)
CHECKOUT_PAGES = CheckoutTemplates(
    success_html="<!doctype html><title>Ours</title><p>Paid {{TENANT_ID}}</p>",
    error_html="<!doctype html><title>Ours</title><p>Not paid</p>",
    waiting_html="<!doctype html><title>Ours</title><p id=text>Waiting {{TENANT_ID}}</p>",
)


def free_port() -> int:
    with bind_loopback(0) as sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def logged_in(rehearsal: Rehearsal) -> AsyncGenerator[CloudApiClient]:
    """The API as somebody whose credentials are on no disk."""
    account = rehearsal.cloud.accounts[0]
    async with quick_client(rehearsal.url, rehearsal.cloud.tokens.issue(account.id, account.email)) as client:
        yield client


async def order(client: CloudApiClient, redirect_uri: str) -> CheckoutResponse:
    return await client.create_checkout(PLANS[0].paddle_price_id, REGION, redirect_uri, idempotency_key="order-1")


def machines_run(rehearsal: Rehearsal) -> list[tuple[str, str]]:
    """Which machines the journal has, and the state each stands in."""
    with Journal(rehearsal.paths.journal) as journal:
        return [(row.machine, row.state) for row in journal.flows()]


# --- run_oauth_flow ------------------------------------------------------------------------------------------------


async def test_a_login_returns_the_token_it_has_stored(tmp_path: Path) -> None:
    """The token is that of credentials.json, the flow is in the journal, and the browser saw the caller's page."""
    async with open_rehearsal(tmp_path) as rehearsal:
        token = await run_oauth_flow(
            rehearsal.url,
            "github",
            LOGIN_PAGES,
            port=0,
            directory=rehearsal.paths.directory,
            open_browser=rehearsal.open_tab,
        )
        assert CloudCredentials.load_from_path(rehearsal.paths.credentials).api_token == token
        assert machines_run(rehearsal) == [("login", "authenticated")]
        assert "Welcome: Your terminal is finishing the login." in (await rehearsal.wait_tab()).page


async def test_a_login_that_was_refused_raises_and_stores_nothing(tmp_path: Path) -> None:
    """`LoginDenied`, and the caller's error page."""
    browser = ScriptedBrowser(consent="deny", patience=5)
    async with open_rehearsal(tmp_path, browser=browser) as rehearsal:
        with pytest.raises(LoginDenied):
            await run_oauth_flow(
                rehearsal.url,
                templates=LOGIN_PAGES,
                port=0,
                directory=rehearsal.paths.directory,
                open_browser=rehearsal.open_tab,
            )
        assert "Sorry: The login was refused." in (await rehearsal.wait_tab()).page
        assert not rehearsal.paths.credentials.exists()


async def test_a_login_nobody_comes_back_from(tmp_path: Path) -> None:
    """`FlowFailed` names the flow and the state it ended in."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        with pytest.raises(FlowFailed, match="nobody came back from the browser") as caught:
            await run_oauth_flow(
                rehearsal.url, port=0, timeout=0.1, directory=rehearsal.paths.directory, open_browser=None
            )
        assert caught.value.state == "timed_out"


async def test_a_login_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    """The second call takes up the first one's flow: the tab that was open all the time completes it."""
    port = free_port()
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        shown: list[str] = []

        async def log_in() -> str:
            return await run_oauth_flow(
                rehearsal.url,
                port=port,
                directory=rehearsal.paths.directory,
                show_url=lambda _purpose, url, _again: (shown.append(url), interrupted.cancel())[0],
                open_browser=None,
            )

        with trio.CancelScope() as interrupted:
            await log_in()
        assert interrupted.cancelled_caught
        rehearsal.browser = ScriptedBrowser(patience=5)
        interrupted = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rehearsal.open_tab, shown[0])
            assert await log_in()
        assert shown[0] == shown[1]
        assert machines_run(rehearsal) == [("login", "authenticated")]


# --- run_checkout_callback_flow ------------------------------------------------------------------------------------


async def test_a_checkout_that_was_created_already_is_paid_and_confirmed(tmp_path: Path) -> None:
    """The API has named the tenant, no second checkout was made, and the page shows the tenant's id."""
    async with open_rehearsal(tmp_path) as rehearsal, logged_in(rehearsal) as client:
        redirect_uri = checkout_redirect_uri(free_port())
        result = await run_checkout_callback_flow(
            client,
            await order(client, redirect_uri),
            CHECKOUT_PAGES,
            redirect_uri=redirect_uri,
            directory=rehearsal.paths.directory,
            open_browser=rehearsal.open_tab,
        )
        (tenant,) = rehearsal.cloud.tenants.values()
        (checkout,) = rehearsal.cloud.checkouts.values()
        assert (result.tenant_id, result.tenant_name) == (tenant.id, tenant.name)
        assert (result.transaction_id, result.needs_deploy) == (checkout.transaction_id, False)
        assert rehearsal.cloud.ledger.checkouts == 1
        assert f"Paid {tenant.id}" in (await rehearsal.wait_tab()).page
        assert machines_run(rehearsal) == [("checkout", "completed")]


@pytest.mark.parametrize("faults", [[], ["drop-stream:after=0,times=9,path=/checkout"]])
async def test_a_pending_payment_is_followed(tmp_path: Path, faults: list[str]) -> None:
    """The caller's waiting page, then the tenant: from the event stream, or by asking while there is none."""
    browser = ScriptedBrowser(payment="pending", patience=5)
    async with open_rehearsal(tmp_path, browser=browser, faults=faults) as rehearsal, logged_in(rehearsal) as client:
        redirect_uri = checkout_redirect_uri(free_port())
        checkout = await order(client, redirect_uri)
        result = await run_checkout_callback_flow(
            client,
            checkout,
            CHECKOUT_PAGES,
            redirect_uri=redirect_uri,
            directory=rehearsal.paths.directory,
            open_browser=rehearsal.open_tab,
        )
        assert [result.tenant_id] == list(rehearsal.cloud.tenants)
        page = (await rehearsal.wait_tab()).page
        assert "Waiting " in page
        assert f'data-status="/status/{checkout.checkout_session_id}"' in page


async def test_a_strangers_answer_does_not_end_the_wait(tmp_path: Path) -> None:
    """Without the nonce of the redirect URI nothing counts (SECURITY 3)."""
    port = free_port()
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, logged_in(rehearsal) as client:
        redirect_uri = checkout_redirect_uri(port)
        checkout = await order(client, redirect_uri)
        rehearsal.browser = ScriptedBrowser(patience=5)

        async def disturb_then_pay(url: str) -> None:
            async with httpx.AsyncClient(trust_env=False) as stranger:
                answer = await stranger.get(f"http://127.0.0.1:{port}/callback?error=declined")
                assert answer.status_code == 400
            await rehearsal.open_tab(url)

        async with trio.open_nursery() as nursery:
            result = await run_checkout_callback_flow(
                client,
                checkout,
                redirect_uri=redirect_uri,
                directory=rehearsal.paths.directory,
                show_url=lambda _purpose, url, _again: nursery.start_soon(disturb_then_pay, url),
                open_browser=None,
            )
        assert [result.tenant_id] == list(rehearsal.cloud.tenants)


async def test_a_redirect_uri_without_a_nonce_is_possible(tmp_path: Path) -> None:
    """As the Rust crate does it, for an API that takes no query."""
    async with open_rehearsal(tmp_path) as rehearsal, logged_in(rehearsal) as client:
        redirect_uri = f"http://127.0.0.1:{free_port()}/callback"
        result = await run_checkout_callback_flow(
            client,
            await order(client, redirect_uri),
            redirect_uri=redirect_uri,
            directory=rehearsal.paths.directory,
            open_browser=rehearsal.open_tab,
        )
        assert [result.tenant_id] == list(rehearsal.cloud.tenants)


async def test_a_payment_that_was_declined(tmp_path: Path) -> None:
    """Paused, because the browser's word is no end, and the caller's error page."""
    browser = ScriptedBrowser(payment="decline", patience=5)
    async with open_rehearsal(tmp_path, browser=browser) as rehearsal, logged_in(rehearsal) as client:
        redirect_uri = checkout_redirect_uri(free_port())
        checkout = await order(client, redirect_uri)
        with pytest.raises(FlowParked, match="payment_declined") as caught:
            await run_checkout_callback_flow(
                client,
                checkout,
                CHECKOUT_PAGES,
                redirect_uri=redirect_uri,
                directory=rehearsal.paths.directory,
                open_browser=rehearsal.open_tab,
            )
        assert caught.value.state == "payment_in_doubt"
        assert "Not paid" in (await rehearsal.wait_tab()).page


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://127.0.0.1:8766/callback",
        "http://evil.example:8766/callback",
        "http://127.0.0.1:8766/elsewhere",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:8766/callback?state=a&state=b",
        "http://127.0.0.1:x/callback",
    ],
)
async def test_a_redirect_uri_that_leads_elsewhere_is_refused(tmp_path: Path, redirect_uri: str) -> None:
    """Nobody would come back there; said before anybody pays."""
    checkout = CheckoutResponse(checkout_url="https://pay.example", transaction_id="t", checkout_session_id="cs")
    async with CloudApiClient("http://127.0.0.1:9", "token") as client:
        with pytest.raises(UnsafeUrl, match="redirect URI"):
            await run_checkout_callback_flow(client, checkout, redirect_uri=redirect_uri, directory=tmp_path)


# --- wait_for_provisioning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("faults", [[], ["drop-stream:after=3,path=/events"]])
async def test_every_step_of_a_tenant_is_heard_once(tmp_path: Path, faults: list[str]) -> None:
    """In order, whatever becomes of the stream; at the end the tenant is ready and stored."""
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, logged_in(rehearsal) as client:
        heard: list[ProvisioningEvent] = []
        tenant = rehearsal.buy()
        last = await wait_for_provisioning(client, tenant.id, heard.append, directory=rehearsal.paths.directory)
        steps = list(dict.fromkeys(event.event_type for event in heard if event.event_type))
        assert steps == [step for step in MESSAGES if step in steps]
        assert (last.tenant_id, last.event_type, last.status) == (tenant.id, "tenant_ready", "ready")
        assert heard[-1] == last
        assert TenantStore.load_from_path(rehearsal.paths.tenants).find_tenant(tenant.id) is not None
        assert machines_run(rehearsal) == [("provisioning", "ready")]


async def test_a_tenant_that_fails(tmp_path: Path) -> None:
    """`FlowFailed` with the server's words; the last thing heard is the failure."""
    faults = ["provisioning-failure:after=3"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal, logged_in(rehearsal) as client:
        heard: list[ProvisioningEvent] = []
        with pytest.raises(FlowFailed, match="did not start"):
            await wait_for_provisioning(client, rehearsal.buy().id, heard.append, directory=rehearsal.paths.directory)
        assert (heard[-1].event_type, heard[-1].status) == ("provisioning_failed", "failed")


async def test_a_tenant_that_takes_longer_is_waited_for_again(tmp_path: Path) -> None:
    """Not ready in time is no failure: the flow is kept, and the same call waits on."""
    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal, logged_in(rehearsal) as client:
        tenant = rehearsal.buy()
        with pytest.raises(FlowParked):
            await wait_for_provisioning(client, tenant.id, timeout=0.1, directory=rehearsal.paths.directory)
        tenant.started -= 3600.0
        last = await wait_for_provisioning(client, tenant.id, directory=rehearsal.paths.directory)
        assert last.event_type == "tenant_ready"
        assert machines_run(rehearsal) == [("provisioning", "ready")]
