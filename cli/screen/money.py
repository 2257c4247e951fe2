"""What is said when an order that may be paid is cancelled: the payment is not undone, and where to look."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from ...engine.journal.records import FlowRow
from ...engine.machine.parts import Context
from ...engine.machine.stored import decoded
from ...flows.steps.doubt import order_of
from ...machines.checkout import CheckoutContext
from ...machines.onboarding import OnboardingContext
from ..shared.settings import Settings
from .terminal import clean, shortened

C = TypeVar("C", bound=Context)

_CHECKOUT: Final = msgspec.json.Decoder(CheckoutContext)
_ONBOARDING: Final = msgspec.json.Decoder(OnboardingContext)


def not_undone(settings: Settings, family: Sequence[FlowRow]) -> list[str]:
    """The lines about what a cancelled flow may have bought; none where nothing can have been paid.

    Args:
        settings: The global options, for the commands.
        family: The flow's row and those of its child flows.
    """
    root = family[0] if family else None
    if root is None or root.verdict != "cancelled":
        return []
    if root.machine == "onboarding":
        whole = _known(_ONBOARDING, root)
        if whole is not None and whole.tenant_id:
            return _paid_for(settings, whole.tenant_id)
    lines: list[str] = []
    for row in family:
        order = _known(_CHECKOUT, row) if row.machine == "checkout" else None
        # A child that was bought and then given up for another one stays bought.
        if order is None or row.verdict == "success" or not (order.shown or order.paid):
            continue
        what = clean(order_of(order))
        how = "was reported as paid" if order.paid else "may have been paid: its payment page was shown"
        lines.append(f"{what[0].upper()}{what[1:]} {how}. Cancelling does not undo a payment.")
    if lines:
        lines += [
            f"See the order: {settings.command(f'flows show {shortened(root.id)}')}",
            f"See whether it has become a tenant: {settings.command('tenants sync')}",
            f"To stop paying for that tenant: {settings.command('tenants cancel-subscription')} TENANT",
        ]
    return lines


def _paid_for(settings: Settings, tenant: str) -> list[str]:
    named = shlex.quote(clean(tenant))
    return [
        f"The tenant {clean(tenant)} is paid for. Cancelling the flow does not undo the payment.",
        f"See how it is: {settings.command(f'tenants status {named}')}",
        f"To stop paying for it: {settings.command(f'tenants cancel-subscription {named}')}",
    ]


def _known(decoder: msgspec.json.Decoder[C], row: FlowRow) -> C | None:
    """What a flow knows; None where another version wrote it, or it is damaged."""
    try:
        return decoded(decoder, row.context)
    except msgspec.DecodeError:
        return None
