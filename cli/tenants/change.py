"""The commands of `tenants` that change something in the cloud.

New credentials are stored before anything is said: the API gives them once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from ...errors import ApiError, TenantNotFound
from ..screen.terminal import clean, put_done, say
from ..shared.api import ask_once
from ..shared.names import CLI
from ..shared.settings import Settings, settings_of
from .choice import FailedTenantArgument, TenantArgument, TenantYes, chosen_tenant, confirmed_tenant, failed_tenant

if TYPE_CHECKING:
    from ...io.local.tenants import StoredTenant


class Switch(StrEnum):
    """Open or closed."""

    ON = "on"
    OFF = "off"


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


def restart(context: typer.Context, tenant: TenantArgument = None) -> None:
    """Restart a tenant. Needs a login."""
    settings = settings_of(context)
    chosen = chosen_tenant(settings, tenant)
    found = ask_once(settings, lambda api, key: api.restart_tenant(chosen, idempotency_key=key))
    put_done(settings, {"tenant": chosen, "status": found.status}, f"{clean(chosen)}: {clean(found.status)}")


def retry(context: typer.Context, tenant: FailedTenantArgument = None) -> None:
    """Provision a tenant again whose provisioning failed. Needs a login."""
    settings = settings_of(context)
    chosen = failed_tenant(settings) if tenant is None else chosen_tenant(settings, tenant)
    found = ask_once(settings, lambda api, key: api.retry_provision(chosen, idempotency_key=key))
    put_done(settings, {"tenant": chosen, "status": found.status}, f"{clean(chosen)}: {clean(found.status)}")
    if not settings.json:
        say(f"To wait for it: {settings.command(f'provision {chosen}')}")


def delete(context: typer.Context, tenant: TenantArgument = None, yes: TenantYes = False) -> None:
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


def rotate_credentials(context: typer.Context, tenant: TenantArgument = None, yes: TenantYes = False) -> None:
    """Give a tenant's database a new password; asks first. Needs a login.

    It is stored here. What uses the old password loses its connection.
    """
    settings = settings_of(context)
    question = "Give the database of {} a new password? The old one stops working."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    with one_at_a_time(settings):
        found = ask_once(settings, lambda api, key: api.rotate_credentials(chosen, idempotency_key=key))

        def change(old: StoredTenant) -> StoredTenant:
            outside = found.external_database_url if old.external_db_access else None
            return replace(old, internal_database_url=found.internal_database_url, database_url=outside)

        stored = _store(settings, chosen, change)
    put_done(
        settings,
        {"tenant": chosen, "status": found.status, "stored": stored},
        f"{clean(chosen)}: {clean(found.message)}",
    )
    _say_stored(settings, chosen, stored)


def rotate_sync_token(context: typer.Context, tenant: TenantArgument = None, yes: TenantYes = False) -> None:
    """Give a tenant a new sync token; asks first. Needs a login.

    It is stored here, and the old one stops working.
    """
    settings = settings_of(context)
    chosen = confirmed_tenant(settings, tenant, "Give {} a new sync token? The old one stops working.", yes=yes)
    with one_at_a_time(settings):
        token = ask_once(settings, lambda api, key: api.rotate_sync_token(chosen, idempotency_key=key))
        stored = _store(settings, chosen, lambda old: replace(old, sync_token=token))
    put_done(settings, {"tenant": chosen, "rotated": True, "stored": stored}, f"{clean(chosen)} has a new sync token.")
    _say_stored(settings, chosen, stored)


def _store(settings: Settings, tenant_id: str, change: Callable[[StoredTenant], StoredTenant]) -> bool:
    """Change what is stored of a tenant; whether it is stored at all."""
    from ...io.local.tenants import TenantStore

    with TenantStore.updating(settings.paths.tenants) as store:
        old = store.find_tenant(tenant_id)
        if old is None:
            return False
        new = change(old)
        store.tenants = tuple(new if each is old else each for each in store.tenants)
        return True


def _say_stored(settings: Settings, tenant: str, stored: bool) -> None:
    if settings.json:
        return
    if stored:
        say(f"Stored in {settings.paths.tenants}")
    else:
        say(
            f"{clean(tenant)} is not stored here, so the new one is not either. Run: {settings.command('tenants sync')}"
        )


def external_db(
    context: typer.Context,
    switch: Annotated[Switch, typer.Argument(metavar="on|off", help="Whether the outside may connect.")],
    tenant: TenantArgument = None,
) -> None:
    """Open a tenant's database to the outside, or close it. Needs a login."""
    settings = settings_of(context)
    from ...io.local.tenants import external_database_url

    chosen = chosen_tenant(settings, tenant)
    wanted = switch is Switch.ON
    with one_at_a_time(settings):
        found = ask_once(settings, lambda api, key: api.set_external_db_access(chosen, wanted, idempotency_key=key))
        opened = found.external_db_access
        outside = external_database_url(found.database_url) if opened else None
        _store(settings, chosen, lambda old: replace(old, external_db_access=opened, database_url=outside))
    words = "open to" if opened else "closed to"
    done = {"tenant": chosen, "external_db_access": opened}
    put_done(settings, done, f"The database of {clean(chosen)} is {words} the outside.")


def cancel_subscription(context: typer.Context, tenant: TenantArgument = None, yes: TenantYes = False) -> None:
    """Cancel the subscription of a tenant; asks first. Needs a login."""
    settings = settings_of(context)
    question = "Cancel the subscription of {}? It stops when the paid time is over."
    chosen = confirmed_tenant(settings, tenant, question, yes=yes)
    ask_once(settings, lambda api, key: api.cancel_subscription(chosen, idempotency_key=key))
    put_done(
        settings, {"tenant": chosen, "subscription": "canceled"}, f"The subscription of {clean(chosen)} is cancelled."
    )


def register(group: typer.Typer) -> None:
    """Add the commands to `tenants`."""
    group.command("restart", epilog=f"Example: {CLI} tenants restart")(restart)
    group.command("retry", epilog=f"Example: {CLI} tenants retry")(retry)
    group.command("delete", epilog=f"Example: {CLI} tenants delete tenant_4f2a")(delete)
    group.command("rotate-credentials", epilog=f"Example: {CLI} tenants rotate-credentials")(rotate_credentials)
    group.command("rotate-sync-token", epilog=f"Example: {CLI} tenants rotate-sync-token")(rotate_sync_token)
    group.command("external-db", epilog=f"Example: {CLI} tenants external-db on")(external_db)
    group.command("cancel-subscription", epilog=f"Example: {CLI} tenants cancel-subscription")(cancel_subscription)
