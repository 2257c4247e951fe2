"""What is known of an order after each thing that can happen to it; the table is `machines/checkout.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ...engine.machine.parts import DeadlinePassed
from .order import (
    DECLINED,
    CandidatesSeen,
    CheckoutContext,
    CheckoutCreated,
    ListenerMissing,
    OrderConfirmed,
    OrderValidated,
    PaymentAwaited,
    PaymentCompleted,
    PaymentDeclined,
    PaymentObserved,
    PaymentPending,
    PaymentUnclear,
    Reported,
    TenantAnnounced,
    TenantChosen,
    TenantConfirmed,
    TenantFailed,
    TenantsDenied,
    TenantUnlinked,
)
from .progress import StepObserved, WaitResumed, observe, resume_wait
from .vocabulary import BrowserNotOpened, BrowserOpened, RepeatDeclined

NAMED_KEPT: Final = 20
"""Tenants that are kept of those that an order's event stream names."""

_STRENGTH: Final[Sequence[Reported]] = ("", "browser", "page", "stream", "person")


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
        candidates=_union(context.candidates, *(each.tenants for each in event.earlier)),
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


def named_tenants(context: CheckoutContext) -> tuple[str, ...]:
    """The tenants that are named as the order's: by its event stream, or by a browser that came back with the order's
    session or transaction; or the one a person chose. More than one is a contradiction.
    """
    browser = context.browser_tenant if context.browser_linked else ""
    return tuple(sorted({context.session_tenant, *context.also_named, browser} - {""}))


def _stronger(context: CheckoutContext, reported: Reported) -> Reported:
    return reported if _STRENGTH.index(reported) > _STRENGTH.index(context.paid) else context.paid


def _also(context: CheckoutContext, tenant: str, first: str) -> tuple[str, ...]:
    """The tenants that are named besides the first one."""
    if not tenant or not first or tenant in {first, *context.also_named}:
        return context.also_named
    return (*context.also_named, tenant)[:NAMED_KEPT]


def browser_paid(context: CheckoutContext, event: PaymentCompleted | PaymentPending) -> CheckoutContext:
    linked = isinstance(event, PaymentPending) or event.linked
    if not linked and context.browser_linked:  # the one that named the order, too, goes before one that did not
        return context
    tenant, first = event.tenant_id, context.browser_tenant if context.browser_linked else ""
    denied = context.paid == "person" and tenant in context.denied
    heard = msgspec.structs.replace(
        context, paid=_stronger(context, "page" if linked else "browser"), problem="", problem_code=""
    )
    if isinstance(event, PaymentCompleted):
        heard = msgspec.structs.replace(heard, transaction_id=context.transaction_id or event.transaction_id)
    if not tenant or denied:
        return heard
    return msgspec.structs.replace(
        heard, browser_tenant=first or tenant, browser_linked=linked, also_named=_also(context, tenant, first)
    )


def stream_paid(context: CheckoutContext, event: PaymentObserved) -> CheckoutContext:
    first = context.session_tenant or event.tenant_id
    return msgspec.structs.replace(
        context,
        paid=_stronger(context, "stream"),
        session_tenant=first,
        also_named=_also(context, event.tenant_id, first),
        tenant_name=context.tenant_name if context.session_tenant else event.tenant_name or context.tenant_name,
        problem="",
        problem_code="",
    )


def not_paid(context: CheckoutContext, event: PaymentDeclined | PaymentUnclear) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=event.problem, problem_code=event.code or DECLINED)


def unpaid(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"not paid within {context.timeout:g} s", problem_code="")


def unheard(context: CheckoutContext, event: ListenerMissing) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=event.problem, problem_code="")


def _union(*parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({tenant for part in parts for tenant in part}))


def candidates(context: CheckoutContext, event: CandidatesSeen) -> CheckoutContext:
    return msgspec.structs.replace(context, candidates=_union(context.candidates, event.tenants))


def unlinked(context: CheckoutContext, event: TenantUnlinked) -> CheckoutContext:
    seen = ", ".join(event.tenants)
    if len(named_tenants(context)) > 1:
        problem = f"paid, and more than one tenant is named as the order's: {seen}"
    else:
        problem = f"paid, and nothing links a tenant to the order; since then {seen} appeared"
    return msgspec.structs.replace(context, candidates=_union(context.candidates, event.tenants), problem=problem)


def deny(context: CheckoutContext, event: TenantsDenied) -> CheckoutContext:
    return msgspec.structs.replace(context, denied=_union(context.denied, event.tenants))


def chosen(context: CheckoutContext, event: TenantChosen) -> CheckoutContext:
    others = {*context.candidates, *named_tenants(context)} - {event.tenant_id}
    return msgspec.structs.replace(
        context,
        paid="person",
        session_tenant=event.tenant_id,
        also_named=(),
        browser_tenant="",
        browser_linked=False,
        candidates=(),
        denied=_union(tuple({*context.denied} - {event.tenant_id}), tuple(others)),
        problem="",
        problem_code="",
    )


def reopened(context: CheckoutContext, _event: PaymentAwaited) -> CheckoutContext:
    """The page is shown again. What only a browser that could be anybody's reported is not known any more."""
    opened = msgspec.structs.replace(context, problem="", problem_code="")
    if context.paid != "browser":
        return opened
    return msgspec.structs.replace(opened, paid="", browser_tenant="", browser_linked=False)


def page_shown(context: CheckoutContext, _event: BrowserNotOpened) -> CheckoutContext:
    return msgspec.structs.replace(context, shown=True)


def browser_opened(context: CheckoutContext, _event: BrowserOpened) -> CheckoutContext:
    return msgspec.structs.replace(context, shown=True, invited=True)


def ordered_again(context: CheckoutContext, event: OrderConfirmed) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        known_tenants=event.known_tenants,
        nonce=event.nonce,
        url="",
        invited=False,
        shown=False,
        transaction_id="",
        checkout_session_id="",
        paid="",
        session_tenant="",
        also_named=(),
        browser_tenant="",
        browser_linked=False,
        candidates=(),
        denied=(),
        failed_tenant="",
        last_event_id="",
        steps=(),
        messages=(),
        ahead="",
        reported="",
        problem="",
        problem_code="",
    )


def unfounded(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    """Only a browser that could be anybody's reported the payment, and the API knows nothing of it."""
    problem = f"the browser reported a payment for the tenant {context.browser_tenant}"
    return msgspec.structs.replace(context, problem=problem, problem_code="")


def unconfirmed(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    named = ", ".join(named_tenants(context)) or context.browser_tenant
    return msgspec.structs.replace(context, problem=f"the API has not confirmed the tenant {named} yet")


def unfinished(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    problem = f"paid, but no tenant within {context.tenant_timeout:g} s"
    if context.candidates:
        problem += f"; since the order {', '.join(context.candidates)} appeared, and nothing links it to the order"
    return msgspec.structs.replace(context, problem=problem)


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
    problem = f"paid, and the tenant {event.tenant_id} could not be provisioned: {event.problem}"
    return msgspec.structs.replace(context, failed_tenant=event.tenant_id, problem=problem)


def retried(context: CheckoutContext, event: WaitResumed) -> CheckoutContext:
    return msgspec.structs.replace(resume_wait(context, event), failed_tenant="")
