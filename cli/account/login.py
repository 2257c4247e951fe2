"""`login`: from nothing to stored credentials."""

from __future__ import annotations

import functools
import os

import click

from ...base.errors import CloudError
from ...machines.parts.defaults import BROWSER_SECONDS, LOGIN_PORT
from ..screen.terminal import clean, say
from ..shared.api import checked_api
from ..shared.names import CLI
from ..shared.options import (
    check_paste,
    confirm,
    no_browser_option,
    paste_option,
    port_option,
    qr_option,
    seconds_option,
    unbound_option,
    warn_unbound,
    yes_option,
)
from ..shared.order_options import provider_option
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of, trusted_api_url

ROOM = 64
"""Bytes that may be around a token on stdin."""

OPTIONS = {"timeout": "--timeout"}
"""The fields of the flow's context that never change, and the options that set them."""


@click.command(cls=Command, epilog=f"Example: {CLI} login --provider google --no-browser")
@provider_option
@port_option("--port", LOGIN_PORT, "the browser")
@seconds_option("--timeout", BROWSER_SECONDS, "the browser")
@no_browser_option
@qr_option
@unbound_option
@paste_option
@click.option(
    "--keyring/--no-keyring",
    default=None,
    help="Keep the token in the system's keyring, or in the file; by default where the last one was.",
)
@click.option("--device", is_flag=True, hidden=True)
@yes_option
@click.option("--token-stdin", is_flag=True, help="Read a token from stdin; no browser.")
@click.pass_context
def login(
    context: click.Context,
    provider: str,
    port: int,
    timeout: float,
    no_browser: bool,
    qr: bool,
    unbound_callback: bool,
    paste: bool,
    keyring: bool | None,
    device: bool,
    yes: bool,
    token_stdin: bool,
) -> None:
    """Log in with a browser, or with a token from stdin.

    An interrupted login is resumed; a tab that is still open is accepted.
    """
    settings = settings_of(context)
    if device:
        raise click.UsageError(
            "The SystemPrompt login has no device login. When the browser is on another computer: "
            f"{settings.command('login --paste')}"
        )
    check_paste(settings, paste=paste)
    api_url = trusted_api_url(settings)
    _mention_login(settings, yes=yes or token_stdin)
    token = read_token(settings) if token_stdin else None
    from ...flows.login import start_login
    from ...io.local.environment import API_TOKEN, environment_token
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
        account=settings.wanted_account,
    )
    options = OPTIONS | {"keyring": "--no-keyring" if keyring is False else "--keyring"}
    if environment_token(os.environ):
        say(f"{API_TOKEN} is set: while it is, it goes before the login that is stored now.")
    starting = functools.partial(start_login, token=token)
    start(settings, starting, wanted, {} if token else options, no_browser=no_browser, qr=qr, paste=paste)


def _mention_login(settings: Settings, *, yes: bool) -> None:
    """Show which login is about to be replaced; at a terminal, ask. An expired one is not mentioned.

    Raises:
        click.exceptions.Exit: With 1, when the answer is no.
    """
    from ...io.local.credentials import CloudCredentials
    from ..screen.ask import somebody_is_there

    try:
        found = CloudCredentials.peek_at_path(settings.paths.credentials)
    except CloudError:  # there is none, or none that counts
        return
    if not found.in_keyring and found.is_token_expired():
        return
    who = f"Already logged in as {clean(found.user_email)} at {clean(found.api_url)}."
    if not yes and somebody_is_there(settings):
        confirm(settings, f"{who} Log in again?", yes=False)
    else:
        say(f"{who} A new login replaces it. To keep both: {CLI} --account NAME login")


def read_token(settings: Settings) -> str:
    """A token from stdin: typed at a terminal without echo, or piped in.

    Raises:
        click.BadParameter: There is none.
    """
    from ...base.redaction import register_secret
    from ...io.http.tokens import LONGEST_TOKEN, bare_token, token_problem
    from .secret_input import read_piped, read_typed

    typed = read_typed(settings, ["Token"], "--token-stdin")
    found = read_piped(LONGEST_TOKEN + ROOM, "--token-stdin") if typed is None else typed[0]
    token = bare_token(found)
    register_secret(token)
    if not token:
        raise click.BadParameter("stdin holds no token", param_hint="--token-stdin")
    if problem := token_problem(token):
        raise click.BadParameter(f"the token on stdin {problem}", param_hint="--token-stdin")
    return token
