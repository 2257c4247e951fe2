"""`whoami`: who is logged in, where, for how long, and what is unfinished."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ...base.errors import CloudError
from ...engine.errors import FlowNotFound
from ...errors import NotAuthenticated, TokenExpired
from ..screen.asides import mention_journals_set_aside
from ..screen.errors import exit_code, report, tell
from ..screen.remedies import hint_of
from ..screen.terminal import clean, put, put_json, say, shortened
from ..screen.times import dated
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of
from .used import used_login

if TYPE_CHECKING:
    from ...engine.journal.records import FlowRow

OWNER_SECONDS = 10.0
"""How long the API may take to answer whose token the environment holds."""


@click.command(cls=Command, epilog=f"Example: {CLI} whoami --check")
@click.option("--check", is_flag=True, help="Ask the API whether it still accepts the token.")
@click.pass_context
def whoami(context: click.Context, check: bool) -> None:
    """Show authentication status.

    Who is logged in, where and for how long, and which flows are unfinished, with the commands to resume them.
    """
    settings = settings_of(context)
    from ...io.cloud.accounts import UNKNOWN_EMAIL
    from ...io.http.tokens import token_expiry, why_spent
    from ...io.local.account_paths import account_name
    from ...io.local.credentials import CloudCredentials
    from ...io.local.environment import API_TOKEN

    now = datetime.now(UTC)
    pending, trouble = _pending(settings)
    mention_journals_set_aside(settings)
    try:
        found, handed = used_login(settings, now)
        in_keyring = not handed and CloudCredentials.peek_at_path(settings.paths.credentials).in_keyring
    except CloudError as exc:
        if not settings.json:
            _say_rest(settings, pending)
        raise click.exceptions.Exit(report(settings, exc)) from exc
    expiry = token_expiry(found.api_token)
    why = why_spent(found.api_token, now)
    expired = bool(why)
    email: str | None = found.user_email
    if email == UNKNOWN_EMAIL:  # a token alone: only its API knows whose it is
        email = None if expired else _owner(settings, needed=check)
    elif check and not expired:
        _check(settings, found.user_email)
    account = None if handed else account_name(settings.paths)
    if settings.json:
        shown: dict[str, Any] = {
            "user_email": email,
            "account": account,
            "api_url": found.api_url,
            "source": API_TOKEN if handed else str(settings.paths.credentials),
            "keyring": in_keyring,
            "authenticated_at": None if handed else found.authenticated_at,
            "expires_at": expiry,
            "expired": expired,
            "checked": check and not expired,
            "directory": str(settings.paths.directory),
            "origin": settings.paths.origin,
            "pending": [{"flow": row.id, "machine": row.machine, "state": row.state} for row in pending],
        }
        put_json(shown)
    else:
        put(f"{clean(email or 'Unknown account')} at {clean(found.api_url)}{f', by {API_TOKEN}' if handed else ''}")
        kept = ", in the system's keyring" if in_keyring else ""
        put(f"Token: {_validity(expiry, now, expired)}{kept}{', accepted by the API just now' if check else ''}")
        _say_rest(settings, pending)
    if expired:
        raise TokenExpired(f"the token in {API_TOKEN if handed else settings.paths.credentials} {why}")
    if trouble is not None:  # shown above
        raise click.exceptions.Exit(exit_code(trouble))


def _check(settings: Settings, email: str) -> None:
    known = ask_api(settings, lambda api: api.me()).user.email
    if known.casefold() != email.casefold():
        say(f"Warning: the API knows this token as {clean(known)}'s, not as {clean(email)}'s.")


def _owner(settings: Settings, *, needed: bool) -> str | None:
    """Whose token the environment holds; None when the API cannot be asked now, unless that was the question."""
    try:
        return ask_api(settings, lambda api: api.me(), seconds=OWNER_SECONDS).user.email
    except CloudError as exc:
        if needed or isinstance(exc, NotAuthenticated):
            raise
        tell(exc.user_message, hint_of(settings, exc), "Warning")
        return None


def _validity(expiry: datetime | None, now: datetime, expired: bool) -> str:
    if expiry is None:
        return "does not show when it expires"
    return f"{'expired' if expired else 'expires'} {dated(expiry, now)}"


def _pending(settings: Settings) -> tuple[list[FlowRow], CloudError | None]:
    from ...engine.journal.journal import Journal
    from ...engine.journal.records import UNFINISHED

    try:
        with Journal(settings.paths.journal, create=False) as journal:
            return journal.flows(statuses=UNFINISHED, roots_only=True), None
    except FlowNotFound:
        return [], None
    except CloudError as exc:  # who is logged in can be shown all the same
        tell(exc.user_message, hint_of(settings, exc))
        return [], exc


def _say_rest(settings: Settings, pending: list[FlowRow]) -> None:
    """One line about unfinished flows, whatever their number, and the directory."""
    from ..flows.status import driver_of, way_on_of

    if len(pending) == 1:
        (row,) = pending
        driver = driver_of(settings, row)
        way_on = f"driven by process {driver}" if driver else way_on_of(settings, row)
        say(f"Unfinished: {row.machine} {shortened(row.id)} is in {row.state}. {way_on[:1].upper()}{way_on[1:]}")
    elif pending:
        say(f"Unfinished: {len(pending)} flows. To list them: {settings.command('flows list')}")
    say(settings.directory_line)
