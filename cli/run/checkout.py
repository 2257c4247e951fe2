"""`checkout`: from a plan and a region to a paid tenant."""

from __future__ import annotations

import click

from ...machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import (
    no_browser_option,
    port_option,
    qr_option,
    seconds_option,
    unbound_option,
    warn_unbound,
)
from ..shared.order_options import plan_option, region_option
from ..shared.parameters import Command
from ..shared.settings import settings_of

OPTIONS = {"timeout": "--timeout", "bound": "--unbound-callback", "port": "--port"}
"""The fields of the flow's context that never change once they are set, and the options that set them."""


@click.command(cls=Command, epilog=f"Example: {CLI} checkout --plan plan_sandbox_starter --region fra")
@plan_option
@region_option
@port_option("--port", CHECKOUT_PORT, "the payment")
@seconds_option("--timeout", BROWSER_SECONDS, "the payment")
@no_browser_option
@qr_option
@unbound_option
@click.pass_context
def checkout(
    context: click.Context,
    plan: str | None,
    region: str | None,
    port: int,
    timeout: float,
    no_browser: bool,
    qr: bool,
    unbound_callback: bool,
) -> None:
    """Pay for a tenant. Needs a login."""
    settings = settings_of(context)
    from ...flows.checkout import start_checkout
    from ...machines.checkout import CheckoutContext
    from .choosing import chosen_order
    from .start import start

    api_url = require_login(settings)
    plan, region, settings = chosen_order(settings, "checkout", plan, region)
    if unbound_callback:
        warn_unbound()
    wanted = CheckoutContext(
        api_url=api_url, plan=plan, region=region, port=port, timeout=timeout, bound=not unbound_callback
    )

    start(settings, start_checkout, wanted, OPTIONS, no_browser=no_browser, qr=qr)
