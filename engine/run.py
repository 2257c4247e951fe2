"""Running a state: its activities in one nursery, until an event leads out.

This is the seam between what a flow does and what makes it durable: nothing here knows a journal. Whatever drives a
flow makes a `Run` of each visit, hands it to `run_state`, and calls `leave` once the event that leads out is durable.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, cast

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .errors import ActivitiesRanDry
from .machine.parts import DeadlinePassed, Event
from .visit import Activity, Visit

logger = get_logger(__name__)


class Run:
    """A visit as its runner sees it.

    Args:
        visit: What the activities are given.
        scope: What the caller runs the visit in, and nothing else; `run_state` opens one when not given. A visit that
            has to be cut short may cancel it. One that was not cancelled can serve the next visit: opening and closing
            a scope for each is a quarter of what a transition costs.

    Attributes:
        trouble: What stopped the state from being left, when something did.
    """

    __slots__ = ("_activities", "_at_work", "_scope", "scope", "trouble", "visit")

    def __init__(self, visit: Visit[Any], scope: trio.CancelScope | None = None) -> None:
        self.visit = visit
        self.scope = scope
        self.trouble: Exception | None = None
        self._scope: trio.CancelScope | None = None
        self._activities: Sequence[Activity] = ()
        self._at_work = 0

    def enter(self, scope: trio.CancelScope, activities: Sequence[Activity]) -> None:
        """Called before the activities are started in the scope."""
        self._scope = scope
        self._activities = activities
        self._at_work = len(activities)
        if self.visit.left:
            scope.cancel()

    def release(self) -> None:
        """Called when the only activity has returned: leaving has nobody to cancel any more."""
        self._scope = None

    def leave(self) -> None:
        """Called by what makes events durable, after the commit of the event that led out."""
        self.visit.left = True
        if self._scope is not None:
            self._scope.cancel()

    def finish(self) -> None:
        """Called when an activity has come to its end; the last one must have led out."""
        self._at_work -= 1
        if not self._at_work and not self.visit.left:
            names = ", ".join(getattr(each, "__name__", repr(each)) for each in self._activities)
            self.fail(
                ActivitiesRanDry(f"nothing is left to do in {self.visit.state} and nothing led out of it: {names}")
            )

    def fail(self, trouble: Exception) -> None:
        """Called when an activity raised."""
        if self.visit.left:
            logger.debug("%s ignored, %s is left: %r", self.visit.flow, self.visit.state, trouble)
        elif self.trouble is None:
            self.trouble = trouble
            if self._scope is not None:
                self._scope.cancel()


async def run_state(run: Run, activities: Sequence[Activity]) -> Exception | None:
    """Run a state's activities in one nursery until an event leads out, and wait until all of them are gone.

    Returns:
        None when the state was left; otherwise what stopped it from being left.
    """
    if run.scope is None:
        with trio.CancelScope() as run.scope:
            await run_state(run, activities)
        return None if run.visit.left else run.trouble
    visit = run.visit
    if len(activities) > 1 or visit.deadline is not None:
        async with trio.open_nursery() as nursery:
            run.enter(nursery.cancel_scope, activities)
            for activity in activities:
                nursery.start_soon(_run_activity, activity, run)
            if visit.deadline is not None:
                nursery.start_soon(_watch_deadline, run, visit.deadline)
    else:
        # Cancelled by the event that led out, this unwinds to where the caller opened the scope.
        run.enter(run.scope, activities)
        await _run_activity(activities[0], run, alone=True)
    return None if visit.left else run.trouble


async def _run_activity(activity: Activity, run: Run, *, alone: bool = False) -> None:
    visit = run.visit
    try:
        doing = activity(visit)
        if inspect.isasyncgen(doing):
            async with aclosing(cast("AsyncGenerator[Event, None]", doing)) as events:
                async for event in events:
                    await visit.send(event)
        elif (event := await cast("Awaitable[Event | None]", doing)) is not None:
            if alone:
                run.release()
            await visit.send(event)
    except* Exception as group:  # noqa: BLE001 whatever an activity raises parks its flow, and no other
        run.fail(_one(group))  # also what came together with a cancellation, which goes on its own way
    else:
        run.finish()


async def _watch_deadline(run: Run, deadline: datetime) -> None:
    visit = run.visit
    await visit.clock.sleep_until(deadline)
    try:
        await visit.send(DeadlinePassed())
    except Exception as exc:  # noqa: BLE001 a deadline that cannot be written parks the flow like any activity
        run.fail(exc)


def _one(exc: Exception) -> Exception:
    # An activity with a nursery of its own raises groups; the error that says what to do is the one to show.
    if not isinstance(exc, ExceptionGroup):
        return exc
    group = cast("ExceptionGroup[Exception]", exc)
    leaves = [_one(each) for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, CloudError)), leaves[0] if len(leaves) == 1 else group)
