"""`logout`: forget who is logged in here."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import typer

from ..errors import CLI, CloudError, Io
from .settings import Settings, settings_of
from .terminal import clean, put, say

if TYPE_CHECKING:
    from ..io.credentials import CloudCredentials

REPORT_SECONDS = 5.0


def logout(context: typer.Context) -> None:
    """Remove the login and the tenants stored here.

    The API is told. Logins that could not be read and were set aside go too: a token may be in them. Running flows
    stay, and can go on after the next login.
    """
    settings = settings_of(context)
    from ..io.credentials import CloudCredentials
    from ..io.files import locked, remove_private

    paths = settings.paths
    found = _readable(settings)
    removed: list[str] = []
    if CloudCredentials.delete_from_path(paths.credentials):
        removed.append(str(paths.credentials))
    kept: list[str] = []
    for aside in sorted(paths.credentials.parent.glob(f"{paths.credentials.name}.unreadable-*")):
        try:
            if remove_private(aside):  # it was set aside as it was: there may be a token in it that still counts
                removed.append(str(aside))
        except Io as exc:
            kept.append(str(aside))
            say(f"Not removed: {aside}; {clean(exc.user_message)}")
    if paths.tenants.parent.is_dir():
        with locked(paths.tenants):
            if remove_private(paths.tenants):
                removed.append(str(paths.tenants))
    reported = found is not None and not found.is_token_expired() and _report(found)
    if settings.json:
        shown = {"removed": removed, "reported": reported} | ({"kept": kept} if kept else {})
        put(msgspec.json.encode(shown).decode())
        return
    for path in removed:
        say(f"Removed {path}")
    if found is not None:
        say(f"Logged out {found.user_email}.")
        if not reported:
            say("The API could not be told; the token stays valid there until it expires.")
    elif not removed:
        say(f"Nobody was logged in. {settings.directory_line}")


def _readable(settings: Settings) -> CloudCredentials | None:
    from ..io.credentials import CloudCredentials

    try:
        return CloudCredentials.load_from_path(settings.paths.credentials)
    except CloudError:
        return None  # removing them is the point; whether they can be read is not


def _report(credentials: CloudCredentials) -> bool:
    """Tell the API, within a few seconds; whether it was told."""
    import trio

    from ..io.api import CloudApiClient
    from ..io.clock import SystemClock
    from .signals import run

    async def main() -> bool:
        with trio.move_on_after(REPORT_SECONDS):
            async with CloudApiClient(credentials.api_url, credentials.api_token) as api:
                me = await api.me()
                await api.report_activity(
                    "cloud_logout", me.user.id, SystemClock().now(), idempotency_key=secrets.token_hex(16)
                )
                return True
        return False

    try:
        return run(main)
    except CloudError:
        return False


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=f"Example: {CLI} logout")(logout)
