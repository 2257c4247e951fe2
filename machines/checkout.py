r"""Checkout: from a plan and a region to a paid tenant.

Theory
------
Money is involved, so nothing is done twice, and nothing is final but the API's own word about this order or a person's
cancel. The order is validated first (`validating_order`: the plan and the region exist, which tenants and which earlier
orders there are). Earlier orders of the same price, region and account that are not known to have ended in a tenant are
looked at next (`checking_earlier_orders`), whichever command placed them and whether or not they have ended. A tenant
that one of them may have bought, a reported payment, or an order that has not ended is a question to a person
(`earlier_order_in_doubt`). Then the checkout is created (`creating_checkout`) under an
idempotency key announced in the journal beforehand. If the answer is lost, a server that honours such keys is asked
again under the same key; with any other server the flow waits in `outcome_unknown` until a person decides.

The person pays in a browser (`awaiting_payment`). The browser's callback and the checkout's event stream report what
happened there. Either may be lost, late, or about something else, so each is a reason to ask the API and no more:

- "Paid" and "pending" lead to asking for the tenant (`confirming_tenant`, `awaiting_tenant`), by the event stream and
  by questions, side by side (`parts/progress.py`).
- "Declined", anything unclear, and the end of the time to pay lead to `looking_for_payment`: the browser is still
  listened to, and the API is asked for a while. What that leaves open is not an end but a doubt (`payment_in_doubt`).

A tenant belongs to this order when the order's session names it, or the browser that came back with the order's nonce
names it and the API lists it, or a payment was reported and the API lists exactly one tenant that was not there before
the order, nor listed for a while before the report. A tenant that appeared without any of this is a question to a
person.

In doubt the flow is paused and keeps its key. The same command resumes it, asks the API again, shows the same payment
page, and asks the person before anything new is bought. The same holds for what takes too long or fails after the
payment (`tenant_unconfirmed`, `tenant_overdue`, `tenant_failed`).

    validating_order -> creating_checkout -> awaiting_payment -> confirming_tenant | awaiting_tenant -> completed
      |        |          |       ^           |          ^           ^
      |        |       outcome_unknown      looking_for_payment -----+
      |  checking_earlier_orders              |          |           |
      |      earlier_order_in_doubt           |          |           |
      |                                     payment_in_doubt --------+
    and the other ends: failed (refused before anybody could pay), cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..engine.machine.machine import Machine
from ..engine.machine.migrations import Migration
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
from .parts.order import (
    CandidatesSeen,
    CandidatesUnclaimed,
    CheckoutContext,
    CheckoutCreated,
    EarlierOrdersChecked,
    HeadStartOver,
    OrderConfirmed,
    OrderRefused,
    OrderValidated,
    PaymentAwaited,
    PaymentCompleted,
    PaymentDeclined,
    PaymentObserved,
    PaymentPending,
    PaymentUnclear,
    TenantAnnounced,
    TenantChosen,
    TenantConfirmed,
    TenantFailed,
    announced,
    browser_paid,
    browser_waits,
    candidates,
    chosen,
    confirmed,
    created,
    failed,
    more_candidates,
    not_paid,
    not_repeated,
    ordered_again,
    reopened,
    stream_paid,
    unclaimed,
    unconfirmed,
    unfinished,
    unpaid,
    validated,
)
from .parts.progress import (
    EndReported,
    ForeignEventDropped,
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


def is_reported_as_paid(context: CheckoutContext, _event: Event) -> bool:
    """Somebody has reported the payment."""
    return context.paid != ""


def there_are_earlier_orders(_context: CheckoutContext, event: OrderValidated) -> bool:
    """An earlier order of the same kind is not known to have ended in a tenant."""
    return event.earlier != ()


def an_earlier_order_may_be_paid(context: CheckoutContext, _event: EarlierOrdersChecked) -> bool:
    """A tenant appeared since an earlier order, or it was reported as paid, or it may be paid at any moment."""
    return context.candidates != () or any(each.unfinished or each.reported for each in context.earlier)


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
    """A context of version 1: what was called the tenant then had only been named, by any browser or by the stream."""
    return {**old, "tenant_id": "", "browser_tenant": old.get("tenant_id", ""), "browser_linked": False}


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
        State("checking_earlier_orders", "checking whether an earlier order was paid"),
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
            "checking_earlier_orders",
            when=there_are_earlier_orders,
            update=validated,
        ),
        on(OrderValidated, "validating_order", "creating_checkout", update=validated),
        on(OrderRefused, "validating_order", "failed", update=explained),
        on(CandidatesSeen, "checking_earlier_orders", STAY, update=more_candidates),
        on(
            EarlierOrdersChecked,
            "checking_earlier_orders",
            "earlier_order_in_doubt",
            when=an_earlier_order_may_be_paid,
        ),
        on(EarlierOrdersChecked, "checking_earlier_orders", "creating_checkout"),
        # Resumed: the earlier order may have ended meanwhile.
        on(WaitResumed, "earlier_order_in_doubt", "validating_order"),
        on(TenantChosen, "earlier_order_in_doubt", "awaiting_tenant", update=chosen),
        on(OrderConfirmed, "earlier_order_in_doubt", "creating_checkout", update=ordered_again),
        on(CheckoutCreated, "creating_checkout", "awaiting_payment", update=created),
        on(OrderRefused, "creating_checkout", "failed", update=explained),
        on(OutcomeUnknown, "creating_checkout", "outcome_unknown", update=explained),
        on(RepeatConfirmed, "outcome_unknown", "creating_checkout"),
        on(RepeatDeclined, "outcome_unknown", "cancelled", update=not_repeated),
        # While somebody pays: every report is kept, and each is a reason to ask.
        on(BrowserOpened, "awaiting_payment", STAY, update=invited),
        on(BrowserNotOpened, "awaiting_payment", STAY),
        on(PaymentObserved, "awaiting_payment", STAY, update=stream_paid),
        on(HeadStartOver, "awaiting_payment", "awaiting_tenant"),
        on(PaymentDeclined, "awaiting_payment", STAY, when=is_reported_as_paid),
        on(PaymentDeclined, "awaiting_payment", "looking_for_payment", update=not_paid),
        on(PaymentUnclear, "awaiting_payment", STAY, when=is_reported_as_paid),
        on(PaymentUnclear, "awaiting_payment", "looking_for_payment", update=not_paid),
        on(DeadlinePassed, "awaiting_payment", "awaiting_tenant", when=is_reported_as_paid),
        on(DeadlinePassed, "awaiting_payment", "looking_for_payment", update=unpaid),
        on(PaymentObserved, "looking_for_payment", "awaiting_tenant", update=stream_paid),
        on(PaymentDeclined, "looking_for_payment", STAY, update=not_paid),
        on(PaymentUnclear, "looking_for_payment", STAY),
        on(DeadlinePassed, "looking_for_payment", "payment_in_doubt"),
        *(
            row
            for source in ("awaiting_payment", "looking_for_payment")
            for row in (
                on(PaymentCompleted, source, "confirming_tenant", update=browser_paid),
                on(PaymentPending, source, "awaiting_tenant", update=browser_waits),
                on(CandidatesSeen, source, STAY, update=candidates),
                on(CandidatesUnclaimed, source, STAY, update=unclaimed),
                on(ForeignEventDropped, source, STAY, update=note_foreign),
                on(StreamLost, source, STAY),
                on(StreamReturned, source, STAY),
                on(StatusNotAnswered, source, STAY),
            )
        ),
        on(PaymentAwaited, "payment_in_doubt", "awaiting_payment", update=reopened),
        on(TenantChosen, "payment_in_doubt", "awaiting_tenant", update=chosen),
        on(OrderConfirmed, "payment_in_doubt", "creating_checkout", update=ordered_again),
        # Paid, by all reports: nothing but the API's word about the tenant leads on, and nothing leads to a bad end.
        *(
            row
            for source in WAITING
            for row in (
                on(StepObserved, source, STAY, update=observe),
                on(EndReported, source, STAY, update=note_end),
                on(PaymentObserved, source, STAY, update=stream_paid),
                on(PaymentCompleted, source, STAY, update=browser_paid),
                on(PaymentPending, source, STAY),
                on(PaymentDeclined, source, STAY),
                on(PaymentUnclear, source, STAY),
                on(CandidatesSeen, source, STAY, update=candidates),
                on(ForeignEventDropped, source, STAY, update=note_foreign),
                on(StreamLost, source, STAY),
                on(StreamReturned, source, STAY),
                on(StatusNotAnswered, source, STAY),
                on(TenantConfirmed, source, "completed", update=confirmed),
                on(TenantAnnounced, source, "completed", update=announced),
                on(TenantFailed, source, "tenant_failed", update=failed),
            )
        ),
        on(DeadlinePassed, "confirming_tenant", "tenant_unconfirmed", update=unconfirmed),
        on(DeadlinePassed, "awaiting_tenant", "tenant_overdue", update=unfinished),
        on(WaitResumed, "tenant_unconfirmed", "confirming_tenant", update=wait_on),
        on(TenantChosen, "tenant_unconfirmed", "confirming_tenant", update=chosen),
        on(WaitResumed, "tenant_overdue", "awaiting_tenant", update=wait_on),
        on(TenantChosen, "tenant_overdue", "awaiting_tenant", update=chosen),
        on(WaitResumed, "tenant_failed", "awaiting_tenant", update=wait_on),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
