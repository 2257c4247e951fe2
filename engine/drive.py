"""The only loop: a flow from state to state, each visit in a nursery of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import trio

from .errors import FlowParked
from .ids import visit_of_child
from .live import LiveFlow
from .run import Run, run_state
from .store import Store, Vault
from .visit import Visit

Cancel: TypeAlias = Callable[[str, str], Awaitable[object]]
"""Cancels a flow by its id, for a reason; it may return before the flow has ended, when another process drives it."""


async def drive(live: LiveFlow, store: Store, cancel: Cancel, *, resumed: bool = False) -> FlowParked | None:
    """Drive a flow until it ends or is parked; any runner can use this.

    Discarding the secrets of a flow that has ended is up to the caller (`discard_secrets`), before it tells the end.

    Args:
        live: The flow, owned by this process.
        store: Where its children are.
        cancel: Cancels a child that was left behind.
        resumed: True when its state was entered by an earlier process.

    Returns:
        None when it ended; else the error for whoever waits for it.

    Raises:
        CloudError: The store cannot be written, or does not have the flow any more; nothing changed.
    """
    try:
        while not live.ended:
            with trio.CancelScope() as scope:
                await _visit_states(live, scope, resumed=resumed)
            resumed = False
            run = cast("Run", live.run)
            if run.trouble is not None and not run.visit.left:
                parked = await live.park(run.trouble)
                if parked is not None:
                    return parked.error(live.row)
            if live.machine.states[run.visit.state].child is not None:
                await cancel_strays(live, store, cancel)
        return None
    finally:
        live.run = None


async def take_up(
    live: LiveFlow, store: Store, vault: Vault, cancel: Cancel, owner: str, *, repeat: bool = False
) -> None:
    """What comes before `drive` where an earlier process has driven the flow; then it is driven with `resumed`.

    Args:
        live: The flow, owned by this process.
        store: Where its children are.
        vault: Where its secrets are: the redactor hides them from now on.
        cancel: Cancels a child that was left behind.
        owner: What the flow's row has as its owner from now on.
        repeat: A person decided that its outward effect is done again.

    Raises:
        CloudError: It could not be written; nothing changed.
    """
    await vault.make_known(live.row.id)
    await live.resume(owner, repeat=repeat)
    await cancel_strays(live, store, cancel)


async def cancel_strays(live: LiveFlow, store: Store, cancel: Cancel) -> None:
    """Stop the children of visits that are over: a state left by another way than its child's end leaves them."""
    for child in await store.children(live.row.id):
        if child.status != "ended" and visit_of_child(child.id) != live.row.incarnation:
            await cancel(child.id, f"{live.machine.name} went on to {live.row.state}")


async def _visit_states(live: LiveFlow, scope: trio.CancelScope, *, resumed: bool) -> None:
    """One state after the other, until there is something to do between two of them, or the scope is used up."""
    while True:
        visit: Visit[Any] = Visit(
            live,
            flow=live.row.id,
            state=live.row.state,
            incarnation=live.row.incarnation,
            resumed=resumed,
            deadline=live.deadline(),
            clock=live.clock,
        )
        live.run = run = Run(visit, scope)
        await run_state(run, live.program.activities[visit.state])
        child = live.machine.states[visit.state].child
        if live.ended or not visit.left or scope.cancel_called or child is not None:
            return
        resumed = False
