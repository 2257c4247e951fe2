"""What is paid for, or may be, is not given up by a clock, not guessed at, and not bought twice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.checkout import our_tenant, start_checkout
from systemprompt_cloud.flows.provisioning import meaning, start_provisioning
from systemprompt_cloud.io.cloud.wire import TenantInfo, TenantPlan
from systemprompt_cloud.machines.checkout import CheckoutContext
from systemprompt_cloud.machines.provisioning import ProvisioningContext
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.rehearsal import open_rehearsal, wait_for_state

EVENTS = "path=/events"
ORDER = CheckoutContext(
    api_url="https://api.example", plan="starter", region="iad", plan_name="Starter", known_tenants=("old",)
)


async def test_an_order_whose_tenant_is_not_confirmed_in_time_waits_and_is_not_placed_again(tmp_path: Path) -> None:
    """Parked, with the key it was started with: the same command goes on with it, and there is one checkout."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        wanted = rehearsal.checkout(confirm_timeout=0.2)
        rehearsal.log_in()
        flow = await start_checkout(engine, wanted)
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()
        lie = f"{checkout.redirect_uri}&status=completed&transaction_id=txn&tenant_id=tnt_of_somebody_else"
        await ScriptedBrowser(patience=5).visit(lie)
        with pytest.raises(FlowParked, match="has not confirmed the tenant tnt_of_somebody_else") as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.code) == ("StillPending", 8)
        again = await start_checkout(engine, wanted)
        assert again.id == flow.id
        await wait_for_state(again, "confirming_tenant")
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_payment_nobody_brought_word_of_is_found_when_the_time_to_pay_is_over(tmp_path: Path) -> None:
    """No browser came back and the stream was away: the API is asked once more before the order is given up."""
    async with (
        open_rehearsal(tmp_path, nobody=True, faults=[f"error:times=0,{EVENTS}"]) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout(timeout=0.5))
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()
        rehearsal.cloud.answer_payment(checkout, "pay")
        outcome = await flow.wait()
        assert outcome.state == "completed"
        assert [change.to_state for change in flow.history].count("looking_for_payment") == 1


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
        assert "polling" not in {change.to_state for change in flow.history}


def tenant(name: str, *, region: str | None = "iad", plan: str | None = "Starter") -> TenantInfo:
    """A tenant as the API lists it."""
    listed = None if plan is None else TenantPlan(name=plan, memory_mb=1, volume_gb=1)
    return TenantInfo(id=name, name=name, region=region, plan=listed, database_url="")


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([tenant("old")], None),
        ([tenant("old"), tenant("new")], "new"),
        ([tenant("new", region=None, plan=None)], "new"),
        ([tenant("new", region="fra")], None),
        ([tenant("new", plan="Team")], None),
        ([tenant("new"), tenant("other", region="fra")], "new"),
        ([tenant("new"), tenant("newer")], None),
    ],
)
def test_only_the_one_new_tenant_that_fits_the_order_is_ours(listed: list[TenantInfo], found: str | None) -> None:
    """Where there is a choice nothing is guessed: another order's tenant would be handed out."""
    ours = our_tenant(ORDER, listed)
    assert (ours.id if ours is not None else None) == found


def test_secrets_in_the_servers_words_are_not_journaled() -> None:
    """A message is redacted before it becomes an event."""
    context = ProvisioningContext(api_url="https://api.example", tenant_id="t")
    event = meaning(context, "database_created", "made postgres://bob:hunter22@db.example/x", "stream")
    assert b"hunter22" not in msgspec.json.encode(event)
