"""The only loop: a flow from state to state, each visit in a nursery of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio

from ..base.clock import Clock
from .errors import FlowParked
from .live import LiveFlow
from .run import Run, run_state
from .visit import Visit


async def drive(
    live: LiveFlow, clock: Clock, *, resumed: bool, cancel_strays: Callable[[LiveFlow], Awaitable[None]]
) -> FlowParked | None:
    """Drive a flow until it ends or is parked.

    Args:
        live: The flow, owned by this process.
        clock: The time.
        resumed: True when its state was entered by an earlier process.
        cancel_strays: Stops the children of visits that are over.

    Returns:
        None when it ended; else the error for whoever waits for it.

    Raises:
        CloudError: The journal itself cannot be written; nothing changed.
    """
    while not live.ended:
        with trio.CancelScope() as scope:
            await _visit_states(live, clock, scope, resumed=resumed)
        resumed = False
        run = cast("Run", live.run)
        if run.trouble is not None and not run.visit.left:
            parked = await live.park(run.trouble)
            if parked is not None:
                return parked.error(live.row)
        if live.machine.states[run.visit.state].child is not None:
            await cancel_strays(live)
    return None


async def _visit_states(live: LiveFlow, clock: Clock, scope: trio.CancelScope, *, resumed: bool) -> None:
    """One state after the other, until there is something to do between two of them, or the scope is used up."""
    while True:
        visit: Visit[Any] = Visit(
            live,
            flow=live.row.id,
            state=live.row.state,
            incarnation=live.row.incarnation,
            resumed=resumed,
            deadline=live.deadline(),
            clock=clock,
        )
        live.run = run = Run(visit, scope)
        await run_state(run, live.program.activities[visit.state])
        child = live.machine.states[visit.state].child
        if live.ended or not visit.left or scope.cancel_called or child is not None:
            return
        resumed = False
