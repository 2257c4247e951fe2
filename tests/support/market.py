"""A cloud that sells tenants and lies about them: in memory, on trio's clock.

Theory. What may be believed about an order can only be judged against what really happened to it. So a `Sale` says that
first: whether the order is paid, when, and what becomes of its tenant. Everything else in it is a lie or an accident on
the way: callbacks of every kind at every moment; event streams that are missing, silent, broken, of somebody else, or
that contradict the status; replicas that are behind; pages of proxies; a token that is refused once; an answer that is
lost. None of them changes what happened.

Honest are only these: the API's answer when no replica or proxy stands in its place, an event that carries the order's
session, and what a callback with the order's session or transaction says of a tenant, because only the payment page
knows them. That it says "pending" does not mean that the order is paid.

People do what they want: they answer or not, cancel, run another command, log in as somebody else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import msgspec
import trio
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, StreamLost
from systemprompt_cloud.flows.outside import Api
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.cloud.wire import (
    CheckoutEvent,
    CheckoutResponse,
    Plan,
    ProvisioningEvent,
    Tenant,
    TenantInfo,
    TenantPlan,
    TenantSecrets,
    TenantStatus,
    UserInfo,
    UserMeResponse,
)
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.loopback.callback import CallbackHit, CallbackListener
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from systemprompt_cloud.machines.parts.progress import ORDER
from typing_extensions import override

from tests.support.sales import LIARS, OLD, OTHERS, OURS, Sale

PLAN, REGION = "Starter", "fra"
PAGE = "answered with an HTML page, not the API"
SECRETS_URL = "/secrets"
INSTEAD = "Use it instead of buying another one?"
ANOTHER = ("Create a new order?", "Place another order?", "Buy another one?")
"""How the questions end that offer another order."""

NAMELESS = 95
"""The number of an event that names no session."""
HEARTBEAT = ServerSentEvent("heartbeat", "{}", "")


ADA, BOB = "ada@example.org", "bob@example.org"

LOOK_SECONDS = 10.0
"""How long an order that was given up is looked at before another one is placed."""


class Market:
    """Stands in for the API's client in everything that the flows call, and for the browser.

    Attributes:
        orders: The keys of the orders that were placed, by Ada.
        account: Who is logged in.
        agreed: Orders that the person wants besides.
        cancelled: How often the person has cancelled.
        settled: A command has ended well: whoever runs `checkout` then wants another tenant.
        misled: The person has said that they did not buy what they had bought.
        wrong: Orders that were placed though an earlier one was paid, or might have been, and nobody wanted them.
    """

    def __init__(self, sale: Sale) -> None:
        self.sale = sale
        self.orders: list[str] = []
        self.account = ADA
        self.agreed = self.cancelled = 0
        self.settled = self.misled = self._newest_is_bobs = False
        self.wrong: list[str] = []
        self.honours_idempotency = sale.keys
        self._shown: float | None = None
        self._connections = 0
        self._refused = list(sale.refusals)
        self._hits: list[tuple[float, dict[str, str]]] = list(sale.callbacks)
        self._lost = sale.answer_lost

    @property
    def time(self) -> float:
        """Seconds since the payment page was shown; negative before."""
        return -1.0 if self._shown is None else trio.current_time() - self._shown

    @property
    def paid(self) -> bool:
        """Whether the order is paid by now."""
        return self.sale.pay_at is not None and self.time >= self.sale.pay_at

    # --- what the API answers -------------------------------------------------------------------------------------

    async def _answer(self) -> float:
        """The moment the answer is about; raises what answers in the API's place."""
        await trio.sleep(0.05)
        if self._refused and self.time >= self._refused[0]:
            self._refused.pop(0)
            raise NotAuthenticated("the token was not accepted")
        for (begin, end), status in self.sale.pages:
            if begin <= self.time < end:
                raise ApiError(PAGE, status=None if status == 200 else status)
        return self.time - next((lag for (begin, end), lag in self.sale.behind if begin <= self.time < end), 0.0)

    def _listed(self, moment: float) -> list[str]:
        sale = self.sale
        if self.account == BOB:
            return []
        listed = [] if sale.old_hidden and self._shown is None else [OLD]
        if sale.others_at is not None and moment >= sale.others_at and self._shown is not None:
            listed.append(OTHERS)
        if sale.pay_at is not None and moment >= sale.pay_at and self._shown is not None:
            listed.append(OURS)
        return listed

    async def plans(self) -> list[Plan]:
        """What is for sale."""
        await self._answer()
        return [Plan(id="p1", name=PLAN, paddle_price_id="pri_1")]

    async def me(self) -> UserMeResponse:
        """Who asks, and what is theirs."""
        plan = TenantPlan(name=PLAN, memory_mb=1, volume_gb=1)
        tenants = [
            TenantInfo(id=each, name=each, region=REGION, plan=plan, database_url="")
            for each in self._listed(await self._answer())
        ]
        return UserMeResponse(user=UserInfo(id="u", email=self.account), tenants=tenants)

    async def tenants(self) -> list[Tenant]:
        """The same by the other call, from a replica that is not behind."""
        await trio.sleep(0.05)
        hidden = self.account == BOB or (self.sale.old_hidden and self._shown is None)
        return [] if hidden else [Tenant(id=OLD, name=OLD)]

    async def create_checkout(
        self, _price: str, _region: str, _redirect_uri: str | None = None, *, idempotency_key: str
    ) -> CheckoutResponse:
        """Place an order; a key that is honoured places none twice."""
        await trio.sleep(0.05)
        self._newest_is_bobs = self.account == BOB
        if self.account == BOB:
            return CheckoutResponse(
                checkout_url="https://pay.example/2", transaction_id="txn_bob", checkout_session_id="cs_bob"
            )
        if not self.sale.keys or idempotency_key not in self.orders:
            self._judge()
            self.orders.append(idempotency_key)
        if self._lost:
            self._lost = False
            raise Network("the answer was lost", sent=True)
        number = 1 if self._shown is None else len(self.orders)
        return CheckoutResponse(
            checkout_url="https://pay.example/1", transaction_id=f"txn_{number}", checkout_session_id=f"cs_{number}"
        )

    def _judge(self) -> None:
        """Note an order that nobody wanted, beside one whose page was shown.

        After an order that was given up another one may be placed, unless that one was paid and any look showed it.
        """
        if self._shown is None or self.settled or self.misled:
            return
        if self.agreed:
            self.agreed -= 1
            return
        behind = any(begin <= self.time and end >= self.time - LOOK_SECONDS for (begin, end), _ in self.sale.behind)
        known = self.sale.pay_at is not None and self.time - LOOK_SECONDS / 2 >= self.sale.pay_at and not behind
        if not self.cancelled or known:
            self.wrong.append(f"order {len(self.orders) + 1} at {self.time:.1f}, cancelled {self.cancelled}")

    async def confirm(self, question: str) -> bool:
        """What the person answers."""
        await trio.sleep(1.0)
        another = question.endswith(ANOTHER)
        if self.sale.person == "impatient":
            self.agreed += another
            return another
        if self.sale.person == "honest":
            return not another and OURS in question and self.paid
        # Whoever does not want what they have bought wants another one.
        self.misled = self.misled or (OURS in question and self.paid)
        self.agreed += question.endswith(INSTEAD)
        return False

    async def tenant_status(self, tenant: str) -> TenantStatus:
        """How far a tenant is."""
        moment, sale = await self._answer(), self.sale
        bought = sale.pay_at is not None and moment >= sale.pay_at
        if self.account == BOB or tenant not in {OLD, OTHERS, *([OURS] if bought else [])}:
            raise ApiError("tenant_not_found", status=404, code="tenant_not_found")
        if tenant == OURS and moment < cast("float", sale.pay_at) + sale.ready_after:
            return TenantStatus(status="provisioning", message="building")
        if tenant == OURS and sale.fails:
            return TenantStatus(status="failed", message="it does not start")
        return TenantStatus(status="ready", app_url="https://ours.example", secrets_url=SECRETS_URL)

    async def tenant_secrets(self, _url: str) -> TenantSecrets:
        """A tenant's secrets."""
        await self._answer()
        inside = "postgres://u:p@db/t"
        return TenantSecrets(
            jwt_secret="j", database_url=inside, internal_database_url=inside, app_url="https://a", sync_token="s"
        )

    # --- what its streams say ---------------------------------------------------------------------------------------

    def checkout_events(
        self,
        session: str,
        *,
        last_event_id: str | None = None,  # noqa: ARG002 told anew
        idle_timeout: float = 30.0,
    ) -> AbstractAsyncContextManager[EventStream]:
        """The order's stream."""
        return self._open(idle_timeout, session=session)

    def tenant_events(
        self,
        tenant: str,
        *,
        last_event_id: str | None = None,  # noqa: ARG002 told anew
        idle_timeout: float = 30.0,
    ) -> AbstractAsyncContextManager[EventStream]:
        """A tenant's stream."""
        return self._open(idle_timeout, tenant=tenant)

    @asynccontextmanager
    async def _open(self, idle: float, *, session: str = "", tenant: str = "") -> AsyncGenerator[EventStream]:
        kinds = self.sale.streams
        kind = kinds[min(self._connections, len(kinds) - 1)]
        self._connections += 1
        await trio.sleep(20.0 if kind == "late" else 0.05)
        refused: Mapping[str, Exception] = {
            "missing": ApiError("no stream", status=404, code="not_found"),
            "not allowed": ApiError(PAGE, status=405),
            "page": ApiError(PAGE),
            "refused": NotAuthenticated("the token was not accepted"),
        }
        if self.account == BOB:
            raise refused["missing"]
        if kind in refused:
            raise refused[kind]
        yield cast("EventStream", cast("object", _Told(self, kind, idle, session, tenant)))

    def event(self, step: str, number: int, session: str, tenant: str) -> ServerSentEvent:
        """An event of a stream."""
        about: dict[str, Any] = {"tenant_id": tenant or OURS, "event_type": step, "status": "x", "message": step}
        named = "" if number == NAMELESS else session
        record = CheckoutEvent(checkout_session_id=named, tenant_name="ours", **about) if session else None
        told = record or ProvisioningEvent(**about)
        return ServerSentEvent("provisioning", msgspec.json.encode(told).decode(), str(number))

    # --- the browser ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def listen(self, **_arguments: object) -> AsyncGenerator[CallbackListener]:
        """Listen for the browser; what comes while nobody listens is lost."""
        # The page is shown once somebody listens for what comes of it.
        if self._shown is None and self.orders and not self._newest_is_bobs:
            self._shown = trio.current_time()
        self._hits = [each for each in self._hits if each[0] >= self.time]
        yield cast("CallbackListener", cast("object", self))

    async def wait_hit(self) -> CallbackHit:
        """The browser's next return."""
        while not self._hits:
            await trio.sleep_forever()
        moment, parameters = self._hits[0]
        await trio.sleep(max(moment - self.time, 0.0))
        self._hits.pop(0)
        return CallbackHit(parameters, lambda: None)


class _Told:
    """One connection to a stream."""

    def __init__(self, market: Market, kind: str, idle: float, session: str, tenant: str) -> None:
        self._market, self._kind, self._idle = market, kind, idle
        self._session, self._tenant = session, tenant
        self._told = 0

    def __aiter__(self) -> _Told:
        return self

    async def __anext__(self) -> ServerSentEvent:
        market, kind = self._market, self._kind
        if kind == "silent":
            await trio.sleep(self._idle)
            raise StreamLost("the event stream fell silent")
        if kind == "heartbeats":
            await trio.sleep(5.0)
            return HEARTBEAT
        self._told += 1
        if kind == "breaks" and self._told > 2:
            raise StreamLost("the event stream broke")
        lie = self._lie()
        if lie is not None:
            await trio.sleep(0.5)
            return lie
        steps = ORDER if kind != "repeats" else [each for each in ORDER for _ in range(2)]
        number = self._told - 1 - (1 if kind in LIARS else 0)
        sale = market.sale
        if sale.pay_at is None or number >= len(steps) or self._session not in {"", "cs_1"}:
            await trio.sleep(self._idle)
            raise StreamLost("the server ended the event stream")
        last = steps[number] == ORDER[-1]
        due = sale.pay_at + (sale.ready_after if last else min(sale.ready_after, 0.2 * number))
        await trio.sleep(max(due - market.time, 0.01))
        step = "provisioning_failed" if last and sale.fails else steps[number]
        return market.event(step, number + 1, self._session, self._tenant)

    def _lie(self) -> ServerSentEvent | None:
        market = self._market
        if self._told > 1:
            return None
        if self._kind == "foreign":
            return market.event("tenant_ready", 99, "cs_other" if self._session else "", OTHERS)
        if self._kind == "nameless":
            return market.event("tenant_ready", NAMELESS, self._session, OTHERS if self._session else self._tenant)
        # Of an order that is not paid its own stream says nothing.
        if not market.paid or self._session not in {"", "cs_1"}:
            return HEARTBEAT if self._kind in LIARS else None
        if self._kind == "failed before":
            return market.event("provisioning_failed", 98, self._session, self._tenant)
        return market.event("tenant_ready", 97, self._session, self._tenant) if self._kind == "ready before" else None


class MarketApi(Api):
    """A `Market` that lives on when a process that asks it dies."""

    def __init__(self, market: Market, paths: CloudPaths) -> None:
        super().__init__(paths)
        self.market = market

    @override
    async def as_user(self, api_url: str) -> CloudApiClient:
        """The market, whatever the address."""
        await trio.lowlevel.checkpoint()
        return cast("CloudApiClient", cast("object", self.market))
