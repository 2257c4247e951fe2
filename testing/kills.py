"""Kill a flow's engine at a record and resume the flow in another: whether a program survives every moment.

    for count in itertools.count(1):
        survived = await kill_and_resume(count, tmp_path / str(count), make_programs, start)
        if survived is None:  # the flow had ended before
            break
        assert survived.outcome.succeeded

A process that dies between two records is, to whatever continues, one that dies right after the first, or right before
the second with all that was done in between. Both are tried: `written=True` and `written=False`. So a kill at each
record in both ways is a kill anywhere.

It happens in this process, so it is quick and needs no files of yours, and time may be virtual. What was on disk in
that moment is copied, and the second engine gets the copy; nothing that the first still writes is in it. Two things are
different from a power cut: what activities do while they are cancelled (`finally`) is still done, and what they have
changed outside of the journal and the vault (a server, a fake of one) is as they left it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, NoReturn, TypeVar, cast

import trio
from typing_extensions import override

from ..base.clock import Clock
from ..engine.engine import Engine, open_engine
from ..engine.flow import Flow
from ..engine.history import Change, Outcome
from ..engine.journal.commits import Commits
from ..engine.journal.journal import Journal
from ..engine.machine.parts import Context
from ..engine.nursery import open_plain_nursery
from ..engine.paths import EnginePaths
from ..engine.visit import Program
from .clock import VirtualClock

C = TypeVar("C", bound=Context)

EVERY_FLOW: Final = 100_000
_SHARED_MEMORY: Final = shutil.ignore_patterns("*-shm")
"""The shared memory of open SQLite connections does not survive a process."""


class Survived(NamedTuple, Generic[C]):
    """What became of a flow whose engine was killed.

    Attributes:
        history: Its records as the second engine found them; empty when the kill came before the first was written.
        outcome: How it ended.
    """

    history: list[Change]
    outcome: Outcome[C]


async def kill_and_resume(
    count: int,
    directory: Path,
    programs: Callable[[], Sequence[Program[Any]]],
    start: Callable[[Engine], Awaitable[Flow[C]]],
    *,
    written: bool = True,
    meanwhile: Callable[[Flow[C]], Awaitable[object]] | None = None,
    away: float = 0.0,
    clock: Clock | None = None,
) -> Survived[C] | None:
    """Start a flow, kill its engine at one of its records, and resume it in another engine until it has ended.

    Use it under `trio.testing.MockClock(autojump_threshold=0)`, and time passes only where it is waited for.

    Args:
        count: At which record, from 1 on. Those of the flows that run inside it count, too.
        directory: Where the journal is to be; there is none yet.
        programs: Makes the programs, once for each engine: what a program remembers in memory does not survive.
        start: Starts the flow. Where the kill left no record of it, it is called again.
        written: Whether the kill comes right after the record was written, or right before.
        meanwhile: What is done from outside beside each of the engines: it may send the flow the events it waits for.
            When it is called the second time the flow may have some of them already.
        away: Seconds from the kill until the second engine is opened.
        clock: The flow's time; a `VirtualClock` when not given.

    Returns:
        What became of it; None when it ended with fewer records.

    Raises:
        FlowParked: It is paused until something is fixed, with the first engine or the second.
        ValueError: `count` is less than 1, or the directory exists already.
    """
    _check(count, directory)
    clock = clock or VirtualClock()
    if not await _live_until_killed(count, directory, programs, start, written, meanwhile, clock):
        return None
    await trio.sleep(away)
    async with open_engine(EnginePaths.inside(directory), programs(), clock=clock, inline=True) as engine:
        outermost = engine.journal.flows(roots_only=True, limit=EVERY_FLOW)
        if not outermost:
            return Survived([], await _until_ended(await start(engine), meanwhile))
        row = outermost[-1]
        history = engine.history(row.id)
        if row.status == "ended":
            return Survived(history, cast("Outcome[C]", await engine.wait(row.id)))
        flow = cast("Flow[C]", await engine.resume(row.id))
        return Survived(history, await _until_ended(flow, meanwhile))


def _check(count: int, directory: Path) -> None:
    if count < 1:
        raise ValueError(f"records are counted from 1 on, not from {count}")
    if directory.exists():
        raise ValueError(f"{directory} exists already")


async def _live_until_killed(
    count: int,
    directory: Path,
    programs: Callable[[], Sequence[Program[Any]]],
    start: Callable[[Engine], Awaitable[Flow[C]]],
    written: bool,
    meanwhile: Callable[[Flow[C]], Awaitable[object]] | None,
    clock: Clock,
) -> bool:
    """The first engine's life. Returns False when the flow ended before the kill."""
    deadly: _Deadly | None = None
    with tempfile.TemporaryDirectory() as place:
        first = Path(place) / "first"
        try:
            with trio.CancelScope() as scope:
                async with open_engine(EnginePaths.inside(first), programs(), clock=clock, inline=True) as engine:
                    deadly = engine.store.commits = _Deadly(
                        engine.journal, first, count, directory, scope, written=written
                    )
                    await _until_ended(await start(engine), meanwhile)
        except (_Killed, Exception, BaseExceptionGroup):  # also what the engine raises because it is ended
            if deadly is None or not deadly.over:
                raise
    return deadly is not None and deadly.over


async def _until_ended(flow: Flow[C], meanwhile: Callable[[Flow[C]], Awaitable[object]] | None) -> Outcome[C]:
    if meanwhile is None:
        return await flow.wait()
    async with open_plain_nursery() as nursery:
        nursery.start_soon(meanwhile, flow)
        return await flow.wait()


class _Killed(BaseException):
    """Ends what is shielded from being cancelled."""


class _Deadly(Commits):
    """Commits that end with one record, and leave a copy of what was on disk.

    Args:
        journal: The journal.
        directory: Where it and everything else is.
        count: The number of the record.
        copy: Where the copy is made.
        scope: What the engine runs in.
        written: Whether that record is in it.

    Attributes:
        over: Whether it was made.
    """

    def __init__(
        self, journal: Journal, directory: Path, count: int, copy: Path, scope: trio.CancelScope, *, written: bool
    ) -> None:
        super().__init__(journal, inline=True)
        self._places = directory, copy
        self._count, self._written = count, written
        self._scope = scope
        self._written_to = journal
        self.over = False

    @override
    async def write(self, operation: Callable[[], None]) -> None:
        if self.over:
            await self._end()
        directory, copy = self._places
        # Whether it is a record shows only when it is written.
        before = not self._written and self._records() == self._count - 1
        if before:
            shutil.copytree(directory, copy, ignore=_SHARED_MEMORY)
        self._written_to.write([operation])
        self.over = self._records() >= self._count
        if before and not self.over:
            shutil.rmtree(copy)
        if self.over:
            if not before:
                shutil.copytree(directory, copy, ignore=_SHARED_MEMORY)
            await self._end()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _end(self) -> NoReturn:
        self._scope.cancel()
        await trio.lowlevel.checkpoint()
        raise _Killed

    def _records(self) -> int:
        return sum(row.seq for row in self._written_to.flows(limit=EVERY_FLOW))
