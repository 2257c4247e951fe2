"""`secrets`: what a tenant is given to know, by name. Values come from stdin or a prompt, never from arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from ..screen.terminal import clean, put, put_done, put_json, say
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.settings import Settings, settings_of
from .choice import TenantOption, TenantYes, chosen_tenant, confirmed_tenant

LONGEST_INPUT = 1024 * 1024
"""Bytes read from stdin; no secret is longer."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

app = typer.Typer(
    help="The secrets of a tenant: set and listed, never shown.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=f"Example: {CLI} secrets set OPENAI_API_KEY",
)


def known_names(names: list[str]) -> list[str]:
    """The names, if they can be a secret's.

    Raises:
        typer.BadParameter: One cannot, or one is given twice.
    """
    for name in names:
        if "=" in name:
            raise typer.BadParameter("give the name only; the value is read from stdin or asked for")
        if not _NAME.fullmatch(name):
            raise typer.BadParameter(f"{name!r} is no name for a secret: letters, digits and _, no digit first")
    if len(set(names)) < len(names):
        raise typer.BadParameter("a name is given twice")
    return names


@app.command("list", epilog=f"Example: {CLI} secrets list --json")
def list_secrets(context: typer.Context, tenant: TenantOption = None) -> None:
    """List the names of a tenant's secrets. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    names = ask_api(settings, lambda api: api.list_secrets(chosen))
    for name in sorted(names):
        if settings.json:
            put_json({"tenant": chosen, "key": name})
        else:
            put(clean(name))
    if not names and not settings.json:
        say(f"{clean(chosen)} has no secrets.")


@app.command("set", epilog=f"Example: {CLI} secrets set OPENAI_API_KEY < key.txt")
def set_secrets(
    context: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="KEY", callback=known_names, help="The names; the values are read.")
    ],
    tenant: TenantOption = None,
) -> None:
    """Set secrets of a tenant. Needs a login.

    At a terminal each value is asked for, hidden. Otherwise they come from stdin: all of it for one name, a line each,
    in the same order, for several.
    """
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    values = dict(zip(names, _values(settings, names), strict=True))
    ask_api(settings, lambda api: api.set_secrets(chosen, values))
    put_done(settings, {"tenant": chosen, "set": names}, f"Set {', '.join(names)} of {clean(chosen)}.")


@app.command("unset", epilog=f"Example: {CLI} secrets unset OPENAI_API_KEY --tenant tenant_4f2a --yes")
def unset_secret(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="KEY", help="Its name.")],
    tenant: TenantOption = None,
    yes: TenantYes = False,
) -> None:
    """Remove a secret of a tenant; asks first. Needs a login."""
    settings = settings_of(context)
    known_names([name])
    question = f"Remove the secret {name} of {{}}? It cannot be read back."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    ask_api(settings, lambda api: api.unset_secret(chosen, name))
    put_done(settings, {"tenant": chosen, "unset": [name]}, f"Removed {name} of {clean(chosen)}.")


def _values(settings: Settings, names: Sequence[str]) -> list[str]:
    from ...base.redaction import register_secret
    from ..account.secret_input import read_piped, read_typed

    typed = read_typed(settings, list(names), "KEY")
    found = parted(read_piped(LONGEST_INPUT, "KEY"), len(names)) if typed is None else typed
    why = "stdin is empty there" if typed is None else "nothing was typed"
    for name, value in zip(names, found, strict=True):
        if not value:
            raise typer.BadParameter(f"there is no value for {name}: {why}", param_hint="KEY")
        register_secret(value)
    return found


def parted(text: str, count: int) -> list[str]:
    """The values in what was piped in: all of it for one, else a line each, without the ends of the lines.

    Raises:
        typer.BadParameter: There are more lines, or fewer.
    """
    if count == 1:
        return [text.removesuffix("\n").removesuffix("\r")]
    # Not `splitlines`: it would also part a value at a form feed, and at half a dozen characters more.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    if len(lines) != count:
        raise typer.BadParameter(f"stdin holds {len(lines)} lines for {count} names", param_hint="KEY")
    return lines
