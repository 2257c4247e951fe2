"""What is done to the outside world is announced first, under a key that stays the same however often we die."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import EffectUncertain, FlowParked, UsedTwice
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Activity, Intent, Program, Visit
from systemprompt_cloud.errors import Network, NotAuthenticated
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal

from tests.support.rehearsal import wait_parked


class Counted(Event, frozen=True):
    """Progress."""


class Paid(Event, frozen=True):
    """The money is gone."""


class Retried(Event, frozen=True):
    """Again, from the same state."""


def till(policy: ResumePolicy | None) -> Machine[Context]:
    """A machine that pays, with this policy; without one it has no effect to announce."""
    return Machine(
        "till",
        version=1,
        initial="paying",
        context=Context,
        states=[
            State("paying", "paying", effect=None if policy is None else "pays", resume=policy),
            State("paid", "paid", verdict=Verdict.SUCCESS),
            State("cancelled", "not paid", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Counted, "paying", STAY),
            on(Retried, "paying", "paying"),
            on(Paid, "paying", "paid"),
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


class Shop:
    """The other side: what it was asked, and whether it answers."""

    def __init__(self) -> None:
        self.intents: list[Intent] = []
        self.asked = trio.lowlevel.ParkingLot()
        self.open = False
        self.trouble: Exception | None = None
        self.withdraws = False

    async def pay(self, visit: Visit[Any]) -> Event:
        """Announce, then pay, which never returns while the shop is closed."""
        self.intents.append(await visit.announce("pay"))
        self.asked.unpark_all()
        if self.withdraws:
            visit.withdraw(self.intents[-1])
        if self.trouble is not None:
            raise self.trouble
        if not self.open:
            await trio.sleep_forever()
        return Paid()

    def program(self, policy: ResumePolicy) -> Program[Context]:
        """Paying here."""
        return Program(till(policy), {"paying": [self.pay]})


async def begun(engine: Engine, program: Program[Context], shop: Shop) -> Flow:
    """A flow that has announced and got no answer."""
    flow = await engine.start(program.machine, Context())
    await announced(shop, 1)
    return flow


async def announced(shop: Shop, times: int) -> None:
    """Wait until the shop was asked so often."""
    with trio.fail_after(10):
        while len(shop.intents) < times:
            await shop.asked.park()


async def test_the_intent_is_on_disk_before_the_effect(paths: CloudPaths) -> None:
    """The history shows it first, under its key, and then the result."""
    shop = Shop()
    program = shop.program(ResumePolicy.RETRY)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
        assert shop.intents == [Intent(f"{flow.id}:1:pay", uncertain=False)]
        assert engine.journal.intents(flow.id, 1) == {f"{flow.id}:1:pay"}
        await flow.send(Paid())
        assert [change.kind for change in flow.history] == ["started", "intent", "event"]


@pytest.mark.parametrize("policy", [ResumePolicy.RETRY, ResumePolicy.RECONCILE])
async def test_after_a_crash_the_key_is_the_same_and_uncertain(paths: CloudPaths, policy: ResumePolicy) -> None:
    """However often; the activity decides by it whether to repeat under the same key or to ask the server first."""
    shop = Shop()
    program = shop.program(policy)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
    for times in (2, 3):
        async with open_engine(paths, [program]) as engine:
            flow = await engine.resume(flow.id)
            await announced(shop, times)
    key = f"{flow.id}:1:pay"
    assert shop.intents == [Intent(key, uncertain=False), Intent(key, uncertain=True), Intent(key, uncertain=True)]
    shop.open = True
    async with open_engine(paths, [program]) as engine:
        flow = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded
        assert [change.kind for change in flow.history].count("intent") == 1


async def test_where_only_a_person_can_know_the_flow_waits_for_one(paths: CloudPaths) -> None:
    """`ask`: nothing is done again unasked, however often it is resumed; the hint says how to decide."""
    shop = Shop()
    program = shop.program(ResumePolicy.ASK)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
    async with open_engine(paths, [program]) as engine:
        for _ in range(2):
            error = await wait_parked(await engine.resume(flow.id))
            assert (error.kind, error.code) == ("EffectUncertain", 8)
            assert "pays" in error.user_message
            assert "Engine.resume(flow, repeat=True)" in error.recovery_hint
    assert len(shop.intents) == 1


async def test_a_person_may_have_it_repeated_under_a_new_key(paths: CloudPaths) -> None:
    """A new visit, so a server that remembers the old key does it again; the new key is not uncertain."""
    shop = Shop()
    program = shop.program(ResumePolicy.ASK)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
    async with open_engine(paths, [program]) as engine:
        flow = await engine.resume(flow.id, repeat=True)
        await announced(shop, 2)
        assert shop.intents[1] == Intent(f"{flow.id}:2:pay", uncertain=False)
        assert flow.row.incarnation == 2


@pytest.mark.parametrize("policy", [ResumePolicy.RETRY, ResumePolicy.RECONCILE])
async def test_what_nobody_has_to_decide_is_not_repeated(paths: CloudPaths, policy: ResumePolicy) -> None:
    """Where the policy is not to ask, repeating could only do harm; it is refused and nothing changes."""
    shop = Shop()
    program = shop.program(policy)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
    async with open_engine(paths, [program]) as engine:
        before = flow.id, engine.row(flow.id)
        with pytest.raises(EffectUncertain, match="nothing waits for a decision"):
            await engine.resume(flow.id, repeat=True)
        assert (flow.id, engine.row(flow.id)) == before


async def test_an_effect_is_announced_once_in_a_visit(paths: CloudPaths) -> None:
    """The second time is refused by name, also after progress; items and other effects have keys of their own, and one
    that was withdrawn may be announced again under its key."""
    intents: list[Intent] = []

    async def pays(visit: Visit[Any]) -> Event:
        intents.extend([await visit.announce("pay"), await visit.announce("tip")])
        await visit.send(Counted())
        for item in (None, "7"):
            intents.extend([await visit.announce("pay", item)] if item else [])
            with pytest.raises(UsedTwice, match=r"paying announces pay(:7)? twice in one visit"):
                await visit.announce("pay", item)
        visit.withdraw(intents[1])
        intents.append(await visit.announce("tip"))
        return Paid()

    program = Program(till(ResumePolicy.ASK), {"paying": [pays]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(program.machine, Context())
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded
        keys = [f"{flow.id}:1:{name}" for name in ("pay", "tip", "pay:7", "tip")]
        assert intents == [Intent(key, uncertain=False) for key in keys]
        assert [change.kind for change in flow.history].count("intent") == 3


@pytest.mark.parametrize("effect", ["", " pay", "p\u00e4y", "pay\n", "x" * 201])
async def test_an_effect_has_a_name_that_fits_an_idempotency_key(paths: CloudPaths, effect: str) -> None:
    """Anything else pauses the flow, and nothing was announced."""

    async def pays(visit: Visit[Any]) -> None:
        await visit.announce(effect)

    program = Program(till(ResumePolicy.ASK), {"paying": [pays]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(program.machine, Context())
        with pytest.raises(FlowParked, match="paying announces the effect") as caught:
            await flow.wait()
        assert caught.value.kind == "NotStorable"
        assert [change.kind for change in flow.history] == ["started", "paused"]


async def test_entering_the_state_again_is_a_new_effect(paths: CloudPaths) -> None:
    """A row that leads back starts a visit with keys of its own."""
    shop = Shop()
    program = shop.program(ResumePolicy.ASK)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
        await flow.send(Retried())
        await announced(shop, 2)
        assert shop.intents[1] == Intent(f"{flow.id}:2:pay", uncertain=False)


async def test_an_effect_that_failed_and_parked_is_uncertain_too(paths: CloudPaths) -> None:
    """Announced and without a result: on resume in the same process it is treated as after a crash."""
    shop = Shop()
    shop.trouble = Network("the answer was lost")
    program = shop.program(ResumePolicy.RETRY)
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(program.machine, Context())
        assert (await wait_parked(flow)).kind == "Network"
        shop.trouble, shop.open = None, True
        with trio.fail_after(10):
            assert (await (await engine.resume(flow.id)).wait()).succeeded
    assert [intent.uncertain for intent in shop.intents] == [False, True]


async def test_what_came_to_nothing_is_withdrawn_and_announced_anew(paths: CloudPaths) -> None:
    """What parked the flow proves that nothing happened: certain on resume, even by `ask`; dying after that is not."""
    shop = Shop()
    shop.trouble, shop.withdraws = NotAuthenticated("log in"), True
    program = shop.program(ResumePolicy.ASK)
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(program.machine, Context())
        await wait_parked(flow)
        await wait_parked(await engine.resume(flow.id))
        assert engine.journal.intents(flow.id, 1) == frozenset()
    shop.trouble, shop.withdraws = None, False
    async with open_engine(paths, [program]) as engine:
        await engine.resume(flow.id)
        await announced(shop, 3)
    assert shop.intents == [Intent(f"{flow.id}:1:pay", uncertain=False)] * 3
    async with open_engine(paths, [program]) as engine:
        assert (await wait_parked(await engine.resume(flow.id))).kind == "EffectUncertain"
        assert audit_journal(engine.journal, [program]) == []


async def test_a_withdrawal_that_was_not_written_down_counts_for_nothing(paths: CloudPaths) -> None:
    """Dead between the proof and the note, or announced again before it: the effect is uncertain."""
    shop = Shop()
    shop.withdraws = True
    program = shop.program(ResumePolicy.RECONCILE)
    async with open_engine(paths, [program]) as engine:
        flow = await begun(engine, program, shop)
    async with open_engine(paths, [program]) as engine:
        await engine.resume(flow.id)
        await announced(shop, 2)
    assert shop.intents[1].uncertain

    async def pays_again(visit: Visit[Any]) -> Event:
        visit.withdraw(await visit.announce("pay"))
        await visit.announce("pay")
        raise Network("the second answer was lost")

    program = Program(till(ResumePolicy.RECONCILE), {"paying": [pays_again]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(program.machine, Context())
        await wait_parked(flow)
        assert engine.journal.intents(flow.id, 1) == {f"{flow.id}:1:pay"}


async def test_an_effect_the_table_does_not_know_is_a_bug(paths: CloudPaths) -> None:
    """A state without an effect has no policy for it: the flow is parked rather than the effect done."""
    pays: Activity = Shop().pay
    program = Program(till(None), {"paying": [pays]})
    async with open_engine(paths, [program]) as engine:
        error = await wait_parked(await engine.start(program.machine, Context()))
        assert error.kind == "UnexpectedFailure"
        assert "paying declares no effect" in error.user_message
