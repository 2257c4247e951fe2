"""What a checkout knows, and what can happen to it; what is known after that is in `order_updates.py`."""

from __future__ import annotations

from typing import Final, Literal

from ...engine.machine.parts import Event
from .defaults import BROWSER_SECONDS, CHECKOUT_PORT, TENANT_SECONDS
from .earlier import EarlierOrder
from .progress import ProgressContext

DECLINED: Final = "payment_declined"
"""The `problem_code` of an order that the browser reported as not paid."""

Reported = Literal["", "browser", "page", "stream", "person"]
"""Who reported a payment, the weakest first: a browser that could be anybody's, one that came back with the order's
session or transaction, which only the payment page knows, the order's event stream, a person."""


class CheckoutContext(ProgressContext, frozen=True, kw_only=True):
    """What a checkout knows. `nonce` and `url` are references to the vault.

    Attributes:
        known_tenants: Tenants that were there before the order; none of them can be what is bought.
        shown: The payment page was shown, so somebody may have paid.
        paid: The strongest report of the payment, if there was any.
        session_tenant: The tenant that the order's event stream names, or that a person chose.
        also_named: Other tenants that the order's event stream names.
        browser_tenant: The tenant that the browser named.
        browser_linked: The browser named the order's session or transaction, too.
        candidates: Tenants that appeared since the order and that nothing links to it.
        denied: Tenants that a person said were not bought with the order.
        failed_tenant: The order's tenant that the API gave up on.
        account: Who orders.
        earlier: Orders of the same kind that may be paid and are not known to have ended in a tenant.
    """

    api_url: str
    plan: str
    region: str
    port: int = CHECKOUT_PORT
    timeout: float = BROWSER_SECONDS
    look_timeout: float = 10.0
    confirm_timeout: float = 120.0
    tenant_timeout: float = TENANT_SECONDS
    bound: bool = True
    plan_name: str = ""
    price_id: str = ""
    known_tenants: tuple[str, ...] = ()
    nonce: str = ""
    url: str = ""
    invited: bool = False
    shown: bool = False
    transaction_id: str = ""
    checkout_session_id: str = ""
    paid: Reported = ""
    session_tenant: str = ""
    also_named: tuple[str, ...] = ()
    browser_tenant: str = ""
    browser_linked: bool = False
    candidates: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    failed_tenant: str = ""
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False
    account: str = ""
    earlier: tuple[EarlierOrder, ...] = ()


class OrderValidated(Event, frozen=True):
    """Plan and region exist; `known_tenants` are those the account had before.

    `earlier` are orders of the same kind that may be paid.
    """

    plan_name: str
    price_id: str
    known_tenants: tuple[str, ...]
    port: int
    nonce: str
    account: str = ""
    earlier: tuple[EarlierOrder, ...] = ()


class EarlierOrdersChecked(Event, frozen=True):
    """The API was asked for a while what became of the earlier orders; what was found is known."""


class OrderOutdated(Event, frozen=True):
    """Another command has placed an order of the same kind since this one was validated, or another account is used."""


class OrderRefused(Event, frozen=True):
    """The order cannot be placed as it is."""

    problem: str
    code: str = ""


class CheckoutCreated(Event, frozen=True):
    """The API opened a checkout; the person pays at `url`."""

    transaction_id: str
    checkout_session_id: str
    url: str


class PaymentCompleted(Event, frozen=True):
    """The browser came back and says: paid, and this is the tenant."""

    transaction_id: str
    tenant_id: str
    linked: bool = False


class PaymentPending(Event, frozen=True):
    """The browser came back with the order's session and says: the payment is being processed."""

    tenant_id: str = ""


class PaymentDeclined(Event, frozen=True):
    """The browser came back and says: not paid."""

    problem: str
    code: str = ""


class PaymentUnclear(Event, frozen=True):
    """The browser came back with nothing that can be understood."""

    problem: str
    code: str = ""


class PaymentObserved(Event, frozen=True):
    """The order's event stream reports the payment; once it names a tenant, that one was paid for."""

    tenant_id: str
    tenant_name: str


class HeadStartOver(Event, frozen=True):
    """The browser had its time to come back after the event stream had reported the payment."""


class CandidatesSeen(Event, frozen=True):
    """The API lists tenants that were not there before the order, and nothing links one of them to it."""

    tenants: tuple[str, ...]


class TenantUnlinked(Event, frozen=True):
    """Tenants appeared and nothing links one of them to the order, or several are named as the order's."""

    tenants: tuple[str, ...]


class TenantsDenied(Event, frozen=True):
    """A person says that none of these tenants was bought with the order."""

    tenants: tuple[str, ...]


class ListenerMissing(Event, frozen=True):
    """The browser cannot be listened to: another program has the port. The order may have been paid meanwhile."""

    problem: str


class PaymentAwaited(Event, frozen=True):
    """The order is open again: its payment page is shown once more."""


class TenantChosen(Event, frozen=True):
    """A person says which tenant was paid for."""

    tenant_id: str


class OrderConfirmed(Event, frozen=True):
    """A person wants another order in place of one that is in doubt."""

    known_tenants: tuple[str, ...]
    nonce: str


class TenantConfirmed(Event, frozen=True):
    """The API lists the tenant that was paid for."""

    tenant_id: str
    tenant_name: str


class TenantAnnounced(Event, frozen=True):
    """The API answers that the tenant is built, or all of it that comes before an image."""

    step: str
    message: str
    tenant_id: str
    tenant_name: str
    needs_deploy: bool


class TenantFailed(Event, frozen=True):
    """The API answers that it gave up on the tenant that was paid for."""

    problem: str
    tenant_id: str
