"""One gate for each flow, and for each key a flow is started with.

Whoever starts, resumes, cancels or wakes a flow, or sends to one that is not driven here, goes through its gate, one at
a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import trio


async def enter(lock: trio.Lock, *, cancellable: bool = True) -> None:
    """Acquire a lock; a free one without a turn of the scheduler, which would cost as much as a step."""
    if lock.locked():
        await lock.acquire()
    else:
        if cancellable:
            await trio.lowlevel.checkpoint_if_cancelled()
        lock.acquire_nowait()


class Gates:
    """The gates of one engine. A gate exists while somebody is at it."""

    def __init__(self) -> None:
        self._gates: WeakValueDictionary[tuple[str, ...], trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def flow(self, flow: str) -> AsyncGenerator[None]:
        """Alone with one flow. A parent's gate is entered before its child's, never after it."""
        gate = self._gate(flow)
        await enter(gate)
        try:
            yield
        finally:
            gate.release()

    @asynccontextmanager
    async def key(self, machine: str, key: str) -> AsyncGenerator[None]:
        """Alone with one key of a machine; entered before the gate of a flow."""
        async with self._gate(machine, key):
            yield

    def _gate(self, *name: str) -> trio.Lock:
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = trio.Lock()
        return gate
