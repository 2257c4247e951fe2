"""One simulated process: an engine on the shared journal, with its own lock file, disk and callers.

A killed process writes nothing more, whatever its tasks still do while they are cancelled, and its lock is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Program
from systemprompt_cloud.testing.clock import VirtualClock

from .log import Changed, Dropped, Entry, Failed, Log, Noted, Posted, Wrote

CURRENT: ContextVar[Process] = ContextVar("process")
"""The process that a task belongs to."""


class Surroundings(Protocol):
    """What the processes of one history share."""

    log: Log
    paths: EnginePaths

    @property
    def clock(self) -> VirtualClock:
        """The time."""
        ...

    @property
    def threads(self) -> bool:
        """Whether writes form groups, which are written in threads when the disk is slow."""
        ...

    @property
    def wakes(self) -> bool:
        """Whether flows rest that only wait."""
        ...

    def latency(self) -> int:
        """How many checkpoints the next access to the disk takes."""
        ...

    def seconds(self) -> float:
        """How long the next write seems to take."""
        ...


class Process:
    """A process; `run` opens its engine and closes it.

    Attributes:
        number: Its number; no two processes of a history have the same.
        engine: Its engine, while it is open.
        owner: Its name as an owner of flows; empty before it is opened.
        dead: Whether it was killed.
        closed: Set when it is gone.
        failing: What writes fail, and how many more of each kind.
        vault_failing: How many more accesses to the vault fail.
        failure: What ended it, when it was not closed or killed.
        gone: The log's length when it had closed, or was killed; None while it lives.
        pending: What the transaction that is being written has done.
    """

    def __init__(self, number: int, around: Surroundings, programs: Sequence[Program[Any]]) -> None:
        self.number = number
        self.around = around
        self.engine: Engine | None = None
        self.dead = False
        self.closed = trio.Event()
        self.failing: dict[str, int] = {}
        self.vault_failing = 0
        self.pending: list[Entry] = []
        self.failure: BaseException | None = None
        self.gone: int | None = None
        self._programs = programs
        self._lock: Owner | None = None
        self._scope = trio.CancelScope()
        self._leave = trio.Event()
        self._callers: trio.Nursery | None = None

    @property
    def open(self) -> bool:
        """Whether its engine can be called."""
        return self.engine is not None and not self._leave.is_set() and not self.dead

    @property
    def latency(self) -> int:
        """How many checkpoints the next access to the disk takes."""
        return self.around.latency()

    @property
    def owner(self) -> str:
        """Its name as an owner of flows; empty before it is opened."""
        return "" if self._lock is None else self._lock.name

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Open an engine, and close it after `leave` or `kill`."""
        CURRENT.set(self)
        try:
            with self._scope:
                async with (
                    open_engine(
                        self.around.paths,
                        self._programs,
                        clock=self.around.clock,
                        inline=not self.around.threads,
                        wake=self.around.wakes,
                    ) as engine,
                    trio.open_nursery() as self._callers,
                ):
                    self.engine = engine
                    self._note("opened")
                    task_status.started()
                    await self._leave.wait()
                    self._callers.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            ours, self.failure = group.split((trio.Cancelled, KeyboardInterrupt))
            if ours is not None:
                raise ours from None
        except (Exception, SystemExit) as exc:  # noqa: BLE001 reported as a problem of the history
            self.failure = exc
        finally:
            opened, self.engine = self.engine is not None, None
            self.gone = self.around.log.now if self.gone is None else self.gone
            self._note("closed")
            self.closed.set()
        if not opened:
            task_status.started()

    def owns(self, lock: Owner) -> None:
        """Its lock file was made."""
        self._lock = lock
        self.around.log.owners[lock.name] = self.number

    def call(self, function: Callable[[], Any]) -> None:
        """Run a task that is cancelled before the engine closes, as tasks of a program are."""
        assert self._callers is not None
        self._callers.start_soon(function)

    def leave(self, *, abruptly: bool = False) -> None:
        """Close its engine; `abruptly` cancels the task it was opened in, as Ctrl-C does."""
        self._note("is closed")
        self._leave.set()
        if abruptly:
            self._scope.cancel()

    def kill(self) -> None:
        """Kill it: nothing it does is written any more, and its lock is free."""
        self._note("is killed")
        self.dead = True
        self.gone = self.around.log.now
        self._leave.set()
        if self._lock is not None:
            self._lock.release()
        self._scope.cancel()

    # --- what it writes -----------------------------------------------------------------------------------------------

    def commits(self) -> None:
        """The transaction is on disk."""
        for entry in self.pending:
            self.around.log.add(entry)
        self.pending.clear()

    def fails_now(self) -> bool:
        """Whether the transaction fails, as the plan wants it; asked right before its end."""
        what = next((kind for kind in ("any", *self._kinds()) if self.failing.get(kind, 0) > 0), None)
        if what is None:
            return False
        self.failing[what] -= 1
        flows = frozenset(entry.flow for entry in self.pending if isinstance(entry, Wrote | Changed | Posted))
        self.around.log.add(Failed(self.number, flows, what))
        return True

    def vault_fails_now(self, what: str, flow: str) -> bool:
        """Whether an access to the vault fails, as the plan wants it."""
        if not self.vault_failing:
            return False
        self.vault_failing -= 1
        self.around.log.add(Failed(self.number, frozenset({flow}), f"vault {what}"))
        return True

    def recover(self) -> None:
        """Nothing fails any more."""
        self.failing.clear()
        self.vault_failing = 0

    def _kinds(self) -> set[str]:
        kinds: set[str] = set()
        recorded = {entry.flow for entry in self.pending if isinstance(entry, Wrote)}
        for entry in self.pending:
            match entry:
                case Wrote():
                    kinds.add(entry.kind)
                case Posted():
                    kinds.add("posted")
                case Dropped():
                    kinds.add("dropped")
                case Changed() if entry.flow not in recorded:
                    kinds.add("claimed")
                case _:
                    pass
        return kinds

    def _note(self, text: str) -> None:
        self.around.log.add(Noted(self.number, text))
