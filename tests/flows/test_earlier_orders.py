"""Before an order is placed the earlier ones are looked at: doubt is a question, and a no buys nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.journal.housekeeping import prune
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.steps.orders import orders_in_doubt
from systemprompt_cloud.sandbox.faults import FaultPlan

from tests.support.doubt import NO_STREAM, an_order_in_doubt, answers, give_up_an_order, pay
from tests.support.rehearsal import (
    CLIENT_ATTEMPTS,
    open_rehearsal,
    wait_for_state,
    wait_parked,
)


async def test_one_answer_does_not_decide_about_an_order_that_was_given_up(tmp_path: Path) -> None:
    """Paid after it was cancelled, without a stream: the API is asked for a while, not once."""
    behind = ["stale:seconds=1000,times=1,path=/tenants", "stale:seconds=1000,times=2,path=/auth/me"]
    async with open_rehearsal(tmp_path, nobody=True, faults=[NO_STREAM]) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await give_up_an_order(rehearsal, engine)
        tenant = pay(rehearsal)
        rehearsal.cloud.faults = FaultPlan([NO_STREAM, *behind])
        async with rehearsal.open_engine() as engine:
            with pytest.raises(FlowParked, match=tenant.id) as parked:
                await (await start_checkout(engine, rehearsal.checkout(look_timeout=1.0))).wait()
            assert parked.value.state == "earlier_order_in_doubt"
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_api_that_does_not_answer_decides_nothing(tmp_path: Path) -> None:
    """Not one answer while the earlier order is looked at: paused before anything is bought."""
    async with open_rehearsal(tmp_path, nobody=True, faults=[NO_STREAM]) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await give_up_an_order(rehearsal, engine)
            again = await start_checkout(engine, rehearsal.checkout(look_timeout=1.0))
            await wait_for_state(again, "checking_earlier_orders")
            await rehearsal.go_down()
            parked = await wait_parked(again)
            assert (parked.kind, parked.state) == ("Network", "checking_earlier_orders")
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_no_buys_nothing(tmp_path: Path) -> None:
    """Paid after it was given up. Not that tenant, and no other order: paused; the tenant is asked about again."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await give_up_an_order(rehearsal, engine)
        tenant = pay(rehearsal)
        questions, refuses = answers(False, False)
        async with rehearsal.open_engine(confirm=refuses) as engine:
            parked = await wait_parked(await start_checkout(engine, rehearsal.checkout()))
            assert parked.kind == "OrderInDoubt"
        assert [tenant.id in questions[0], questions[1].endswith("Place another order?")] == [True, True]
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_a_tenant_that_was_denied_is_asked_about_before_another_is_bought(tmp_path: Path) -> None:
    """A wrong no, and the order given up: the same command asks once more, and that order ends in its tenant."""
    async with an_order_in_doubt(tmp_path, faults=[NO_STREAM, "lost-callback:times=0"]) as rehearsal:
        tenant = pay(rehearsal)
        _, refuses = answers(False, False)
        async with rehearsal.open_engine(confirm=refuses) as engine:
            flow = await start_checkout(engine, rehearsal.checkout())
            await wait_parked(flow)
            await engine.cancel(flow.id, "given up")
        questions, agrees = answers(True)
        async with rehearsal.open_engine(confirm=agrees) as engine:
            outcome = await (await start_checkout(engine, rehearsal.checkout())).wait()
            assert outcome.result["tenant_id"] == tenant.id
        assert tenant.id in questions[0]
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_order_in_doubt_is_not_pruned(tmp_path: Path) -> None:
    """Whether it was ordered alone or by another flow; one that ended in its tenant is, and what came before it."""
    async with an_order_in_doubt(tmp_path) as rehearsal:
        async with rehearsal.open_engine() as engine:
            (first,) = engine.journal.flows(machine="checkout")
            await engine.cancel(first.id, "given up")
            vault = VaultFiles(rehearsal.paths.vault)
            later = datetime(2100, 1, 1, tzinfo=UTC)
            spare = orders_in_doubt(engine.journal)
            assert spare == {first.id}
            assert prune(engine.journal, vault, later, spare=spare).spared == 1
            pay(rehearsal)
            parked = await wait_parked(await start_checkout(engine, rehearsal.checkout()))
            assert parked.state == "earlier_order_in_doubt"
        _, agrees = answers(True)
        async with rehearsal.open_engine(confirm=agrees) as engine:
            assert (await (await start_checkout(engine, rehearsal.checkout())).wait()).succeeded
            assert orders_in_doubt(engine.journal) == frozenset()
            assert prune(engine.journal, vault, later, spare=()).flows == 2


async def test_the_order_of_orders_is_not_read_from_a_clock(tmp_path: Path) -> None:
    """The clock was set back before the last of them, which was shown and given up: it is looked at all the same."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            first = await start_checkout(engine, rehearsal.checkout())
            await rehearsal.wait_shown()
            pay(rehearsal)
            assert (await first.wait()).succeeded
            last = await start_checkout(engine, rehearsal.checkout())
            await rehearsal.wait_shown(2)
            await last.cancel("another day")
            await last.wait()
        with closing(sqlite3.connect(rehearsal.paths.journal)) as journal, journal:
            journal.execute("UPDATE flows SET created = '2001-01-01T00:00:00.000000Z' WHERE id = ?", (last.id,))
        (order,) = (each for each in rehearsal.cloud.checkouts.values() if each.tenant is None)
        rehearsal.cloud.answer_payment(order, "pay")
        async with rehearsal.open_engine() as engine:
            parked = await wait_parked(await start_checkout(engine, rehearsal.checkout()))
            assert parked.state == "earlier_order_in_doubt"
        assert rehearsal.cloud.ledger.checkouts == 2


async def test_an_order_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It may be paid: nothing is ordered beside it."""
    async with an_order_in_doubt(tmp_path) as rehearsal:
        with closing(sqlite3.connect(rehearsal.paths.journal)) as journal, journal:
            journal.execute("UPDATE flows SET context = cast(x'7b22ff' AS TEXT), status = 'ended', verdict = 'failure'")
            ((damaged,),) = journal.execute("SELECT id FROM flows")
        async with rehearsal.open_engine() as engine:
            parked = await wait_parked(await start_checkout(engine, rehearsal.checkout()))
        assert (parked.kind, damaged in parked.user_message) == ("JournalCorrupted", True)
        assert rehearsal.cloud.ledger.checkouts == 1


async def test_an_api_that_fails_at_once_is_asked_no_more_often(tmp_path: Path) -> None:
    """The earlier order's stream has named its tenant, and the list of tenants is not there: the pace is the same."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        async with rehearsal.open_engine() as engine:
            await give_up_an_order(rehearsal, engine)
            pay(rehearsal)
            again = await start_checkout(engine, rehearsal.checkout(look_timeout=0.6))
            await wait_for_state(again, "checking_earlier_orders")
            before = rehearsal.cloud.ledger.requests["GET /api/v1/auth/me"]
            rehearsal.cloud.faults = FaultPlan(["error:status=500,path=/auth/me,times=0"])
            assert (await wait_parked(again)).state == "checking_earlier_orders"
            asked = rehearsal.cloud.ledger.requests["GET /api/v1/auth/me"] - before
            assert asked <= CLIENT_ATTEMPTS * (0.6 / 0.05 + 2)
