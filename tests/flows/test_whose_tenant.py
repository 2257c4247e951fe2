"""Which tenant is an order's, against the local cloud: only what the order's session names, else a person decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.machines.checkout import CheckoutContext
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.faults import FaultPlan
from systemprompt_cloud.sandbox.state import Checkout

from tests.support.rehearsal import Rehearsal, open_rehearsal, wait_for_change, wait_for_state, wait_parked

Answer = Callable[[str], Awaitable[bool]]


def answering(questions: list[str], *wanted: str) -> Answer:
    """A person who says yes to every question that has one of these texts in it, and no to the others."""

    async def confirm(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return any(each in question for each in wanted)

    return confirm


def known_of(flow: Flow) -> CheckoutContext:
    """What a checkout knows."""
    assert isinstance(flow.context, CheckoutContext)
    return flow.context


async def only_order(rehearsal: Rehearsal) -> Checkout:
    """The order, once its page was shown."""
    await rehearsal.wait_shown()
    (checkout,) = rehearsal.cloud.checkouts.values()
    return checkout


async def come_back(checkout: Checkout, query: str) -> None:
    """The browser comes back from the payment page."""
    await ScriptedBrowser(patience=5).visit(f"{checkout.redirect_uri}&{query}")


async def test_the_only_new_tenant_is_not_taken_for_the_orders(tmp_path: Path) -> None:
    """Pending, no stream, and another order's tenant appears: the order is not paid, and it is not handed out."""
    async with open_rehearsal(tmp_path, nobody=True, faults=["no-stream"]) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, rehearsal.checkout(tenant_timeout=1.0))
            checkout = await only_order(rehearsal)
            others = rehearsal.build()
            await come_back(checkout, f"status=pending&checkout_session_id={checkout.id}")
            parked = await wait_parked(flow)
            assert parked.state == "tenant_overdue"
            assert f"{others.id} appeared, and nothing links it" in parked.user_message


async def test_a_person_is_asked_soon_about_a_tenant_that_nothing_links(tmp_path: Path) -> None:
    """While it is waited for, not when the time is up; and what they say no to is not asked about again."""
    questions: list[str] = []
    async with open_rehearsal(tmp_path, nobody=True, faults=["no-stream"]) as rehearsal:
        rehearsal.log_in()
        wanted = rehearsal.checkout(tenant_timeout=600.0)
        async with rehearsal.open_engine(confirm=answering(questions)) as engine:
            flow = await start_checkout(engine, wanted)
            checkout = await only_order(rehearsal)
            others = rehearsal.build()
            await come_back(checkout, f"status=pending&checkout_session_id={checkout.id}")
            await wait_for_state(flow, "tenant_unlinked")
            await wait_for_change(flow, lambda change: change.event == "TenantsDenied")
        rehearsal.cloud.answer_payment(checkout, "pay")
        assert checkout.tenant is not None
        checkout.tenant.started -= 3600.0
        async with rehearsal.open_engine(confirm=answering(questions, checkout.tenant.id)) as engine:
            with trio.fail_after(20):
                outcome = await (await start_checkout(engine, wanted)).wait()
            assert outcome.result["tenant_id"] == checkout.tenant.id
        assert [others.id in each for each in questions] == [True, False]


async def test_a_tenant_a_person_said_no_to_cannot_be_what_the_next_order_buys(tmp_path: Path) -> None:
    """Declined, and a tenant appeared: a new order knows it, also when the last answer did not show it."""
    questions: list[str] = []
    confirm = answering(questions, "Create a new order?")
    async with open_rehearsal(tmp_path, nobody=True, faults=["no-stream"]) as rehearsal:
        rehearsal.log_in()
        wanted = rehearsal.checkout(look_timeout=1.0)
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, wanted)
            checkout = await only_order(rehearsal)
            rehearsal.cloud.answer_payment(checkout, "pay")
            await come_back(checkout, "error=payment_declined")
            assert (await wait_parked(flow)).state == "payment_in_doubt"
            (appeared,) = known_of(flow).candidates
        rehearsal.cloud.faults = FaultPlan(["no-stream", "stale:seconds=1000,times=1"])
        async with rehearsal.open_engine(confirm=confirm) as engine:
            flow = await start_checkout(engine, wanted)
            await rehearsal.wait_shown(2)
            assert appeared in known_of(flow).known_tenants
        assert [appeared in each for each in questions] == [True, True]


async def test_a_payment_that_only_a_strange_browser_reported_does_not_take_the_page_away(tmp_path: Path) -> None:
    """It named neither session nor transaction: in doubt, and the same command shows the same page, which is paid."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        wanted = rehearsal.checkout(confirm_timeout=0.3)
        flow = await start_checkout(engine, wanted)
        checkout = await only_order(rehearsal)
        await come_back(checkout, "status=completed&transaction_id=t&tenant_id=bogus")
        parked = await wait_parked(flow)
        assert (parked.kind, parked.state) == ("OrderInDoubt", "payment_in_doubt")
        assert "the browser reported a payment for the tenant bogus" in parked.user_message
        rehearsal.browser = ScriptedBrowser(patience=5)
        outcome = await (await start_checkout(engine, wanted)).wait()
        assert outcome.state == "completed"
        assert rehearsal.shown[0].url == rehearsal.shown[1].url
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_no_holds_in_the_same_run(tmp_path: Path) -> None:
    """A strange browser reports a payment and another tenant appears: after a no it is not asked about again."""
    questions: list[str] = []
    async with open_rehearsal(tmp_path, nobody=True, faults=["no-stream"]) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine(confirm=answering(questions)) as engine:
            flow = await start_checkout(engine, rehearsal.checkout(confirm_timeout=600.0, tenant_timeout=1.0))
            checkout = await only_order(rehearsal)
            others = rehearsal.build()
            await come_back(checkout, "status=completed&transaction_id=t&tenant_id=bogus")
            parked = await wait_parked(flow)
        assert (parked.kind, parked.state) == ("OrderInDoubt", "payment_in_doubt")
        assert f"{others.id}, which appeared since, you did not buy with it" in parked.user_message
        assert [others.id in each for each in questions] == [True]


async def test_two_tenants_that_are_named_are_a_question(tmp_path: Path) -> None:
    """The stream's, and that of a browser that came back with the order's session: a person decides, and that holds."""
    questions: list[str] = []
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, rehearsal.checkout())
            checkout = await only_order(rehearsal)
            others = rehearsal.build()
            rehearsal.cloud.answer_payment(checkout, "pay")
            ours = checkout.tenant
            assert ours is not None
            await wait_for_change(flow, lambda change: change.event == "PaymentObserved")
            query = f"status=completed&transaction_id=t&tenant_id={others.id}&checkout_session_id={checkout.id}"
            await come_back(checkout, query)
            parked = await wait_parked(flow)
            assert (parked.kind, parked.state) == ("OrderInDoubt", "tenant_unlinked")
            assert "more than one tenant is named" in parked.user_message
        async with rehearsal.open_engine(confirm=answering(questions, ours.id)) as engine:
            outcome = await (await start_checkout(engine, rehearsal.checkout())).wait()
            assert outcome.result["tenant_id"] == ours.id
        assert len(questions) <= 2


async def test_a_payment_is_found_while_another_program_has_the_port(tmp_path: Path) -> None:
    """The browser cannot be listened to then; the API and the event stream are asked first."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        wanted = rehearsal.checkout(timeout=0.3, look_timeout=1.0)
        async with rehearsal.open_engine() as engine:
            await wait_parked(await start_checkout(engine, wanted))
        with bind_loopback(wanted.port) as other:
            other.listen()
            async with rehearsal.open_engine() as engine:
                parked = await wait_parked(await start_checkout(engine, wanted))
                assert (parked.kind, parked.state) == ("OrderInDoubt", "payment_in_doubt")
                assert str(wanted.port) in parked.user_message
                (checkout,) = rehearsal.cloud.checkouts.values()
                rehearsal.cloud.answer_payment(checkout, "pay")
                assert (await (await start_checkout(engine, wanted)).wait()).state == "completed"


async def test_a_port_that_was_taken_before_the_page_was_shown_is_said_at_once(tmp_path: Path) -> None:
    """Nobody can have paid: there is nothing to ask about. An engine that is closed keeps no port."""
    async with open_rehearsal(tmp_path, nobody=True, faults=["slow:path=/checkout"]) as rehearsal:
        rehearsal.log_in()
        wanted = rehearsal.checkout()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, wanted)
            await wait_for_state(flow, "creating_checkout")
        with bind_loopback(wanted.port) as other:
            other.listen()
            async with rehearsal.open_engine() as again:
                parked = await wait_parked(await again.resume(flow.id))
                assert (parked.kind, parked.state) == ("PortBusy", "awaiting_payment")
