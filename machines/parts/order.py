"""What a checkout knows, what can happen to it, and what is known after that; the table is `machines/checkout.py`."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ...engine.machine.parts import DeadlinePassed, Event
from .earlier import EarlierOrder
from .progress import (
    ProgressContext,
    StepObserved,
    observe,
)
from .vocabulary import (
    RepeatDeclined,
)

DECLINED: Final = "payment_declined"
"""The `problem_code` of an order that the browser reported as not paid."""

Reported = Literal["", "stream", "browser", "person"]


class CheckoutContext(ProgressContext, frozen=True, kw_only=True):
    """What a checkout knows. `nonce` and `url` are references to the vault.

    Attributes:
        known_tenants: Tenants that were there before the order; none of them can be what is bought.
        paid: Who reported the payment, if anybody did.
        session_tenant: The tenant that the order's event stream names.
        browser_tenant: The tenant that the browser named.
        browser_linked: The browser named the order's session or transaction, too.
        candidates: Tenants that appeared since the order and that nothing links to it.
        unclaimed: Those of them that were listed for a while and nobody had reported a payment.
        account: Who orders.
        earlier: Orders of the same kind that may be paid and are not known to have ended in a tenant.
    """

    api_url: str
    plan: str
    region: str
    port: int = 8766
    timeout: float = 300.0
    look_timeout: float = 10.0
    confirm_timeout: float = 120.0
    tenant_timeout: float = 600.0
    bound: bool = True
    plan_name: str = ""
    price_id: str = ""
    known_tenants: tuple[str, ...] = ()
    nonce: str = ""
    url: str = ""
    invited: bool = False
    transaction_id: str = ""
    checkout_session_id: str = ""
    paid: Reported = ""
    session_tenant: str = ""
    browser_tenant: str = ""
    browser_linked: bool = False
    candidates: tuple[str, ...] = ()
    unclaimed: tuple[str, ...] = ()
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
    """The browser came back and says: the payment is being processed."""


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


class CandidatesUnclaimed(Event, frozen=True):
    """The API listed these tenants for a while, and nobody reported a payment: a later report may be about another."""

    tenants: tuple[str, ...]


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


def _joined(*tenants: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({each for known in tenants for each in known}))


# --- what is known after an event ----------------------------------------------------------------------------------


def validated(context: CheckoutContext, event: OrderValidated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        plan_name=event.plan_name,
        price_id=event.price_id,
        known_tenants=event.known_tenants,
        port=event.port,
        nonce=event.nonce,
        account=event.account,
        earlier=event.earlier,
        candidates=_joined(context.candidates, *(each.tenants for each in event.earlier)),
        problem="",
        problem_code="",
    )


def created(context: CheckoutContext, event: CheckoutCreated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        transaction_id=event.transaction_id,
        checkout_session_id=event.checkout_session_id,
        url=event.url,
        candidates=(),
        problem="",
        problem_code="",
    )


def not_repeated(context: CheckoutContext, _event: RepeatDeclined) -> CheckoutContext:
    # In place of what made the question necessary: that is not why the flow ends.
    return msgspec.structs.replace(context, problem="another checkout was declined when it was asked for")


def browser_paid(context: CheckoutContext, event: PaymentCompleted) -> CheckoutContext:
    if context.browser_linked and not event.linked:  # the one that named the order, too, goes before one that did not
        return context
    return msgspec.structs.replace(
        context,
        paid=context.paid or "browser",
        transaction_id=context.transaction_id or event.transaction_id,
        browser_tenant=event.tenant_id,
        browser_linked=event.linked,
        problem="",
        problem_code="",
    )


def browser_waits(context: CheckoutContext, _event: PaymentPending) -> CheckoutContext:
    return msgspec.structs.replace(context, paid=context.paid or "browser", problem="", problem_code="")


def stream_paid(context: CheckoutContext, event: PaymentObserved) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        paid="stream",
        session_tenant=event.tenant_id or context.session_tenant,
        tenant_name=event.tenant_name or context.tenant_name,
        problem="",
        problem_code="",
    )


def not_paid(context: CheckoutContext, event: PaymentDeclined | PaymentUnclear) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=event.problem, problem_code=event.code or DECLINED)


def unpaid(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"not paid within {context.timeout:g} s", problem_code="")


def candidates(context: CheckoutContext, event: CandidatesSeen) -> CheckoutContext:
    return msgspec.structs.replace(context, candidates=event.tenants)


def more_candidates(context: CheckoutContext, event: CandidatesSeen) -> CheckoutContext:
    return msgspec.structs.replace(context, candidates=_joined(context.candidates, event.tenants))


def unclaimed(context: CheckoutContext, event: CandidatesUnclaimed) -> CheckoutContext:
    return msgspec.structs.replace(context, unclaimed=tuple(sorted({*context.unclaimed, *event.tenants})))


def chosen(context: CheckoutContext, event: TenantChosen) -> CheckoutContext:
    return msgspec.structs.replace(
        context, paid="person", session_tenant=event.tenant_id, candidates=(), problem="", problem_code=""
    )


def reopened(context: CheckoutContext, _event: PaymentAwaited) -> CheckoutContext:
    return msgspec.structs.replace(context, problem="", problem_code="")


def ordered_again(context: CheckoutContext, event: OrderConfirmed) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        known_tenants=event.known_tenants,
        nonce=event.nonce,
        url="",
        invited=False,
        transaction_id="",
        checkout_session_id="",
        paid="",
        session_tenant="",
        browser_tenant="",
        browser_linked=False,
        candidates=(),
        unclaimed=(),
        last_event_id="",
        steps=(),
        messages=(),
        ahead="",
        reported="",
        problem="",
        problem_code="",
    )


def unconfirmed(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    named = context.session_tenant or context.browser_tenant
    return msgspec.structs.replace(context, problem=f"the API has not confirmed the tenant {named} yet")


def unfinished(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"paid, but no tenant within {context.tenant_timeout:g} s")


def confirmed(context: CheckoutContext, event: TenantConfirmed) -> CheckoutContext:
    return msgspec.structs.replace(
        context, tenant_id=event.tenant_id, tenant_name=event.tenant_name, problem="", problem_code=""
    )


def announced(context: CheckoutContext, event: TenantAnnounced) -> CheckoutContext:
    seen = observe(context, StepObserved(event.step, event.message, "polling"))
    return msgspec.structs.replace(
        seen,
        tenant_id=event.tenant_id,
        tenant_name=event.tenant_name,
        needs_deploy=event.needs_deploy,
        problem="",
        problem_code="",
    )


def failed(context: CheckoutContext, event: TenantFailed) -> CheckoutContext:
    said = f"paid, and the tenant {event.tenant_id} could not be provisioned: {event.problem}"
    return msgspec.structs.replace(context, session_tenant=event.tenant_id, problem=said)
