"""`sessions`: the CLI sessions kept here, one for each tenant and one for local work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ...base.errors import CloudError
from ..screen.remedies import hint_of
from ..screen.terminal import clean, fields, put, put_done, put_json, put_table, say
from ..screen.times import relative
from ..shared.names import CLI
from ..shared.options import confirm, yes_option
from ..shared.parameters import Argument, Command
from ..shared.settings import Settings, settings_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ...io.local.session_store import SessionStore
    from ...io.local.sessions import CliSession, SessionKey


def complete_sessions(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The sessions whose key begins like this, with their profiles; nothing where they cannot be read."""
    from ...io.local.session_store import SessionStore
    from ..shared.completion import completing_paths, offers

    try:
        store = SessionStore.load_or_create(completing_paths(ctx).sessions_index)
    except CloudError:
        return []
    offered = [(key, session.profile_name) for key, session in store.all_sessions()]
    offered += [(key, f"version {unread.refusal.found}") for key, unread in store.unread.items()]
    return offers(((key, clean(what)) for key, what in offered), incomplete)


_about = "`local`, a tenant's id, or its key as `list` shows it."
_key = click.argument("key", cls=Argument, metavar="KEY", shell_complete=complete_sessions, about=_about)
_optional_key = click.argument(
    "key", cls=Argument, metavar="KEY", required=False, shell_complete=complete_sessions, about=_about
)


def session_key(store: SessionStore, typed: str) -> SessionKey | str:
    """The key as it is stored or shown, or a tenant's id alone; as text, one of no known form that is in the file."""
    from ...io.local.sessions import SessionKey

    if (key := SessionKey.from_storage_key(typed)) is None:
        return typed if typed in store.unread else SessionKey.from_tenant_id(typed.removeprefix("tenant:"))
    return key


def _store(settings: Settings) -> SessionStore:
    from ...io.local.session_store import SessionStore

    return SessionStore.load_or_create(settings.paths.sessions_index)


def as_json(storage_key: str, session: CliSession, active: str | None) -> dict[str, Any]:
    """A session for programs, without its token."""
    return {
        "key": storage_key,
        "tenant": session.session_key.tenant_id,
        "active": storage_key == active,
        "profile": session.profile_name,
        "profile_path": None if session.profile_path is None else str(session.profile_path),
        "session_id": session.session_id,
        "context_id": session.context_id,
        "user_id": session.user_id,
        "user_email": session.user_email,
        "user_type": session.user_type,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
        "expired": session.is_expired(),
        "last_used": session.last_used,
    }


@click.command("list", cls=Command, epilog=f"Example: {CLI} sessions list --json")
@click.pass_context
def list_sessions(context: click.Context) -> None:
    """List the sessions kept here."""
    settings = settings_of(context)
    store = _store(settings)
    found = store.all_sessions()
    if settings.json:
        for key, session in found:
            put_json(as_json(key, session, store.active_key))
    for unread in store.unread.values():
        say(clean(unread.refusal.user_message))
        say(clean(hint_of(settings, unread.refusal)))
    if settings.json:
        return
    if not found:
        if not store.unread:
            say(f"No sessions found in {settings.paths.sessions_index}.")
        return
    now = datetime.now(UTC)
    rows = [("", "SESSION", "PROFILE", "USER", "ENDS")]
    rows += [
        (
            "*" if key == store.active_key else "",
            clean(str(session.session_key)),
            clean(session.profile_name),
            clean(session.user_email),
            relative(session.expires_at, now),
        )
        for key, session in found
    ]
    put_table(rows)


@click.command("show", cls=Command, epilog=f"Example: {CLI} sessions show local")
@_optional_key
@click.pass_context
def show(context: click.Context, key: str | None) -> None:
    """Show a session without its token; the active one when none is named."""
    settings = settings_of(context)
    store = _store(settings)
    named = store.active_session_key if key is None else session_key(store, key)
    if named is None:
        raise click.BadParameter(f"No session is active. {_there(store)}", param_hint="KEY")
    wanted, session = _known(store, named)
    shown = as_json(wanted.as_storage_key(), session, store.active_key)
    if settings.json:
        put_json(shown)
        return
    put(fields(shown))


@click.command("switch", cls=Command, epilog=f"Example: {CLI} sessions switch tenant:tenant_4f2a")
@_key
@click.pass_context
def switch(context: click.Context, key: str) -> None:
    """Make a session the active one."""
    settings = settings_of(context)
    from ...io.local.session_store import SessionStore

    found = _store(settings)
    wanted, _ = _known(found, session_key(found, key))
    with SessionStore.updating(settings.paths.sessions_index) as store:
        _, session = _known(store, wanted)
        store.set_active(wanted)
    shown = as_json(wanted.as_storage_key(), session, store.active_key)
    put_done(settings, shown, f"Switched to {clean(str(wanted))}.")
    if session.is_expired() and not settings.json:
        say("It has expired; the next login to it creates a new one.")


@click.command("remove", cls=Command, epilog=f"Example: {CLI} sessions remove local --yes")
@_key
@yes_option
@click.pass_context
def remove(context: click.Context, key: str, yes: bool) -> None:
    """Remove a session with its token; asks first."""
    settings = settings_of(context)
    from ...io.local.session_store import SessionStore

    wanted = session_key(store := _store(settings), key)
    name = wanted if isinstance(wanted, str) else wanted.as_storage_key()
    if name not in store.unread:
        _known(store, wanted)
    confirm(settings, f"Remove the session {wanted}? Its token is forgotten here.", yes=yes)
    with SessionStore.updating(settings.paths.sessions_index) as store:
        removed = name in store.sessions | store.unread
        store.remove_session(name)
    put_done(settings, {"key": name, "removed": removed}, f"Removed {clean(str(wanted))}.")


@click.command("prune", cls=Command, epilog=f"Example: {CLI} sessions prune")
@click.pass_context
def prune(context: click.Context) -> None:
    """Remove every session that has ended."""
    settings = settings_of(context)
    from ...io.local.session_store import SessionStore

    removed = 0
    if settings.paths.sessions_index.exists():
        with SessionStore.updating(settings.paths.sessions_index) as store:
            removed = store.prune_expired()
    put_done(settings, {"removed": removed}, f"Removed {removed} that had ended.")


def _known(store: SessionStore, key: SessionKey | str) -> tuple[SessionKey, CliSession]:
    if isinstance(key, str):
        raise store.unread[key].refusal
    found = store.get_session(key)
    if found is None:
        raise click.BadParameter(f"No session {key}. {_there(store)}", param_hint="KEY")
    return key, found


def _there(store: SessionStore) -> str:
    from ...io.local.sessions import SessionKey

    unread = (SessionKey.from_storage_key(key) or key for key in store.unread)
    there = [*(session.session_key for session in store.sessions.values()), *unread]
    return f"Sessions: {', '.join(clean(str(key)) for key in there)}" if there else "No sessions found."
