"""Nothing is bought a second time without a person's word, whichever command asks and whatever the files here say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.faults import FaultPlan
from systemprompt_cloud.sandbox.state import PLANS

from tests.support.doubt import NO_STREAM, STALE, an_order_in_doubt, answers, pay
from tests.support.rehearsal import (
    open_rehearsal,
    wait_for_change,
    wait_for_state,
    wait_parked,
)

# --- an order that has not ended ------------------------------------------------------------------------------------


async def test_another_port_comes_back_to_the_same_order(tmp_path: Path) -> None:
    """The port is how the browser finds back, and no part of what is ordered."""
    async with an_order_in_doubt(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        tenant = pay(rehearsal)
        outcome = await (await start_checkout(engine, rehearsal.checkout(port=0))).wait()
        assert (outcome.state, outcome.result["tenant_id"]) == ("completed", tenant.id)
        assert rehearsal.cloud.ledger.checkouts == 1


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("command", ["up", "checkout by the plan's name"])
async def test_another_command_does_not_order_beside_an_unfinished_order(
    tmp_path: Path, command: str, paid: bool
) -> None:
    """It pauses, names the order, and what to do about it: the payment page of that one may be paid at any moment."""
    async with an_order_in_doubt(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        tenant = pay(rehearsal) if paid else None
        (first,) = engine.journal.flows(machine="checkout")
        if command == "up":
            flow = await start_onboarding(engine, rehearsal.onboarding())
        else:
            flow = await start_checkout(engine, rehearsal.checkout(plan=PLANS[0].name))
        parked = await wait_parked(flow)
        assert parked.kind == "OrderInDoubt"
        assert parked.remedy is not None
        assert parked.remedy.step == "settle_earlier_order"
        assert (parked.remedy.facts["flow"], parked.remedy.facts["this"]) == (first.id, flow.id)
        assert parked.remedy.facts["question"].endswith(
            "Place another order?" if tenant is None else "instead of buying another one?"
        )
        assert (tenant is None) or (tenant.id in parked.user_message)
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_order_that_another_command_places_meanwhile_counts(tmp_path: Path) -> None:
    """What others have ordered is read when the order is checked, not when the command began."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        async with rehearsal.open_engine() as engine:
            up = await start_onboarding(engine, rehearsal.onboarding(login_timeout=60.0))
            await rehearsal.wait_shown()  # the login
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await wait_parked(await start_checkout(engine, rehearsal.checkout(timeout=0.3)))
        rehearsal.browser = ScriptedBrowser(patience=5)
        async with rehearsal.open_engine() as engine:
            flow = await engine.resume(up.id)
            await rehearsal.open_tab(rehearsal.shown[0].url)
            assert (await wait_parked(flow)).kind == "OrderInDoubt"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_person_decides_beside_an_unfinished_order(tmp_path: Path) -> None:
    """No: paused. Yes: another order is placed, and what the first one bought is not taken for it."""
    async with an_order_in_doubt(tmp_path) as rehearsal:
        no, refuses = answers(False)
        async with rehearsal.open_engine(confirm=refuses) as engine:
            flow = await start_onboarding(engine, rehearsal.onboarding())
            assert (await wait_parked(flow)).kind == "OrderInDoubt"
        assert [each.endswith("Place another order?") for each in no] == [True]
        assert rehearsal.cloud.ledger.checkouts == 1
        tenant = pay(rehearsal)
        yes, agrees = answers(False, True)
        async with rehearsal.open_engine(confirm=agrees) as engine:
            await start_onboarding(engine, rehearsal.onboarding())
            await rehearsal.wait_shown(2)
            assert tenant.id in yes[0]
            (child,) = engine.journal.children(flow.id)
            assert tenant.id in json.loads(child.context)["known_tenants"]
        assert rehearsal.cloud.ledger.checkouts == 2


async def test_the_order_in_doubt_may_end_meanwhile(tmp_path: Path) -> None:
    """Its tenant is offered when the other command is resumed: a yes ends it with that tenant."""
    async with an_order_in_doubt(tmp_path) as rehearsal:
        async with rehearsal.open_engine() as engine:
            await wait_parked(await start_onboarding(engine, rehearsal.onboarding()))
            tenant = pay(rehearsal)
            assert (await (await start_checkout(engine, rehearsal.checkout())).wait()).succeeded
        questions, agrees = answers(True)
        async with rehearsal.open_engine(confirm=agrees) as engine:
            outcome = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
        assert (outcome.state, outcome.result["tenant_id"]) == ("ready", tenant.id)
        assert tenant.id in questions[0]
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_order_of_another_account_is_not_in_the_way(tmp_path: Path) -> None:
    """It cannot be what this account buys."""
    async with an_order_in_doubt(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in(person=1)
        flow = await start_onboarding(engine, rehearsal.onboarding())
        await wait_for_state(flow, "checking_out")
        await rehearsal.wait_shown(2)
        assert rehearsal.cloud.ledger.checkouts == 2


# --- an order that was given up -------------------------------------------------------------------------------------


async def test_what_was_known_of_an_order_that_was_given_up_is_not_forgotten(tmp_path: Path) -> None:
    """Its stream had named the tenant: a question, whatever a replica that is behind answers now."""
    async with open_rehearsal(tmp_path, nobody=True, step_seconds=0.5) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            flow = await start_checkout(engine, rehearsal.checkout())
            await rehearsal.wait_shown()
            tenant = pay(rehearsal)
            await wait_for_change(flow, lambda change: change.event == "PaymentObserved")
            await flow.cancel("another day")
            await flow.wait()
        rehearsal.cloud.faults = FaultPlan([NO_STREAM, STALE])
        async with rehearsal.open_engine() as engine:
            with pytest.raises(FlowParked, match=tenant.id) as parked:
                await (await start_checkout(engine, rehearsal.checkout())).wait()
            assert parked.value.state == "earlier_order_in_doubt"
        assert rehearsal.cloud.ledger.checkouts == 1


# --- a tenant that is paid for --------------------------------------------------------------------------------------


async def test_up_continues_with_what_checkout_bought(tmp_path: Path) -> None:
    """Also when the plan is named otherwise."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        bought = await (await start_checkout(engine, rehearsal.checkout())).wait()
        for plan in (PLANS[0].id, PLANS[0].name):
            outcome = await (await start_onboarding(engine, rehearsal.onboarding(plan=plan))).wait()
            assert outcome.result["tenant_id"] == bought.result["tenant_id"]
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_payment_that_the_command_did_not_live_to_see(tmp_path: Path) -> None:
    """Stopped right after its checkout had ended well, then cancelled: the next command continues with the tenant."""
    async with open_rehearsal(tmp_path) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            with engine.feed.subscribe() as changes:
                flow = await start_onboarding(engine, rehearsal.onboarding())
                async for change in changes:
                    if (change.machine, change.to_state) == ("checkout", "completed"):
                        break
        async with rehearsal.open_engine() as engine:
            await engine.cancel(flow.id, "another day")
            (tenant,) = rehearsal.cloud.tenants.values()
            outcome = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
        assert (outcome.state, outcome.result["tenant_id"]) == ("ready", tenant.id)
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_another_accounts_onboarding_does_not_hide_a_paid_tenant(tmp_path: Path) -> None:
    """A has paid, B begins and cancels, A comes back."""
    async with open_rehearsal(tmp_path, step_seconds=60) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding())
        await wait_for_state(flow, "provisioning")
        await flow.cancel("another day")
        rehearsal.browser = None
        rehearsal.log_in(person=1)
        other = await start_onboarding(engine, rehearsal.onboarding())
        await wait_for_state(other, "checking_out")
        await other.cancel("not at all")
        rehearsal.log_in()
        again = await start_onboarding(engine, rehearsal.onboarding())
        await wait_for_state(again, "provisioning")
        assert json.loads(again.row.context)["tenant_id"] in rehearsal.cloud.tenants


@pytest.mark.parametrize("content", [None, "{ not json", '{"tenants": [], "synced_at": "2026-01-01T00:00:00Z"}'])
async def test_no_file_here_says_that_a_paid_tenant_is_gone(tmp_path: Path, content: str | None) -> None:
    """tenants.json deleted, damaged or without it: the same tenant, and it is stored again."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        first = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
        if content is None:
            rehearsal.paths.tenants.unlink()
        else:
            rehearsal.paths.tenants.write_text(content)
        again = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
        assert (again.state, again.result["tenant_id"]) == ("ready", first.result["tenant_id"])
        assert str(first.result["tenant_id"]) in rehearsal.paths.tenants.read_text()
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_replica_that_is_behind_does_not_say_that_a_paid_tenant_is_gone(tmp_path: Path) -> None:
    """It was ready, and no answer knows of it any more: paused, nothing is bought."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        assert (await (await start_onboarding(engine, rehearsal.onboarding())).wait()).succeeded
        rehearsal.cloud.faults = FaultPlan([STALE])
        parked = await wait_parked(await start_onboarding(engine, rehearsal.onboarding()))
        assert parked.state == "tenant_unready"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_deleted_tenant_is_replaced_when_a_person_says_so_and_is_not_offered_again(tmp_path: Path) -> None:
    """The API's word, then a person's; the next command continues with the new tenant."""
    async with open_rehearsal(tmp_path) as rehearsal:
        rehearsal.log_in()
        questions, agrees = answers(True)
        async with rehearsal.open_engine(confirm=agrees) as engine:
            assert (await (await start_onboarding(engine, rehearsal.onboarding())).wait()).succeeded
            (gone,) = rehearsal.cloud.tenants.values()
            rehearsal.cloud.delete(gone)
            await wait_parked(await start_onboarding(engine, rehearsal.onboarding()))
            outcome = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
            assert outcome.state == "ready"
            assert outcome.result["tenant_id"] != gone.id
            again = await (await start_onboarding(engine, rehearsal.onboarding())).wait()
            assert again.result["tenant_id"] == outcome.result["tenant_id"]
        assert questions == [f"The API no longer has the paid tenant {gone.id}. Buy another one?"]
        assert rehearsal.cloud.ledger.checkouts == 2


async def test_tenants_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path) -> None:
    """A tenant that was there before cannot be the purchase: the order waits until the file can be read."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        rehearsal.paths.tenants.write_text("{ not json")
        parked = await wait_parked(await start_checkout(engine, replace(rehearsal.checkout(), timeout=5.0)))
        assert (parked.kind, parked.state) == ("TenantsStoreCorrupted", "validating_order")
        assert rehearsal.cloud.ledger.checkouts == 0
