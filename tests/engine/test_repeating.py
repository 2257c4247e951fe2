"""A decision to repeat an effect holds once: no later resume repeats anything that nobody decided."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EffectUncertain, FlowBusy, FlowParked
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, ResumePolicy, State, Verdict, on
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
        with pytest.raises(EffectUncertain):
            await engine.resume(flow.id, repeat=True)
        shop.cut.set()
        with pytest.raises(FlowParked):
            await flow.wait()
        await engine.resume(flow.id)
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.kind == "EffectUncertain"
        assert flow.row.incarnation == 1


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
