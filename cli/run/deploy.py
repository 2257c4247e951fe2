"""`deploy`: run an image on a tenant, and wait until it runs."""

from __future__ import annotations

import click

from ...errors import InvalidImage
from ...machines.parts.defaults import TENANT_SECONDS
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import seconds_option
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import settings_of
from ..tenants.choice import chosen_tenant, tenant_option

OPTIONS = {"timeout": "--timeout"}
"""The fields of the flow's context that never change, and the options that set them."""


def known_image(value: str) -> str:
    """The image, if it is the name of one. Raises `click.BadParameter` that says why it is none."""
    from ...io.cloud.images import check_image

    try:
        return check_image(value)
    except InvalidImage as exc:
        raise click.BadParameter(exc.user_message) from exc


@click.command(cls=Command, epilog=f"Example: {CLI} deploy registry.example/team/app:1.2 --tenant tenant_4f2a")
@click.argument(
    "image",
    cls=Argument,
    metavar="IMAGE",
    callback=checking(known_image),
    about="The image, as it was pushed: HOST/PATH:TAG.",
)
@tenant_option
@seconds_option("--timeout", TENANT_SECONDS, "the image to run")
@click.pass_context
def deploy(context: click.Context, image: str, tenant: str | None, timeout: float) -> None:
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
