"""`checkout`: from a plan and a region to a paid tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from ...machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import NoBrowser, PlanOption, Region, Unbound, port_option, seconds_option, warn_unbound
from ..shared.settings import settings_of

OPTIONS = {"timeout": "--timeout", "bound": "--unbound-callback", "port": "--port"}
"""The fields of the flow's context that never change once they are set, and the options that set them."""


def checkout(
    context: typer.Context,
    plan: PlanOption,
    region: Region = "iad",
    port: Annotated[int, port_option("--port", "the payment")] = CHECKOUT_PORT,
    timeout: Annotated[float, seconds_option("--timeout", "the payment")] = BROWSER_SECONDS,
    no_browser: NoBrowser = False,
    unbound_callback: Unbound = False,
) -> None:
    """Pay for a tenant. Needs a login."""
    settings = settings_of(context)
    from ...flows.checkout import start_checkout
    from ...machines.checkout import CheckoutContext
    from .start import start

    api_url = require_login(settings)
    if unbound_callback:
        warn_unbound()
    wanted = CheckoutContext(
        api_url=api_url, plan=plan, region=region, port=port, timeout=timeout, bound=not unbound_callback
    )

    start(settings, start_checkout, wanted, OPTIONS, no_browser=no_browser)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} checkout --plan plan_sandbox_starter --region fra")(checkout)
