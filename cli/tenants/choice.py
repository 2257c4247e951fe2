"""Which tenant a command is about.

A tenant is named by its id, or by its name where that fits one stored tenant only. Where none is named it is the
selected one (`tenants select`), else the only one that is stored; a guess between several is never made. What destroys
without asking (`--yes`) does not mean the only one either: a script that is run again would destroy the next one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ...base.errors import CloudError
from ...base.remedies import Remedy
from ...errors import TenantNotConfigured, TenantNotFound, TenantsNotSynced
from ..screen.terminal import clean
from ..shared.api import ask_api
from ..shared.options import Unasked, confirm, known_id
from ..shared.settings import Settings

if TYPE_CHECKING:
    from ...io.cloud.api import CloudApiClient
    from ...io.cloud.wire import TenantInfo
    from ...io.local.tenants import StoredTenant

FAILED = "failed"
"""The status of a tenant that the API gave up on."""


def complete_tenants(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The stored tenants whose id begins like this, with their names; nothing where they cannot be read."""
    from ...io.local.accounts import current_account, strangers
    from ...io.local.tenants import TenantStore
    from ..shared.completion import completing_paths

    try:
        paths = completing_paths(ctx)
        tenants = TenantStore.load_from_path(paths.tenants).tenants
        others = strangers(paths, current_account(paths))
    except CloudError:
        return
    own = [tenant for tenant in tenants if tenant.id not in others and tenant.id.startswith(incomplete)]
    yield from ((tenant.id, clean(tenant.name)) for tenant in own)


TenantOption = Annotated[
    str | None,
    typer.Option(
        "--tenant",
        metavar="ID",
        autocompletion=complete_tenants,
        help="The tenant: its id or name. [default: the selected one, or the only one]",
    ),
]
TenantArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TENANT",
        autocompletion=complete_tenants,
        help="Its id or name; without it the selected tenant, or the only one.",
    ),
]
FailedTenantArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TENANT",
        autocompletion=complete_tenants,
        help="Its id or name; without it the one that failed.",
    ),
]
TenantYes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Do not ask. The tenant must then be named or selected: the only one is not meant."
    ),
]


def stored_tenants(settings: Settings) -> tuple[StoredTenant, ...]:
    """What is stored; nothing when nothing is.

    Raises:
        TenantsStoreCorrupted: The file cannot be understood (TenantsStoreInvalid: one of its fields).
        Io: It cannot be read.
    """
    from ...io.local.tenants import TenantStore

    try:
        return TenantStore.load_from_path(settings.paths.tenants).tenants
    except TenantsNotSynced:
        return ()


def tenants_of_others(settings: Settings) -> dict[str, str]:
    """The stored tenants that belong to other accounts than the one whose login is used, with whose each is."""
    from ...io.cloud.accounts import UNKNOWN_EMAIL
    from ...io.local.accounts import account_of, current_account, strangers
    from ...io.local.environment import environment_credentials

    try:
        handed = environment_credentials(os.environ, datetime.now(UTC))
    except CloudError:
        handed = None  # the command that needs it says so
    paths = settings.paths
    known = handed is not None and handed.user_email != UNKNOWN_EMAIL
    return strangers(paths, account_of(handed) if handed is not None and known else current_account(paths))


def selected_tenant(settings: Settings) -> str | None:
    """The id of the tenant whose session is the active one; None when that is the local session, or none.

    Raises:
        CloudError: The sessions cannot be read.
    """
    from ...io.local.session_store import SessionStore

    key = SessionStore.load_or_create(settings.paths.sessions_index).active_session_key
    return None if key is None else key.tenant_id


def chosen_tenant(settings: Settings, named: str | None, *, alone: bool = True) -> str:
    """The id of the tenant that is meant.

    Args:
        settings: Where the tenants are stored.
        named: What the person typed: an id, or a stored tenant's name. An id that is not stored is taken as it is.
        alone: Whether the only one that is stored may be meant.

    Raises:
        TenantNotFound: The name fits several.
        TenantNotConfigured: None was named, and it is not clear which is meant.
        typer.BadParameter: What was named can be no id, or none was named and the only one may not be meant.
    """
    tenants = stored_tenants(settings)
    if named is not None:
        if any(tenant.id == named for tenant in tenants):
            return named
        fitting = [tenant.id for tenant in tenants if named and tenant.name == named]
        if len(fitting) > 1:
            raise TenantNotFound(f"{len(fitting)} tenants are called {named!r}: name one of {', '.join(fitting)}")
        return fitting[0] if fitting else known_id(named)
    others = tenants_of_others(settings)
    if (selected := selected_tenant(settings)) is not None:
        if selected in others:
            raise TenantNotConfigured(
                f"the selected tenant {selected} belongs to {others[selected]}, and another account is logged in",
                remedy=Remedy("name_tenant"),
            )
        return selected
    from ...io.local.accounts import load_accounts

    unlisted = load_accounts(settings.paths).unlisted
    cloud = [each for each in tenants if each.is_cloud and each.id not in others and each.id not in unlisted]
    if len(cloud) == 1:
        if alone:
            return cloud[0].id
        raise Unasked(
            f"No tenant is named or selected; --yes does not mean the only one. Name it if you do: {cloud[0].id}"
        )
    if not cloud:
        raise TenantNotConfigured(
            "no tenant is named, and none is stored here",
            remedy=Remedy("sync_or_buy"),
        )
    there = ", ".join(f"{tenant.id} ({tenant.name})" for tenant in cloud)
    raise TenantNotConfigured(f"no tenant is named, and there are {len(cloud)}: {there}", remedy=Remedy("name_tenant"))


def failed_tenant(settings: Settings) -> str:
    """The id of the one tenant that the API says has failed.

    One that was never ready is not stored here, so the API is asked. Of several the selected one is meant.

    Raises:
        TenantNotConfigured: None has failed, or several have and none of them is selected.
        CloudError: As the API's calls raise.
    """
    found = ask_api(settings, _failed)
    if len(found) == 1:
        return found[0].id
    if not found:
        raise TenantNotConfigured("no tenant is named, and none of yours has failed", remedy=Remedy("list_tenants"))
    selected = selected_tenant(settings)
    if any(tenant.id == selected for tenant in found):
        return str(selected)
    there = ", ".join(f"{tenant.id} ({tenant.name})" for tenant in found)
    raise TenantNotConfigured(
        f"no tenant is named, and {len(found)} have failed: {there}", remedy=Remedy("name_failed_tenant")
    )


async def _failed(api: CloudApiClient) -> list[TenantInfo]:
    return [each for each in (await api.me()).tenants if (await api.tenant_status(each.id)).status == FAILED]


def confirmed_tenant(settings: Settings, named: str | None, question: str, *, yes: bool) -> str:
    """The id of the tenant something is taken from, once that is confirmed.

    Args:
        settings: Where the tenants are stored.
        named: As `chosen_tenant`.
        question: What is about to happen, as a question with `{}` for the tenant.
        yes: `--yes` was given; nothing is asked, and the only tenant has to be named like any other.

    Raises:
        CloudError: As `chosen_tenant`.
        typer.BadParameter: As `chosen_tenant` and `confirm`.
        typer.Exit: The answer is no.
    """
    chosen = chosen_tenant(settings, named, alone=not yes)
    confirm(settings, question.format(chosen), yes=yes)
    return chosen
