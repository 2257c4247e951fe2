"""A deadline that has passed is used up: what the model found with tables nobody wrote.

Two states that shared a deadline, and a deadline that led from one to the other, went to and fro for ever: the moment
that was kept had passed already.
"""

from __future__ import annotations

from typing import Any

import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock


class Watch(Context, frozen=True, kw_only=True):
    """How long a watch lasts, in seconds."""

    patience: float = 100.0


def watch(*rows: Row) -> Machine[Watch]:
    """Port and starboard share a deadline; these rows say what follows from it."""
    states = [
        State("port", "looking to port", timeout="patience", late="continue"),
        State("starboard", "looking to starboard", timeout="patience", late="continue"),
        State("relieved", "relieved", verdict=Verdict.CANCELLED),
    ]
    rows = (*rows, on(CancelRequested, ANY, "relieved"))
    return Machine("watch", version=1, initial="port", context=Watch, states=states, rows=rows)


async def test_a_deadline_that_leads_to_a_state_it_is_shared_with_starts_anew(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Each side gets the whole time, and the flow writes one record each time, not thousands."""
    machine = watch(on(DeadlinePassed, "port", "starboard"), on(DeadlinePassed, "starboard", "port"))
    program: Program[Any] = Program(machine, {"port": [await_signal], "starboard": [await_signal]})
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        flow = await engine.start(machine, Watch())
        await clock.sleep_until(clock.start.replace(minute=5, second=50))  # 350 seconds
        assert [change.event for change in flow.history] == ["started", *["DeadlinePassed"] * 3]
        assert flow.state == "starboard"


def test_a_deadline_cannot_stay() -> None:
    """It would pass again with every resume, and leave the state without a deadline: refused when it is built."""
    with pytest.raises(MachineInvalid, match="DeadlinePassed stays in port, where no deadline would be left"):
        watch(
            on(DeadlinePassed, "port", STAY),
            on(CancelRequested, "port", "starboard"),
            on(DeadlinePassed, "starboard", "port"),
        )
