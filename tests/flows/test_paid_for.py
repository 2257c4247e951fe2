"""What is paid for, or may be, is not given up by a clock, not guessed at, and not bought twice."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import httpx
import msgspec
import pytest
import trio
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.provisioning import reported, start_provisioning
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.machines.checkout import CheckoutContext
from systemprompt_cloud.machines.provisioning import ProvisioningContext
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.doubt import give_up_an_order
from tests.support.rehearsal import open_rehearsal, wait_for_change, wait_for_state

EVENTS = "path=/events"


async def test_an_order_whose_tenant_is_not_confirmed_in_time_waits_and_is_not_placed_again(tmp_path: Path) -> None:
    """Parked, with the key it was started with: the same command goes on with it, and there is one checkout."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        wanted = rehearsal.checkout(confirm_timeout=0.2)
        rehearsal.log_in()
        flow = await start_checkout(engine, wanted)
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()
        lie = f"{checkout.redirect_uri}&status=completed&transaction_id=txn&tenant_id=tnt_of_somebody_else"
        lie += f"&checkout_session_id={checkout.id}"
        await ScriptedBrowser(patience=5).visit(lie)
        with pytest.raises(FlowParked, match="has not confirmed the tenant tnt_of_somebody_else") as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.code) == ("StillPending", 8)
        before = flow.row.seq
        again = await start_checkout(engine, wanted)
        assert again.id == flow.id
        await wait_for_change(again, lambda change: change.seq > before and change.to_state == "confirming_tenant")
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_payment_nobody_reported_is_a_question(tmp_path: Path) -> None:
    """No browser came back and there is no stream: a tenant that appeared is not handed out before a person says so."""
    questions: list[str] = []

    async def yes(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return True

    async with open_rehearsal(tmp_path, nobody=True, faults=[f"error:status=404,times=0,{EVENTS}"]) as rehearsal:
        async with rehearsal.open_engine() as engine:
            rehearsal.log_in()
            flow = await start_checkout(engine, rehearsal.checkout(timeout=0.5))
            await rehearsal.wait_shown()
            (checkout,) = rehearsal.cloud.checkouts.values()
            rehearsal.cloud.answer_payment(checkout, "pay")
            assert checkout.tenant is not None
            with pytest.raises(FlowParked, match=f"{checkout.tenant.id} appeared") as parked:
                await flow.wait()
            assert (parked.value.kind, parked.value.state) == ("OrderInDoubt", "payment_in_doubt")
        async with rehearsal.open_engine(confirm=yes) as engine:
            outcome = await (await start_checkout(engine, rehearsal.checkout(timeout=0.5))).wait()
            assert (outcome.state, outcome.result["tenant_id"]) == ("completed", checkout.tenant.id)
        assert len(questions) == 1
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_payment_the_stream_reports_late_is_found_by_the_same_command(tmp_path: Path) -> None:
    """Paused when the time to pay is over; the same command finds the payment, without a question or a second order."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout(timeout=0.3))
        with pytest.raises(FlowParked, match=r"not paid within 0\.3 s"):
            await flow.wait()
        (checkout,) = rehearsal.cloud.checkouts.values()
        rehearsal.cloud.answer_payment(checkout, "pay")
        assert (await (await start_checkout(engine, rehearsal.checkout())).wait()).state == "completed"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_after_an_order_that_was_given_up_the_next_one_looks_at_what_became_of_it(tmp_path: Path) -> None:
    """Cancelled, and paid all the same: nothing is bought before a person has said which tenant is meant."""
    answers = [True]

    async def confirm(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return answers.pop(0)

    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await give_up_an_order(rehearsal, engine)
            (checkout,) = rehearsal.cloud.checkouts.values()
            rehearsal.cloud.answer_payment(checkout, "pay")
            assert checkout.tenant is not None
            again = await start_checkout(engine, rehearsal.checkout())
            with pytest.raises(FlowParked, match=checkout.tenant.id) as parked:
                await again.wait()
            assert parked.value.state == "earlier_order_in_doubt"
        async with rehearsal.open_engine(confirm=confirm) as engine:
            outcome = await (await start_checkout(engine, rehearsal.checkout())).wait()
            assert (outcome.state, outcome.result["tenant_id"]) == ("completed", checkout.tenant.id)
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_order_that_was_given_up_and_not_paid_stands_in_nobodys_way(tmp_path: Path) -> None:
    """Looked at, nothing found: another order is placed, without a question."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        await give_up_an_order(rehearsal, engine)
        again = await start_checkout(engine, rehearsal.checkout())
        await wait_for_state(again, "awaiting_payment")
        assert rehearsal.cloud.ledger.checkouts == 2


async def test_a_declined_order_is_only_replaced_when_a_person_says_so(tmp_path: Path) -> None:
    """Asked after the API was; a new page, and the old order's callback is no longer taken."""
    questions: list[str] = []

    async def yes(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return True

    declines, pays = ScriptedBrowser(payment="decline", patience=5), ScriptedBrowser(patience=5)
    async with open_rehearsal(tmp_path, browser=declines) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine(confirm=yes) as engine:
            with pytest.raises(FlowParked, match="the browser reported payment_declined"):
                await (await start_checkout(engine, rehearsal.checkout())).wait()
            assert questions == []
            rehearsal.browser = pays
            outcome = await (await start_checkout(engine, rehearsal.checkout())).wait()
        assert outcome.state == "completed"
        assert len(questions) == 1
        assert questions[0].endswith("Create a new order?")
        assert (rehearsal.cloud.ledger.checkouts, rehearsal.cloud.ledger.tenants) == (2, 1)


async def test_a_payment_of_another_tab_goes_before_an_old_tab_that_says_no(tmp_path: Path) -> None:
    """Declined in one tab, then paid in another while the API is being asked: paid."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout(look_timeout=20.0))
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()
        await ScriptedBrowser(patience=5).visit(f"{checkout.redirect_uri}&error=payment_declined")
        await wait_for_state(flow, "looking_for_payment")
        location = rehearsal.cloud.answer_payment(checkout, "pay")
        assert location is not None
        async with httpx.AsyncClient(trust_env=False) as tab:
            with suppress(httpx.TransportError):  # the event stream may be quicker, and the flow over by then
                await tab.get(location)
        assert (await flow.wait()).state == "completed"


async def test_the_port_is_free_again_when_nobody_waits_for_the_browser(tmp_path: Path) -> None:
    """From one state that listens to the next it stays open; a flow that pauses or ends closes it."""
    async with open_rehearsal(tmp_path, browser=ScriptedBrowser(payment="decline", patience=5)) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, rehearsal.checkout())
            with pytest.raises(FlowParked, match="payment_declined"):
                await flow.wait()
            context = flow.context
            assert isinstance(context, CheckoutContext)
            bind_loopback(context.port).close()


async def test_a_stream_that_only_lives_does_not_hide_a_tenant_that_is_ready(tmp_path: Path) -> None:
    """A server may not tell again what happened before the stream was opened: the status is asked once beside it."""
    async with (
        open_rehearsal(tmp_path, step_seconds=0.001, faults=[f"silence:after=0,times=0,{EVENTS}"]) as rehearsal,
        rehearsal.open_engine(idle_seconds=60.0) as engine,
    ):
        rehearsal.log_in()
        tenant = rehearsal.buy()
        await rehearsal.cloud.wait_until(tenant.started + 1.0)
        flow = await start_provisioning(engine, rehearsal.provisioning(tenant.id))
        with trio.fail_after(10):
            assert (await flow.wait()).state == "ready"


def test_secrets_in_the_servers_words_are_not_journaled() -> None:
    """A message is redacted before it becomes an event."""
    context = ProvisioningContext(api_url="https://api.example", tenant_id="t")
    event = reported(context, "database_created", "made postgres://bob:hunter22@db.example/x", "stream")
    assert b"hunter22" not in msgspec.json.encode(event)
