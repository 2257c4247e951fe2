"""`auth token` and `auth refresh`: the token itself."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from ...errors import TokenExpired
from ..screen.terminal import put_json, put_utf8
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import settings_of
from .used import used_login


@click.command("token", cls=Command, epilog=f"Example: {CLI} auth token --json")
@click.pass_context
def token(context: click.Context) -> None:
    """Print the token, and nothing else.

    It is the token that the other commands use; an expired one is refused. Anyone who has it can act as you.
    """
    settings = settings_of(context)
    from ...io.http.tokens import token_expiry, why_spent
    from ...io.local.environment import API_TOKEN, fresh_token_hint

    now = datetime.now(UTC)
    found, handed = used_login(settings, now)
    if why := why_spent(found.api_token, now):
        where = API_TOKEN if handed else settings.paths.credentials
        raise TokenExpired(f"the token in {where} {why}", hint=fresh_token_hint() if handed else None)
    if settings.json:
        put_json({"token": found.api_token, "api_url": found.api_url, "expires_at": token_expiry(found.api_token)})
    else:
        put_utf8(found.api_token)


@click.command("refresh", cls=Command, epilog=f"Example: {CLI} auth refresh")
@click.pass_context
def refresh(context: click.Context) -> None:
    """Refresh a token; the SystemPrompt login has none to refresh.

    Its token is valid until it expires; then log in again.
    """
    settings = settings_of(context)
    raise click.UsageError(
        f"The SystemPrompt login has no refresh token. To get a new token: {settings.command('auth login')}"
    )
