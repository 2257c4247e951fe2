"""`registry-token`: where a tenant's images are pushed, and, only when it is asked for, what lets you push.

A secret is never printed along the way (SECURITY 8), but `docker login` wants to read this one from its stdin. So the
token is printed by `--print-token` and by nothing else, alone on its line. `--json`, which is for programs that keep
what they read, is refused beside it. That stdout is no terminal does not count as having asked: a build log is none,
either.
"""

from __future__ import annotations

import shlex

import click

from ..screen.terminal import clean, fields, put, put_drawn, put_json, say
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import settings_of
from .choice import chosen_tenant, tenant_option


@click.command("registry-token", cls=Command, epilog=f"Example: {CLI} registry-token --json")
@tenant_option
@click.option(
    "--print-token", is_flag=True, help="Print the token, and only it: for a pipe to `docker login`, never a log."
)
@click.pass_context
def registry_token(context: click.Context, tenant: str | None, print_token: bool) -> None:
    """Show where to push a tenant's images. Needs a login.

    The token is a secret, fetched anew each time, and printed only by --print-token.
    """
    settings = settings_of(context)
    if print_token and settings.json:
        raise click.BadParameter("the token is never part of --json; give one or the other", param_hint="--print-token")
    chosen = chosen_tenant(settings, tenant)
    found = ask_api(settings, lambda api: api.registry_token(chosen))
    if print_token:
        put_drawn(found.token)
        return
    shown = {
        "tenant": chosen,
        "registry": clean(found.registry),
        "username": clean(found.username),
        "repository": clean(found.repository),
        "tag": clean(found.tag),
    }
    if settings.json:
        put_json(shown)
        return
    put(fields(shown))
    login = ["docker", "login", "--username", shown["username"], "--password-stdin", shown["registry"]]
    image = f"{shown['registry']}/{shown['repository']}:{shown['tag']}"
    named = f" --tenant {shlex.quote(chosen)}"
    say("Log in there, push, and deploy:")
    say(f"  {settings.command(f'registry-token{named} --print-token')} | {shlex.join(login)}")
    say(f"  docker push {shlex.quote(image)}")
    say(f"  {settings.command(f'deploy {shlex.quote(image)}{named}')}")
