"""`tenants`: the tenants that are stored here, and what the API says of them.

What is stored is a cache with one part that is not: the credentials of a tenant are given out once. `sync` therefore
takes over what the API lists and keeps the credentials it does not tell.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ...errors import TenantNotFound, TenantsNotSynced
from ..screen.terminal import clean, fields, put, put_done, put_json, put_table, say
from ..screen.times import relative
from ..shared.api import ask_api
from ..shared.names import CLI
from ..shared.parameters import Argument, Command
from ..shared.settings import Settings, settings_of
from .choice import chosen_tenant, complete_tenants, selected_tenant, stored_tenants, tenant_argument, tenants_of_others

if TYPE_CHECKING:
    from ...io.local.tenants import StoredTenant, TenantStore

STALE_DAYS = 1
"""After how many days `list` mentions that the list is old."""


def as_json(tenant: StoredTenant, selected: str | None) -> dict[str, Any]:
    """A tenant for programs; whether it has its credentials is told, they are not."""
    return {
        "tenant": tenant.id,
        "name": tenant.name,
        "type": tenant.tenant_type,
        "selected": tenant.id == selected,
        "app_id": tenant.app_id,
        "hostname": tenant.hostname,
        "region": tenant.region,
        "external_db_access": tenant.external_db_access,
        "has_database_url": tenant.has_database_url,
        "missing_credentials": tenant.has_missing_credentials,
    }


@click.command("list", cls=Command, epilog=f"Example: {CLI} tenants list --json")
@click.option("--all", "everyone", is_flag=True, help="Also those of other accounts.")
@click.pass_context
def list_tenants(context: click.Context, everyone: bool) -> None:
    """List the tenants stored here.

    `sync` reads them from the API again. Those of other accounts are left out, and never chosen by themselves.
    """
    settings = settings_of(context)
    from ...io.local.tenants import TenantStore

    try:
        store = TenantStore.load_from_path(settings.paths.tenants)
    except TenantsNotSynced:
        store = None
    stored = () if store is None else store.tenants
    others = tenants_of_others(settings)
    left_out = [] if everyone else [each for each in stored if each.id in others]
    _put_tenants(settings, tuple(each for each in stored if each not in left_out), others)
    if settings.json:
        return
    _say_age(settings, store)
    if left_out:
        owners = ", ".join(sorted({clean(others[each.id]) for each in left_out}))
        say(f"{len(left_out)} more of {owners}: {settings.command('tenants list --all')}")


def _put_tenants(settings: Settings, tenants: tuple[StoredTenant, ...], others: dict[str, str]) -> None:
    selected = selected_tenant(settings)
    if settings.json:
        for tenant in tenants:
            account = {"account": others[tenant.id]} if tenant.id in others else {}
            put_json(as_json(tenant, selected) | account)
        return
    rows = [("", "ID", "NAME", "TYPE", "REGION", "HOSTNAME")]
    rows += [
        (
            "*" if tenant.id == selected else "",
            clean(tenant.id),
            clean(tenant.name),
            str(tenant.tenant_type),
            clean(tenant.region or "-"),
            clean(tenant.hostname or "-"),
        )
        for tenant in tenants
    ]
    if tenants:
        put_table(rows)


def _say_age(settings: Settings, store: TenantStore | None) -> None:
    sync = settings.command("tenants sync")
    if store is None:
        say(f"No tenants are stored yet. Read them from the API: {sync}")
        return
    now = datetime.now(UTC)
    if not store.tenants:
        say(f"No tenants found. To read them from the API again: {sync}")
    elif (now - store.synced_at).days >= STALE_DAYS:
        say(f"The list was read {relative(store.synced_at, now)}. To read it from the API again: {sync}")


@click.command("show", cls=Command, epilog=f"Example: {CLI} tenants show tenant_4f2a")
@tenant_argument
@click.pass_context
def show(context: click.Context, tenant: str | None) -> None:
    """Show what is stored of a tenant.

    Of its credentials only whether they are here.
    """
    settings = settings_of(context)
    found = _stored(settings, chosen_tenant(settings, tenant))
    shown = as_json(found, selected_tenant(settings))
    if settings.json:
        put_json(shown)
        return
    put(fields(shown))


def _stored(settings: Settings, tenant_id: str) -> StoredTenant:
    for tenant in stored_tenants(settings):
        if tenant.id == tenant_id:
            return tenant
    raise TenantNotFound(f"{settings.paths.tenants} holds no tenant {tenant_id}")


@click.command("select", cls=Command, epilog=f"Example: {CLI} tenants select tenant_4f2a")
@click.argument(
    "tenant",
    cls=Argument,
    metavar="TENANT",
    shell_complete=complete_tenants,
    about="Its id or name, or `local` for none.",
)
@click.pass_context
def select(context: click.Context, tenant: str) -> None:
    """Choose the tenant that is meant where none is named."""
    settings = settings_of(context)
    from ...io.local.session_store import SessionStore
    from ...io.local.sessions import SessionKey

    if tenant == "local":
        key, meant = SessionKey.local(), "local, which is no tenant"
    else:
        found = _stored(settings, chosen_tenant(settings, tenant))
        key, meant = SessionKey.tenant(found.id), f"the tenant {found.name} ({found.id})"
    with SessionStore.updating(settings.paths.sessions_index) as store:
        store.set_active(key)
    put_done(settings, {"selected": key.tenant_id}, f"Selected {clean(meant)}.")


@click.command("sync", cls=Command, epilog=f"Example: {CLI} tenants sync")
@click.option(
    "--prune", is_flag=True, help="Also drop those that are not listed and whose credentials are stored here."
)
@click.pass_context
def sync(context: click.Context, prune: bool) -> None:
    """Read the tenants from the API and store them. Needs a login.

    The credentials stored here stay.
    """
    settings = settings_of(context)
    from ...io.local.accounts import note_sync
    from ...io.local.tenants import TenantStore

    me = ask_api(settings, lambda api: api.me())
    with TenantStore.updating(settings.paths.tenants) as store:
        gone = store.sync(me.tenants)
        # Another account's login lists none of them, and their credentials are stored nowhere else.
        kept = [] if prune else [tenant for tenant in gone if not tenant.has_missing_credentials]
        for tenant in kept:
            store.upsert_tenant(tenant)
    note_sync(settings.paths, [each.id for each in me.tenants], [tenant.id for tenant in kept])
    _put_tenants(settings, store.tenants, tenants_of_others(settings))
    if settings.json:
        return
    drop = settings.command("tenants sync --prune")
    for tenant in gone:
        stays = f"its credentials stay here; to drop them: {drop}" if tenant in kept else "and no longer stored"
        whose = f"{clean(tenant.id)} ({clean(tenant.name)}) is not {clean(me.user.email)}'s there"
        say(f"{whose}, {stays}.")
    for tenant in store.tenants:
        if tenant.has_missing_credentials:
            say(f"{clean(tenant.id)} lacks its credentials here. To make new ones:")
            say(f"  {settings.command(f'tenants rotate-credentials {tenant.id}')}")
            say(f"  {settings.command(f'tenants rotate-sync-token {tenant.id}')}")
    say(f"Stored {len(store.tenants)} in {settings.paths.tenants}")


@click.command("status", cls=Command, epilog=f"Example: {CLI} tenants status")
@tenant_argument
@click.pass_context
def status(context: click.Context, tenant: str | None) -> None:
    """Ask the API how a tenant is. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    found = ask_api(settings, lambda api: api.tenant_status(chosen))
    if settings.json:  # without `secrets_url`: whoever holds it may be given the secrets
        shown = {"tenant": chosen, "status": found.status, "message": found.message, "app_url": found.app_url}
        put_json(shown)
        return
    put(f"{clean(chosen)}: {clean(found.status)}{f', {clean(found.message)}' if found.message else ''}")
    if found.app_url:
        put(clean(found.app_url))
