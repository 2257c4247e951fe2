"""`login`: from nothing to stored credentials."""

from __future__ import annotations

import functools
import os

import click

from ...machines.parts.defaults import BROWSER_SECONDS, LOGIN_PORT
from ..screen.terminal import say
from ..shared.api import checked_api
from ..shared.names import CLI
from ..shared.options import (
    no_browser_option,
    port_option,
    seconds_option,
    unbound_option,
    warn_unbound,
)
from ..shared.order_options import provider_option
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of, trusted_api_url

LONGEST_TOKEN = 65_536
"""Bytes read from stdin."""


OPTIONS = {"timeout": "--timeout"}
"""The fields of the flow's context that never change, and the options that set them."""


@click.command(cls=Command, epilog=f"Example: {CLI} login --provider google --no-browser")
@provider_option
@port_option("--port", LOGIN_PORT, "the browser")
@seconds_option("--timeout", BROWSER_SECONDS, "the browser")
@no_browser_option
@unbound_option
@click.option("--paste", is_flag=True, help="The browser is elsewhere: paste the address it ends on here.")
@click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Keep the token in the system's keyring, or in the file; by default where the last one was.",
)
@click.option("--token-stdin", is_flag=True, help="Read a token from stdin; no browser.")
@click.pass_context
def login(
    context: click.Context,
    provider: str,
    port: int,
    timeout: float,
    no_browser: bool,
    unbound_callback: bool,
    paste: bool,
    keyring: bool | None,
    token_stdin: bool,
) -> None:
    """Log in with a browser, or with a token from stdin.

    An interrupted login is resumed; a tab that is still open is accepted.
    """
    settings = settings_of(context)
    if paste and settings.no_input:
        raise click.BadParameter("--paste asks for an address, and --no-input forbids to ask", param_hint="--paste")
    api_url = trusted_api_url(settings)
    token = read_token(settings) if token_stdin else None
    from ...flows.login import start_login
    from ...io.local.environment import API_TOKEN
    from ...machines.login import LoginContext
    from ..run.start import start

    if unbound_callback:
        warn_unbound()
    wanted = LoginContext(
        api_url=checked_api(api_url),
        provider=provider,
        port=port,
        timeout=timeout,
        bound=not unbound_callback,
        keyring=keyring,
    )
    options = OPTIONS | {"keyring": "--no-keyring" if keyring is False else "--keyring"}
    if os.environ.get(API_TOKEN):
        say(f"{API_TOKEN} is set: while it is, it goes before the login that is stored now.")
    starting = functools.partial(start_login, token=token)
    start(settings, starting, wanted, {} if token else options, no_browser=no_browser, paste=paste)


def read_token(settings: Settings) -> str:
    """A token from stdin: typed at a terminal without echo, or piped in.

    Raises:
        click.BadParameter: There is none.
    """
    from ...base.redaction import register_secret
    from .secret_input import read_piped, read_typed

    typed = read_typed(settings, ["Token"], "--token-stdin")
    token = (read_piped(LONGEST_TOKEN, "--token-stdin") if typed is None else typed[0]).strip()
    if not token or len(token.split()) != 1:
        raise click.BadParameter("stdin holds no token, or more than one word", param_hint="--token-stdin")
    register_secret(token)
    return token
