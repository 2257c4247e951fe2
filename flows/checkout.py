"""What is done in each state of a checkout.

In order: check plan and region, and what became of an earlier order; create the checkout under an announced idempotency
key; listen, show the payment page and wait for the browser or the event stream, whichever reports first; then ask the
API about the tenant. What is left in doubt is asked about again when the flow is resumed. The table is
`machines/checkout.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import trio

from ..base.log import get_logger
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import ApiError, PortBusy
from ..io.cloud.api import CloudApiClient
from ..io.cloud.wire import REGIONS, Plan, UserMeResponse
from ..io.http.texts import word
from ..io.loopback.browser import check_openable
from ..io.loopback.callback import StatusView, callback_uri, new_nonce
from ..machines.checkout import (
    CHECKOUT,
    WAITING,
    CheckoutContext,
    CheckoutCreated,
    HeadStartOver,
    ListenerMissing,
    OrderOutdated,
    OrderRefused,
    OrderValidated,
    TenantFailed,
)
from ..machines.parts.progress import WaitResumed
from ..machines.parts.vocabulary import OutcomeUnknown
from .outside import Api, Browser, Person, Timing
from .services import Services
from .steps.asking import API_FAILURES, Needed, Reports
from .steps.callbacks import Reply, await_browser, keep_port
from .steps.counting import IN_A_ROW
from .steps.doubt import choose, order_of, settle_doubt, settle_tenant, still_pending, tenant_failed
from .steps.earlier import (
    ask_about_earlier_orders,
    check_earlier_orders,
    earlier_orders,
    journaled_tenants,
    stored_tenants,
)
from .steps.effects import ask_for, ask_whether_to_repeat
from .steps.following import Listening, follow
from .steps.order import PlacedOrder, read_callback, status_view

logger = get_logger(__name__)

CheckoutVisit = Visit[CheckoutContext]
NEEDED: Final[Needed] = {TenantFailed: IN_A_ROW}
"""A failure counts when it was answered so often in a row: a replica may still tell of an earlier attempt."""

LISTENING: Final = ("awaiting_payment", "looking_for_payment", *WAITING)
"""The states in which the browser is listened to."""

PAGE_ENDS = frozenset({"ready", "failed"})
"""The two statuses after which the waiting page stops asking."""

WATCHED = "waiting page asked"
"""In a flow's scratch: its waiting page has asked, in whichever visit."""

LAST_LOOK_SECONDS = 1.5
"""How long a browser that shows the waiting page gets to ask one last time."""

BROWSER_FIRST_SECONDS = 3.0
"""Seconds a browser gets to come back before the event stream's report of the payment is acted on: the listener closes
when the state is left, and a person should see a page, not a refused connection."""


def checkout_program(services: Services) -> Program[CheckoutContext]:
    """The checkout machine with its activities."""
    doing = _Checkout(services.cloud_api, services.browser, services.person, services.timing, services.paths.tenants)
    return Program(
        CHECKOUT,
        {
            "validating_order": [doing.validate_order],
            "checking_earlier_orders": [doing.check_earlier_orders],
            "earlier_order_in_doubt": [doing.ask_about_earlier_orders],
            "creating_checkout": [doing.create_checkout],
            "outcome_unknown": [doing.ask_whether_to_repeat],
            "awaiting_payment": [doing.await_callback, doing.watch_for_payment],
            "looking_for_payment": [doing.listen_for_browser, doing.follow_order],
            "payment_in_doubt": [doing.settle_doubt],
            "confirming_tenant": [doing.follow_order, doing.listen_for_browser],
            "awaiting_tenant": [doing.follow_order, doing.listen_for_browser],
            "tenant_unlinked": [doing.settle_tenant],
            "tenant_unconfirmed": [doing.wait_longer],
            "tenant_overdue": [doing.wait_longer],
            "tenant_failed": [doing.wait_for_retry],
        },
    )


async def start_checkout(engine: Engine, context: CheckoutContext) -> Flow:
    """Start a checkout, or resume the unfinished one for the same API, plan and region.

    An order of the same kind that another command has placed is found by the new one (`steps/earlier.py`).
    """
    key = f"{context.api_url}|{context.plan}|{context.region}"
    return await engine.start(CHECKOUT, context, key=key)


def find_plan(plans: list[Plan], wanted: str) -> Plan | None:
    """The plan with this id, price id or name; names without regard to case."""
    exact = [plan for plan in plans if wanted in (plan.id, plan.paddle_price_id)]
    return next(iter(exact or [plan for plan in plans if plan.name.casefold() == wanted.casefold()]), None)


class _Checkout:
    def __init__(self, api: Api, browser: Browser, person: Person, timing: Timing, tenants: Path) -> None:
        self.api = api
        self.browser = browser
        self.person = person
        self.timing = timing
        self.tenants = tenants

    async def _order(self, visit: CheckoutVisit) -> PlacedOrder:
        asks = self.person.confirm is not None
        return PlacedOrder(visit, self.timing, await self.api.of(visit), asks=asks)

    # --- before the money ------------------------------------------------------------------------------------------

    async def validate_order(self, visit: CheckoutVisit) -> Event:
        context = visit.context
        if context.region not in REGIONS:
            return OrderRefused(f"no region {context.region!r}; regions: {', '.join(REGIONS)}", "unknown_region")
        api = await self.api.of(visit)
        plans = await api.plans()
        plan = find_plan(plans, context.plan)
        if plan is None:
            offered = ", ".join(each.id for each in plans)
            return OrderRefused(f"no plan {context.plan!r}; plans: {offered}", "unknown_plan")
        me = await api.me()
        listed = await listed_tenants(api, me)
        stored = await visit.on_disk(stored_tenants, self.tenants)
        known = {*context.known_tenants, *listed, *stored, *await journaled_tenants(visit)}
        try:
            port = keep_port(visit, context.port)
        except PortBusy as exc:
            return OrderRefused(f"{exc.user_message}; choose another port, or 0 for any free one", "port_taken")
        nonce = await visit.keep("nonce", new_nonce())
        earlier = await earlier_orders(visit, plan.paddle_price_id, me.user.email)
        return OrderValidated(
            plan.name, plan.paddle_price_id, tuple(sorted(known)), port, nonce, me.user.email, earlier
        )

    async def check_earlier_orders(self, visit: CheckoutVisit) -> Event:
        return await check_earlier_orders(visit, await self.api.of(visit), self.timing)

    async def ask_about_earlier_orders(self, visit: CheckoutVisit) -> Event:
        return await ask_about_earlier_orders(visit, self.person)

    async def create_checkout(self, visit: CheckoutVisit) -> Event:
        context = visit.context
        known = {each.flow for each in context.earlier}
        earlier = await earlier_orders(visit, context.price_id, context.account)
        api = await self.api.of(visit)
        # Another account may be logged in since: what was looked at, and the tenants it had, are not this one's then.
        changed = context.account not in {"", (await api.me()).user.email}
        if changed or any(each.flow not in known for each in earlier):
            return OrderOutdated()
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
        context = visit.context
        unknown = f"{order_of(context)} may or may not have been created ({context.problem})"
        return await ask_whether_to_repeat(
            visit,
            self.person,
            f"{unknown}; nothing is charged before you pay",
            f"{unknown[0].upper()}{unknown[1:]}. Nothing is charged before you pay. Create another one?",
        )

    # --- while somebody pays ---------------------------------------------------------------------------------------

    async def _read(self, visit: CheckoutVisit, parameters: dict[str, str]) -> Reply:
        return read_callback(visit.context, parameters, self.browser.checkout_pages)

    async def await_callback(self, visit: CheckoutVisit) -> Event | None:
        """Show the payment page and listen for the browser.

        Raises:
            PortBusy: The page was never shown: nobody can have paid.
        """
        try:
            await await_browser(
                visit,
                self.browser,
                "pay",
                partial(self._read, visit),
                status=lambda: status_view(visit.context),
                once=False,
                listening=LISTENING,
            )
        except PortBusy as exc:
            if not visit.context.shown:
                raise
            return ListenerMissing(exc.user_message)
        return None

    async def watch_for_payment(self, visit: CheckoutVisit) -> Event:
        order = await self._order(visit)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Listening(order, Reports(visit)).run)
            if not visit.context.paid:
                await order.payment_reported.wait()
            await trio.sleep(BROWSER_FIRST_SECONDS)
            nursery.cancel_scope.cancel()
        return HeadStartOver()

    async def settle_doubt(self, visit: CheckoutVisit) -> Event:
        return await settle_doubt(visit, self.person, partial(self.api.of, visit))

    async def settle_tenant(self, visit: CheckoutVisit) -> Event:
        return await settle_tenant(visit, self.person)

    # --- after the money -------------------------------------------------------------------------------------------

    async def follow_order(self, visit: CheckoutVisit) -> Event:
        listens = visit.context.checkout_session_id != ""
        return await follow(await self._order(visit), NEEDED, refusable=False, listens=listens)

    async def listen_for_browser(self, visit: CheckoutVisit) -> None:
        """Take what a browser brings that comes back late or again, and serve the waiting page."""
        end_seen = trio.Event()

        def look() -> StatusView:
            visit.scratch[WATCHED] = True
            view = status_view(visit.context)
            if view.status in PAGE_ENDS:
                end_seen.set()
            return view

        async def show_the_end() -> None:
            if visit.left and status_view(visit.context).status in PAGE_ENDS and visit.scratch.get(WATCHED):
                # The page asks once a second; it should see the end, too, before the listener closes.
                with trio.move_on_after(LAST_LOOK_SECONDS, shield=True):
                    await end_seen.wait()

        try:
            await await_browser(
                visit,
                self.browser,
                "pay",
                partial(self._read, visit),
                status=look,
                invites=False,
                once=False,
                listening=LISTENING,
                before_close=show_the_end,
            )
        except PortBusy:
            await trio.sleep_forever()  # only for the browser; the flow does not need it

    async def wait_longer(self, visit: CheckoutVisit) -> Event:
        """Pause the flow where its time ran out; wait on when it is resumed, or take the tenant a person names.

        Raises:
            StillPending: On the first visit, when no person says which tenant was paid for.
        """
        if (chosen := await choose(visit, self.person, again=visit.resumed)) is not None:
            return chosen
        if visit.resumed:
            return WaitResumed()
        raise still_pending(visit.context, visit.flow)

    async def wait_for_retry(self, visit: CheckoutVisit) -> Event:
        """Pause the flow whose tenant failed; look again when it is resumed.

        Raises:
            StillPending: On the first visit.
        """
        if visit.resumed:
            return WaitResumed()
        raise tenant_failed(visit.context.problem, visit.context.failed_tenant, visit.flow)


async def listed_tenants(api: CloudApiClient, me: UserMeResponse) -> frozenset[str]:
    """The tenants the API lists, by both of its calls: one of its replicas may be behind."""
    listed = {tenant.id for tenant in me.tenants}
    try:
        listed |= {tenant.id for tenant in await api.tenants()}
    except API_FAILURES as exc:
        if isinstance(exc, ApiError):
            logger.info("the list of tenants could not be read: %s", exc)
        else:
            raise
    return frozenset(map(word, listed))
