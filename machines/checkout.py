r"""Checkout: from a plan and a region to a paid tenant.

Theory
------
Money is involved, so nothing is done twice, and nothing is final but the API's own word about this order or a person's
cancel. The order is validated first (`validating_order`: the plan and the region exist, which tenants there are,
what became of an earlier order of the same kind), then the checkout is created (`creating_checkout`) under an
idempotency key announced in the journal beforehand. If the answer is lost, a server that honours such keys is asked
again under the same key; with any other server the flow waits in `outcome_unknown` until a person decides.

The person pays in a browser (`awaiting_payment`). The browser's callback and the checkout's event stream report what
happened there. Either may be lost, late, or about something else, so each is a reason to ask the API and no more:

- "Paid" and "pending" lead to asking for the tenant (`confirming_tenant`, `awaiting_tenant`), by the event stream and
  by questions, side by side (`parts/progress.py`).
- "Declined", anything unclear, and the end of the time to pay lead to `looking_for_payment`: the browser is still
  listened to, and the API is asked for a while. What that leaves open is not an end but a doubt (`payment_in_doubt`).

A tenant belongs to this order when the order's session names it, or the browser that came back with the order's nonce
names it and the API lists it, or a payment was reported and the API lists exactly one tenant that was not there before.
A tenant that appeared without any of this is a question to a person.

In doubt the flow is paused and keeps its key. The same command resumes it, asks the API again, shows the same payment
page, and asks the person before anything new is bought. The same holds for what takes too long or fails after the
payment (`tenant_unconfirmed`, `tenant_overdue`, `tenant_failed`).

    validating_order -> creating_checkout -> awaiting_payment -> confirming_tenant | awaiting_tenant -> completed
      |        |          |       ^           |          ^           ^
      |        |       outcome_unknown      looking_for_payment -----+
      |      earlier_order_in_doubt           |          |           |
      |                                     payment_in_doubt --------+
    and the other ends: failed (refused before anybody could pay), cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.migrations import Migration
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
from .parts.progress import (
    EndReported,
    ForeignEventDropped,
    ProgressContext,
    StatusNotAnswered,
    StepObserved,
    StreamLost,
    StreamReturned,
    WaitResumed,
    note_end,
    note_foreign,
    observe,
    wait_on,
)
from .parts.vocabulary import (
    BrowserNotOpened,
    BrowserOpened,
    OutcomeUnknown,
    RepeatConfirmed,
    RepeatDeclined,
    cancelled,
    explained,
    invited,
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
        earlier_flow: An earlier order of the same kind that did not end well; the others are what is known of it.
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
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False
    earlier_flow: str = ""
    earlier_session: str = ""
    earlier_tenants: tuple[str, ...] = ()


class OrderValidated(Event, frozen=True):
    """Plan and region exist; `known_tenants` are those the account had before.

    `candidates` are tenants that appeared since an earlier order of the same kind that did not end well.
    """

    plan_name: str
    price_id: str
    known_tenants: tuple[str, ...]
    port: int
    nonce: str
    candidates: tuple[str, ...] = ()


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


# --- what is known after an event ----------------------------------------------------------------------------------


def _validated(context: CheckoutContext, event: OrderValidated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        plan_name=event.plan_name,
        price_id=event.price_id,
        known_tenants=event.known_tenants,
        port=event.port,
        nonce=event.nonce,
        candidates=event.candidates,
    )


def _created(context: CheckoutContext, event: CheckoutCreated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        transaction_id=event.transaction_id,
        checkout_session_id=event.checkout_session_id,
        url=event.url,
        candidates=(),
        problem="",
        problem_code="",
    )


def _not_repeated(context: CheckoutContext, _event: RepeatDeclined) -> CheckoutContext:
    # In place of what made the question necessary: that is not why the flow ends.
    return msgspec.structs.replace(context, problem="another checkout was declined when it was asked for")


def _browser_paid(context: CheckoutContext, event: PaymentCompleted) -> CheckoutContext:
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


def _browser_waits(context: CheckoutContext, _event: PaymentPending) -> CheckoutContext:
    return msgspec.structs.replace(context, paid=context.paid or "browser", problem="", problem_code="")


def _stream_paid(context: CheckoutContext, event: PaymentObserved) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        paid="stream",
        session_tenant=event.tenant_id or context.session_tenant,
        tenant_name=event.tenant_name or context.tenant_name,
        problem="",
        problem_code="",
    )


def _not_paid(context: CheckoutContext, event: PaymentDeclined | PaymentUnclear) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=event.problem, problem_code=event.code or DECLINED)


def _unpaid(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"not paid within {context.timeout:g} s", problem_code="")


def _candidates(context: CheckoutContext, event: CandidatesSeen) -> CheckoutContext:
    return msgspec.structs.replace(context, candidates=event.tenants)


def _chosen(context: CheckoutContext, event: TenantChosen) -> CheckoutContext:
    return msgspec.structs.replace(
        context, paid="person", session_tenant=event.tenant_id, candidates=(), problem="", problem_code=""
    )


def _reopened(context: CheckoutContext, _event: PaymentAwaited) -> CheckoutContext:
    return msgspec.structs.replace(context, problem="", problem_code="")


def _ordered_again(context: CheckoutContext, event: OrderConfirmed) -> CheckoutContext:
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
        last_event_id="",
        steps=(),
        messages=(),
        ahead="",
        reported="",
        problem="",
        problem_code="",
    )


def _unconfirmed(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    named = context.session_tenant or context.browser_tenant
    return msgspec.structs.replace(context, problem=f"the API has not confirmed the tenant {named} yet")


def _unfinished(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"paid, but no tenant within {context.tenant_timeout:g} s")


def _confirmed(context: CheckoutContext, event: TenantConfirmed) -> CheckoutContext:
    return msgspec.structs.replace(
        context, tenant_id=event.tenant_id, tenant_name=event.tenant_name, problem="", problem_code=""
    )


def _announced(context: CheckoutContext, event: TenantAnnounced) -> CheckoutContext:
    seen = observe(context, StepObserved(event.step, event.message, "polling"))
    return msgspec.structs.replace(
        seen,
        tenant_id=event.tenant_id,
        tenant_name=event.tenant_name,
        needs_deploy=event.needs_deploy,
        problem="",
        problem_code="",
    )


def _failed(context: CheckoutContext, event: TenantFailed) -> CheckoutContext:
    said = f"paid, and the tenant {event.tenant_id} could not be provisioned: {event.problem}"
    return msgspec.structs.replace(context, session_tenant=event.tenant_id, problem=said)


def is_reported_as_paid(context: CheckoutContext, _event: Event) -> bool:
    """Somebody has reported the payment."""
    return context.paid != ""


def an_earlier_order_may_be_paid(_context: CheckoutContext, event: OrderValidated) -> bool:
    """A tenant appeared since an earlier order that did not end well."""
    return event.candidates != ()


def _result(context: CheckoutContext) -> dict[str, object]:
    return {
        "tenant_id": context.tenant_id,
        "tenant_name": context.tenant_name,
        "transaction_id": context.transaction_id,
        "needs_deploy": context.needs_deploy,
        "checkout_session_id": context.checkout_session_id,
        "known_tenants": context.known_tenants,
    }


def _joined(old: dict[str, Any]) -> Mapping[str, Any]:
    """A context of version 1: what was called the tenant then had only been named, by the browser or the stream."""
    return {**old, "tenant_id": "", "browser_tenant": old.get("tenant_id", ""), "browser_linked": True}


WAITING: Final = ("confirming_tenant", "awaiting_tenant")
"""The states in which the order is reported as paid and the API is asked for the tenant."""

CHECKOUT: Final = Machine(
    "checkout",
    version=2,
    migrations=[
        Migration(
            1,
            states={"awaiting_tenant_streaming": "awaiting_tenant", "awaiting_tenant_polling": "awaiting_tenant"},
            context=_joined,
        )
    ],
    initial="validating_order",
    context=CheckoutContext,
    result=_result,
    states=[
        State("validating_order", "checking the plan and the region"),
        State("earlier_order_in_doubt", "an earlier order may have been paid: waiting for a person to decide"),
        State(
            "creating_checkout",
            "opening a checkout",
            effect="creates a checkout",
            resume=ResumePolicy.RECONCILE,
        ),
        State("outcome_unknown", "a checkout may have been created: waiting for a person to decide"),
        State("awaiting_payment", "waiting for the payment", timeout="timeout"),
        State(
            "looking_for_payment",
            "no payment reported: checking with the API",
            timeout="look_timeout",
        ),
        State("payment_in_doubt", "no payment found: resume to check again and to pay"),
        State("confirming_tenant", "paid: confirming the tenant with the API", timeout="confirm_timeout"),
        State("tenant_unconfirmed", "the API has not confirmed the tenant: resume to wait longer"),
        State("awaiting_tenant", "payment reported: waiting for the tenant", timeout="tenant_timeout"),
        State("tenant_overdue", "paid, and no tenant in time: resume to wait longer"),
        State("tenant_failed", "paid, and the tenant failed: retry it, then resume"),
        State("completed", "paid, and the tenant is known", verdict=Verdict.SUCCESS),
        State("failed", "the order was refused", verdict=Verdict.FAILURE),
        State("cancelled", "the checkout was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(
            OrderValidated,
            "validating_order",
            "earlier_order_in_doubt",
            when=an_earlier_order_may_be_paid,
            update=_validated,
        ),
        on(OrderValidated, "validating_order", "creating_checkout", update=_validated),
        on(OrderRefused, "validating_order", "failed", update=explained),
        on(TenantChosen, "earlier_order_in_doubt", "awaiting_tenant", update=_chosen),
        on(OrderConfirmed, "earlier_order_in_doubt", "creating_checkout", update=_ordered_again),
        on(CheckoutCreated, "creating_checkout", "awaiting_payment", update=_created),
        on(OrderRefused, "creating_checkout", "failed", update=explained),
        on(OutcomeUnknown, "creating_checkout", "outcome_unknown", update=explained),
        on(RepeatConfirmed, "outcome_unknown", "creating_checkout"),
        on(RepeatDeclined, "outcome_unknown", "cancelled", update=_not_repeated),
        # While somebody pays: every report is kept, and each is a reason to ask.
        on(BrowserOpened, "awaiting_payment", STAY, update=invited),
        on(BrowserNotOpened, "awaiting_payment", STAY),
        on(PaymentObserved, "awaiting_payment", STAY, update=_stream_paid),
        on(HeadStartOver, "awaiting_payment", "awaiting_tenant"),
        on(PaymentDeclined, "awaiting_payment", STAY, when=is_reported_as_paid),
        on(PaymentDeclined, "awaiting_payment", "looking_for_payment", update=_not_paid),
        on(PaymentUnclear, "awaiting_payment", STAY, when=is_reported_as_paid),
        on(PaymentUnclear, "awaiting_payment", "looking_for_payment", update=_not_paid),
        on(DeadlinePassed, "awaiting_payment", "awaiting_tenant", when=is_reported_as_paid),
        on(DeadlinePassed, "awaiting_payment", "looking_for_payment", update=_unpaid),
        on(PaymentObserved, "looking_for_payment", "awaiting_tenant", update=_stream_paid),
        on(PaymentDeclined, "looking_for_payment", STAY, update=_not_paid),
        on(PaymentUnclear, "looking_for_payment", STAY),
        on(CandidatesSeen, "looking_for_payment", STAY, update=_candidates),
        on(DeadlinePassed, "looking_for_payment", "payment_in_doubt"),
        *(
            row
            for source in ("awaiting_payment", "looking_for_payment")
            for row in (
                on(PaymentCompleted, source, "confirming_tenant", update=_browser_paid),
                on(PaymentPending, source, "awaiting_tenant", update=_browser_waits),
                on(ForeignEventDropped, source, STAY, update=note_foreign),
                on(StreamLost, source, STAY),
                on(StreamReturned, source, STAY),
                on(StatusNotAnswered, source, STAY),
            )
        ),
        on(PaymentAwaited, "payment_in_doubt", "awaiting_payment", update=_reopened),
        on(TenantChosen, "payment_in_doubt", "awaiting_tenant", update=_chosen),
        on(OrderConfirmed, "payment_in_doubt", "creating_checkout", update=_ordered_again),
        # Paid, by all reports: nothing but the API's word about the tenant leads on, and nothing leads to a bad end.
        *(
            row
            for source in WAITING
            for row in (
                on(StepObserved, source, STAY, update=observe),
                on(EndReported, source, STAY, update=note_end),
                on(PaymentObserved, source, STAY, update=_stream_paid),
                on(PaymentCompleted, source, STAY, update=_browser_paid),
                on(PaymentPending, source, STAY),
                on(PaymentDeclined, source, STAY),
                on(PaymentUnclear, source, STAY),
                on(CandidatesSeen, source, STAY, update=_candidates),
                on(ForeignEventDropped, source, STAY, update=note_foreign),
                on(StreamLost, source, STAY),
                on(StreamReturned, source, STAY),
                on(StatusNotAnswered, source, STAY),
                on(TenantConfirmed, source, "completed", update=_confirmed),
                on(TenantAnnounced, source, "completed", update=_announced),
                on(TenantFailed, source, "tenant_failed", update=_failed),
            )
        ),
        on(DeadlinePassed, "confirming_tenant", "tenant_unconfirmed", update=_unconfirmed),
        on(DeadlinePassed, "awaiting_tenant", "tenant_overdue", update=_unfinished),
        on(WaitResumed, "tenant_unconfirmed", "confirming_tenant", update=wait_on),
        on(TenantChosen, "tenant_unconfirmed", "confirming_tenant", update=_chosen),
        on(WaitResumed, "tenant_overdue", "awaiting_tenant", update=wait_on),
        on(TenantChosen, "tenant_overdue", "awaiting_tenant", update=_chosen),
        on(WaitResumed, "tenant_failed", "awaiting_tenant", update=wait_on),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
