"""Group commit: many tasks write, one transaction at a time, and nobody goes on before their own write is on disk.

A write joins the group that is forming. Whoever starts a group leads it: waits until the file is free, closes the group
and commits all of it in one transaction on a worker thread; the others wait for that. So one flow alone pays one commit
for each event, and a thousand flows share theirs. No task of its own, no queue that outlives its callers.

If the transaction fails, every write of the group is tried once more alone, so that one bad write (a flow that somebody
else moved) does not take its neighbours with it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from .journal import Journal


class _Group:
    __slots__ = ("done", "errors", "operations")

    def __init__(self) -> None:
        self.operations: list[Callable[[], None]] = []
        self.errors: dict[int, BaseException] = {}
        self.done = trio.Event()


class Commits:
    """The asynchronous door to a journal's writes.

    Args:
        journal: The open journal.
        inline: Commit on the calling thread instead of a worker. For tests on a virtual clock, where a task that waits
            for a thread would count as idle and let time jump.
    """

    def __init__(self, journal: Journal, *, inline: bool = False) -> None:
        self._journal = journal
        self._inline = inline
        self._free = trio.Lock()
        self._forming: _Group | None = None

    async def write(self, operation: Callable[[], None]) -> None:
        """Run `operation` in a transaction and return when it is on disk. Never torn by cancellation.

        Raises:
            JournalError: The file cannot be written; nothing happened.
            FlowBusy: The operation found the flow moved by somebody else; nothing happened.
        """
        with trio.CancelScope(shield=True):
            if self._inline:
                self._journal.write([operation])
                return
            leading = self._forming is None
            group = self._forming = self._forming or _Group()
            index = len(group.operations)
            group.operations.append(operation)
            if leading:
                try:
                    async with self._free:
                        self._forming = None
                        await trio.to_thread.run_sync(_commit, self._journal, group)
                except BaseException as exc:  # noqa: BLE001 no thread to be had, say: everybody in the group is told
                    group.errors = dict.fromkeys(range(len(group.operations)), exc)
                finally:
                    group.done.set()
            else:
                await group.done.wait()
            if error := group.errors.get(index):
                raise error


def _commit(journal: Journal, group: _Group) -> None:
    try:
        journal.write(group.operations)
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
