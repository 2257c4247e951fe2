r"""Checkout: from a plan and a region to a paid tenant.

Theory
------
Money is involved, so nothing is done twice. The order is validated first (`validating_order`: the plan exists, the
region exists, which tenants there are already), then the checkout is created (`creating_checkout`) under an idempotency
key announced in the journal beforehand. If the answer is lost, a server that honours such keys is simply asked again
under the same key; with any other server the flow waits in `outcome_unknown` until a person decides.

The person pays in a browser (`awaiting_payment`), and two sources report the result: the browser's callback and the
checkout's event stream. Either may be lost. A callback is a hint; it is never believed on its own. "Completed" is
checked against the API (`confirming_tenant`), "pending" is followed (`awaiting_tenant_streaming`, and
`awaiting_tenant_polling` while the stream is away) until the server has built the infrastructure (then an image must be
deployed) or the tenant.

An order that may have been paid is never given up by a clock. When the time to pay is over the API is asked once more
(`looking_for_payment`); after the payment, a deadline only leads to a state in which the flow waits until a person
resumes it (`tenant_unconfirmed`, `tenant_overdue`). So the same command never buys a second time.

    validating_order -> creating_checkout -> awaiting_payment -> confirming_tenant --------> completed
                           |       ^          |       |                                        ^
                        outcome_unknown       |       +-> awaiting_tenant_streaming <-> ..._polling
                                      looking_for_payment
    and the other ends: declined, timed_out, failed, cancelled
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
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
from .parts.watching import (
    POLLING,
    STREAM,
    AccessRefused,
    StepObserved,
    StreamLost,
    StreamReturned,
    WaitResumed,
    WatchingContext,
    lose_stream,
    observe,
    refuse_access,
    regain_stream,
    wait_on,
)


class CheckoutContext(WatchingContext, frozen=True, kw_only=True):
    """What a checkout knows. `nonce` and `url` are references to the vault."""

    api_url: str
    plan: str
    region: str
    port: int = 8766
    timeout: float = 300.0
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
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False


class OrderValidated(Event, frozen=True):
    """Plan and region exist; `known_tenants` are those the account had before."""

    plan_name: str
    price_id: str
    known_tenants: tuple[str, ...]
    port: int
    nonce: str


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


class PaymentPending(Event, frozen=True):
    """The browser came back and says: the payment is being processed."""


class PaymentObserved(Event, frozen=True):
    """The checkout's event stream names a tenant: the payment went through, whatever became of the browser."""

    tenant_id: str
    tenant_name: str


class PaymentNotFound(Event, frozen=True):
    """The time to pay is over, and the API knows of no payment."""


class PaymentDeclined(Event, frozen=True):
    """The browser came back and says: not paid."""

    problem: str
    code: str = ""


class TenantConfirmed(Event, frozen=True):
    """The API agrees that the tenant is ours."""

    tenant_id: str
    tenant_name: str


class TenantAnnounced(Event, frozen=True):
    """The server has built the tenant, or all of it that comes before an image."""

    step: str
    message: str
    tenant_id: str
    tenant_name: str
    needs_deploy: bool


class CheckoutFailed(Event, frozen=True):
    """The payment or the provisioning behind it failed."""

    problem: str


def _validated(context: CheckoutContext, event: OrderValidated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        plan_name=event.plan_name,
        price_id=event.price_id,
        known_tenants=event.known_tenants,
        port=event.port,
        nonce=event.nonce,
    )


def _created(context: CheckoutContext, event: CheckoutCreated) -> CheckoutContext:
    return msgspec.structs.replace(
        context,
        transaction_id=event.transaction_id,
        checkout_session_id=event.checkout_session_id,
        url=event.url,
        problem="",
    )


def _not_repeated(context: CheckoutContext, _event: RepeatDeclined) -> CheckoutContext:
    # In place of what made the question necessary: that is not why the flow ends.
    return msgspec.structs.replace(context, problem="another checkout was declined when it was asked for")


def _paid(context: CheckoutContext, event: PaymentCompleted) -> CheckoutContext:
    return msgspec.structs.replace(context, transaction_id=event.transaction_id, tenant_id=event.tenant_id)


def _named(context: CheckoutContext, event: PaymentObserved | TenantConfirmed) -> CheckoutContext:
    return msgspec.structs.replace(context, tenant_id=event.tenant_id, tenant_name=event.tenant_name)


def _observed(context: CheckoutContext, event: StepObserved) -> CheckoutContext:
    seen = observe(context, event)
    return msgspec.structs.replace(seen, tenant_id=event.tenant_id or context.tenant_id)


def _announced(context: CheckoutContext, event: TenantAnnounced) -> CheckoutContext:
    seen = observe(context, StepObserved(event.step, event.message, "stream"))
    return msgspec.structs.replace(
        seen, tenant_id=event.tenant_id, tenant_name=event.tenant_name, needs_deploy=event.needs_deploy
    )


def _unpaid(context: CheckoutContext, _event: PaymentNotFound) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"not paid within {context.timeout:g} s")


def _unconfirmed(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"the API has not confirmed the tenant {context.tenant_id} yet")


def _unfinished(context: CheckoutContext, _event: DeadlinePassed) -> CheckoutContext:
    return msgspec.structs.replace(context, problem=f"paid, but no tenant within {context.tenant_timeout:g} s")


def _result(context: CheckoutContext) -> dict[str, object]:
    return {
        "tenant_id": context.tenant_id,
        "tenant_name": context.tenant_name,
        "transaction_id": context.transaction_id,
        "needs_deploy": context.needs_deploy,
    }


CHECKOUT: Final = Machine(
    "checkout",
    version=1,
    known_as=["a1f804ef8bb983fc"],  # release 0.1.0
    initial="validating_order",
    context=CheckoutContext,
    result=_result,
    states=[
        State("validating_order", "checking the plan and the region"),
        State(
            "creating_checkout",
            "opening a checkout",
            effect="creates a checkout",
            resume=ResumePolicy.RECONCILE,
        ),
        State("outcome_unknown", "a checkout may have been created: waiting for a person to decide"),
        State("awaiting_payment", "waiting for the payment", timeout="timeout"),
        State("looking_for_payment", "the time to pay is over: checking for a payment"),
        State("confirming_tenant", "asking the API about the tenant", timeout="confirm_timeout"),
        State("tenant_unconfirmed", "the API has not confirmed the tenant: resume to wait longer"),
        State(
            "awaiting_tenant_streaming",
            "payment pending: following the event stream",
            timeout="tenant_timeout",
            tags=(STREAM,),
        ),
        State(
            "awaiting_tenant_polling",
            "payment pending: asking for the tenant, the stream is away",
            timeout="tenant_timeout",
            tags=(POLLING,),
        ),
        State("tenant_overdue", "paid, and no tenant in time: resume to wait longer"),
        State("completed", "paid, and the tenant is known", verdict=Verdict.SUCCESS),
        State("declined", "the payment was declined", verdict=Verdict.FAILURE),
        State("timed_out", "nobody paid in time", verdict=Verdict.FAILURE),
        State("failed", "the checkout failed", verdict=Verdict.FAILURE),
        State("cancelled", "the checkout was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(OrderValidated, "validating_order", "creating_checkout", update=_validated),
        on(OrderRefused, "validating_order", "failed", update=explained),
        on(CheckoutCreated, "creating_checkout", "awaiting_payment", update=_created),
        on(OrderRefused, "creating_checkout", "failed", update=explained),
        on(OutcomeUnknown, "creating_checkout", "outcome_unknown", update=explained),
        on(RepeatConfirmed, "outcome_unknown", "creating_checkout"),
        on(RepeatDeclined, "outcome_unknown", "cancelled", update=_not_repeated),
        on(BrowserOpened, "awaiting_payment", STAY, update=invited),
        on(BrowserNotOpened, "awaiting_payment", STAY),
        on(PaymentCompleted, "awaiting_payment", "confirming_tenant", update=_paid),
        on(PaymentPending, "awaiting_payment", "awaiting_tenant_streaming"),
        on(PaymentObserved, "awaiting_payment", "awaiting_tenant_streaming", update=_named),
        on(PaymentDeclined, "awaiting_payment", "declined", update=explained),
        on(CheckoutFailed, "awaiting_payment", "failed", update=explained),
        on(DeadlinePassed, "awaiting_payment", "looking_for_payment"),
        on(PaymentObserved, "looking_for_payment", "awaiting_tenant_streaming", update=_named),
        on(PaymentNotFound, "looking_for_payment", "timed_out", update=_unpaid),
        on(TenantConfirmed, "confirming_tenant", "completed", update=_named),
        on(AccessRefused, "confirming_tenant", "failed", update=refuse_access),
        on(DeadlinePassed, "confirming_tenant", "tenant_unconfirmed", update=_unconfirmed),
        on(WaitResumed, "tenant_unconfirmed", "confirming_tenant", update=wait_on),
        *(
            row
            for source in ("awaiting_tenant_streaming", "awaiting_tenant_polling")
            for row in (
                on(StepObserved, source, STAY, update=_observed),
                on(TenantAnnounced, source, "completed", update=_announced),
                on(CheckoutFailed, source, "failed", update=explained),
                on(AccessRefused, source, "failed", update=refuse_access),
                on(DeadlinePassed, source, "tenant_overdue", update=_unfinished),
            )
        ),
        on(WaitResumed, "tenant_overdue", "awaiting_tenant_streaming", update=wait_on),
        on(StreamLost, "awaiting_tenant_streaming", "awaiting_tenant_polling", update=lose_stream),
        on(StreamLost, "awaiting_tenant_polling", STAY, update=lose_stream),
        on(StreamReturned, "awaiting_tenant_polling", "awaiting_tenant_streaming", update=regain_stream),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
