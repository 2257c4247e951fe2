"""`provision`: wait for a tenant that is paid for, and store it."""

from __future__ import annotations

import click

from ...machines.parts.defaults import TENANT_SECONDS
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import external_db_option, known_id, seconds_option
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import settings_of

OPTIONS = {"timeout": "--timeout", "external_db": "--external-db"}
"""The fields of the flow's context that never change, and the options that set them."""


@click.command(cls=Command, epilog=f"Example: {CLI} provision tenant_4f2a --timeout 900")
@click.argument(
    "tenant_id",
    cls=Argument,
    metavar="TENANT_ID",
    callback=checking(known_id),
    about="The tenant, as `checkout` named it.",
)
@seconds_option("--timeout", TENANT_SECONDS, "the tenant")
@external_db_option
@click.pass_context
def provision(context: click.Context, tenant_id: str, timeout: float, external_db: bool) -> None:
    """Wait for a tenant with live progress, and store it. Needs a login."""
    settings = settings_of(context)
    from ...flows.provisioning import start_provisioning
    from ...machines.provisioning import ProvisioningContext
    from .start import start

    api_url = require_login(settings)
    wanted = ProvisioningContext(api_url=api_url, tenant_id=tenant_id, timeout=timeout, external_db=external_db)

    start(settings, start_provisioning, wanted, OPTIONS)
