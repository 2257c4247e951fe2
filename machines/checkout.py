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

A tenant belongs to this order when an event that carries the order's session names it, or a browser that came back
with the order's session or transaction names it and the API lists it. Nothing else links one, not even that it is the
only new tenant: another order of the account may be under way. So a tenant that appeared without being named, and two
that are named, are a question to a person (`tenant_unlinked`).

In doubt the flow is paused and keeps its key. The same command resumes it, asks the API again, shows the same payment
page, and asks the person before anything new is bought. A payment that only a browser reported which named neither
session nor transaction is such a doubt, too. What takes too long or fails after any other report of the payment is not
(`tenant_unconfirmed`, `tenant_overdue`, `tenant_failed`): resumed, it is asked about again.

One thing is the stream's word: that a tenant is as far as it can come before its first image. A status may have no word
for it, so it counts when the status does not contradict it three times in a row.

    validating_order -> creating_checkout -> awaiting_payment -> confirming_tenant | awaiting_tenant -> completed
      |        |          |       ^           |          ^           ^
      |        |       outcome_unknown      looking_for_payment -----+
      |  checking_earlier_orders              |          |           |
      |      earlier_order_in_doubt           |          |           |
      |                                     payment_in_doubt --------+ <-> tenant_unlinked
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
    CheckoutContext,
    CheckoutCreated,
    EarlierOrdersChecked,
    HeadStartOver,
    ListenerMissing,
    OrderConfirmed,
    OrderOutdated,
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
    TenantsDenied,
    TenantUnlinked,
)
from .parts.order_updates import (
    announced,
    browser_opened,
    browser_paid,
    candidates,
    chosen,
    confirmed,
    created,
    deny,
    failed,
    not_paid,
    not_repeated,
    ordered_again,
    page_shown,
    reopened,
    retried,
    stream_paid,
    unconfirmed,
    unfinished,
    unfounded,
    unheard,
    unlinked,
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
    resume_wait,
)
from .parts.vocabulary import (
    BrowserNotOpened,
    BrowserOpened,
    OutcomeUnknown,
    RepeatConfirmed,
    RepeatDeclined,
    cancelled,
    explained,
)


def is_reported_as_paid(context: CheckoutContext, _event: Event) -> bool:
    """Somebody has reported the payment."""
    return context.paid != ""


def only_a_browser_reported(context: CheckoutContext, _event: Event) -> bool:
    """The payment was reported by a browser that named neither session nor transaction, and by nobody else."""
    return context.paid == "browser"


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
    known_as=["f7d7ebfdf92ae1f5"],  # without the code of BrowserNotOpened and the brief reasons of lost streams
    migrations=[
        Migration(
            1,
            states={"awaiting_tenant_streaming": "awaiting_tenant", "awaiting_tenant_polling": "awaiting_tenant"},
            context=_joined,
        )
    ],
    initial="validating_order",
    course=("validating_order", "creating_checkout", "awaiting_payment", "confirming_tenant", "completed"),
    context=CheckoutContext,
    result=_result,
    states=[
        State("validating_order", "checking the plan and the region"),
        State("checking_earlier_orders", "checking whether an earlier order was paid"),
        State("earlier_order_in_doubt", "an earlier order may have been paid: waiting for your decision"),
        State(
            "creating_checkout",
            "opening a checkout",
            effect="creates a checkout",
            resume=ResumePolicy.RECONCILE,
        ),
        State("outcome_unknown", "a checkout may have been created: waiting for your decision"),
        State("awaiting_payment", "waiting for the payment", timeout="timeout"),
        State(
            "looking_for_payment",
            "no payment reported: checking with the API",
            timeout="look_timeout",
        ),
        State("payment_in_doubt", "not known to be paid: resume to check again"),
        State("confirming_tenant", "payment reported: confirming the tenant with the API", timeout="confirm_timeout"),
        State("tenant_unconfirmed", "the API has not confirmed the tenant: resume to wait longer"),
        State("awaiting_tenant", "payment reported: waiting for the tenant", timeout="tenant_timeout"),
        State("tenant_unlinked", "paid, and it is not known for which tenant: waiting for your decision"),
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
        on(CandidatesSeen, "checking_earlier_orders", STAY, update=candidates),
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
        # Between the validation and this a process may have been stopped, and another command run.
        on(OrderOutdated, "creating_checkout", "validating_order"),
        on(CheckoutCreated, "creating_checkout", "awaiting_payment", update=created),
        on(OrderRefused, "creating_checkout", "failed", update=explained),
        on(OutcomeUnknown, "creating_checkout", "outcome_unknown", update=explained),
        on(RepeatConfirmed, "outcome_unknown", "creating_checkout"),
        on(RepeatDeclined, "outcome_unknown", "cancelled", update=not_repeated),
        # While somebody pays: every report is kept, and each is a reason to ask.
        on(BrowserOpened, "awaiting_payment", STAY, update=browser_opened),
        on(BrowserNotOpened, "awaiting_payment", STAY, update=page_shown),
        on(ListenerMissing, "awaiting_payment", "awaiting_tenant", when=is_reported_as_paid),
        on(ListenerMissing, "awaiting_payment", "looking_for_payment", update=unheard),
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
                on(PaymentPending, source, "awaiting_tenant", update=browser_paid),
                on(CandidatesSeen, source, STAY, update=candidates),
                on(ForeignEventDropped, source, STAY, update=note_foreign),
                on(StreamLost, source, STAY),
                on(StreamReturned, source, STAY),
                on(StatusNotAnswered, source, STAY),
            )
        ),
        on(CandidatesSeen, "payment_in_doubt", STAY, update=candidates),
        on(TenantsDenied, "payment_in_doubt", STAY, update=deny),
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
                on(PaymentPending, source, STAY, update=browser_paid),
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
                on(TenantUnlinked, source, "tenant_unlinked", update=unlinked),
                on(DeadlinePassed, source, "payment_in_doubt", when=only_a_browser_reported, update=unfounded),
            )
        ),
        on(DeadlinePassed, "confirming_tenant", "tenant_unconfirmed", update=unconfirmed),
        on(DeadlinePassed, "awaiting_tenant", "tenant_overdue", update=unfinished),
        *(
            row
            for source in ("tenant_unlinked", "tenant_unconfirmed", "tenant_overdue")
            for row in (
                on(TenantsDenied, source, STAY, update=deny),
                on(TenantChosen, source, "awaiting_tenant", update=chosen),
            )
        ),
        on(WaitResumed, "tenant_unlinked", "awaiting_tenant", update=resume_wait),
        on(WaitResumed, "tenant_unconfirmed", "confirming_tenant", update=resume_wait),
        on(WaitResumed, "tenant_overdue", "awaiting_tenant", update=resume_wait),
        on(WaitResumed, "tenant_failed", "awaiting_tenant", update=retried),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
