"""Drive a flow from state to state, running each visit in a nursery of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .errors import FlowParked
from .ids import visit_of_child
from .live import LiveFlow
from .run import Run, run_state
from .steps import Why
from .store import Store, Vault
from .visit import Visit

logger = get_logger(__name__)

Cancel: TypeAlias = Callable[[str, str], Awaitable[object]]
"""Cancels a flow by its id, for a reason; it may return before the flow has ended, when another process drives it."""

CatchUp: TypeAlias = Callable[[LiveFlow], Awaitable[None]]
"""Takes what waits in a flow's inbox, before anything is done in its state."""

StopChildren: TypeAlias = Callable[[str], Awaitable[None]]
"""Stops driving the child flows of a flow, given by its id, and waits until nothing of them runs here."""

Rest: TypeAlias = Callable[[LiveFlow], Awaitable[bool]]
"""Has a flow rest; False when there is something to do for it after all."""


async def drive(
    live: LiveFlow,
    store: Store,
    cancel: Cancel,
    *,
    stop_children: StopChildren | None = None,
    catch_up: CatchUp | None = None,
    rest: Rest | None = None,
    resumed: bool = False,
) -> FlowParked | None:
    """Drive a flow until it ends or is paused; any runner can use this.

    Discarding the secrets of a flow that has ended is up to the caller (`discard_secrets`), before it tells the end.

    Args:
        live: The flow, owned by this process.
        store: Where its children are.
        cancel: Cancels a child that was left behind.
        catch_up: Takes what waits in the inbox of a flow that was taken over or resumed, where there are inboxes.
        rest: Has a flow rest that has nothing to do but to wait, where the runner wakes such flows.
        stop_children: Stops driving the children of a flow that is about to be paused; they are resumed with it.
        resumed: True when its state was entered by an earlier process.

    Returns:
        None when it ended, or rests; else the error for whoever waits for it.

    Raises:
        CloudError: That it is paused cannot be written; `unwritten` is what stopped it, and it is stopped.
    """
    entered = live.row.incarnation
    try:
        while not live.ended:
            if live.behind and catch_up is not None:
                await catch_up(live)
            if resumed:  # also when what waited led on, or to the end
                await cancel_strays(live, store, cancel)
            if live.ended:
                break
            if rest is not None and live.row.state in live.may_rest:
                if await rest(live):
                    return None
                if live.behind:
                    continue
            with trio.CancelScope() as scope:
                await _visit_states(live, scope, resumed=resumed and live.row.incarnation == entered)
            resumed = False
            run = cast("Run", live.run)
            if run.trouble is not None and not run.visit.left:
                if stop_children is not None:
                    await stop_children(live.row.id)
                live.unwritten, live.culprit = run.trouble, run.culprit
                paused = await live.park(run.trouble)
                live.unwritten = None
                if paused is not None:
                    return paused
                resumed = not run.visit.left
            if not resumed and may_have_children(live, run.visit):
                await cancel_strays(live, store, cancel)
        return None
    finally:
        if live.run is not None:
            live.run.visit.left = True  # whatever its activities left running can do nothing for the flow any more
        live.run = None


def may_have_children(live: LiveFlow, visit: Visit[Any]) -> bool:
    """Whether a visit may have begun child flows."""
    return visit.ran_children or live.machine.states[visit.state].child is not None


async def take_up(live: LiveFlow, vault: Vault, owner: str, *, repeat: bool = False, why: Why = "person") -> None:
    """What comes before `drive` where an earlier process has driven the flow; then it is driven with `resumed`.

    Args:
        live: The flow, as it is stored.
        vault: Where its secrets are: the redactor hides them from now on.
        owner: What the flow's row has as its owner from now on.
        repeat: A person decided that its outward effect is done again.
        why: Why it is resumed.

    Raises:
        CloudError: It could not be written; nothing changed.
    """
    await vault.make_known(live.row.id)
    await live.resume(owner, repeat=repeat, why=why)


async def cancel_strays(live: LiveFlow, store: Store, cancel: Cancel) -> None:
    """Stop the children of visits that are over: a state left by another way than its child's end leaves them.

    One that cannot be stopped is logged, and stopped when the flow is resumed or has ended.
    """
    try:
        children = await store.unfinished_children(live.row.id)
    except CloudError as exc:
        logger.warning("%s: the children of earlier states cannot be looked for: %s", live.row.id, exc)
        return
    strays = [child.id for child in children if visit_of_child(child.id) not in (None, live.stay)]
    reason = f"{live.machine.name} is in the state {live.row.state} now"

    async def stop(child: str) -> None:
        try:
            await cancel(child, reason)
        except CloudError as exc:
            logger.warning("%s: the child flow %s of an earlier state is not stopped: %s", live.row.id, child, exc)

    if strays:
        async with trio.open_nursery() as nursery:  # one that is slow to stop delays no other
            for child in strays:
                nursery.start_soon(stop, child)


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
        if live.ended or not visit.left or scope.cancel_called or may_have_children(live, visit):
            return
        if live.row.state in live.may_rest:
            return
        resumed = False
