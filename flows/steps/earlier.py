"""What earlier flows know that a new order must not overlook: tenants there were before, and orders left in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ...base.errors import CloudError
from ...base.log import get_logger
from ...engine.engine import Engine
from ...engine.journal.records import FlowRow
from ...io.local.tenants import TenantStore
from ...machines.checkout import CHECKOUT
from ...machines.onboarding import ONBOARDING
from ...machines.provisioning import PROVISIONING

logger = get_logger(__name__)

LOOKED_AT = 1000
"""Flows of each machine that are looked at, the newest ones."""


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The last order of the same plan and region, when it did not end well.

    Attributes:
        flow: The flow that placed it.
        session: Its checkout session.
        tenants: The tenants that cannot be what it bought.
    """

    flow: str
    session: str
    tenants: tuple[str, ...]


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that was paid for.

    Attributes:
        tenant: Its id.
        tenant_name: Its name.
        needs_deploy: Whether it waits for an image.
        was_ready: Whether it was brought to its end.
        owner: The account that paid for it.
    """

    tenant: str
    tenant_name: str
    needs_deploy: bool
    was_ready: bool
    owner: str


def stored_tenants(path: Path) -> frozenset[str]:
    """The tenants in tenants.json; none when it cannot be read."""
    try:
        return frozenset(tenant.id for tenant in TenantStore.load_from_path(path).tenants)
    except CloudError as exc:
        logger.debug("no stored tenants: %s", exc)
        return frozenset()


def journaled_tenants(engine: Engine, api_url: str) -> tuple[str, ...]:
    """The tenants that flows of this API have had to do with."""
    found = {
        str(context.get("tenant_id") or "")
        for machine in (CHECKOUT.name, PROVISIONING.name, ONBOARDING.name, "deployment")
        for _, context in _flows(engine, machine)
        if context.get("api_url") == api_url
    }
    return tuple(sorted(found - {""}))


def earlier_order(engine: Engine, api_url: str, plan: str, region: str) -> Earlier | None:
    """The last ended order of this plan and region, when it is not known to have ended well or unpaid.

    An order counts from the moment its payment page could be shown.
    """
    for row, context in _flows(engine, CHECKOUT.name):
        same = (context.get("api_url"), context.get("plan"), context.get("region")) == (api_url, plan, region)
        if not same or row.status != "ended" or not context.get("checkout_session_id"):
            continue
        if row.verdict == "success":
            return None
        claimed = {
            str(other.get("tenant_id") or "")
            for each, other in _flows(engine, CHECKOUT.name)
            if each.verdict == "success" and other.get("api_url") == api_url
        }
        known = {str(tenant) for tenant in context.get("known_tenants", ())}
        session = str(context["checkout_session_id"])
        return Earlier(flow=row.id, session=session, tenants=tuple(sorted((known | claimed) - {""})))
    return None


def paid_tenant(engine: Engine, api_url: str, plan: str, region: str) -> Paid | None:
    """The tenant that the last onboarding of this plan and region has paid for."""
    for row, context in _flows(engine, ONBOARDING.name):
        same = (context.get("api_url"), context.get("plan"), context.get("region")) == (api_url, plan, region)
        if not same or row.status != "ended":
            continue
        tenant = str(context.get("tenant_id") or "")
        if not tenant:
            return None
        return Paid(
            tenant=tenant,
            tenant_name=str(context.get("tenant_name") or ""),
            needs_deploy=bool(context.get("needs_deploy")),
            was_ready=row.verdict == "success",
            owner=str(context.get("user_email") or ""),
        )
    return None


def _flows(engine: Engine, machine: str) -> list[tuple[FlowRow, Mapping[str, Any]]]:
    """The flows of a machine, the newest first, with what they know as plain data: whichever version wrote it."""
    rows = engine.journal.flows(machine=machine, limit=LOOKED_AT)
    return [(row, msgspec.json.decode(row.context)) for row in rows]
