"""A checkout keeps its promises: paid once, believed only after asking, never repeated without a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import trio
from starlette.responses import JSONResponse
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.checkout import find_plan, start_checkout
from systemprompt_cloud.io.cloud.wire import REGIONS
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.machines.checkout import CheckoutContext
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.state import PLANS
from systemprompt_cloud.testing.scripted import serve_scripted

from tests.support.rehearsal import PLAN, Rehearsal, open_rehearsal, wait_for_state

PAYS = ScriptedBrowser(payment="pay", patience=5)
PENDING = ScriptedBrowser(payment="pending", patience=5)
DECLINES = ScriptedBrowser(payment="decline", patience=5)


async def run(engine: Engine, rehearsal: Rehearsal, **changes: object) -> Outcome:
    """A checkout from its start to its end."""
    return await (await start_checkout(engine, rehearsal.checkout(**changes))).wait()


def answering(*answers: bool) -> tuple[Callable[[str], Awaitable[bool]], list[str]]:
    """A person who gives these answers in turn, and the questions they were asked."""
    left, questions = list(answers), list[str]()

    async def confirm(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return left.pop(0)

    return confirm, questions


async def come_back(rehearsal: Rehearsal, **parameters: str) -> int:
    """Come back from the payment page with these parameters and the right nonce; returns the status of the page."""
    checkout = next(iter(rehearsal.cloud.checkouts.values()))
    async with httpx.AsyncClient(trust_env=False) as browser:
        return (await browser.get(f"{checkout.redirect_uri}&{urlencode(parameters)}")).status_code


async def load(page: httpx.AsyncClient, url: str) -> httpx.Response:
    """Load a URL, again and again while nobody listens there yet."""
    while True:
        try:
            return await page.get(url)
        except httpx.ConnectError:
            await trio.lowlevel.checkpoint()


# --- how it ends ---------------------------------------------------------------------------------------------------


async def test_a_paid_checkout_is_completed(tmp_path: Path) -> None:
    """The tenant the API confirms is the result; one checkout, one tenant, and the browser says so."""
    async with open_rehearsal(tmp_path, browser=PAYS) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        outcome = await run(engine, rehearsal)
        (tenant,) = rehearsal.cloud.tenants.values()
        assert (outcome.state, outcome.verdict) == ("completed", "success")
        assert outcome.result["tenant_id"] == tenant.id
        assert outcome.result["tenant_name"] == tenant.name
        assert outcome.result["needs_deploy"] is False
        assert rehearsal.cloud.ledger.checkouts == 1
        page = await rehearsal.wait_tab()
        assert page.status == 200
        assert tenant.id in page.page


@pytest.mark.parametrize(
    ("faults", "needs_deploy"), [([], False), (["needs-deploy"], True), (["drop-stream:after=4,outage=0.1"], None)]
)
async def test_a_pending_payment_is_followed_to_its_tenant(
    tmp_path: Path, faults: list[str], needs_deploy: bool | None
) -> None:
    """The browser gets the waiting page; the stream, or polling while it is away, brings the tenant."""
    async with (
        open_rehearsal(tmp_path, browser=PENDING, faults=faults) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        outcome = await run(engine, rehearsal)
        (tenant,) = rehearsal.cloud.tenants.values()
        assert outcome.state == "completed"
        assert outcome.result["tenant_id"] == tenant.id
        assert outcome.result["tenant_name"] == tenant.name
        assert needs_deploy in (None, outcome.result["needs_deploy"])
        assert 'class="busy"' in (await rehearsal.wait_tab()).page


async def test_a_pending_payment_whose_tenant_fails(tmp_path: Path) -> None:
    """Paid, so it is no end: paused with the server's words, and resumed to the same tenant when that was retried."""
    faults = ["provisioning-failure:after=3"]
    async with (
        open_rehearsal(tmp_path, browser=PENDING, faults=faults) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        with pytest.raises(FlowParked, match="did not start") as parked:
            await flow.wait()
        (tenant,) = rehearsal.cloud.tenants.values()
        assert parked.value.state == "tenant_failed"
        assert parked.value.remedy == Remedy("retry_tenant", {"tenant": tenant.id, "flow": flow.id})
        rehearsal.cloud.provision_again(tenant)
        outcome = await (await start_checkout(engine, rehearsal.checkout())).wait()
        assert outcome.result["tenant_id"] == tenant.id
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_declined_payment(tmp_path: Path) -> None:
    """The browser's word is asked about, and what it leaves open pauses the flow; no tenant."""
    async with open_rehearsal(tmp_path, browser=DECLINES) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        with pytest.raises(FlowParked, match="the browser reported payment_declined, and the API knows of no payment"):
            await flow.wait()
        assert flow.state == "payment_in_doubt"
        assert rehearsal.cloud.ledger.tenants == 0
        assert "Checking the payment" in (await rehearsal.wait_tab()).page


async def test_nobody_pays(tmp_path: Path) -> None:
    """Paused, saying how long was waited; the same command shows the same page again."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout(timeout=0.2))
        with pytest.raises(FlowParked, match=r"not paid within 0\.2 s") as parked:
            await flow.wait()
        assert parked.value.code == EXIT_PENDING
        again = await start_checkout(engine, rehearsal.checkout())
        assert again.id == flow.id
        first, second = (await rehearsal.wait_shown(1)).url, (await rehearsal.wait_shown(2)).url
        assert first == second
        assert rehearsal.cloud.ledger.checkouts == 1


# --- the order -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "known"), [("plan", [plan.id for plan in PLANS]), ("region", list(REGIONS))])
async def test_an_unknown_plan_or_region_lists_what_there_is(tmp_path: Path, field: str, known: list[str]) -> None:
    """`failed` before anything was created, naming the wrong one and every right one."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        outcome = await run(engine, rehearsal, **{field: "mars"})
        assert outcome.state == "failed"
        assert "'mars'" in outcome.problem
        assert all(name in outcome.problem for name in known)
        assert rehearsal.cloud.ledger.checkouts == 0


def test_a_plan_is_found_by_id_price_or_name() -> None:
    """All three ways, the name without regard to case, and an id before a name."""
    plans = list(PLANS)
    for wanted in (PLANS[1].id, PLANS[1].paddle_price_id, PLANS[1].name, PLANS[1].name.upper()):
        assert find_plan(plans, wanted) is PLANS[1]
    assert find_plan(plans, "") is None


async def test_a_busy_port_ends_the_checkout_before_anything_is_created(tmp_path: Path) -> None:
    """`failed` naming the port; nothing was ordered."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        with bind_loopback(0) as taken:
            port = int(taken.getsockname()[1])
            outcome = await run(engine, rehearsal, port=port)
        assert outcome.state == "failed"
        assert str(port) in outcome.problem
        assert rehearsal.cloud.ledger.checkouts == 0


async def test_a_checkout_without_a_login_waits_for_one(tmp_path: Path) -> None:
    """Parked with exit code 4; after a login the same flow goes on."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_checkout(engine, rehearsal.checkout())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.code == EXIT_LOGIN_NEEDED
        assert parked.value.remedy == Remedy("log_in")
        rehearsal.log_in()
        again = await start_checkout(engine, rehearsal.checkout())
        assert again.id == flow.id
        assert (await again.wait()).succeeded


async def test_credentials_of_another_api_are_not_sent_here(tmp_path: Path) -> None:
    """A token goes only where it came from (SECURITY 7): parked, and the other server is never asked."""
    async with (
        open_rehearsal(tmp_path / "mine") as mine,
        open_rehearsal(tmp_path / "other") as other,
        mine.open_engine() as engine,
    ):
        mine.log_in()
        flow = await start_checkout(engine, mine.checkout(api_url=other.url))
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.code == EXIT_LOGIN_NEEDED
        assert mine.url in parked.value.user_message
        assert other.cloud.ledger.requests.total() == 0


# --- the two messengers --------------------------------------------------------------------------------------------


async def test_the_answer_to_another_checkout_is_not_taken(tmp_path: Path) -> None:
    """Completed, pending or declined: with another session's id it is refused, and the wait goes on."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        url = (await rehearsal.wait_shown()).url
        other = {"checkout_session_id": "cs_other"}
        assert await come_back(rehearsal, status="completed", transaction_id="t", tenant_id="x", **other) == 503
        assert await come_back(rehearsal, status="pending", **other) == 503
        assert await come_back(rehearsal, error="payment_declined", **other) == 503
        assert flow.state == "awaiting_payment"
        rehearsal.browser = PAYS
        await rehearsal.open_tab(url)
        assert (await flow.wait()).succeeded


async def test_a_tenant_that_is_not_ours_is_not_believed(tmp_path: Path) -> None:
    """The callback names a tenant the API does not list: the flow asks and asks, and does not complete."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        await rehearsal.wait_shown()
        foreign = rehearsal.buy(person=1)
        assert await come_back(rehearsal, status="completed", transaction_id="t", tenant_id=foreign.id) == 200
        asked = rehearsal.cloud.ledger.requests["GET /api/v1/auth/me"]
        while rehearsal.cloud.ledger.requests["GET /api/v1/auth/me"] < asked + 4:
            await trio.lowlevel.checkpoint()
        assert flow.state == "confirming_tenant"
        await flow.cancel()
        assert (await flow.wait()).state == "cancelled"


async def test_a_browser_that_never_comes_back_does_not_lose_the_payment(tmp_path: Path) -> None:
    """The event stream tells of the payment: the checkout completes without a callback."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()
        rehearsal.cloud.answer_payment(checkout, "pay")
        outcome = await flow.wait()
        assert outcome.succeeded
        assert checkout.tenant is not None
        assert outcome.result["tenant_id"] == checkout.tenant.id
        assert "PaymentObserved" in [change.event for change in flow.history]


async def test_the_browser_is_heard_before_the_stream(tmp_path: Path) -> None:
    """Whoever pays in the browser sees a page: the stream's news of the same payment waits a moment."""
    async with open_rehearsal(tmp_path, browser=PAYS, step_seconds=0.001) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, rehearsal.checkout())
            assert (await flow.wait()).succeeded
            assert "PaymentCompleted" in [change.event for change in flow.history]
        assert (await rehearsal.wait_tab()).status == 200


@pytest.mark.parametrize("faults", [[], ["drop-stream:after=5,outage=1000,path=/events"]], ids=["", "polled"])
async def test_a_waiting_page_hears_the_end(tmp_path: Path, faults: list[str]) -> None:
    """The listener stays until the page, which asks once a second, has been told `ready`, whoever finds that out."""
    async with (
        open_rehearsal(tmp_path, browser=PENDING, faults=faults, step_seconds=0.1) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        await wait_for_state(flow, "awaiting_tenant")
        context = flow.context
        assert isinstance(context, CheckoutContext)
        url = f"http://127.0.0.1:{context.port}/status/{context.checkout_session_id}"
        async with httpx.AsyncClient(trust_env=False) as page:
            assert (await load(page, url)).json()["status"] != "ready"
            await wait_for_state(flow, "completed")
            said = (await page.get(url)).json()
        assert (await flow.wait()).succeeded
        context = flow.context
        assert isinstance(context, CheckoutContext)
        assert said == {"status": "ready", "message": context.messages[-1], "app_url": None}


# --- an answer that is lost ----------------------------------------------------------------------------------------


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(tmp_path: Path) -> None:
    """A server that honours idempotency keys: one checkout, and nobody is asked anything."""
    faults = ["lose-answer:path=/checkout"]
    async with open_rehearsal(tmp_path, browser=PAYS, faults=faults) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        assert (await run(engine, rehearsal)).succeeded
        assert rehearsal.cloud.ledger.checkouts == 1
        assert rehearsal.cloud.ledger.replayed == 1


LOST = ["no-idempotency", "lose-answer:path=/checkout"]


async def test_an_unknown_outcome_waits_for_a_person(tmp_path: Path) -> None:
    """No keys honoured, nobody to ask: parked as uncertain, still pending; nothing was repeated."""
    async with open_rehearsal(tmp_path, browser=PAYS, faults=LOST) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("EffectUncertain", "outcome_unknown")
        assert parked.value.code == EXIT_PENDING
        assert "nothing is charged" in parked.value.user_message
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_person_may_have_it_created_again(tmp_path: Path) -> None:
    """Yes: another checkout, which is paid; the first stays open and costs nothing."""
    confirm, questions = answering(True)
    async with (
        open_rehearsal(tmp_path, browser=PAYS, faults=LOST) as rehearsal,
        rehearsal.open_engine(confirm=confirm) as engine,
    ):
        rehearsal.log_in()
        assert (await run(engine, rehearsal)).succeeded
        assert "Create another one?" in questions[0]
        assert (rehearsal.cloud.ledger.checkouts, rehearsal.cloud.ledger.tenants) == (2, 1)


async def test_a_person_may_leave_it(tmp_path: Path) -> None:
    """No: cancelled, and nothing else was created."""
    confirm, _ = answering(False)
    async with (
        open_rehearsal(tmp_path, browser=PAYS, faults=LOST) as rehearsal,
        rehearsal.open_engine(confirm=confirm) as engine,
    ):
        rehearsal.log_in()
        assert (await run(engine, rehearsal)).state == "cancelled"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_refused_order_is_not_an_unknown_outcome(tmp_path: Path) -> None:
    """A 4xx says that nothing was created: `failed` with the API's words, though this API honours no keys."""
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        token = rehearsal.log_in()
        now = datetime.now(UTC)
        elsewhere = CloudCredentials(
            api_token=token, api_url=server.url, authenticated_at=now, user_email="a@b.example"
        )
        elsewhere.save_to_path(rehearsal.paths.credentials)
        plans = [{"id": PLAN, "name": "Starter", "paddle_price_id": "pri_1"}]
        refusal = {"error": {"code": "too_many_tenants", "message": "this plan allows one tenant"}}
        me = JSONResponse({"user": {"id": "u", "email": "a@b.example"}})
        server.plan(JSONResponse(plans), me, JSONResponse({"data": []}), me, JSONResponse(refusal, 422))
        outcome = await run(engine, rehearsal, api_url=server.url)
        assert outcome.state == "failed"
        assert "too_many_tenants: this plan allows one tenant" in outcome.problem
        assert [request.method for request in server.requests] == ["GET", "GET", "GET", "GET", "POST"]
