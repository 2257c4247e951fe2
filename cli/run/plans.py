"""`plans`: what can be bought."""

from __future__ import annotations

import click

from ..screen.terminal import clean, put_json, put_table
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import settings_of


@click.command(cls=Command, epilog=f"Example: {CLI} plans --json")
@click.pass_context
def plans(context: click.Context) -> None:
    """List the plans there are. Needs a login."""
    settings = settings_of(context)
    found = ask_api(settings, lambda api: api.plans())
    if settings.json:
        for plan in found:
            put_json(plan)
        return
    rows = [("ID", "NAME", "MEMORY", "VOLUME", "TENANTS")]
    rows += [
        (
            clean(plan.id),
            clean(plan.name),
            f"{plan.memory_mb_default} MB",
            f"{plan.volume_gb} GB",
            "any" if plan.max_tenants is None else str(plan.max_tenants),
        )
        for plan in found
    ]
    put_table(rows)
