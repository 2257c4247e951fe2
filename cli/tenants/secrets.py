"""`secrets`: what a tenant is given to know, by name. Values come from stdin or a prompt, never from arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from ..screen.terminal import clean, put, put_done, put_json, say
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.parameters import Argument, Command, checking
from ..shared.settings import Settings, settings_of
from .choice import chosen_tenant, confirmed_tenant, tenant_option, tenant_yes_option

LONGEST_INPUT = 1024 * 1024
"""Bytes read from stdin; no secret is longer."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def known_names(names: Sequence[str]) -> Sequence[str]:
    """The names, if they can be a secret's.

    Raises:
        click.BadParameter: One cannot, or one is given twice.
    """
    for name in names:
        if "=" in name:
            raise click.BadParameter("give the name only; the value is read from stdin or asked for")
        if not _NAME.fullmatch(name):
            raise click.BadParameter(f"{name!r} is no name for a secret: letters, digits and _, no digit first")
    if len(set(names)) < len(names):
        raise click.BadParameter("a name is given twice")
    return names


@click.command("list", cls=Command, epilog=f"Example: {CLI} secrets list --json")
@tenant_option
@click.pass_context
def list_secrets(context: click.Context, tenant: str | None) -> None:
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


@click.command("set", cls=Command, epilog=f"Example: {CLI} secrets set OPENAI_API_KEY < key.txt")
@click.argument(
    "names",
    cls=Argument,
    metavar="KEY",
    nargs=-1,
    required=True,
    callback=checking(known_names),
    about="The names; the values are read.",
)
@tenant_option
@click.pass_context
def set_secrets(context: click.Context, names: Sequence[str], tenant: str | None) -> None:
    """Set secrets of a tenant. Needs a login.

    At a terminal each value is asked for, hidden. Otherwise they come from stdin: all of it for one name, a line each,
    in the same order, for several.
    """
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    values = dict(zip(names, _values(settings, names), strict=True))
    ask_api(settings, lambda api: api.set_secrets(chosen, values))
    put_done(settings, {"tenant": chosen, "set": names}, f"Set {', '.join(names)} of {clean(chosen)}.")


@click.command("unset", cls=Command, epilog=f"Example: {CLI} secrets unset OPENAI_API_KEY --tenant tenant_4f2a --yes")
@click.argument("name", cls=Argument, metavar="KEY", about="Its name.")
@tenant_option
@tenant_yes_option
@click.pass_context
def unset_secret(context: click.Context, name: str, tenant: str | None, yes: bool) -> None:
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
            raise click.BadParameter(f"there is no value for {name}: {why}", param_hint="KEY")
        register_secret(value)
    return found


def parted(text: str, count: int) -> list[str]:
    """The values in what was piped in: all of it for one, else a line each, without the ends of the lines.

    Raises:
        click.BadParameter: There are more lines, or fewer.
    """
    if count == 1:
        return [text.removesuffix("\n").removesuffix("\r")]
    # Not `splitlines`: it would also part a value at a form feed, and at half a dozen characters more.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    if len(lines) != count:
        raise click.BadParameter(f"stdin holds {len(lines)} lines for {count} names", param_hint="KEY")
    return lines
