"""`logout`: forget who is logged in here."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import click

from ...base.errors import CloudError, Io
from ..screen.terminal import clean, put_json, say
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from ...io.local.credentials import CloudCredentials

REPORT_SECONDS = 5.0
IN_KEYRING = "the token in the system's keyring"


@click.command(cls=Command, epilog=f"Example: {CLI} logout")
@click.pass_context
def logout(context: click.Context) -> None:
    """Remove the login, the stored tenants and their sessions.

    Notifies the API. Also removes unreadable files that were set aside: they may hold a token. Running flows are kept,
    and can be resumed after the next login. The local session is kept too: it is no login of this API.
    """
    settings = settings_of(context)
    from ...base.files import locked, remove_private
    from ...io.local.accounts import accounts_path
    from ...io.local.cloud_dir import refuse_foreign
    from ...io.local.credentials import CloudCredentials
    from ...io.local.keyring_entries import note_of
    from ...io.local.paths import switch_path

    paths = settings.paths
    own = _own_tenants(settings)
    refuse_foreign(paths.directory)
    note = note_of(paths.credentials)
    found = _readable(settings)
    removed: list[str] = []
    was_in_keyring = note.exists()
    if CloudCredentials.delete_from_path(paths.credentials):
        removed.append(str(paths.credentials))
    kept = [IN_KEYRING] if note.exists() else []  # it was warned of
    if was_in_keyring and not kept:
        removed.append(IN_KEYRING)
    shared = (paths.credentials, paths.tenants, paths.sessions_index, switch_path(paths))
    for aside in (each for path in shared for each in sorted(path.parent.glob(f"{path.name}.unreadable-*"))):
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
    if paths.credentials_file is not None and paths.credentials.parent.is_dir():
        with locked(accounts_path(paths)):
            if remove_private(accounts_path(paths)):
                removed.append(str(accounts_path(paths)))
    sessions, trouble = _remove_tenant_sessions(settings, own)
    reported = found is not None and not found.is_token_expired() and _report(found)
    if settings.json:
        shown = {"removed": removed, "sessions": sessions, "reported": reported} | ({"kept": kept} if kept else {})
        put_json(shown)
    else:
        _say_what(settings, removed, sessions, found, reported)
    if trouble is not None:
        raise trouble


def _say_what(
    settings: Settings, removed: list[str], sessions: list[str], found: CloudCredentials | None, reported: bool
) -> None:
    from ...io.local.environment import API_TOKEN, environment_token

    for path in removed:
        say(f"Removed {path}")
    if sessions:
        say(f"Removed {len(sessions)} tenant sessions from {settings.paths.sessions_index}")
    if found is not None:
        say(f"Logged out {found.user_email}.")
        if not reported:
            say("The API was not notified; the token stays valid there until it expires.")
    elif not removed and not sessions:
        say(f"Not logged in. {settings.directory_line}")
    if environment_token(os.environ):
        say(f"{API_TOKEN} is set, and stays a login for every command that sees it; to end that, unset it.")


def _readable(settings: Settings) -> CloudCredentials | None:
    from ...io.local.credentials import CloudCredentials

    try:
        return CloudCredentials.load_from_path(settings.paths.credentials)
    except CloudError:
        return None  # removing them is the point; whether they can be read is not


def _own_tenants(settings: Settings) -> set[str] | None:
    """The tenants of the account that is logged out; None where there is no other account to tell apart from."""
    from ...io.local.account_paths import other_names
    from ...io.local.tenants import TenantStore

    if settings.paths.credentials_file is None and not other_names(settings.paths):
        return None
    try:
        return {tenant.id for tenant in TenantStore.load_from_path(settings.paths.tenants).tenants}
    except CloudError:
        return set()


def _remove_tenant_sessions(settings: Settings, own: set[str] | None) -> tuple[list[str], CloudError | None]:
    """Remove the sessions of tenants (only of `own` where given); their storage keys, and what stood in the way."""
    from ...io.local.session_store import SessionStore

    path = settings.paths.sessions_index
    try:
        if SessionStore.load(path) is None:
            return [], None
    except CloudError as exc:  # the rest is removed all the same
        return [], exc
    with SessionStore.updating(path) as store:
        return store.remove_tenant_sessions(own), None


def _report(credentials: CloudCredentials) -> bool:
    """Notify the API, within a few seconds; whether that worked."""
    import trio

    from ...base.clock import SystemClock
    from ...io.cloud.api import CloudApiClient
    from ..shared.signals import run

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
