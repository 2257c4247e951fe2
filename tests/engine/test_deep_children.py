"""Flows inside flows, far down: found again after a crash, under ids that stay short, and under those of before."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from systemprompt_cloud.engine import children
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.ids import LONGEST, plain_child_flow_id
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
from systemprompt_cloud.io.local.paths import CloudPaths

DEPTH = 14


class Depth(Context, frozen=True, kw_only=True):
    """How many are to follow."""

    left: int


class Reached(Event, frozen=True):
    """The innermost has paid, or the flow inside has ended."""


SHAFT = Machine(
    "shaft-of-a-mine",
    version=1,
    initial="digging",
    context=Depth,
    states=[
        State("digging", "deeper", child="shaft-of-a-mine", effect="a bill is paid", resume=ResumePolicy.ASK),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Reached, "digging", "done"), on(CancelRequested, ANY, "cancelled")],
)


def shaft(reached: trio.Event, paid: list[str]) -> Program[Any]:
    """Each runs one inside it; the innermost pays, and the first time it never hears what came of it."""

    async def dig(visit: Visit[Depth]) -> Event:
        if visit.context.left:
            await visit.run_child(program, Depth(left=visit.context.left - 1))
            return Reached()
        await visit.announce("pay")
        paid.append(visit.flow)
        if len(paid) == 1:
            reached.set()
            await trio.sleep_forever()
        return Reached()

    program = Program(SHAFT, {"digging": [dig]})
    return program


async def dug(paths: CloudPaths, paid: list[str]) -> str:
    """A flow whose innermost flow is interrupted while it pays."""
    reached = trio.Event()
    async with open_engine(paths, [shaft(reached, paid)]) as engine:
        flow = await engine.start(SHAFT, Depth(left=DEPTH))
        await reached.wait()
    return flow.id


def family(engine: Engine, flow: str) -> list[str]:
    """The ids of all, outermost first."""
    return [row.id for row in engine.journal.family(engine.row(flow))]


async def test_the_innermost_flow_is_found_again_and_its_effect_decided(paths: CloudPaths) -> None:
    """After a crash each parent finds its child; `repeat` reaches the innermost, whatever the ids look like."""
    paid: list[str] = []
    flow = await dug(paths, paid)
    async with open_engine(paths, [shaft(trio.Event(), paid)]) as engine:
        ids = family(engine, flow)
        assert len(ids) == DEPTH + 1
        assert max(map(len, ids)) <= LONGEST
        assert any("._" in each for each in ids), "none was long enough"
        with pytest.raises(FlowParked) as caught:
            await (await engine.resume(flow)).wait()
        assert "it is not known whether it happened" in caught.value.user_message
        assert (await (await engine.resume(ids[-1], repeat=True)).wait()).succeeded
        assert family(engine, flow) == ids
    assert paid == [ids[-1]] * 2


async def test_children_of_before_are_found_under_their_long_ids(
    paths: CloudPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal in which deep flows have ids as long as their way in: resumed, none is begun a second time."""
    paid: list[str] = []
    with monkeypatch.context() as before:
        before.setattr(children, "child_flow_id", plain_child_flow_id)
        flow = await dug(paths, paid)
    async with open_engine(paths, [shaft(trio.Event(), paid)]) as engine:
        ids = family(engine, flow)
        assert max(map(len, ids)) > LONGEST
        with pytest.raises(FlowParked):
            await (await engine.resume(flow)).wait()
        assert (await (await engine.resume(ids[-1], repeat=True)).wait()).succeeded
        assert family(engine, flow) == ids
        assert {row.status for row in engine.journal.family(engine.row(flow))} == {"ended"}
    assert paid == [ids[-1]] * 2
