"""A trio run that stands still between calls, so that a program without trio can lead it step by step.

Hypothesis chooses what happens next in ordinary functions; the engine lives in a trio run that must stay open between
them. This is trio's guest mode with a host that does nothing by itself: time does not pass and no task runs, except
while a call is being answered. Everything happens on one thread, so a failure's traceback is whole, and a run can be
repeated exactly.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar, cast

import outcome
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

P = ParamSpec("P")
T = TypeVar("T")
Job = Callable[[], Awaitable[object]]


class StillRun:
    """A trio run on a clock of its own that only moves when it is told to.

    Close it, or trio warns about a run that was abandoned.
    """

    def __init__(self) -> None:
        self.clock = MockClock()
        self._due: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._answer: outcome.Outcome[object] | None = None
        self._ended: outcome.Outcome[None] | None = None
        self._send, self._jobs = trio.open_memory_channel[Job](0)
        self._nursery: trio.Nursery | None = None
        trio.lowlevel.start_guest_run(
            self._serve,
            run_sync_soon_threadsafe=self._due.put,
            done_callback=self._finish,
            clock=self.clock,
        )
        self._token: trio.lowlevel.TrioToken | None = None
        self.call(trio.lowlevel.checkpoint)

    @property
    def nursery(self) -> trio.Nursery:
        """Tasks started here run whenever the run does, until it is closed."""
        assert self._nursery is not None
        return self._nursery

    def call(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function to its end, then everything else until no task can go on; returns its result.

        Raises:
            RuntimeError: The run is over.
            BaseException: Whatever the function raised, or what a task of the nursery raised.
        """
        if self._ended is not None:
            raise RuntimeError("the run is over")
        self._answer = None
        self._post(lambda: function(*args, **kwargs))
        while self._answer is None and self._ended is None:
            self._due.get()()
        if self._answer is None:  # a task's failure ended everything
            self.close()
            raise RuntimeError("the run ended in the middle of a call")
        return cast("T", self._answer.unwrap())

    def close(self) -> None:
        """Cancel every task and end the run; may be called twice.

        Raises:
            BaseException: What a task of the nursery raised on its way out.
        """
        if self._ended is None:
            self._post(None)
        while self._ended is None:
            self._due.get()()
        ended, self._ended = self._ended, outcome.Value(None)
        ended.unwrap()

    def _post(self, job: Job | None) -> None:
        def hand_over() -> None:
            if job is None:
                self._send.close()
            else:
                self._send.send_nowait(job)

        # The first job comes before the first tick: until then there is no token and nobody receives.
        while self._token is None and self._ended is None:
            self._due.get()()
        if self._token is not None:
            self._token.run_sync_soon(hand_over)

    async def _serve(self) -> None:
        async with trio.open_nursery() as self._nursery:
            async for job in self._announced():
                answer = await outcome.acapture(job)
                await wait_all_tasks_blocked()
                self._answer = answer
            self._nursery.cancel_scope.cancel()

    def _announced(self) -> Any:
        self._token = trio.lowlevel.current_trio_token()
        return self._jobs

    def _finish(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended
