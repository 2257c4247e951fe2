"""Group commit: many tasks write, one transaction at a time, and each continues once its own write is on disk.

A write joins the group that is forming. The task that starts a group leads it: it waits until the file is free, closes
the group and commits it in one transaction; the others wait for that. So one flow alone pays one commit for each event,
and a thousand flows share theirs. No task of its own, no queue that outlives its callers.

Handing a commit to a worker thread and back costs about as much as a commit on a good disk. So a single write is
committed on the loop's own thread as long as commits have been quick; with a slow disk, a busy file or other writers a
worker thread commits.

If the transaction fails, every write of the group is tried once more alone, so that one bad write (a flow that another
process moved) does not fail the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from ..errors import JournalBusy
from .journal import Journal

QUICK_SECONDS: Final = 0.002
"""A commit that takes less may block the loop; a longer one would delay other tasks noticeably."""

ALONE_AT_MOST: Final = 8
"""Writes in a row that are committed without waiting for others to join."""


class _Group:
    __slots__ = ("errors", "operations", "waiting")

    def __init__(self) -> None:
        self.operations: list[Callable[[], None]] = []
        self.errors: dict[int, BaseException] = {}
        self.waiting: list[trio.lowlevel.Task] = []


class Commits:
    """Asynchronous, grouped writes to a journal.

    Args:
        journal: The open journal.
        inline: Always commit on the calling thread. For tests on a virtual clock, where a task that waits for a thread
            would count as idle and let time jump.
    """

    def __init__(self, journal: Journal, *, inline: bool = False) -> None:
        self._journal = journal
        self._inline = inline
        self._free = trio.Lock()
        # Of our own: activities may hold every thread of trio's, and wait in them for what they send to be written.
        self._thread = trio.CapacityLimiter(1)
        self._forming: _Group | None = None
        self._alone = 0
        self._lasted = 0.0

    async def write(self, operation: Callable[[], None]) -> None:
        """Run `operation` in a transaction and return when it is on disk; cancellation cannot interrupt it.

        Raises:
            JournalError: The file cannot be written; nothing was written.
            CloudError: Whatever `operation` raises (`FlowBusy`, `FlowExists`, `SignalTaken`); nothing was written.
        """
        if self._inline:
            self._journal.write([operation])
            await trio.lowlevel.cancel_shielded_checkpoint()  # other tasks have their turn, as with a thread
            return
        group = self._forming
        if group is None:
            self._alone += 1
            if self._alone < ALONE_AT_MOST and not self._free.locked() and self._commit_here(operation):
                return
            group = self._forming = _Group()
            group.operations.append(operation)
            await self._lead(group)
            index = 0
        else:
            index = len(group.operations)
            group.operations.append(operation)
            group.waiting.append(trio.lowlevel.current_task())
            # Cancellation is blocked here: the leader always wakes every task of its group.
            await trio.lowlevel.wait_task_rescheduled(_cannot_be_aborted)
        if error := group.errors.get(index):
            raise error

    async def _lead(self, group: _Group) -> None:
        try:
            with trio.CancelScope(shield=True):
                # One turn of the loop, so that tasks that are about to write can join.
                await trio.lowlevel.checkpoint()
                async with self._free:
                    self._forming = None
                    if len(group.operations) > 1:
                        self._alone = ALONE_AT_MOST
                    else:
                        self._alone = 0
                        if self._commit_here(group.operations[0]):
                            return
                    await trio.to_thread.run_sync(self._commit, group, limiter=self._thread)
        except BaseException as exc:  # noqa: BLE001 no thread available, for example: every writer of the group raises it
            group.errors = dict.fromkeys(range(len(group.operations)), exc)
        finally:
            if self._forming is group:
                self._forming = None
            for task in group.waiting:
                trio.lowlevel.reschedule(task)

    def _commit_here(self, operation: Callable[[], None]) -> bool:
        """Commit on the loop's own thread, if that is quick; False when it is not, and nothing was done."""
        if self._lasted > QUICK_SECONDS:
            return False
        began = time.perf_counter()
        try:
            self._journal.write([operation], patience=0.0)
        except JournalBusy:
            return False
        finally:
            self._lasted = time.perf_counter() - began
        return True

    def _commit(self, group: _Group) -> None:
        began = time.perf_counter()
        _commit_all(self._journal, group)
        self._lasted = time.perf_counter() - began


def _cannot_be_aborted(_raise_cancel: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _commit_all(journal: Journal, group: _Group) -> None:
    try:
        journal.write(group.operations)
    except JournalBusy:
        raise
    except Exception as exc:  # noqa: BLE001 handed to the writer it belongs to, which raises it
        if len(group.operations) == 1:
            group.errors[0] = exc
            return
    else:
        return
    for index, operation in enumerate(group.operations):
        try:
            journal.write([operation])
        except Exception as exc:  # noqa: BLE001 handed to the writer it belongs to, which raises it
            group.errors[index] = exc
