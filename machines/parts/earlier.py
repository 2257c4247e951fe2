"""What a new order knows of earlier ones that may be paid."""

from __future__ import annotations

import msgspec


class EarlierOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order of the same plan, region and account that is not known to have ended in a tenant.

    Attributes:
        flow: The flow that placed it.
        session: Its checkout session.
        unfinished: The flow has not ended.
        reported: Somebody reported its payment.
        tenants: The tenants it may have bought, as far as they were named.
        known: The tenants it cannot have bought.
    """

    flow: str
    session: str
    unfinished: bool = False
    reported: bool = False
    tenants: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
