"""`auth list` and `auth switch`: several accounts, of which one is the active one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ...base.errors import CloudError
from ..screen.terminal import clean, put_done, put_json, put_table, say
from ..shared.completion import complete_accounts
from ..shared.names import CLI
from ..shared.options import Unasked
from ..shared.parameters import Argument, Command
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from ...io.local.credentials import CloudCredentials


def _found(settings: Settings, name: str) -> CloudCredentials | CloudError:
    from ...io.local.account_paths import account_paths
    from ...io.local.credentials import CloudCredentials

    try:
        return CloudCredentials.peek_at_path(account_paths(settings.paths, name).credentials)
    except CloudError as exc:
        return exc


@click.command("list", cls=Command, epilog=f"Example: {CLI} auth list --json")
@click.pass_context
def list_accounts(context: click.Context) -> None:
    """List the accounts that are logged in here.

    The active one is marked: commands use it where --account names no other.
    """
    settings = settings_of(context)
    from ...io.local.account_paths import active_name, other_names, root_paths
    from ...io.local.credentials import CloudCredentials

    active = active_name(settings.paths)
    root = root_paths(settings.paths)
    if active is None and os.path.lexists(root.credentials):
        CloudCredentials.peek_at_path(root.credentials)  # it cannot be read; the error names the file
    names = [*([active] if active else []), *other_names(settings.paths)]
    rows = [("", "ACCOUNT", "USER", "API")]
    for name in names:
        found = _found(settings, name)
        if isinstance(found, CloudError):
            say(clean(found.user_message))
        elif settings.json:
            put_json(
                {"account": name, "active": name == active, "user_email": found.user_email, "api_url": found.api_url}
            )
        else:
            rows.append(("*" if name == active else "", name, clean(found.user_email), clean(found.api_url)))
    if not settings.json and len(rows) > 1:
        put_table(rows)
    elif not names:
        say(f"No accounts found. To log in: {settings.command('auth login')}")


@click.command("switch", cls=Command, epilog=f"Example: {CLI} auth switch work")
@click.argument(
    "name",
    cls=Argument,
    metavar="NAME",
    required=False,
    shell_complete=complete_accounts,
    about="The account, as `list` shows it; without it the other one, where there are two.",
)
@click.pass_context
def switch(context: click.Context, name: str | None) -> None:
    """Make another account the active one.

    Its login and tenants become those that commands use, also those of the Rust CLI. The others are kept.
    """
    settings = settings_of(context)
    from ...io.local.account_paths import active_name, other_names
    from ...io.local.account_switch import switch_account
    from ...io.local.environment import API_TOKEN, environment_token

    active, others = active_name(settings.paths), other_names(settings.paths)
    names = [*([active] if active else []), *others]
    if name is None and len(others) != 1:
        there = f"Accounts: {', '.join(names)}." if names else "No accounts found."
        raise Unasked(f"Which account? {there} To switch: {settings.command('auth switch NAME')}", param_hint="NAME")
    wanted = others[0] if name is None else name
    if wanted not in names:
        there = f"Accounts: {', '.join(names)}" if names else "No accounts found"
        raise click.BadParameter(
            f"no account {wanted!r}. {there}. To log in to it: {CLI} --account NAME login", param_hint="NAME"
        )
    found = switch_account(settings.paths, wanted)
    shown = {"account": wanted, "user_email": found.user_email, "api_url": found.api_url, "before": active}
    put_done(settings, shown, f"Switched to {wanted} ({clean(found.user_email)} at {clean(found.api_url)}).")
    if environment_token(os.environ):
        say(f"{API_TOKEN} is set and overrides every account.")
    if settings.wanted_account not in {"", wanted}:
        say(
            f"Commands still use {settings.wanted_account}: --account, SYSTEMPROMPT_ACCOUNT or the config names it. "
            f"To remove it from the config: {CLI} config unset account"
        )
