"""`login`: from nothing to stored credentials."""

from __future__ import annotations

import functools
import os
from typing import Annotated

import typer

from ...io.cloud.wire import OAuthProvider
from ...machines.parts.defaults import BROWSER_SECONDS, LOGIN_PORT
from ..screen.terminal import say
from ..shared.api import checked_api
from ..shared.names import CLI
from ..shared.options import NoBrowser, Paste, Provider, Unbound, check_paste, port_option, seconds_option, warn_unbound
from ..shared.settings import Settings, settings_of, trusted_api_url

ROOM = 64
"""Bytes that may be around a token on stdin."""

OPTIONS = {"timeout": "--timeout"}
"""The fields of the flow's context that never change, and the options that set them."""


def login(
    context: typer.Context,
    provider: Provider = OAuthProvider.GITHUB,
    port: Annotated[int, port_option("--port", "the browser")] = LOGIN_PORT,
    timeout: Annotated[float, seconds_option("--timeout", "the browser")] = BROWSER_SECONDS,
    no_browser: NoBrowser = False,
    unbound_callback: Unbound = False,
    paste: Paste = False,
    keyring: Annotated[
        bool | None,
        typer.Option(
            "--keyring/--no-keyring",
            show_default=False,
            help="Keep the token in the system's keyring, or in the file; by default where the last one was.",
        ),
    ] = None,
    token_stdin: Annotated[bool, typer.Option("--token-stdin", help="Read a token from stdin; no browser.")] = False,
) -> None:
    """Log in with a browser, or with a token from stdin.

    An interrupted login is resumed; a tab that is still open is accepted.
    """
    settings = settings_of(context)
    check_paste(settings, paste=paste)
    api_url = trusted_api_url(settings)
    token = read_token(settings) if token_stdin else None
    from ...flows.login import start_login
    from ...io.local.environment import API_TOKEN, environment_token
    from ...machines.login import LoginContext
    from ..run.start import start

    if unbound_callback:
        warn_unbound()
    wanted = LoginContext(
        api_url=checked_api(api_url),
        provider=provider.value,
        port=port,
        timeout=timeout,
        bound=not unbound_callback,
        keyring=keyring,
    )
    options = OPTIONS | {"keyring": "--no-keyring" if keyring is False else "--keyring"}
    if environment_token(os.environ):
        say(f"{API_TOKEN} is set: while it is, it goes before the login that is stored now.")
    starting = functools.partial(start_login, token=token)
    start(settings, starting, wanted, {} if token else options, no_browser=no_browser, paste=paste)


def read_token(settings: Settings) -> str:
    """A token from stdin: typed at a terminal without echo, or piped in.

    Raises:
        typer.BadParameter: There is none.
    """
    from ...base.redaction import register_secret
    from ...io.http.tokens import LONGEST_TOKEN, bare_token, token_problem
    from .secret_input import read_piped, read_typed

    typed = read_typed(settings, ["Token"], "--token-stdin")
    found = read_piped(LONGEST_TOKEN + ROOM, "--token-stdin") if typed is None else typed[0]
    token = bare_token(found)
    register_secret(token)
    if not token:
        raise typer.BadParameter("stdin holds no token", param_hint="--token-stdin")
    if problem := token_problem(token):
        raise typer.BadParameter(f"the token on stdin {problem}", param_hint="--token-stdin")
    return token


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} login --provider google --no-browser")(login)
