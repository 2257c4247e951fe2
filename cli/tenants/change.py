"""The commands of `tenants` that change something in the cloud.

New credentials are stored before anything is said: the API gives them once. So the tenant they are stored with is
looked up before they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from ...errors import ApiError, TenantNotFound
from ..screen.terminal import clean, put_done, say
from ..shared.api import ask_api, ask_once
from ..shared.names import CLI
from ..shared.parameters import Argument, Command
from ..shared.settings import Settings, settings_of
from .choice import (
    chosen_tenant,
    complete_tenants,
    confirmed_tenant,
    failed_tenant,
    stored_tenants,
    tenant_argument,
    tenant_yes_option,
)

if TYPE_CHECKING:
    from ...io.cloud.wire import ExternalDbAccessResponse
    from ...io.local.tenants import StoredTenant


@contextmanager
def one_at_a_time(settings: Settings, *, seconds: float = 60.0) -> Generator[None]:
    """From asking for new credentials until they are stored: two at once might store last what no longer counts.

    Args:
        settings: Where they are stored.
        seconds: How long another process is waited for.

    Raises:
        Io: It took longer; nothing was asked for.
    """
    from ...base.files import locked
    from ...io.local.cloud_dir import ensure_cloud_dir

    tenants = settings.paths.tenants
    ensure_cloud_dir(tenants.parent, tenants.name)
    with locked(tenants.parent / "rotation", timeout=seconds):
        yield


@click.command(cls=Command, epilog=f"Example: {CLI} tenants restart")
@tenant_argument
@click.pass_context
def restart(context: click.Context, tenant: str | None) -> None:
    """Restart a tenant. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    found = ask_once(settings, lambda api, key: api.restart_tenant(chosen, idempotency_key=key))
    put_done(settings, {"tenant": chosen, "status": found.status}, f"{clean(chosen)}: {clean(found.status)}")


@click.command(cls=Command, epilog=f"Example: {CLI} tenants retry")
@click.argument(
    "tenant",
    cls=Argument,
    metavar="TENANT",
    required=False,
    shell_complete=complete_tenants,
    about="Its id or name; without it the one that failed.",
)
@click.pass_context
def retry(context: click.Context, tenant: str | None) -> None:
    """Provision a tenant again whose provisioning failed. Needs a login."""
    settings = settings_of(context)
    chosen = failed_tenant(settings) if tenant is None else chosen_tenant(settings, tenant)
    found = ask_once(settings, lambda api, key: api.retry_provision(chosen, idempotency_key=key))
    put_done(settings, {"tenant": chosen, "status": found.status}, f"{clean(chosen)}: {clean(found.status)}")
    if not settings.json:
        say(f"To wait for it: {settings.command(f'provision {chosen}')}")


@click.command("delete", cls=Command, epilog=f"Example: {CLI} tenants delete tenant_4f2a")
@tenant_argument
@tenant_yes_option
@click.pass_context
def delete(context: click.Context, tenant: str | None, yes: bool) -> None:
    """Delete a tenant and everything in it; asks first. Needs a login."""
    settings = settings_of(context)
    from ...io.local.session_store import SessionStore
    from ...io.local.sessions import SessionKey
    from ...io.local.tenants import TenantStore

    question = "Delete the tenant {}, with its database? This cannot be undone."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    try:
        ask_once(settings, lambda api, key: api.delete_tenant(chosen, idempotency_key=key))
    except ApiError as exc:
        if exc.status not in {404, 410}:
            raise
        # Not forgotten here, too: it may be another API that was asked, and the credentials were given out once.
        raise TenantNotFound(exc.user_message) from exc
    with TenantStore.updating(settings.paths.tenants) as tenants:
        tenants.remove_tenant(chosen)
    with SessionStore.updating(settings.paths.sessions_index) as sessions:
        sessions.remove_session(SessionKey.tenant(chosen))
    put_done(settings, {"tenant": chosen, "deleted": True}, f"Deleted {clean(chosen)}.")


@click.command("rotate-credentials", cls=Command, epilog=f"Example: {CLI} tenants rotate-credentials")
@tenant_argument
@tenant_yes_option
@click.pass_context
def rotate_credentials(context: click.Context, tenant: str | None, yes: bool) -> None:
    """Give a tenant's database a new password; asks first. Needs a login.

    It is stored here. What uses the old password loses its connection.
    """
    settings = settings_of(context)
    question = "Give the database of {} a new password? The old one stops working."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    with one_at_a_time(settings):
        known = known_tenant(settings, chosen)
        found = ask_once(settings, lambda api, key: api.rotate_credentials(chosen, idempotency_key=key))

        def change(old: StoredTenant) -> StoredTenant:
            outside = found.external_database_url if old.external_db_access else None
            return replace(old, internal_database_url=found.internal_database_url, database_url=outside)

        _store(settings, known, change)
    done = {"tenant": chosen, "status": found.status, "stored": True}
    put_done(settings, done, f"{clean(chosen)}: {clean(found.message)}")
    _say_stored(settings)


@click.command("rotate-sync-token", cls=Command, epilog=f"Example: {CLI} tenants rotate-sync-token")
@tenant_argument
@tenant_yes_option
@click.pass_context
def rotate_sync_token(context: click.Context, tenant: str | None, yes: bool) -> None:
    """Give a tenant a new sync token; asks first. Needs a login.

    It is stored here, and the old one stops working.
    """
    settings = settings_of(context)
    chosen = confirmed_tenant(settings, tenant, "Give {} a new sync token? The old one stops working.", yes=yes)
    with one_at_a_time(settings):
        known = known_tenant(settings, chosen)
        token = ask_once(settings, lambda api, key: api.rotate_sync_token(chosen, idempotency_key=key))
        _store(settings, known, lambda old: replace(old, sync_token=token))
    put_done(settings, {"tenant": chosen, "rotated": True, "stored": True}, f"{clean(chosen)} has a new sync token.")
    _say_stored(settings)


def known_tenant(settings: Settings, tenant_id: str) -> StoredTenant:
    """A tenant as it is stored here; else as the API lists it.

    Raises:
        TenantNotFound: It is in neither place.
        CloudError: The stored tenants cannot be read, or the API not asked.
    """
    from ...io.local.tenants import StoredTenant

    for tenant in stored_tenants(settings):
        if tenant.id == tenant_id:
            return tenant
    for info in ask_api(settings, lambda api: api.me()).tenants:
        if info.id == tenant_id:
            return StoredTenant.from_tenant_info(info)
    raise TenantNotFound(f"{tenant_id} is not stored here, and the API does not list it")


def _store(settings: Settings, known: StoredTenant, change: Callable[[StoredTenant], StoredTenant]) -> None:
    """Change what is stored of a tenant; `known` where another command has dropped it meanwhile, or it never was."""
    from ...io.local.tenants import TenantStore

    with TenantStore.updating(settings.paths.tenants) as store:
        old = store.find_tenant(known.id)
        new = change(known if old is None else old)
        others = store.tenants if old is not None else (*store.tenants, known)
        store.tenants = tuple(new if each.id == known.id else each for each in others)


def _say_stored(settings: Settings) -> None:
    if not settings.json:
        say(f"Stored in {settings.paths.tenants}")


def with_external_access(old: StoredTenant, found: ExternalDbAccessResponse) -> StoredTenant:
    """A stored tenant once the API has opened its database to the outside, or closed it."""
    from ...io.local.tenants import external_database_url

    outside = external_database_url(found.database_url, old.hostname) if found.external_db_access else None
    return replace(old, external_db_access=found.external_db_access, database_url=outside)


@click.command("external-db", cls=Command, epilog=f"Example: {CLI} tenants external-db on")
@click.argument(
    "switch",
    cls=Argument,
    type=click.Choice(["on", "off"]),
    metavar="on|off",
    about="Whether the outside may connect.",
)
@tenant_argument
@click.pass_context
def external_db(context: click.Context, switch: str, tenant: str | None) -> None:
    """Open a tenant's database to the outside, or close it. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    wanted = switch == "on"
    with one_at_a_time(settings):
        known = known_tenant(settings, chosen)
        found = ask_once(settings, lambda api, key: api.set_external_db_access(chosen, wanted, idempotency_key=key))
        _store(settings, known, lambda old: with_external_access(old, found))
    words = "open to" if found.external_db_access else "closed to"
    done = {"tenant": chosen, "external_db_access": found.external_db_access}
    put_done(settings, done, f"The database of {clean(chosen)} is {words} the outside.")


@click.command("cancel-subscription", cls=Command, epilog=f"Example: {CLI} tenants cancel-subscription")
@tenant_argument
@tenant_yes_option
@click.pass_context
def cancel_subscription(context: click.Context, tenant: str | None, yes: bool) -> None:
    """Cancel the subscription of a tenant; asks first. Needs a login."""
    settings = settings_of(context)
    question = "Cancel the subscription of {}? It stops when the paid time is over."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    ask_once(settings, lambda api, key: api.cancel_subscription(chosen, idempotency_key=key))
    put_done(
        settings, {"tenant": chosen, "subscription": "canceled"}, f"The subscription of {clean(chosen)} is cancelled."
    )
