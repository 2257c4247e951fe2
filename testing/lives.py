"""A journal and the engine that is open on it, for `model.py`: opened, closed, killed, copied, sent events.

A kill copies the directory as it is on disk and opens a new engine on the copy; the old engine and whatever it still
writes are discarded. A copy can also be requested for the instant of a later commit.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

import msgspec
import trio
from trio.testing import wait_all_tasks_blocked

from ..base.moments import moment_text
from ..engine.engine import Engine
from ..engine.errors import EventNotAccepted, FlowNotFound
from ..engine.history import Change
from ..engine.journal.journal import Journal
from ..engine.journal.owners import owner_is_alive
from ..engine.journal.records import FlowRow, Signal, Status
from ..engine.machine.machine import Machine
from ..engine.machine.parts import CancelRequested, Context, Event
from ..engine.visit import Program
from ..io.local.paths import CloudPaths
from .audit import audit_journal, orphans
from .clock import VirtualClock
from .stage import Order, Puppet, Stage
from .stillness import StillRun

Subject: TypeAlias = Machine[Any] | Program[Any]
P = ParamSpec("P")
T = TypeVar("T")
EVERY_FLOW = 1000


class Opens(Protocol):
    """`open_engine`, or another that keeps the same promises."""

    def __call__(
        self, paths: CloudPaths, programs: Sequence[Program[Any]], *, clock: VirtualClock, inline: bool
    ) -> AbstractAsyncContextManager[Engine]:
        """Open an engine for as long as the block runs."""
        ...


class Copy(NamedTuple):
    """A copy of the directory, and the number of the last record of each flow that had been published by then."""

    directory: Path
    shown: Mapping[str, int]


class Lives:
    """One journal, and the engine that is open on it.

    Args:
        subject: The machine, or a program of it whose activities run too.
        children: Those of the machines its states run as child flows, by name.
        opens: Opens an engine.
    """

    def __init__(self, subject: Subject, children: Mapping[str, Subject], opens: Opens) -> None:
        self.machine = machine_of(subject)
        self._subject = subject
        self._children = children
        self._opens = opens
        self.copies: list[Copy] = []
        self.stage = Stage()
        self.programs = self._plays(self.stage)
        # In memory where possible: power cuts are not tested here, and every commit is awaited.
        memory = Path("/dev/shm")  # noqa: S108 a private directory is made in it
        self._home = Path(tempfile.mkdtemp(prefix="model-", dir=memory if os.access(memory, os.W_OK) else None))
        self._run = StillRun()
        self._clock = VirtualClock()
        self._numbers = 0
        self._copy_in = 0
        self._closing, self._closed = trio.Event(), trio.Event()
        self.paths = self._new_paths()
        try:
            self.call(self._open)
        except BaseException:
            self.end()
            raise

    @property
    def engine(self) -> Engine:
        """The engine that is open."""
        assert self.stage.engine is not None
        return self.stage.engine

    @property
    def journal(self) -> Journal:
        """Its journal."""
        return self.engine.journal

    def call(self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function, then every other task until all are blocked; returns the function's result."""
        return self._run.call(function, *args, **kwargs)

    def machine_of(self, row: FlowRow) -> Machine[Any]:
        """The table of a flow."""
        return next(program.machine for program in self.programs if row.machine in program.machine.names)

    # --- looking --------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The current time."""

        async def look() -> datetime:
            await trio.lowlevel.checkpoint()
            return self._clock.now()

        return self.call(look)

    def rows(self, *statuses: Status) -> list[FlowRow]:
        """The flows on disk in the order they were started, children after their parents."""
        found = self.journal.flows(statuses=statuses, limit=EVERY_FLOW)
        order = {flow: number for number, flow in enumerate(self.stage.started)}
        return sorted(found, key=lambda row: order[row.id])

    def row(self, flow: str) -> FlowRow:
        """A flow on disk."""
        found = self.journal.flow(flow)
        assert found is not None, f"flow {flow} has vanished"
        return found

    def started_with(self, row: FlowRow) -> Context:
        """What a flow was started with."""
        return self.machine_of(row).decode_context(self.journal.records(row.id)[0].body)

    def driven(self) -> list[FlowRow]:
        """The flows the open engine is driving."""
        return [row for row in self.rows("running") if self.is_driven(row)]

    def is_driven(self, row: FlowRow) -> bool:
        """Whether a process drives a flow; here that can only be the open engine."""
        owners = self.paths.owners
        return row.status == "running" and row.owner is not None and owner_is_alive(owners, row.owner)

    def puppets(self, flow: str) -> list[Puppet]:
        """The puppets of a flow's current visit."""
        return [puppet for puppet in self.stage.puppets if puppet.visit.flow == flow]

    # --- speaking -------------------------------------------------------------------------------------------------

    def order(self, flow: str, *orders: Order) -> None:
        """Give each of a flow's puppets an order, and run until they are carried out."""

        async def hand_out() -> None:
            await trio.lowlevel.checkpoint()
            for puppet, each in zip(self.puppets(flow), orders, strict=False):
                puppet.orders.send_nowait(each)

        self.call(hand_out)

    def tell(self, flow: str, sent: Sequence[tuple[str, Event]]) -> list[bool]:
        """Send events at the same moment, each in its own `way`; returns whether those from outside were taken now."""
        answers: list[bool] = []

        async def from_outside(event: Event) -> None:
            try:
                taken = await self.engine.send(flow, event)
            except (EventNotAccepted, FlowNotFound):
                taken = False
            if taken:
                self.stage.acknowledge(flow, event)
            answers.append(taken)

        def sending(event: Event, shielded: bool) -> Order:
            return lambda visit: self.stage.send(visit, event, shielded=shielded)

        async def at_once() -> None:
            await trio.lowlevel.checkpoint()
            puppets = self.puppets(flow)
            for number, (way, event) in enumerate(sent):
                if way == "outside" or not puppets:
                    self._run.nursery.start_soon(from_outside, event)
                else:
                    puppets[number % len(puppets)].orders.send_nowait(sending(event, way != "activity"))

        self.call(at_once)
        return answers

    def waiting(self, flow: str) -> list[Signal]:
        """What waits in a flow's inbox."""
        return self.journal.signals(flow)

    def post(self, flow: str, event: Event) -> None:
        """Leave an event in the inbox, as another process does. Raises `EventNotAccepted` when it has no place."""
        at, name, body = moment_text(self.now()), type(event).__name__, msgspec.json.encode(event).decode()

        def write() -> None:
            self.journal.post_signal(flow, at, name, body)

        self.call(self.engine.store.commits.write, write)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""

        async def jump() -> None:
            self._run.clock.jump(seconds)
            await trio.lowlevel.checkpoint()

        self.call(jump)

    # --- living and dying -----------------------------------------------------------------------------------------

    def reopen(self, away: float) -> None:
        """Close the engine, as Ctrl-C does, and open another on the same directory later."""
        self.call(self._close)
        self.pass_time(away)
        self.call(self._open)

    def kill(self, away: float) -> None:
        """Kill the process, and open another engine later on what is on disk."""
        heir = self._new_paths()
        shutil.copytree(self.paths.directory, heir.directory, ignore=_SHARED_MEMORY)
        self.stage.on_change = None
        heirs_stage = self.stage.next_life()
        self.call(self._close)  # what the old engine still writes goes to the discarded directory
        shutil.rmtree(self.paths.directory)
        self.paths, self.stage = heir, heirs_stage
        self.programs = self._plays(self.stage)
        self.pass_time(away)
        self.call(self._open)

    def copy_after(self, commits: int) -> None:
        """Copy the directory right after the given number of further commits."""
        self._copy_in = commits

    def revive(self, copy: Copy) -> list[str]:
        """Check a copy: every record is there, every flow can be resumed and ended. Returns the problems found."""
        stage = Stage()
        programs = self._plays(stage)

        async def live_on() -> list[str]:
            async with self._opening(copy.directory, programs, stage) as engine:
                rows = engine.journal.flows(limit=EVERY_FLOW)
                seqs = {row.id: row.seq for row in rows}
                wrong = [
                    f"{flow} lacks its record {seq}" for flow, seq in copy.shown.items() if seqs.get(flow, 0) < seq
                ]
                wrong += audit_journal(engine.journal, programs)
                for row in rows:
                    if row.status != "ended" and row.parent is None:
                        flow = await engine.resume(row.id)
                        if flow.row.seq <= row.seq:
                            wrong.append(f"{row.id} could not be resumed in {row.state}")
                await wait_all_tasks_blocked()
                wrong += audit_journal(engine.journal, programs)
                wrong += [f"flow {row.id} still runs; its parent is done with it" for row in orphans(engine.journal)]
                for row in rows:
                    if CancelRequested in self.machine_of(row).accepts(engine.row(row.id).state):
                        await engine.cancel(row.id)
                await wait_all_tasks_blocked()
                return [*wrong, *stage.complaints, *audit_journal(engine.journal, programs)]

        try:
            return self.call(live_on)
        finally:
            shutil.rmtree(copy.directory)

    def end(self) -> None:
        """Close the engine and remove all files."""
        try:
            self._run.close()
        finally:
            shutil.rmtree(self._home)

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._closing, self._closed = trio.Event(), trio.Event()
        await self._run.nursery.start(self._live)

    async def _close(self) -> None:
        self._closing.set()
        await self._closed.wait()

    async def _live(self, task_status: trio.TaskStatus[None]) -> None:
        async with self._opening(self.paths.directory, self.programs, self.stage):
            self.stage.on_change = self._shown
            task_status.started()
            await self._closing.wait()
        self._closed.set()

    @asynccontextmanager
    async def _opening(self, directory: Path, programs: Sequence[Program[Any]], stage: Stage) -> AsyncGenerator[Engine]:
        async with self._opens(paths_in(directory), programs, clock=self._clock, inline=True) as engine:
            stage.watch(engine)
            yield engine

    def _plays(self, stage: Stage) -> list[Program[Any]]:
        children = {name: stage.play(child, {}) for name, child in self._children.items()}
        return [stage.play(self._subject, children), *children.values()]

    def _new_paths(self) -> CloudPaths:
        self._numbers += 1
        return paths_in(self._home / str(self._numbers))

    def _shown(self, _change: Change) -> None:
        self._copy_in -= 1
        if self._copy_in == 0:
            copy = self._new_paths().directory
            shutil.copytree(self.paths.directory, copy, ignore=_SHARED_MEMORY)
            self.copies.append(Copy(copy, dict(self.stage.published)))


def machine_of(subject: Subject) -> Machine[Any]:
    """The machine itself, or the machine of a program."""
    return subject.machine if isinstance(subject, Program) else subject


def paths_in(directory: Path) -> CloudPaths:
    """Everything in one directory."""
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


# The shared memory of open SQLite connections does not survive a process.
_SHARED_MEMORY = shutil.ignore_patterns("*-shm")
