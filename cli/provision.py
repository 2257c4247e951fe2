"""`provision`: wait for a tenant that is paid for, and store it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CLI
from .options import seconds_option
from .settings import choose_api, settings_of

if TYPE_CHECKING:
    from ..flows.engine import Engine
    from ..flows.flow import Flow


OPTIONS = {"timeout": "--timeout", "external_db": "--external-db"}
"""The fields of the flow's context that never change, and the options that set them."""


def provision(
    context: typer.Context,
    tenant_id: Annotated[str, typer.Argument(metavar="TENANT_ID", help="The tenant, as `checkout` named it.")],
    timeout: Annotated[float, seconds_option("--timeout", "the tenant")] = 600.0,
    external_db: Annotated[bool, typer.Option("--external-db", help="Open the database to the outside.")] = False,
) -> None:
    """Wait for a tenant with live progress, and store it. Needs a login."""
    settings = settings_of(context)
    from ..flows.provisioning import start_provisioning
    from ..machines.provisioning import ProvisioningContext
    from .api import require_login
    from .drive import drive
    from .going_on import mention_options_left_out

    api_url = require_login(settings, choose_api(settings).url)
    wanted = ProvisioningContext(api_url=api_url, tenant_id=tenant_id, timeout=timeout, external_db=external_db)

    async def begin(engine: Engine) -> Flow:
        flow = await start_provisioning(engine, wanted)
        mention_options_left_out(settings, flow, wanted, OPTIONS)
        return flow

    raise typer.Exit(drive(settings, begin))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} provision tenant_4f2a --timeout 900")(provision)
