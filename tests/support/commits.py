"""Commits that a test watches: counted, slower than a disk, or refused for a while, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import trio
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import JournalError
from systemprompt_cloud.engine.journal.commits import Commits
from typing_extensions import override


class WatchedCommits(Commits):
    """An engine's commits, from when this is made.

    Args:
        engine: The engine.
        turns: Scheduler turns that each commit takes before and after it is made, as a disk's latency does.

    Attributes:
        made: How many were tried.
        refused: How many of the next ones are refused, as on a full disk.
        answered: A commit is made, and its caller learns it when this is set.
    """

    def __init__(self, engine: Engine, *, turns: int = 0) -> None:
        super().__init__(engine.journal, inline=True)
        engine.store.commits = self
        self.made = 0
        self.refused = 0
        self.answered = trio.Event()
        self.answered.set()
        self._turns = turns

    @override
    async def write(self, operation: Callable[[], None]) -> None:
        self.made += 1
        with trio.CancelScope(shield=True):
            for _ in range(self._turns):
                await trio.lowlevel.checkpoint()
            if self.refused > 0:
                self.refused -= 1
                raise JournalError("cannot write the journal: the disk is full, as the test ordered")
            await super().write(operation)
            await self.answered.wait()
            for _ in range(self._turns):
                await trio.lowlevel.checkpoint()
