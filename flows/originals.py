"""The three flows under the names and with the shapes the Rust crate gives them: a call that returns when it is done.

Each runs one of this package's own flows: the same tables, engine and journal, so that a program that is killed and
calls again resumes where it was. They are for programs that are ported. New programs use `open_cloud`, which shows the
progress, too, and not only the end.

What the Rust functions do that these do not: a token is returned only after the API has said whose it is, and it is
stored by then; a payment is believed only after the API has named the tenant; a tenant that is ready is stored with
its secrets.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from typing_extensions import override

from ..base.log import get_logger
from ..engine.engine import Engine, open_engine
from ..engine.errors import FlowFailed
from ..engine.flow import Flow
from ..engine.history import Outcome
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import LoginDenied, UnsafeUrl
from ..io.cloud.api import CloudApiClient
from ..io.cloud.wire import CheckoutResponse, OAuthProvider, ProvisioningEvent
from ..io.http.urls import LISTENER_NAMES
from ..io.local.paths import CloudPaths, resolve_cloud_paths
from ..io.local.project import current_directory
from ..io.loopback.browser import check_openable, open_browser
from ..io.loopback.callback import callback_uri, new_nonce
from ..io.loopback.pages import OUR_CHECKOUT_PAGES, OUR_LOGIN_PAGES, CheckoutTemplates, OAuthTemplates
from ..machines.checkout import CHECKOUT, CheckoutContext, CheckoutCreated, OrderValidated
from ..machines.login import DENIED, LoginContext
from ..machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT, LOGIN_PORT, TENANT_SECONDS
from ..machines.parts.progress import FAILED, READY, StepObserved
from ..machines.provisioning import (
    PROVISIONING,
    ProvisioningContext,
    ProvisioningFailed,
    TenantBecameReady,
)
from .checkout import checkout_program, listed_tenants
from .login import login_program, start_login
from .outside import Api, OpenBrowser, ShowUrl, show_nothing
from .provisioning import provisioning_program, start_provisioning
from .services import Services
from .steps.callbacks import free_port, keep_port
from .steps.earlier import stored_tenants

logger = get_logger(__name__)

UNBOUND_REDIRECT_URI: Final = callback_uri(CHECKOUT_PORT, None)
_STATUS: Final = {READY: "ready", FAILED: "failed"}

OnEvent = Callable[[ProvisioningEvent], None]
"""Hears what the server says about a tenant, once it is in the journal."""


class CheckoutCallbackResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment led to.

    Attributes:
        transaction_id: The payment provider's number for it.
        tenant_id: The tenant that was paid for; the API has confirmed it.
        tenant_name: Its name.
        needs_deploy: True when its infrastructure is ready and waits for an image.
    """

    transaction_id: str
    tenant_id: str
    tenant_name: str
    needs_deploy: bool


async def run_oauth_flow(
    api_url: str,
    provider: str = OAuthProvider.GITHUB,
    templates: OAuthTemplates = OUR_LOGIN_PAGES,
    *,
    port: int = LOGIN_PORT,
    timeout: float = BROWSER_SECONDS,
    directory: Path | None = None,
    show_url: ShowUrl = show_nothing,
    open_browser: OpenBrowser | None = open_browser,
) -> str:
    """Log in through the browser; the credentials are stored when this returns.

    Args:
        api_url: The API.
        provider: `github` or `google`.
        templates: The pages the browser sees.
        port: Where the browser comes back to, 0 for any free port.
        timeout: Seconds the person has.
        directory: Where the files are; found as the command line finds it by default.
        show_url: Called with (purpose, url, again) before a browser is opened.
        open_browser: Opens a URL; None leaves that to whoever `show_url` shows it to.

    Returns:
        The token.

    Raises:
        LoginDenied: The person, or the provider, denied the login.
        FlowFailed: Nobody came back in time, or the API refused.
        FlowParked: Something has to be fixed first; then the same call resumes.
        FlowBusy: Another process is at the same login.
        UnsafeUrl: `api_url` is not one a token may be sent to.
    """
    paths = resolve_cloud_paths(directory, os.environ, current_directory())
    context = LoginContext(api_url=api_url, provider=str(provider), port=port, timeout=timeout)
    async with (
        Services(paths, show_url=show_url, open_browser=open_browser, login_pages=templates) as services,
        open_engine(paths, [login_program(services)]) as engine,
    ):
        outcome = await (await start_login(engine, context)).wait()
        if outcome.state == DENIED:
            raise LoginDenied(outcome.problem)
        _expect_success(outcome)
        return services.credentials(api_url).api_token


def checkout_redirect_uri(port: int = CHECKOUT_PORT) -> str:
    """A redirect URI for `CloudApiClient.create_checkout`, bound to one wait by a fresh nonce; do not log it.

    Args:
        port: Where the browser comes back to, 0 for any free port.

    Raises:
        PortBusy: The port is taken; said before anybody has ordered anything.
    """
    return callback_uri(free_port(port), new_nonce())


async def run_checkout_callback_flow(
    client: CloudApiClient,
    checkout: CheckoutResponse,
    templates: CheckoutTemplates = OUR_CHECKOUT_PAGES,
    *,
    redirect_uri: str = UNBOUND_REDIRECT_URI,
    timeout: float = BROWSER_SECONDS,
    directory: Path | None = None,
    show_url: ShowUrl = show_nothing,
    open_browser: OpenBrowser | None = open_browser,
) -> CheckoutCallbackResult:
    """Have somebody pay for a checkout that was created already, and wait until the API names the tenant.

        redirect_uri = checkout_redirect_uri()
        checkout = await client.create_checkout(price_id, region, redirect_uri, idempotency_key=order_number)
        result = await run_checkout_callback_flow(client, checkout, redirect_uri=redirect_uri)

    `Cloud.check_out` places the order, too, and so keeps it from being placed twice.

    Args:
        client: The API as who pays, open.
        checkout: What `create_checkout` gave: the address to pay at, and the session whose event stream brings the news
            when the browser does not.
        templates: The pages the browser sees.
        redirect_uri: What the checkout was created with. One without a nonce is accepted with a warning: then any
            program on this computer can send the browser's answer, and end the wait with a wrong one.
        timeout: Seconds the person has to pay.
        directory: Where the files are; found as the command line finds it by default.
        show_url: Called with (purpose, url, again) before a browser is opened.
        open_browser: Opens a URL; None leaves that to whoever `show_url` shows it to.

    Raises:
        FlowFailed: The flow was cancelled.
        FlowParked: Nobody has paid yet, as far as the API knows; or paid, and no tenant yet; or something has to be
            fixed first. The same call resumes.
        UnsafeUrl: `redirect_uri` is not one of this computer's, or the checkout's address must not be opened.
    """
    port, nonce = _listening_place(redirect_uri)
    check_openable(checkout.checkout_url)
    if nonce is None:
        logger.warning("the checkout's redirect URI has no nonce; any program on this computer could answer it")
    context = CheckoutContext(
        api_url=client.api_url, plan="", region="", port=port, timeout=timeout, bound=nonce is not None
    )
    key = f"{client.api_url}|{checkout.checkout_session_id}|{port}"
    async with _open(
        client, directory, show_url, open_browser, lambda services: _placed(services, checkout, nonce), templates
    ) as engine:
        outcome = await (await engine.start(CHECKOUT, context, key=key)).wait()
    _expect_success(outcome)
    return msgspec.convert(outcome.result, CheckoutCallbackResult)


async def wait_for_provisioning(
    client: CloudApiClient,
    tenant_id: str,
    on_event: OnEvent | None = None,
    *,
    timeout: float = TENANT_SECONDS,
    directory: Path | None = None,
) -> ProvisioningEvent:
    """Wait until a tenant is ready; it is stored with its secrets when this returns.

    Args:
        client: The API as the tenant's owner, open.
        tenant_id: The tenant.
        on_event: Hears every step, once, whether the stream or polling brought it; after an interruption those before
            it again.
        timeout: Seconds it may take.
        directory: Where the files are; found as the command line finds it by default.

    Returns:
        The last event, `tenant_ready`.

    Raises:
        FlowFailed: The server gave up, or says that the tenant is not there; the message is the server's.
        FlowParked: Not ready in time, or something has to be fixed first; the same call resumes.
        FlowBusy: Another process waits for the same tenant.
    """
    context = ProvisioningContext(api_url=client.api_url, tenant_id=tenant_id, timeout=timeout)
    async with _open(client, directory, show_nothing, None, provisioning_program) as engine:
        flow = await start_provisioning(engine, context)
        last = ProvisioningEvent(tenant_id=tenant_id, event_type=READY, status=_STATUS[READY])
        async with aclosing(_observations(engine, flow, tenant_id)) as observations:
            async for event in observations:
                last = event
                if on_event is not None:
                    on_event(event)
        _expect_success(await flow.wait())
    return last


class _HandedIn(Api):
    """The API through somebody else's client: their connections, their token."""

    def __init__(self, client: CloudApiClient, paths: CloudPaths) -> None:
        super().__init__(paths)
        self._handed_in = client

    @override
    async def as_user(self, api_url: str) -> CloudApiClient:
        return self._handed_in


@asynccontextmanager
async def _open(
    client: CloudApiClient,
    directory: Path | None,
    show_url: ShowUrl,
    open_browser: OpenBrowser | None,
    program: Callable[[Services], Program[Any]],
    pages: CheckoutTemplates = OUR_CHECKOUT_PAGES,
) -> AsyncGenerator[Engine]:
    paths = resolve_cloud_paths(directory, os.environ, current_directory())
    made = Services(paths, show_url=show_url, open_browser=open_browser, checkout_pages=pages)
    made.cloud_api = _HandedIn(client, paths)
    async with made as services, open_engine(paths, [program(services)]) as engine:
        yield engine


def _placed(services: Services, checkout: CheckoutResponse, nonce: str | None) -> Program[CheckoutContext]:
    """The checkout machine for an order that somebody else has placed: its first two states only take note of that.

    Resumed from the command line in one of them, which is a matter of milliseconds, the flow ends with an order that
    names no plan: nothing is bought.
    """

    async def take_order(visit: Visit[CheckoutContext]) -> Event:
        api = await services.cloud_api.of(visit)
        known = tuple(sorted({*await listed_tenants(api, await api.me()), *stored_tenants(services.paths.tenants)}))
        return OrderValidated(
            "", "", known, keep_port(visit, visit.context.port), await visit.keep("nonce", nonce or "")
        )

    async def take_checkout(visit: Visit[CheckoutContext]) -> Event:
        url = await visit.keep("checkout_url", checkout.checkout_url)
        return CheckoutCreated(checkout.transaction_id, checkout.checkout_session_id, url)

    own = checkout_program(services).activities
    return Program(CHECKOUT, {**own, "validating_order": [take_order], "creating_checkout": [take_checkout]})


def _listening_place(redirect_uri: str) -> tuple[int, str | None]:
    """The port and nonce of a redirect URI of this computer's."""
    try:
        parts = urlsplit(redirect_uri)
        port, nonces = parts.port, parse_qs(parts.query, strict_parsing=True).get("state", []) if parts.query else []
    except ValueError:
        parts, port, nonces = urlsplit(""), None, []
    ours = parts.scheme == "http" and parts.hostname in LISTENER_NAMES and parts.path == "/callback"
    if not ours or not port or len(nonces) > 1:
        raise UnsafeUrl(
            "the checkout's redirect URI must be http://127.0.0.1:PORT/callback, with a nonce as its state",
            hint="Make it with checkout_redirect_uri(), and create the checkout with it.",
        )
    return port, nonces[0] if nonces else None


async def _observations(engine: Engine, flow: Flow, tenant_id: str) -> AsyncGenerator[ProvisioningEvent]:
    """What a provisioning has seen of the server's work, each once it is durable, until the flow ends or is paused."""
    step = ""
    async with aclosing(flow.changes()) as changes:
        async for change in changes:
            if change.kind != "event":
                continue
            (record,) = await engine.records(flow.id, after=change.seq - 1, limit=1)
            seen = PROVISIONING.decode_event(record.body)
            app_url = None
            if isinstance(seen, StepObserved):
                step = seen.step or step  # polling has words, and no name for the step
            elif isinstance(seen, TenantBecameReady):
                step, app_url = seen.step, seen.app_url or None
            elif isinstance(seen, ProvisioningFailed):
                step = FAILED
            else:
                continue
            yield ProvisioningEvent(
                tenant_id=tenant_id,
                event_type=step,
                status=_STATUS.get(step, "provisioning"),
                message=change.message or None,
                app_url=app_url,
            )


def _expect_success(outcome: Outcome) -> None:
    if not outcome.succeeded:
        problem = outcome.problem or f"the {outcome.machine} ended: {outcome.state}"
        raise FlowFailed(problem, flow=outcome.flow, state=outcome.state)
