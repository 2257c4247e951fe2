"""`provision`: wait for a tenant that is paid for, and store it."""

from __future__ import annotations

from typing import Annotated

import typer

from ...machines.parts.defaults import TENANT_SECONDS
from ..shared.api import require_login
from ..shared.names import CLI
from ..shared.options import ExternalDb, known_id, seconds_option
from ..shared.settings import settings_of

OPTIONS = {"timeout": "--timeout", "external_db": "--external-db"}
"""The fields of the flow's context that never change, and the options that set them."""


def provision(
    context: typer.Context,
    tenant_id: Annotated[
        str, typer.Argument(metavar="TENANT_ID", callback=known_id, help="The tenant, as `checkout` named it.")
    ],
    timeout: Annotated[float, seconds_option("--timeout", "the tenant")] = TENANT_SECONDS,
    external_db: ExternalDb = False,
) -> None:
    """Wait for a tenant with live progress, and store it. Needs a login."""
    settings = settings_of(context)
    from ...flows.provisioning import start_provisioning
    from ...machines.provisioning import ProvisioningContext
    from .start import start

    api_url = require_login(settings)
    wanted = ProvisioningContext(api_url=api_url, tenant_id=tenant_id, timeout=timeout, external_db=external_db)

    start(settings, start_provisioning, wanted, OPTIONS)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} provision tenant_4f2a --timeout 900")(provision)
