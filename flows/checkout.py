"""What is done in each state of a checkout.

In order: check plan and region; create the checkout under an announced idempotency key; listen, show the payment page
and wait for the browser or the event stream, whichever brings the news; then ask the API about the tenant, or follow
the pending payment. The table is `machines/checkout.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio
from typing_extensions import override

from ..base.redaction import redact
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import ApiError, CallbackRejected, Network, PortBusy, StreamLost, TooLarge
from ..io.cloud.api import CloudApiClient
from ..io.cloud.wire import REGIONS, CheckoutEvent, Plan, TenantInfo
from ..io.loopback.browser import check_openable
from ..io.loopback.callback import StatusView, callback_uri, listen_for_callback, new_nonce
from ..io.loopback.pages import OUR_CHECKOUT_PAGES, CheckoutTemplates
from ..io.sse.decoder import EventStream, ServerSentEvent
from ..machines.checkout import (
    CHECKOUT,
    CheckoutContext,
    CheckoutCreated,
    CheckoutFailed,
    OrderRefused,
    OrderValidated,
    PaymentCompleted,
    PaymentDeclined,
    PaymentNotFound,
    PaymentObserved,
    PaymentPending,
    TenantAnnounced,
    TenantConfirmed,
)
from ..machines.parts.vocabulary import OutcomeUnknown
from ..machines.parts.watching import StepObserved
from .outside import Api, Browser, Person, Timing
from .services import Services
from .steps.callbacks import LONGEST_DESCRIPTION, Reply, await_browser, free_port
from .steps.effects import ask_for, ask_whether_to_repeat
from .steps.following import Following
from .steps.source import Pauses, Source
from .steps.streaming import decode
from .steps.watching import poll, refusal, stand_by

CheckoutVisit = Visit[CheckoutContext]
STREAM_EVENTS = frozenset({"provisioning"})

BUILT = frozenset({"infrastructure_ready", "tenant_ready"})
"""The steps that end the wait for a pending payment well."""

PAGE_ENDS = frozenset({"ready", "failed"})
"""The two statuses after which the waiting page stops asking."""

WATCHED = "waiting page asked"
"""In a flow's scratch: its waiting page has asked, in whichever visit."""

LAST_LOOK_SECONDS = 1.5
"""How long a browser that shows the waiting page gets to ask one last time."""

BROWSER_HEAD_START = 3.0
"""Seconds a browser gets to come back before the event stream's news of the payment is acted on: the listener closes
when the state is left, and a person should see a page, not a refused connection."""


def checkout_program(services: Services) -> Program[CheckoutContext]:
    """The checkout machine with its activities."""
    doing = _Checkout(services.cloud_api, services.browser, services.person, services.timing)
    return Program(
        CHECKOUT,
        {
            "validating_order": [doing.validate_order],
            "creating_checkout": [doing.create_checkout],
            "outcome_unknown": [doing.ask_whether_to_repeat],
            "awaiting_payment": [doing.await_callback, doing.watch_for_payment],
            "looking_for_payment": [doing.look_for_payment],
            "confirming_tenant": [doing.confirm_tenant],
            "tenant_unconfirmed": [stand_by],
            "tenant_overdue": [stand_by],
            "awaiting_tenant_streaming": [doing.watch_events, doing.serve_waiting_page],
            "awaiting_tenant_polling": [doing.poll_status, doing.serve_waiting_page],
        },
    )


async def start_checkout(engine: Engine, context: CheckoutContext) -> Flow:
    """Start a checkout, or resume the unfinished one for the same API, plan, region and port."""
    key = f"{context.api_url}|{context.plan}|{context.region}|{context.port}"
    return await engine.start(CHECKOUT, context, key=key)


def find_plan(plans: list[Plan], wanted: str) -> Plan | None:
    """The plan with this id, price id or name; names without regard to case."""
    exact = [plan for plan in plans if wanted in (plan.id, plan.paddle_price_id)]
    return next(iter(exact or [plan for plan in plans if plan.name.casefold() == wanted.casefold()]), None)


def our_tenant(context: CheckoutContext, tenants: Sequence[TenantInfo]) -> TenantInfo | None:
    """The one tenant that is new since the order was placed and fits it; None when there is none, or a choice.

    Another order of the same account may be under way at the same moment: guessing would hand out its tenant. An order
    that somebody else placed (`run_checkout_callback_flow`) names no plan and no region; then any new tenant fits.
    """
    fitting = [
        tenant
        for tenant in tenants
        if tenant.id not in context.known_tenants
        and (not context.region or tenant.region in (None, context.region))
        and (not context.plan_name or tenant.plan is None or tenant.plan.name == context.plan_name)
    ]
    return fitting[0] if len(fitting) == 1 else None


def stream_meaning(event: CheckoutEvent, event_id: str) -> Event:
    """The event an observation of the checkout's stream becomes."""
    if event.event_type == "provisioning_failed":
        return CheckoutFailed(redact(event.message or "the server gave no reason"))
    if event.event_type in BUILT:
        return TenantAnnounced(
            step=event.event_type,
            message=redact(event.message or ""),
            tenant_id=event.tenant_id,
            tenant_name=event.tenant_name,
            needs_deploy=event.event_type == "infrastructure_ready",
        )
    return StepObserved(event.event_type, redact(event.message or ""), "stream", event_id, event.tenant_id)


class _TenantPaidFor(Source[CheckoutContext]):
    def __init__(self, visit: CheckoutVisit, timing: Timing, client: CloudApiClient) -> None:
        super().__init__(visit, timing)
        self._client = client

    @override
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        session, idle = self.context.checkout_session_id, self.timing.idle_seconds
        return self._client.checkout_events(session, last_event_id=after or None, idle_timeout=idle)

    @override
    def interpret(self, sse: ServerSentEvent) -> Event | None:
        event = decode(sse, STREAM_EVENTS, CheckoutEvent)
        return None if event is None else stream_meaning(event, sse.id)

    @override
    async def ask(self) -> Event | None:
        context = self.context
        tenants = (await self._client.me()).tenants
        found = our_tenant(context, tenants)
        tenant_id = context.tenant_id or (found.id if found is not None else "")
        if not tenant_id:
            return None
        name = next((tenant.name for tenant in tenants if tenant.id == tenant_id), context.tenant_name)
        status = await self._client.tenant_status(tenant_id)
        said = redact(status.message or "")
        if status.status == "failed":
            return CheckoutFailed(said or "the server gave no reason")
        if status.status in {"ready", "infrastructure_ready"}:
            step = "tenant_ready" if status.status == "ready" else status.status
            return TenantAnnounced(step, said, tenant_id, name, step != "tenant_ready")
        return StepObserved("", said, "polling", tenant_id=tenant_id)


class _Checkout(Following[CheckoutContext]):
    def __init__(self, api: Api, browser: Browser, person: Person, timing: Timing) -> None:
        self.api = api
        self.browser = browser
        self.person = person
        self.timing = timing

    async def _client(self, visit: CheckoutVisit) -> CloudApiClient:
        return await self.api.as_user(visit.context.api_url)

    @override
    async def source(self, visit: CheckoutVisit) -> _TenantPaidFor:
        return _TenantPaidFor(visit, self.timing, await self._client(visit))

    # --- before the money ------------------------------------------------------------------------------------------

    async def validate_order(self, visit: CheckoutVisit) -> Event:
        context = visit.context
        if context.region not in REGIONS:
            return OrderRefused(
                f"there is no region {context.region!r}; there are {', '.join(REGIONS)}", "unknown_region"
            )
        api = await self._client(visit)
        plans = await api.plans()
        plan = find_plan(plans, context.plan)
        if plan is None:
            offered = ", ".join(each.id for each in plans)
            return OrderRefused(f"there is no plan {context.plan!r}; there are {offered}", "unknown_plan")
        known = tuple(tenant.id for tenant in (await api.me()).tenants)
        try:
            port = free_port(context.port)
        except PortBusy as exc:
            return OrderRefused(f"{exc.user_message}; choose another port, or 0 for any free one", "port_taken")
        nonce = await visit.keep("nonce", new_nonce())
        return OrderValidated(plan.name, plan.paddle_price_id, known, port, nonce)

    async def create_checkout(self, visit: CheckoutVisit) -> Event:
        context = visit.context
        api = await self._client(visit)
        nonce = await visit.reveal(context.nonce)
        intent = await visit.announce("create_checkout")
        if intent.uncertain:
            await api.plans()  # any answer tells whether this server honours idempotency keys
            if not api.honours_idempotency:
                return OutcomeUnknown("interrupted while the checkout was being created")
        redirect_uri = callback_uri(context.port, nonce if context.bound else None)
        call = partial(api.create_checkout, context.price_id, context.region, redirect_uri)
        created = await ask_for(visit, api, intent, call, OrderRefused)
        if isinstance(created, Event):
            return created
        check_openable(created.checkout_url)
        return CheckoutCreated(
            created.transaction_id,
            created.checkout_session_id,
            await visit.keep("checkout_url", created.checkout_url),
        )

    async def ask_whether_to_repeat(self, visit: CheckoutVisit) -> Event:
        problem = visit.context.problem
        return await ask_whether_to_repeat(
            self.person,
            f"a checkout may or may not have been created ({problem}); nothing is charged before you pay",
            f"A checkout may or may not have been created ({problem}). Nothing is charged before you pay. "
            "Create another one?",
        )

    # --- while somebody pays ---------------------------------------------------------------------------------------

    async def await_callback(self, visit: CheckoutVisit) -> None:
        context = visit.context

        async def read(parameters: dict[str, str]) -> Reply:
            return read_callback(context, parameters, self.browser.checkout_pages)

        await await_browser(visit, self.browser, "pay", read, status=lambda: status_view(visit.context))

    async def watch_for_payment(self, visit: CheckoutVisit) -> Event | None:
        source, failures = await self.source(visit), 0
        while True:
            try:
                async with source.open("") as stream:
                    async for sse in stream:
                        if (event := decode(sse, STREAM_EVENTS, CheckoutEvent)) is not None:
                            await trio.sleep(BROWSER_HEAD_START)
                            return PaymentObserved(event.tenant_id, event.tenant_name)
            except (ApiError, Network, StreamLost, TooLarge) as exc:
                if refusal(exc) is not None:
                    return None  # a server without this stream before the payment: the browser brings the news
                source.pauses.note("stream", exc)
            failures += 1
            await trio.sleep(self.timing.backoff.delay(failures, source.pauses.left("stream")))

    # --- after the money -------------------------------------------------------------------------------------------

    async def confirm_tenant(self, visit: CheckoutVisit) -> Event:
        context = visit.context
        api = await self._client(visit)

        async def ask() -> Event | None:
            tenants = {tenant.id: tenant for tenant in (await api.me()).tenants}
            found = tenants.get(context.tenant_id)
            return None if found is None else TenantConfirmed(found.id, found.name)

        return await poll(visit, self.timing, ask, pauses=Pauses.of(visit))

    async def look_for_payment(self, visit: CheckoutVisit) -> Event:
        api = await self._client(visit)
        found = our_tenant(visit.context, (await api.me()).tenants)
        return PaymentNotFound() if found is None else PaymentObserved(found.id, found.name)

    async def serve_waiting_page(self, visit: CheckoutVisit) -> None:
        context = visit.context
        nonce = await visit.reveal(context.nonce)
        told = trio.Event()

        def look() -> StatusView:
            visit.scratch[WATCHED] = True
            view = status_view(visit.context)
            if view.status in PAGE_ENDS:
                told.set()
            return view

        try:
            listening = listen_for_callback(port=context.port, nonce=nonce if context.bound else None, status_page=look)
            async with listening as listener:
                try:
                    while True:
                        # A browser that comes back late, or is reloaded, sees the current state; it decides nothing.
                        hit = await listener.wait_hit()
                        waiting = visit.context.tenant_id or context.checkout_session_id
                        hit.answer(200, self.browser.checkout_pages.waiting_page(waiting))
                finally:
                    ended = visit.left and status_view(visit.context).status in PAGE_ENDS
                    if ended and visit.scratch.get(WATCHED):
                        # The page asks once a second; it should see the end, too, before the listener closes.
                        with trio.move_on_after(LAST_LOOK_SECONDS, shield=True):
                            await told.wait()
        except PortBusy:
            await trio.sleep_forever()  # only a page for a person; the flow does not need it


def read_callback(
    context: CheckoutContext, parameters: dict[str, str], pages: CheckoutTemplates = OUR_CHECKOUT_PAGES
) -> Reply:
    """What the browser's way back from the payment page means. A hint: the API is asked before anything is stored.

    Raises:
        CallbackRejected: It is about another checkout; the wait goes on.
    """
    tenant, transaction = parameters.get("tenant_id", ""), parameters.get("transaction_id", "")
    status, session = parameters.get("status", ""), parameters.get("checkout_session_id", "")
    if session and session != context.checkout_session_id:
        raise CallbackRejected("This is the answer to another checkout. The wait goes on.")
    if error := redact(parameters.get("error", ""))[:LONGEST_DESCRIPTION]:
        page = pages.error_page("Not paid", "The payment did not go through. Your terminal has the details.")
        return Reply(PaymentDeclined(error), page)
    if status == "pending" and session:
        return Reply(PaymentPending(), pages.waiting_page(tenant or session))
    if status == "completed" and tenant and transaction:
        page = pages.success_page("Paid", "Your terminal is preparing the tenant.", tenant)
        return Reply(PaymentCompleted(transaction, tenant), page)
    page = pages.error_page("Not completed", "The payment page gave no result. Your terminal has the details.")
    said = f"status {status[:40]!r}" if status else "neither a tenant nor a status"
    return Reply(CheckoutFailed(f"the payment page came back with {said}"), page)


def status_view(context: CheckoutContext) -> StatusView:
    """What the waiting page is told: it knows the two ends by the words `ready` and `failed`."""
    last = context.messages[-1] if context.messages else None
    if context.problem:
        return StatusView(status="failed", message=context.problem)
    step = context.steps[-1] if context.steps else "waiting"
    return StatusView(status="ready" if step in BUILT else step, message=last)
