"""An order as the outside reports it: by the browser that comes back, by its event stream, and by the API's answers.

None of the first two is believed. What they say is recorded, and is a reason to ask the API (`machines/checkout.py`
says why). What links a tenant to the order is decided here, once: `linked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

import trio
from typing_extensions import override

from ...base.log import get_logger
from ...base.redaction import redact
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import CallbackRejected
from ...io.cloud.api import CloudApiClient
from ...io.cloud.wire import CheckoutEvent, TenantInfo
from ...io.http.texts import shown, word
from ...io.loopback.callback import StatusView
from ...io.loopback.pages import OUR_CHECKOUT_PAGES, CheckoutTemplates
from ...io.sse.decoder import EventStream, ServerSentEvent
from ...machines.checkout import (
    WAITING,
    CandidatesSeen,
    CandidatesUnclaimed,
    CheckoutContext,
    PaymentCompleted,
    PaymentDeclined,
    PaymentObserved,
    PaymentPending,
    PaymentUnclear,
    TenantAnnounced,
    TenantConfirmed,
    TenantFailed,
)
from ...machines.parts.progress import (
    FAILED,
    INFRASTRUCTURE,
    ORDER,
    READY,
    EndReported,
    ForeignEventDropped,
    StepObserved,
)
from ..outside import Timing
from .callbacks import LONGEST_DESCRIPTION, Reply
from .source import Agreed, Source, decode

logger = get_logger(__name__)

STREAM_EVENTS: Final = frozenset({"provisioning"})

BUILT: Final = frozenset({INFRASTRUCTURE, READY})
"""The steps after which a tenant that was paid for is as far as a checkout waits for."""

LONGEST_ID: Final = 200
"""Characters of an id; a longer one is none of the API's."""

CHECKING: Final = ("Checking the payment", "Your terminal is checking the payment with the API.")
"""What a browser is told that comes back from the payment page: nothing it brings is confirmed yet."""

CANDIDATES: Final = 20
"""Tenants a person is asked about, at most."""


CLAIM_SECONDS: Final = 10.0
"""How long after a tenant was first listed a report of the payment may still be about it. Two orders of one account may
be under way, and a replica that is behind may list the other's tenant only."""

FIRST_LISTED: Final = "tenants first listed"
"""In a flow's scratch: when each candidate was first listed, by trio's clock."""


class LinkedTenant(NamedTuple):
    """A tenant of the account, as far as an order is concerned."""

    id: str
    name: str
    listed: bool


# --- which tenant is the order's ------------------------------------------------------------------------------------


def fitting(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> list[TenantInfo]:
    """The tenants that were not there before the order and fit it.

    An order that somebody else placed (`run_checkout_callback_flow`) names no plan and no region; then any does.
    """
    return [
        tenant
        for tenant in tenants
        if tenant.id not in context.known_tenants
        and len(tenant.id) <= LONGEST_ID
        and (not context.region or tenant.region in (None, context.region))
        and (not context.plan_name or tenant.plan is None or tenant.plan.name == context.plan_name)
    ]


def our_tenant(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> TenantInfo | None:
    """The one tenant that is new since the order was placed and fits it; None when there is none, or a choice.

    Another order of the same account may be under way at the same moment: guessing would hand out its tenant.
    """
    found = fitting(context, tenants)
    return found[0] if len(found) == 1 else None


def linked(context: CheckoutContext, tenants: Sequence[TenantInfo], *, paid: bool) -> LinkedTenant | None:
    """The tenant that belongs to the order; None while nothing links one to it.

    Args:
        context: The order.
        tenants: What the API lists.
        paid: Whether the payment was reported.
    """
    listed = {tenant.id: tenant for tenant in tenants}
    if named := context.session_tenant:
        found = listed.get(named)
        return LinkedTenant(named, found.name if found is not None else context.tenant_name, found is not None)
    browser, only = context.browser_tenant, our_tenant(context, tenants)
    if browser in listed and browser not in context.known_tenants and context.browser_linked:
        return LinkedTenant(browser, listed[browser].name, listed=True)
    if paid and only is not None and browser in {"", only.id} and only.id not in context.unclaimed:
        return LinkedTenant(only.id, only.name, listed=True)
    return None


def candidates_of(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> tuple[str, ...]:
    """The tenants that may be the order's, for a person to decide about."""
    return tuple(sorted(tenant.id for tenant in fitting(context, tenants)))[:CANDIDATES]


# --- the event stream and the API's answers -------------------------------------------------------------------------


class PlacedOrder(Source[CheckoutContext]):
    """An order that was placed: its event stream, and what the API answers about its tenant.

    Attributes:
        payment_reported: Set when the stream has reported the payment.
    """

    def __init__(self, visit: Visit[CheckoutContext], timing: Timing, client: CloudApiClient) -> None:
        super().__init__(visit, timing)
        self._client = client
        self.payment_reported = trio.Event()
        self._agreed = Agreed()

    @override
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        session, idle = self.context.checkout_session_id, self.timing.idle_seconds
        return self._client.checkout_events(session, last_event_id=after or None, idle_timeout=idle)

    @override
    def interpret(self, sse: ServerSentEvent) -> Sequence[Event] | None:
        event = decode(sse, STREAM_EVENTS, CheckoutEvent)
        if event is None:
            return None
        events = stream_meaning(self.context, event, word(sse.id))
        if any(isinstance(each, PaymentObserved) for each in events):
            self.payment_reported.set()
        if self.visit.state not in WAITING:
            # Before the payment is followed only the payment itself counts; what came with it is told again then.
            return [each for each in events if isinstance(each, PaymentObserved | ForeignEventDropped)]
        return events

    @override
    async def ask(self) -> Event | None:
        context, waiting = self.context, self.visit.state in WAITING
        tenants = (await self._client.me()).tenants
        tenant = linked(context, tenants, paid=waiting)
        if tenant is None or not waiting:
            await self._note(candidates_of(context, tenants), reported=waiting or context.paid != "")
            return None
        if self.visit.state == "confirming_tenant" and tenant.listed:
            return TenantConfirmed(tenant.id, shown(tenant.name, LONGEST_ID))
        status = await self._client.tenant_status(tenant.id)
        said = shown(status.message)
        if status.status == "failed":
            return TenantFailed(said or "the server gave no reason", tenant.id)
        if status.status in {"ready", INFRASTRUCTURE}:
            step = READY if status.status == "ready" else INFRASTRUCTURE
            return TenantAnnounced(step, said, tenant.id, shown(tenant.name, LONGEST_ID), step != READY)
        if self._agreed.takes(context.reported == INFRASTRUCTURE):
            return TenantAnnounced(INFRASTRUCTURE, said, tenant.id, shown(tenant.name, LONGEST_ID), True)
        return StepObserved("", said, "polling")

    async def _note(self, candidates: tuple[str, ...], *, reported: bool) -> None:
        """Record which tenants may be the order's, and which were listed long before anybody reported the payment."""
        before, now = self.context.candidates, trio.current_time()
        first: dict[str, float] = self.visit.scratch.setdefault(FIRST_LISTED, {})
        for tenant in candidates:
            # When another process noted it is not known here: long ago.
            first.setdefault(tenant, -float("inf") if tenant in before else now)
        if candidates != before:
            await self.visit.send(CandidatesSeen(candidates))
        old = [tenant for tenant in candidates if now - first[tenant] >= CLAIM_SECONDS]
        if not reported and not {*old} <= {*self.context.unclaimed}:
            await self.visit.send(CandidatesUnclaimed(tuple(old)))


def stream_meaning(context: CheckoutContext, event: CheckoutEvent, event_id: str) -> list[Event]:
    """What an event of the checkout's stream means, in facts for the table."""
    session, tenant, step = event.checkout_session_id, event.tenant_id, word(event.event_type)
    if session not in {"", context.checkout_session_id}:
        return [_foreign(session, f"names the checkout {word(session)}")]
    if tenant in context.known_tenants or len(tenant) > LONGEST_ID:
        return [_foreign(tenant, f"names the tenant {word(tenant)}, which was there before the order")]
    if context.session_tenant and tenant not in {"", context.session_tenant}:
        return [_foreign(tenant, f"names the tenant {word(tenant)} besides {context.session_tenant}")]
    events: list[Event] = []
    reports = tenant != "" or step in {*ORDER, FAILED}
    if reports and (context.paid == "" or (tenant != "" and not context.session_tenant)):
        events.append(PaymentObserved(tenant, shown(event.tenant_name, LONGEST_ID)))
    message = shown(event.message)
    if step in {*BUILT, FAILED}:
        events.append(EndReported(step, message, event_id))
    else:
        events.append(StepObserved(step, message, "stream", event_id))
    return events


def _foreign(named: str, what: str) -> Event:
    return ForeignEventDropped(word(named), f"an event of the stream {what}; it was dropped")


# --- the browser ----------------------------------------------------------------------------------------------------


def read_callback(
    context: CheckoutContext, parameters: dict[str, str], pages: CheckoutTemplates = OUR_CHECKOUT_PAGES
) -> Reply:
    """What the browser's way back from the payment page means. A hint: the API is asked before anything is believed.

    Raises:
        CallbackRejected: It is about another checkout; the wait goes on.
    """
    tenant, transaction = parameters.get("tenant_id", ""), parameters.get("transaction_id", "")
    status, session = parameters.get("status", ""), parameters.get("checkout_session_id", "")
    if session and session != context.checkout_session_id:
        raise CallbackRejected("This is the answer to another checkout. The wait goes on.")
    if status == "completed" and tenant and transaction and not parameters.get("error"):
        if tenant in context.known_tenants or len(tenant) > LONGEST_ID:
            problem = "the payment page named a tenant that was there before the order"
            return Reply(PaymentUnclear(problem), _unless_paid(context, pages))
        page = pages.success_page(*CHECKING, tenant)
        ours = session != "" or transaction == context.transaction_id
        return Reply(PaymentCompleted(word(transaction), tenant, linked=ours), page)
    if status == "pending" and session and not parameters.get("error"):
        return Reply(PaymentPending(), pages.waiting_page(tenant or session))
    if error := redact(parameters.get("error", "")[:LONGEST_DESCRIPTION]):
        return Reply(PaymentDeclined(error), _unless_paid(context, pages))
    said = f"status {status[:40]!r}" if status else "neither a tenant nor a status"
    problem = redact(f"the payment page came back with {said}")
    return Reply(PaymentUnclear(problem), _unless_paid(context, pages))


def _unless_paid(context: CheckoutContext, pages: CheckoutTemplates) -> str:
    """The page for bad news; the waiting page where somebody else has reported the payment."""
    return pages.waiting_page(context.checkout_session_id) if context.paid else pages.error_page(*CHECKING)


def status_view(context: CheckoutContext) -> StatusView:
    """What the waiting page is told: it knows the two ends by the words `ready` and `failed`."""
    last = context.messages[-1] if context.messages else None
    if context.problem:
        return StatusView(status="failed", message=context.problem)
    step = context.steps[-1] if context.steps else "waiting"
    return StatusView(status="ready" if step in BUILT else step, message=last)
