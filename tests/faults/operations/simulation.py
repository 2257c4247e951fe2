"""One history carried out: processes are opened, operations run at the same time, and then everything is examined."""

from __future__ import annotations

import gc
import os
import random
import shutil
import tempfile
import traceback
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec
import trio
from systemprompt_cloud.engine.journal.commits import QUICK_SECONDS
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

from . import calls, spec
from .clock import WallClock
from .log import Log, Worked
from .machines import Activities
from .plan import QUIET, SHORT, Operation, Plan
from .process import CURRENT, Process
from .seams import seed_scheduler, watched_engine

MEMORY: Final = Path("/dev/shm")
"""In memory where possible: power cuts are not tested here."""
MOST_TURNS: Final = 30_000
"""Turns of the scheduler after which a history hangs."""
MOMENT: Final = 0.2
"""Virtual seconds that pass when everything is quiet: more than an engine waits before it looks into its inbox."""
MOMENTS: Final = 3
MOST_MOMENTS: Final = 60
"""How many moments an engine has to put things right once nothing fails any more."""


class Report(msgspec.Struct, frozen=True):
    """The result of one history.

    Attributes:
        plan: It.
        problems: The broken promises, with numbers in place of ids; empty when there are none.
        log: What happened, for people, where a promise was broken.
        calls: How many calls were made.
        writes: How many records were written.
    """

    plan: Plan
    problems: list[str]
    log: list[str]
    calls: int
    writes: int


class _Work:
    """One activity at work."""

    def __init__(self, simulation: Simulation, process: Process, visit: Visit[Any]) -> None:
        self.process = process
        self.visit = visit
        self._simulation = simulation

    async def next_order(self) -> str:
        """Wait for an order for its flow."""
        orders = self._simulation.orders[self.visit.flow]
        while self.process.dead or not orders:
            await self._simulation.ordered.wait()
        return orders.popleft()

    def over(self, how: str) -> None:
        """It has ended."""
        self._simulation.work_over(self, how)


class Simulation:
    """The history of a plan.

    Attributes:
        plan: It.
        log: What has happened.
        problems: The promises that were seen to be broken while it ran.
        working: The activities at work, those of killed processes too.
        orders: Orders for the activities of each flow that were not carried out yet.
        processes: Every process there ever was.
    """

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.paths = EnginePaths.inside(directory)
        self.log = Log()
        self.log.others |= {str(directory): "HERE", f"process {os.getpid()} ": "this process "}
        self._wall = WallClock()
        self.problems: list[str] = []
        self.working: list[_Work] = []
        self.orders: defaultdict[str, deque[str]] = defaultdict(deque)
        self.ordered = trio.Event()
        self.processes: list[Process] = []
        self.turns = 0
        self.hung = False
        self._rng = random.Random(plan.seed)  # noqa: S311 no secret
        self._slots: dict[int, Process] = {}
        self._numbers = 0
        self._time = MockClock()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    def run(self, *, log: bool = False) -> Report:
        """Carry the plan out and examine the result; with `log`, report what happened although nothing is wrong."""
        seed_scheduler(self.plan.seed)
        failure: list[str] = []
        try:
            trio.run(self._main, clock=self._time, instruments=[_Turns(self)])
        except Exception as exc:  # noqa: BLE001 the journal may be such that not even the specification can be asked
            self.problems.append(f"it cannot be examined: {type(exc).__name__}")
            failure = traceback.format_exception(exc)
        if self.hung:
            self.problems.append(f"it hangs: tasks still run after {MOST_TURNS} turns of the scheduler")
        self.problems += [f"process {each.number} failed: {each.failure!r}" for each in self.processes if each.failure]
        return Report(
            plan=self.plan,
            problems=[self.log.short(problem) for problem in dict.fromkeys(self.problems)],
            log=[*self.log.lines(), *failure] if self.problems or log else [],
            calls=len(self.log.calls),
            writes=sum(map(len, self.log.records.values())),
        )

    # --- what processes and activities ask for ------------------------------------------------------------------------

    @property
    def clock(self) -> VirtualClock:
        """The time, as engines see it."""
        return self._wall

    def latency(self) -> int:
        """How many checkpoints the next access to the disk takes, before or after it."""
        match self.plan.latency:
            case "none":
                return 0
            case "one":
                return 1
            case "random" | "threads":
                return self._rng.choice((0, 0, 1, 1, 2, 4))

    @property
    def threads(self) -> bool:
        """Whether writes form groups, which are written in threads when the disk is slow."""
        return self.plan.latency == "threads"

    @property
    def wakes(self) -> bool:
        """Whether flows rest that only wait."""
        return self.plan.wakes

    def seconds(self) -> float:
        """How long the next write seems to take."""
        return self._rng.choice((QUICK_SECONDS / 2, QUICK_SECONDS * 2, QUICK_SECONDS * 2))

    def number(self) -> int:
        """A number for an event or a call."""
        self._numbers += 1
        return self._numbers

    def has_ended(self, flow: str) -> bool:
        """Whether a flow has ended; another process may remove its secrets then."""
        return self.log.rows[flow][-1][1].status == "ended"

    def complain(self, problem: str) -> None:
        """A promise was broken."""
        self.problems.append(problem)

    def at_work(self, visit: Visit[Any]) -> _Work:
        """An activity begins; no activity of another visit of its flow may be at work."""
        process = CURRENT.get()
        work = _Work(self, process, visit)
        for other in self.working:
            if other.visit.flow == visit.flow and other.visit is not visit and not (other.process.dead or process.dead):
                self.problems.append(
                    f"{visit.flow} is driven twice: visit {visit.incarnation} of {visit.state} in process "
                    f"{process.number} began before visit {other.visit.incarnation} of {other.visit.state} in process "
                    f"{other.process.number} was over"
                )
        self.working.append(work)
        self._note_work(work, "began")
        return work

    def work_over(self, work: _Work, how: str) -> None:
        """An activity has ended."""
        self.working.remove(work)
        self._note_work(work, how)

    def taken(self, flow: str, number: int) -> None:
        """An event that an activity sent was acknowledged."""
        if not CURRENT.get().dead:
            self.log.acknowledged.append((flow, number))

    def _note_work(self, work: _Work, how: str) -> None:
        visit = work.visit
        if not work.process.dead:
            self.log.add(Worked(work.process.number, visit.flow, visit.state, visit.incarnation, how))

    # --- the plan -----------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                for slot in range(self.plan.processes):
                    await self.open(slot)
                for burst in self.plan.bursts:
                    for operation in burst.operations:
                        self._nursery.start_soon(self._begin, operation)
                    if burst.gap == QUIET:
                        await self._let_pass(1)
                    else:
                        await checkpoints(burst.gap)
                await wait_all_tasks_blocked()
                await self._examine()
                self._nursery.cancel_scope.cancel()

    async def open(self, slot: int) -> Process:
        """Open one more process."""
        assert self._nursery is not None
        process = Process(len(self.processes), self, Activities(self).programs())
        self.processes.append(process)
        self._slots[slot] = process
        await self._nursery.start(process.run)
        return process

    async def _begin(self, operation: Operation) -> None:
        await checkpoints(operation.after)
        slot = operation.process % self.plan.processes
        process = self._slots[slot]
        if operation.kind == "order":
            self._give_order(operation)
        elif operation.kind == "set_clock":
            # Not while a flow is started or steps: its deadline is a moment of this clock until something waits for it.
            await wait_all_tasks_blocked()
            self._wall.set_forward(operation.times)
        elif not process.open:
            return
        elif operation.kind in {"close", "kill"}:
            if operation.kind == "kill":
                process.kill()
            else:
                process.leave(abruptly=operation.what == "abruptly")
            await checkpoints(operation.times)
            await self.open(slot)
        elif operation.kind == "fail_writes":
            process.failing[operation.what] = process.failing.get(operation.what, 0) + operation.times
        elif operation.kind == "fail_vault":
            process.vault_failing += operation.times
        else:
            process.call(partial(calls.make, self, process, operation))

    def _give_order(self, operation: Operation) -> None:
        if self.log.begun:
            self.orders[self.log.begun[operation.flow % len(self.log.begun)]].append(operation.what)
            self.ordered.set()
            self.ordered = trio.Event()

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _examine(self) -> None:
        for process in self.processes:
            process.recover()
        if self.plan.sets_clock:  # until every short timeout has passed, or should have
            await self._let_pass(round((SHORT + spec.LATE_SECONDS) / MOMENT))
        await self._settle(partial(spec.problems_at_rest, self, final=False))
        for process in self.processes:
            if process.open:
                process.leave()
        await self._settle(lambda: [f"process {each.number} does not close" for each in self._unclosed()])
        self.orders.clear()
        await self._examine_by_another()

    async def _examine_by_another(self) -> None:
        """Whatever is unfinished is resumed, and then cancelled, by a process that knows nothing of the others."""
        process = await self.open(0)
        await self._let_pass(1)
        await self._call_for_each(process, "resume")
        await self._settle(partial(spec.problems_at_rest, self, final=True))
        checked = len(self.log.calls)
        self.problems += spec.wrong_answers(self, self.log.calls)
        await self._call_for_each(process, "cancel")
        await self._settle(partial(spec.problems_after_all, self))
        self.problems += spec.wrong_answers(self, self.log.calls[checked:])
        process.leave()
        await self._settle(lambda: [f"process {each.number} does not close" for each in self._unclosed()])

    async def _call_for_each(self, process: Process, kind: Literal["resume", "cancel"]) -> None:
        for flow in [row.id for row in self.journal.flows(limit=spec.EVERY_FLOW) if row.parent is None]:
            number = self.log.begun.index(flow)
            if self.log.rows[flow][-1][1].status != "ended":
                await calls.make(self, process, Operation(kind, process=process.number, flow=number))

    @property
    def journal(self) -> Journal:
        """The journal, as a process that is open reads it."""
        return next(process.engine.journal for process in self.processes if process.open and process.engine)

    def _unclosed(self) -> list[Process]:
        return [process for process in self.processes if not process.closed.is_set()]

    async def _settle(self, problems: Callable[[], list[str]]) -> None:
        """Let time pass until nothing is wrong; what stays wrong is."""
        await self._let_pass(MOMENTS)
        found = problems()
        for _ in range(MOST_MOMENTS):
            if not found:
                return
            await self._let_pass(1)
            found = problems()
        self.problems += found

    async def _let_pass(self, moments: int) -> None:
        for _ in range(moments):
            await wait_all_tasks_blocked()
            self._time.jump(MOMENT)
        await wait_all_tasks_blocked()

    def turned(self) -> None:
        """The scheduler gave every task a turn."""
        self.turns += 1
        if self.turns > MOST_TURNS and not self.hung:
            self.hung = True
            self._time.autojump_threshold = 0
            self._scope.cancel()


class _Turns(trio.abc.Instrument):
    """Counts the turns of the scheduler."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    @override
    def after_io_wait(self, timeout: float) -> None:
        """One more."""
        self._simulation.turned()


async def checkpoints(count: int) -> None:
    """Let other tasks run for a number of turns."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


class CarryOut(Protocol):
    """Carries out plans."""

    def __call__(self, plan: Plan, *, log: bool = False) -> Report:
        """Carry out a plan; with `log`, report what happened although nothing is wrong."""
        ...


@contextmanager
def place_for_histories() -> Generator[CarryOut]:
    """A function that carries out a plan, each in a directory of its own, for as long as the block runs."""
    home = Path(tempfile.mkdtemp(prefix="operations-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    new, here = EnginePaths.inside(home / "new"), home / "here"
    Journal(new.journal).close()  # making a journal takes as long as a whole call; each history gets a copy of it

    def carry_out(plan: Plan, *, log: bool = False) -> Report:
        shutil.copytree(new.journal.parent, here)
        try:
            return Simulation(plan, here).run(log=log)
        finally:
            shutil.rmtree(here)

    # Each history leaves cycles behind; looking for them as often as usual takes a third of the time.
    thresholds = gc.get_threshold()
    gc.set_threshold(100_000, *thresholds[1:])
    try:
        with watched_engine():
            yield carry_out
    finally:
        gc.set_threshold(*thresholds)
        shutil.rmtree(home)
