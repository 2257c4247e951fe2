"""Two bugs of activities that are hard to see, and where they are: a blocked loop, and a cancellation ignored.

An activity that computes or waits without `await` holds up every flow, and one that does not end when its state is
left holds up its own. Both are logged as warnings that name the flow, the state, the activity and the line. They are
looked for only when that is asked for, `open_engine(..., diagnose=True)`: two calls for each step of a task, and a
thread. Otherwise nothing of this is there.

The loop is watched from a thread, because a blocked loop can tell nothing. What holds the interpreter's lock as well, a
call into C say, is told once it has ended.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NamedTuple, cast

import trio

from ..base.log import get_logger
from .driven import Driven
from .live import LiveFlow
from .machine.functions import name_of
from .run import Run, attempt
from .visit import Activity

logger = get_logger(__name__)

BLOCKED_SECONDS: Final = 0.25
"""How long a step of a task may take."""
CLINGING_SECONDS: Final = 5.0
"""How long an activity may take to end once its state was left."""
LOOK_SECONDS: Final = 1.0
"""How often activities that should have ended are looked for."""


class _Found(NamedTuple):
    """An activity that is at work.

    Attributes:
        run: Its visit.
        activity: Its name.
        line: Which line of it is being done.
    """

    run: Run
    activity: str
    line: str


def _found(frames: Iterable[FrameType]) -> _Found | None:
    """The activity whose frames these are, the innermost first; None when they are none's."""
    inner: FrameType | None = None
    for frame in frames:
        if frame.f_code is attempt.__code__:
            known = frame.f_locals
            return _Found(
                cast("Run", known["run"]), name_of(cast("Activity", known["activity"])), _line(inner or frame)
            )
        inner = frame
    return None


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _waiting_in(task: trio.lowlevel.Task) -> list[FrameType]:
    return [frame for frame, _ in task.iter_await_frames()][::-1]


# --- a blocked loop ---------------------------------------------------------------------------------------------------


class LoopWatch(trio.abc.Instrument):
    """Warns of a step that takes too long.

    Args:
        now: Seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began: float | None = None
        self._told: float | None = None
        self._loop = threading.get_ident()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 as trio calls it
        """A task has its turn."""
        self._began = self._now()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Its turn is over."""
        began, self._began = self._began, None
        if began is not None and began != self._told and (lasted := self._now() - began) > BLOCKED_SECONDS:
            self._warn(lasted, _waiting_in(task), f"the task {task.name}")

    def look(self) -> None:
        """Called from another thread: warn of a step that takes too long already."""
        began = self._began
        if began is None or began == self._told or (lasted := self._now() - began) <= BLOCKED_SECONDS:
            return
        # There is no other way to see them.
        frames = list(_outward(sys._current_frames().get(self._loop)))  # pyright: ignore[reportPrivateUsage]
        if self._began == began:  # the same step still
            self._told = began
            self._warn(lasted, frames, f"the code at {_line(frames[0])}" if frames else "a task")

    def _warn(self, lasted: float, frames: Iterable[FrameType], otherwise: str) -> None:
        found = _found(frames)
        if found is None:
            logger.warning("the loop is blocked for %.0f ms by %s", lasted * 1000, otherwise)
            return
        visit = found.run.visit
        logger.warning(
            "flow %s: in the state %s the activity %s blocks the loop for %.0f ms, at %s; call what blocks with"
            " trio.to_thread.run_sync or visit.on_disk",
            visit.flow,
            visit.state,
            found.activity,
            lasted * 1000,
            found.line,
        )


@contextmanager
def watched_loop() -> Generator[None]:
    """Warn of every step of this loop that takes too long, for as long as the block runs."""
    watch, done = LoopWatch(), threading.Event()

    def look() -> None:
        while not done.wait(BLOCKED_SECONDS / 5):
            watch.look()

    thread = threading.Thread(target=look, name="watches the loop", daemon=True)
    trio.lowlevel.add_instrument(watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        trio.lowlevel.remove_instrument(watch)
        thread.join()


# --- a cancellation ignored -------------------------------------------------------------------------------------------


async def watch_leaving(driven: Driven, nursery: trio.Nursery) -> None:
    """Warn of activities that do not end once their state was left, until nothing is driven any more.

    Args:
        driven: The flows.
        nursery: Where they are driven.
    """
    since: dict[Run, float] = {}
    told: set[Run] = set()

    def look(*, closing: bool) -> None:
        now = trio.current_time()
        leaving = {live.run for live in driven.all if live.run is not None and (closing or _is_over(live))}
        for run in since.keys() - leaving:
            del since[run]
            told.discard(run)
        for run in leaving:
            if now - since.setdefault(run, now) >= CLINGING_SECONDS and run not in told:
                told.add(run)
                _warn_of_clinging(run, nursery, now - since[run])

    try:
        while True:
            await trio.sleep(LOOK_SECONDS)
            look(closing=False)
    finally:
        with trio.CancelScope(shield=True):
            while left := [live for live in driven.all if not live.settled.is_set()]:
                look(closing=True)
                with trio.move_on_after(LOOK_SECONDS):
                    await left[0].settled.wait()


def _is_over(live: LiveFlow) -> bool:
    return live.scope.cancel_called or (live.run is not None and live.run.over)


def _warn_of_clinging(run: Run, nursery: trio.Nursery, seconds: float) -> None:
    for task in _tasks_in(nursery):
        found = _found(_waiting_in(task))
        if found is not None and found.run is run:
            logger.warning(
                "flow %s: the activity %s does not end, %.0f s after it was cancelled in the state %s; it is at %s",
                run.visit.flow,
                found.activity,
                seconds,
                run.visit.state,
                found.line,
            )


def _tasks_in(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    for task in nursery.child_tasks:
        yield task
        for inner in task.child_nurseries:
            yield from _tasks_in(inner)
