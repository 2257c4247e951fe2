"""`deploy`: run an image on a tenant, and wait until it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import InvalidImage
from ...machines.parts.defaults import TENANT_SECONDS
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import seconds_option
from ..shared.settings import settings_of
from ..tenants.choice import TenantOption, chosen_tenant

OPTIONS = {"timeout": "--timeout"}
"""The fields of the flow's context that never change, and the options that set them."""


def known_image(value: str) -> str:
    """The image, if it is the name of one. Raises `typer.BadParameter` that says why it is none."""
    from ...io.cloud.images import check_image

    try:
        return check_image(value)
    except InvalidImage as exc:
        raise typer.BadParameter(exc.user_message) from exc


def deploy(
    context: typer.Context,
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", callback=known_image, help="The image, as it was pushed: HOST/PATH:TAG.")
    ],
    tenant: TenantOption = None,
    timeout: Annotated[float, seconds_option("--timeout", "the image to run")] = TENANT_SECONDS,
) -> None:
    """Run an image on a tenant and wait until it runs. Needs a login.

    `registry-token` shows where to push it. You can interrupt it at any time: the same command resumes it.
    """
    settings = settings_of(context)
    from ...flows.deployment import start_deployment
    from ...machines.deployment import DeploymentContext
    from .start import start

    api_url = require_login(settings)
    wanted = DeploymentContext(api_url=api_url, tenant_id=chosen_tenant(settings, tenant), image=image, timeout=timeout)

    start(settings, start_deployment, wanted, OPTIONS, stores=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} deploy registry.example/team/app:1.2 --tenant tenant_4f2a")(deploy)
