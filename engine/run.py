"""Running a state: its activities in one nursery, until an event leads out.

This is the seam between what a flow does and what makes it durable: nothing here knows a journal. Whatever drives a
flow makes a `Run` of each visit, hands it to `run_state`, and calls `leave` once the event that leads out is durable.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, cast

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .errors import ActivitiesRanDry, UnexpectedFailure
from .machine.functions import name_of
from .machine.parts import DeadlinePassed, Event
from .retries import RetriedActivity
from .visit import Activity, Visit, begun_in_attempt

logger = get_logger(__name__)

_OURS: Final = (trio.Cancelled, KeyboardInterrupt)
"""What is no failure of an activity, and stops more than its flow; `Cancelled` only while a scope is cancelled."""


class Run:
    """One visit, as whatever drives the flow controls it.

    Args:
        visit: What the activities are given.
        scope: The cancel scope the caller runs only this visit in; `run_state` opens one when not given. Ending the
            visit early may cancel it. One that was not cancelled can be used for the next visit: opening and closing a
            scope for each is a quarter of what a transition costs.

    Attributes:
        trouble: The error that stopped the visit, or None.
        culprit: The name of the activity that raised it; empty when none did.
    """

    __slots__ = ("_activities", "_activity_scope", "_at_work", "culprit", "scope", "trouble", "visit")

    def __init__(self, visit: Visit[Any], scope: trio.CancelScope | None = None) -> None:
        self.visit = visit
        self.scope = scope
        self.trouble: BaseException | None = None
        self.culprit = ""
        self._activity_scope: trio.CancelScope | None = None
        self._activities: Sequence[Activity] = ()
        self._at_work = 0

    @property
    def over(self) -> bool:
        """Whether its activities have been cancelled, or are about to be."""
        return self.visit.left or self.trouble is not None or (self.scope is not None and self.scope.cancel_called)

    def enter(self, scope: trio.CancelScope, activities: Sequence[Activity]) -> None:
        """Called before the activities are started in the scope."""
        self._activity_scope = scope
        self._activities = activities
        self._at_work = len(activities)
        if self.visit.left:
            scope.cancel()

    def release(self) -> None:
        """Called when the only activity has returned: `leave` has nothing to cancel any more."""
        self._activity_scope = None

    def leave(self) -> None:
        """Called by the host after the commit of the event that led out of the state."""
        self.visit.left = True
        if self._activity_scope is not None:
            self._activity_scope.cancel()

    def finish(self) -> None:
        """Called when an activity has returned; once all have, one of their events must have led out of the state."""
        self._at_work -= 1
        if not self._at_work and not self.visit.left:
            names = ", ".join(map(name_of, self._activities))
            self.fail(
                ActivitiesRanDry(f"nothing is left to do in {self.visit.state} and nothing led out of it: {names}")
            )

    def fail(self, trouble: BaseException, activity: str = "") -> None:
        """Called when an activity raised, with its name; or when something else went wrong."""
        if self.visit.left:
            logger.debug("%s ignored, %s is left: %r", self.visit.flow, self.visit.state, trouble)
        elif self.trouble is None:
            self.trouble, self.culprit = trouble, activity
            if self._activity_scope is not None:
                self._activity_scope.cancel()


async def run_state(run: Run, activities: Sequence[Activity]) -> BaseException | None:
    """Run a state's activities in one nursery until an event leads out, and wait for all of them to end.

    Returns:
        None when the state was left; else the error that stopped the visit.
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
        # The event that leads out cancels the caller's scope, so this unwinds to where the caller opened it.
        run.enter(run.scope, activities)
        await _run_activity(activities[0], run, alone=True)
    return None if visit.left else run.trouble


async def _run_activity(activity: Activity, run: Run, *, alone: bool = False) -> None:
    if isinstance(activity, RetriedActivity):
        return await _run_retried(activity, run)
    trouble = await attempt(activity, run, alone=alone)
    return run.finish() if trouble is None else run.fail(trouble, name_of(activity))


async def attempt(activity: Activity, run: Run, *, alone: bool = False) -> BaseException | None:
    """Run an activity and send what it returns or yields; what stopped it, or None.

    `diagnosis.py` knows an activity by the frame of this function, and by its first two arguments.
    """
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
    except KeyboardInterrupt:
        raise
    except trio.Cancelled:
        if _is_cancelled():
            raise
        return _of_its_own(visit)
    except BaseExceptionGroup as group:
        ours, trouble = group.split(_OURS)
        if ours is not None and (_is_cancelled() or ours.subgroup(KeyboardInterrupt) is not None):
            if trouble is not None:
                run.fail(_most_useful(trouble), name_of(activity))
            raise ours from None
        return _of_its_own(visit) if trouble is None else _most_useful(trouble)
    except BaseException as exc:  # noqa: BLE001 whatever an activity raises pauses its flow, and no other
        return exc
    return None


async def _run_retried(activity: RetriedActivity, run: Run) -> None:
    """Attempt an activity until it succeeds, or fails in a way or so often that it is not tried again."""
    visit, name = run.visit, activity.__name__
    again = visit.attempts(name).again
    while True:
        if again is not None:
            await visit.clock.sleep_until(again)
        begun = set[str]()
        mark = begun_in_attempt.set(begun)
        try:
            trouble = await attempt(activity.function, run)
        finally:
            begun_in_attempt.reset(mark)
        if trouble is None:
            return run.finish()
        try:
            covered = not visit.left and activity.retry.covers(trouble)
            again = await visit.retry(name, activity.retry, trouble, begun) if covered else None
        except Exception as exc:  # noqa: BLE001 it cannot be written, or the function that chooses has a bug
            again, trouble = None, exc
        if again is None:
            return run.fail(trouble, name)


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() == -math.inf


def _of_its_own(visit: Visit[Any]) -> BaseException:
    # Passed on, it would end every flow of the engine, and nothing would say why.
    return UnexpectedFailure(
        f"an activity of {visit.state} let a cancellation of its own out: of a scope around a `yield`, perhaps"
    )


async def _watch_deadline(run: Run, deadline: datetime) -> None:
    visit = run.visit
    await visit.clock.sleep_until(deadline)
    try:
        await visit.send(DeadlinePassed())
    except Exception as exc:  # noqa: BLE001 a deadline that cannot be written pauses the flow like any activity
        run.fail(exc)


def _most_useful(exc: BaseException) -> BaseException:
    # An activity with a nursery of its own raises groups; of those, a `CloudError` has the message and the fix to show.
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    group = cast("BaseExceptionGroup[BaseException]", exc)
    leaves = [_most_useful(each) for each in group.exceptions]
    return next((each for each in leaves if isinstance(each, CloudError)), leaves[0] if len(leaves) == 1 else group)
