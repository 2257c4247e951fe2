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
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import CallbackRejected
from ...io.cloud.api import CloudApiClient
from ...io.cloud.wire import CheckoutEvent, TenantInfo
from ...io.http.texts import LONGEST_WORD, is_word, shown, word
from ...io.loopback.callback import StatusView
from ...io.loopback.pages import OUR_CHECKOUT_PAGES, CheckoutTemplates
from ...io.sse.decoder import EventStream, ServerSentEvent
from ...machines.checkout import (
    WAITING,
    CandidatesSeen,
    CheckoutContext,
    PaymentCompleted,
    PaymentDeclined,
    PaymentObserved,
    PaymentPending,
    PaymentUnclear,
    TenantAnnounced,
    TenantConfirmed,
    TenantFailed,
    TenantUnlinked,
)
from ...machines.parts.order_updates import NAMED_KEPT, named_tenants
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
from .source import Agreed, Source, decode, id_of

logger = get_logger(__name__)

STREAM_EVENTS: Final = frozenset({"provisioning"})

BUILT: Final = frozenset({INFRASTRUCTURE, READY})
"""The steps after which a tenant that was paid for is as far as a checkout waits for."""

CHECKING: Final = ("Checking the payment", "Your terminal is checking the payment with the API.")
"""What a browser is told that comes back from the payment page: nothing it brings is confirmed yet."""

CANDIDATES: Final = 20
"""Tenants a person is asked about, at most."""

UNLINKED: Final = 5.0
"""In units of the time between two questions: how long a stream or a browser gets to name a tenant that appeared before
a person is asked about it."""


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
        if is_word(tenant.id)
        and tenant.id not in context.known_tenants
        and (not context.region or tenant.region in (None, context.region))
        and (not context.plan_name or tenant.plan is None or tenant.plan.name == context.plan_name)
    ]


def linked(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> LinkedTenant | None:
    """The tenant that belongs to the order: the one that is named as its own; None for none, and for several.

    That a tenant is the only new one links nothing: another order of the account may be under way at the same moment.

    Args:
        context: The order.
        tenants: What the API lists.
    """
    named = named_tenants(context)
    if len(named) != 1:
        return None
    found = next((tenant for tenant in tenants if tenant.id == named[0]), None)
    if not context.session_tenant and (found is None or found.id in context.known_tenants):
        return None  # a browser's word, which the API does not confirm
    return LinkedTenant(named[0], found.name if found is not None else context.tenant_name, found is not None)


def candidates_of(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> tuple[str, ...]:
    """The tenants that may be the order's, for a person to decide about."""
    return tuple(sorted(tenant.id for tenant in fitting(context, tenants)))[:CANDIDATES]


def undecided(context: CheckoutContext, *, again: bool) -> tuple[str, ...]:
    """The tenants a person is to be asked about: those that are named, when they are several, else what appeared.

    Args:
        context: The order.
        again: Ask about those, too, that the person said no to.
    """
    named = named_tenants(context)
    asked = named if len(named) > 1 else context.candidates
    return tuple(each for each in asked if again or len(named) > 1 or each not in context.denied)


# --- the event stream and the API's answers -------------------------------------------------------------------------


class PlacedOrder(Source[CheckoutContext]):
    """An order that was placed: its event stream, and what the API answers about its tenant.

    Args:
        visit: The visit that follows it.
        timing: How long is waited.
        client: Asks the API.
        asks: Whether a person can be asked about a tenant that nothing links to the order.

    Attributes:
        payment_reported: Set when the stream has reported the payment.
    """

    def __init__(
        self, visit: Visit[CheckoutContext], timing: Timing, client: CloudApiClient, *, asks: bool = False
    ) -> None:
        super().__init__(visit, timing)
        self._client = client
        self._asks = asks
        self._unlinked_since: dict[str, float] = {}
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
        events = stream_meaning(self.context, event, id_of(sse))
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
        tenant = linked(context, tenants)
        if tenant is None or not waiting:
            return await self._without_tenant(candidates_of(context, tenants), waiting=waiting)
        if self.visit.state == "confirming_tenant" and tenant.listed:
            return TenantConfirmed(tenant.id, shown(tenant.name, LONGEST_WORD))
        status = await self._client.tenant_status(tenant.id)
        message = shown(status.message)
        if status.status == "failed":
            return TenantFailed(message or "the server gave no reason", tenant.id)
        if status.status in {"ready", INFRASTRUCTURE}:
            step = READY if status.status == "ready" else INFRASTRUCTURE
            return TenantAnnounced(step, message, tenant.id, shown(tenant.name, LONGEST_WORD), step != READY)
        if self._agreed.takes(context.reported == INFRASTRUCTURE):
            return TenantAnnounced(INFRASTRUCTURE, message, tenant.id, shown(tenant.name, LONGEST_WORD), True)
        return StepObserved("", message, "polling")

    async def _without_tenant(self, appeared: tuple[str, ...], *, waiting: bool) -> Event | None:
        """Record which tenants may be the order's; the event that a person has to decide, when it is time for that."""
        if not {*appeared} <= {*self.context.candidates}:
            await self.visit.send(CandidatesSeen(appeared))
        context = self.context
        if not waiting:
            return None
        if len(named := named_tenants(context)) > 1:
            return TenantUnlinked(named)
        now, asked = trio.current_time(), undecided(context, again=False)
        since = {tenant: self._unlinked_since.get(tenant, now) for tenant in asked}
        self._unlinked_since = since
        due = asked and now - min(since.values()) >= UNLINKED * self.timing.poll_seconds
        return TenantUnlinked(asked) if due and self._asks else None


def stream_meaning(context: CheckoutContext, event: CheckoutEvent, event_id: str) -> list[Event]:
    """What an event of the checkout's stream means, in facts for the table.

    Only one that names the order's session links a tenant. One that names none may report how far a tenant is that is
    linked already.
    """
    session, tenant, step = event.checkout_session_id, event.tenant_id, word(event.event_type)
    if session not in {"", context.checkout_session_id}:
        return [_foreign(session, f"names the checkout {word(session)}")]
    if tenant and not is_word(tenant):
        return [_foreign(tenant, "names something that is no tenant's id")]
    if tenant in context.known_tenants:
        return [_foreign(tenant, f"names the tenant {tenant}, which was there before the order")]
    named = named_tenants(context)
    if tenant and not session and tenant not in named:
        return [_foreign(tenant, f"names the tenant {tenant}, and not the order")]
    if tenant and context.paid == "person" and tenant in context.denied:
        return [_foreign(tenant, f"names the tenant {tenant} besides {context.session_tenant}")]
    if tenant and context.session_tenant not in {"", tenant}:
        # A contradiction, which a person decides. How far the other tenant is does not matter here.
        if tenant in named or len(context.also_named) >= NAMED_KEPT:
            return []
        return [PaymentObserved(tenant, "")]
    events: list[Event] = []
    reports = session != "" and (tenant != "" or step in {*ORDER, FAILED})
    if reports and (context.paid not in {"stream", "person"} or (tenant != "" and not context.session_tenant)):
        events.append(PaymentObserved(tenant, shown(event.tenant_name, LONGEST_WORD)))
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
    tenant, transaction = parameters.get("tenant_id", ""), word(parameters.get("transaction_id", ""))
    status, session = parameters.get("status", ""), parameters.get("checkout_session_id", "")
    if session and session != context.checkout_session_id:
        raise CallbackRejected("This is the answer to another checkout. The command keeps waiting.")
    if status == "completed" and tenant and transaction and not parameters.get("error"):
        if tenant in context.known_tenants or not is_word(tenant):
            named = "a tenant that was there before the order" if is_word(tenant) else "something that is no tenant"
            return Reply(PaymentUnclear(f"the payment page named {named}"), _unless_paid(context, pages))
        page = pages.success_page(*CHECKING, tenant)
        ours = session != "" or transaction == context.transaction_id
        return Reply(PaymentCompleted(transaction, tenant, linked=ours), page)
    if status == "pending" and session and not parameters.get("error"):
        named = tenant if is_word(tenant) and tenant not in context.known_tenants else ""
        return Reply(PaymentPending(named), pages.waiting_page(tenant or session))
    if error := shown(parameters.get("error", ""), LONGEST_DESCRIPTION):
        return Reply(PaymentDeclined(error), _unless_paid(context, pages))
    problem = f"status {shown(status, 40)!r}" if status else "neither a tenant nor a status"
    return Reply(PaymentUnclear(f"the payment page came back with {problem}"), _unless_paid(context, pages))


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
