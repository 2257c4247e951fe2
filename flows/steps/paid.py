"""Tenants that were paid for: an onboarding continues with one of them, whichever command bought it."""

from __future__ import annotations

from typing import Final

import msgspec

from ...engine.visit import Visit
from ...machines.onboarding import OnboardingContext
from .earlier import contexts

BOUGHT: Final = ("checkout", "onboarding")
"""The machines whose flows know of a tenant that was paid for."""


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that was paid for.

    Attributes:
        tenant: Its id.
        tenant_name: Its name.
        needs_deploy: Whether it waits for an image.
        plan: The plan it was ordered with, as it was typed.
        price_id: The price that was found for that; empty where it is not known.
        account: Who paid for it; empty where an older version did not record that.
    """

    tenant: str
    tenant_name: str
    needs_deploy: bool
    plan: str
    price_id: str
    account: str


async def paid_tenants(visit: Visit[OnboardingContext], account: str) -> list[Paid]:
    """The tenants in the region of an onboarding that this account has paid for, the newest first.

    Without those that a person has given up for another one. Whether a tenant still exists is for the API to say.
    """
    context = visit.context
    checkouts, onboardings = [await contexts(visit, machine) for machine in BOUGHT]
    given_up = {*context.given_up, *(each for _, known in onboardings for each in known.get("given_up", ()))}
    accounts = {row.id: str(known.get("user_email") or "") for row, known in onboardings}
    found = list[tuple[str, Paid]]()
    for row, known in [*(each for each in checkouts if each[0].verdict == "success"), *onboardings]:
        tenant = str(known.get("tenant_id") or "")
        if not tenant or tenant in given_up or known.get("region") != context.region:
            continue
        paid = Paid(
            tenant=tenant,
            tenant_name=str(known.get("tenant_name") or ""),
            needs_deploy=bool(known.get("needs_deploy")),
            plan=str(known.get("plan") or ""),
            price_id=str(known.get("price_id") or ""),
            account=str(known.get("account") or accounts.get(row.parent or row.id) or ""),
        )
        if paid.account in {"", account}:
            found.append((row.updated, paid))
    return [paid for _, paid in sorted(found, key=lambda each: each[0], reverse=True)]
