"""A decision to repeat an effect holds once: no later resume repeats anything that nobody decided."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine import engine as engine_module
from systemprompt_cloud.engine.drive import take_up
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EffectUncertain, FlowBusy, FlowParked, JournalBusy
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.local.paths import CloudPaths

ORDER = Machine(
    "order",
    version=1,
    initial="ordering",
    context=Context,
    states=[
        State("ordering", "ordering", effect="places an order", resume=ResumePolicy.ASK),
        State("dropped", "dropped", verdict=Verdict.CANCELLED),
    ],
    rows=[on(CancelRequested, ANY, "dropped")],
)


class Shop:
    """Where orders are placed, and the line to it, which may be cut."""

    def __init__(self) -> None:
        self.cut = trio.Event()
        self.program: Program[Any] = Program(ORDER, {"ordering": [self.order]})

    async def order(self, visit: Visit[Any]) -> None:
        await visit.announce("order")
        await self.cut.wait()
        raise Network("the line is cut")


async def test_a_decision_about_a_flow_that_goes_on_is_refused_and_not_kept(paths: CloudPaths) -> None:
    """Nothing waits for it then; and when the flow stops later, resuming it asks, as if nothing had been said."""
    shop = Shop()
    async with open_engine(paths, [shop.program]) as engine:
        flow = await engine.start(ORDER, Context())
        with pytest.raises(EffectUncertain, match="is running in state ordering; nothing is waiting") as refused:
            await engine.resume(flow.id, repeat=True)
        assert refused.value.recovery_hint.startswith("Wait for it.")
        shop.cut.set()
        with pytest.raises(FlowParked):
            await flow.wait()
        await engine.resume(flow.id)
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.kind == "EffectUncertain"
        assert flow.row.incarnation == 1


async def test_a_decision_about_a_flow_that_has_ended_is_refused(paths: CloudPaths) -> None:
    """The message is true: there is nothing to resume either."""
    shop = Shop()
    async with open_engine(paths, [shop.program]) as engine:
        flow = await engine.start(ORDER, Context())
        await flow.cancel()
        with pytest.raises(EffectUncertain, match="has ended in dropped") as refused:
            await engine.resume(flow.id, repeat=True)
        assert refused.value.recovery_hint == "Nothing is left to repeat."


async def test_a_decision_that_came_to_nothing_is_not_kept(paths: CloudPaths) -> None:
    """Another process drove the flow: when it is free, resuming it asks first."""
    shop = Shop()
    async with open_engine(paths, [shop.program]) as second:
        async with open_engine(paths, [shop.program]) as first:
            flow = await first.start(ORDER, Context())
            while len(first.history(flow.id)) < 2:
                await trio.lowlevel.checkpoint()
            with pytest.raises(FlowBusy):
                await second.resume(flow.id, repeat=True)
        flow = await second.resume(flow.id)
        with pytest.raises(FlowParked):
            await flow.wait()
        assert flow.row.incarnation == 1


class Delivered(Event, frozen=True):
    """The order came."""


HOUSEHOLD = Machine(
    "household",
    version=1,
    initial="shopping",
    context=Context,
    states=[
        State("shopping", "shopping", child="order"),
        State("fed", "fed", verdict=Verdict.SUCCESS),
        State("hungry", "hungry", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Delivered, "shopping", "fed"), on(CancelRequested, ANY, "hungry")],
)


async def test_a_decision_about_a_child_that_cannot_be_resumed_is_not_kept(
    paths: CloudPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parent was resumed for it and parked again: the next resume asks, as if nothing had been decided."""
    shop = Shop()
    shop.cut.set()

    async def send_out(visit: Visit[Any]) -> Event:
        await visit.run_child(shop.program, Context())
        return Delivered()

    household: Program[Any] = Program(HOUSEHOLD, {"shopping": [send_out]})
    async with open_engine(paths, [household, shop.program]) as engine:
        flow = await engine.start(HOUSEHOLD, Context())
        with pytest.raises(FlowParked):
            await flow.wait()
        (child,) = [row for row in engine.journal.flows() if row.parent == flow.id]

        async def fails_for_the_child(live: LiveFlow, *args: Any, **options: Any) -> None:
            if live.row.id == child.id:
                raise JournalBusy("another process holds the journal")
            await take_up(live, *args, **options)

        with monkeypatch.context() as patched:
            patched.setattr(engine_module, "take_up", fails_for_the_child)
            with pytest.raises(FlowParked):
                await (await engine.resume(child.id, repeat=True)).wait()
        with pytest.raises(FlowParked) as parked:
            await (await engine.resume(flow.id)).wait()
        assert parked.value.kind == "EffectUncertain"
        assert engine.row(child.id).incarnation == 1
        # Whoever decides needs the child's id: the parent's is refused.
        assert parked.value.origin == child.id
        assert parked.value.recovery_hint.endswith(f"That flow is the child {child.id}.")
        assert parked.value.remedy == Remedy("repeat_or_cancel", {"flow": child.id})
