"""The checks of `doctor` outside the disk: ports, browser, proxy and certificates, login, API, clock."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ...base.errors import CloudError
from ...errors import Network, NotAuthenticated, PortBusy
from ...machines.parts.defaults import CHECKOUT_PORT, LOGIN_PORT
from ..screen.remedies import hint_of
from ..shared.settings import Settings, choose_api, usable_api
from .findings import Finding

if TYPE_CHECKING:
    from ...io.local.keyring_store import KeyringStore

PORTS: Final = {LOGIN_PORT: "login", CHECKOUT_PORT: "checkout"}
SOON: Final = timedelta(hours=1)
"""A token that expires within this time is a warning (docs/reference/wire.md)."""
API_SECONDS: Final = 15.0


def port_findings(settings: Settings) -> list[Finding]:
    """The two ports a browser comes back to, free now."""
    from ...io.loopback.serving import bind_loopback

    found: list[Finding] = []
    for port, command in PORTS.items():
        try:
            bind_loopback(port).close()
        except PortBusy as exc:
            option = "--port 0" if command == "login" else "--port 0 (with `up`: --checkout-port 0)"
            found.append(Finding("port", "warning", exc.user_message, f"Let {command} take any free one: {option}"))
        except CloudError as exc:
            found.append(Finding("port", "failed", exc.user_message, hint_of(settings, exc)))
        else:
            found.append(Finding("port", "ok", f"{port} is free for {command}"))
    return found


def browser_findings(_settings: Settings) -> list[Finding]:
    """Whether a browser can be opened here; without one the address is still shown."""
    from ...io.loopback.browser import browser_command

    command = browser_command(os.environ)
    if command.argv is not None:
        return [Finding("browser", "ok", f"opened with {Path(command.argv[0]).name}")]
    hint = "The address is printed: open it yourself. On another computer use `login --paste`."
    return [Finding("browser", "warning", f"none is opened: {command.reason}", hint)]


def proxy_findings(settings: Settings) -> list[Finding]:
    """The proxy and the certificates that the environment names for this API."""
    from ...io.http.urls import LOOPBACK_NAMES

    found: list[Finding] = []
    url = choose_api(settings).url
    parts = urlsplit(url)
    host = parts.hostname or ""
    # What happens on loopback is no proxy's business (io/http/transport.py).
    found.append(Finding("proxy", "ok", f"none for {host}") if host in LOOPBACK_NAMES else _proxy(url, host))
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (named := os.environ.get(variable)) and not Path(named).exists():
            hint = f"Unset {variable}, or name what is there."
            found.append(Finding("certificates", "failed", f"{variable} names {named}, which does not exist", hint))
        elif named:
            found.append(Finding("certificates", "ok", f"from {named} ({variable})"))
    return found


def _proxy(url: str, host: str) -> Finding:
    """The finding about the proxy for a URL, without the user and password its address may hold."""
    from ...io.http.addresses import parse_api_url
    from ...io.http.proxies import proxy_for, proxy_of

    try:
        parsed = parse_api_url(url)
        proxy = proxy_of(parsed)
        if proxy is None:
            return Finding("proxy", "ok", f"none for {host}")
        proxy_for(parsed)
    except CloudError as exc:
        return Finding("proxy", "failed", exc.user_message, hint_of(None, exc))
    return Finding("proxy", "ok", f"{parsed.scheme} calls go through {proxy.address}")


def login_findings(settings: Settings, keyring: KeyringStore | None = None) -> list[Finding]:
    """Who is logged in, and for how long."""
    from ...io.cloud.accounts import UNKNOWN_EMAIL
    from ...io.http.tokens import token_expiry
    from ...io.local.credentials import CloudCredentials
    from ...io.local.environment import (
        API_TOKEN,
        environment_credentials,
        environment_token,
        fresh_token_hint,
        in_container,
        no_login_in_container,
    )

    login_hint = fresh_token_hint() if environment_token(os.environ) else f"Run: {settings.command('login')}"
    try:
        handed = environment_credentials(os.environ, datetime.now(UTC))
        if handed is None and in_container(os.environ):
            raise no_login_in_container()
        stored = handed or CloudCredentials.load_from_path(settings.paths.credentials, store=keyring)
        expiry = token_expiry(stored.api_token)
    except NotAuthenticated as exc:
        if in_container(os.environ):
            return [Finding("login", "warning", exc.user_message, hint_of(settings, exc))]
        return [Finding("login", "warning", "not logged in", login_hint)]
    except CloudError as exc:
        return [Finding("login", "failed", exc.user_message, hint_of(settings, exc))]
    known = "a login" if stored.user_email == UNKNOWN_EMAIL else stored.user_email
    who = f"{known} at {stored.api_url}{f', by {API_TOKEN}' if handed else ''}"
    if expiry is None:
        return [Finding("login", "ok", f"{who}; the token does not show when it expires")]
    until = f"{expiry:%Y-%m-%d %H:%M} UTC"
    left = expiry - datetime.now(UTC)
    if left <= timedelta(0):
        return [Finding("login", "failed", f"{who}; the token expired {until}", login_hint)]
    if left < SOON:
        return [Finding("login", "warning", f"{who}; the token expires {until}", login_hint)]
    return [Finding("login", "ok", f"{who}; the token expires {until}")]


def api_findings(settings: Settings, keyring: KeyringStore | None = None) -> list[Finding]:
    """Whether the API answers and takes the token, and whether this computer's clock agrees with its."""
    import trio

    from ...flows.services import Services
    from ...io.cloud.api import CloudApiClient
    from ..shared.signals import run

    try:
        url = usable_api(settings).url
    except CloudError as exc:
        return [Finding("api", "failed", exc.user_message, hint_of(settings, exc))]
    try:
        token = Services(settings.paths, environ=os.environ, keyring=keyring).credentials(url).api_token
    except CloudError:
        token = None

    async def ask() -> list[Finding]:
        async with CloudApiClient(url, token, attempts=1) as api:
            with trio.move_on_after(API_SECONDS):
                try:
                    if token is None:  # the one call that needs none: the first of a login
                        await api.authorize_url("github", f"http://127.0.0.1:{LOGIN_PORT}/callback")
                    else:
                        await api.me()
                except CloudError as exc:
                    # Without an answer there is no server time to compare.
                    skew = [] if isinstance(exc, Network) else _clock(api.clock_skew)
                    return [Finding("api", "failed", exc.user_message, hint_of(settings, exc)), *skew]
                took = "and takes the token" if token is not None else "(asked without a token)"
                return [Finding("api", "ok", f"{url} answers {took}"), *_clock(api.clock_skew)]
        return [Finding("api", "failed", f"{url} did not answer within {API_SECONDS:g} s", "Try again later.")]

    try:
        return run(ask)
    except CloudError as exc:
        return [Finding("api", "failed", exc.user_message, hint_of(settings, exc))]


def _clock(skew: timedelta | None) -> list[Finding]:
    if skew is None:
        return [Finding("clock", "ok", "agrees with the API's")]
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    message = f"this computer's clock is {abs(skew)} {ahead} the API's"
    return [Finding("clock", "failed", message, "Correct this computer's clock: tokens expire too early or too late.")]
