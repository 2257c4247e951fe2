"""`up`: from nothing to a running tenant."""

from __future__ import annotations

import click

from ...machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT, LOGIN_PORT, TENANT_SECONDS
from ..shared.api import checked_api
from ..shared.names import CLI
from ..shared.options import (
    check_paste,
    external_db_option,
    no_browser_option,
    paste_option,
    port_option,
    qr_option,
    seconds_option,
    unbound_option,
    warn_unbound,
)
from ..shared.order_options import plan_option, provider_option, region_option
from ..shared.parameters import Command
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


@click.command(cls=Command, epilog=f"Example: {CLI} up --plan plan_sandbox_starter --region fra")
@plan_option
@region_option
@provider_option
@port_option("--login-port", LOGIN_PORT, "the login")
@port_option("--checkout-port", CHECKOUT_PORT, "the payment")
@seconds_option("--login-timeout", BROWSER_SECONDS, "the login")
@seconds_option("--payment-timeout", BROWSER_SECONDS, "the payment")
@seconds_option("--tenant-timeout", TENANT_SECONDS, "the tenant")
@external_db_option
@no_browser_option
@qr_option
@paste_option
@unbound_option
@click.pass_context
def up(
    context: click.Context,
    plan: str | None,
    region: str | None,
    provider: str,
    login_port: int,
    checkout_port: int,
    login_timeout: float,
    payment_timeout: float,
    tenant_timeout: float,
    external_db: bool,
    no_browser: bool,
    qr: bool,
    paste: bool,
    unbound_callback: bool,
) -> None:
    """Log in if needed, pay, wait for the tenant and store it.

    You can interrupt it at any time: the same command resumes it.
    """
    settings = settings_of(context)
    check_paste(settings, paste=paste)
    api_url = trusted_api_url(settings)
    from ...flows.onboarding import start_onboarding
    from ...machines.onboarding import OnboardingContext
    from .choosing import chosen_order
    from .start import start

    plan, region, settings = chosen_order(settings, "up", plan, region)
    if unbound_callback:
        warn_unbound()
    wanted = OnboardingContext(
        api_url=checked_api(api_url),
        plan=plan,
        region=region,
        provider=provider,
        login_port=login_port,
        checkout_port=checkout_port,
        bound=not unbound_callback,
        external_db=external_db,
        login_timeout=login_timeout,
        payment_timeout=payment_timeout,
        tenant_timeout=tenant_timeout,
    )

    start(settings, start_onboarding, wanted, OPTIONS, no_browser=no_browser, qr=qr, paste=paste)
