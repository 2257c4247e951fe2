"""`up`: from nothing to a running tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from ...io.cloud.wire import OAuthProvider
from ...machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT, LOGIN_PORT, TENANT_SECONDS
from ..shared.api import checked_api
from ..shared.names import CLI
from ..shared.options import (
    ExternalDb,
    NoBrowser,
    Paste,
    PlanOption,
    Provider,
    Region,
    Unbound,
    check_paste,
    port_option,
    seconds_option,
    warn_unbound,
)
from ..shared.settings import settings_of, trusted_api_url

OPTIONS = {
    "provider": "--provider",
    "login_port": "--login-port",
    "checkout_port": "--checkout-port",
    "login_timeout": "--login-timeout",
    "payment_timeout": "--payment-timeout",
    "tenant_timeout": "--tenant-timeout",
    "external_db": "--external-db",
    "bound": "--unbound-callback",
}
"""The fields of the flow's context that never change, and the options that set them."""


def up(
    context: typer.Context,
    plan: PlanOption,
    region: Region = "iad",
    provider: Provider = OAuthProvider.GITHUB,
    login_port: Annotated[int, port_option("--login-port", "the login")] = LOGIN_PORT,
    checkout_port: Annotated[int, port_option("--checkout-port", "the payment")] = CHECKOUT_PORT,
    login_timeout: Annotated[float, seconds_option("--login-timeout", "the login")] = BROWSER_SECONDS,
    payment_timeout: Annotated[float, seconds_option("--payment-timeout", "the payment")] = BROWSER_SECONDS,
    tenant_timeout: Annotated[float, seconds_option("--tenant-timeout", "the tenant")] = TENANT_SECONDS,
    external_db: ExternalDb = False,
    no_browser: NoBrowser = False,
    paste: Paste = False,
    unbound_callback: Unbound = False,
) -> None:
    """Log in if needed, pay, wait for the tenant and store it.

    You can interrupt it at any time: the same command resumes it.
    """
    settings = settings_of(context)
    check_paste(settings, paste=paste)
    api_url = trusted_api_url(settings)
    from ...flows.onboarding import start_onboarding
    from ...machines.onboarding import OnboardingContext
    from .start import start

    if unbound_callback:
        warn_unbound()
    wanted = OnboardingContext(
        api_url=checked_api(api_url),
        plan=plan,
        region=region,
        provider=provider.value,
        login_port=login_port,
        checkout_port=checkout_port,
        bound=not unbound_callback,
        external_db=external_db,
        login_timeout=login_timeout,
        payment_timeout=payment_timeout,
        tenant_timeout=tenant_timeout,
    )

    start(settings, start_onboarding, wanted, OPTIONS, no_browser=no_browser, paste=paste)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} up --plan plan_sandbox_starter --region fra")(up)
