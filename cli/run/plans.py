"""`plans`: what can be bought."""

from __future__ import annotations

import typer

from ..screen.terminal import clean, put, put_json, table
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.settings import settings_of


def plans(context: typer.Context) -> None:
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
    put(table(rows))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} plans --json")(plans)
