"""Flows that another process drives: whether that process still runs, and when to look at the journal again.

Nothing tells a process that another one has written. So whoever waits for such a flow looks: ten times a second at
whether anything was written at all, which is one number for all who wait, and at the flow only when something was. A
process that was killed writes nothing: once a second the lock of the flow's owner is looked at as well.
"""

from __future__ import annotations

from typing import Final

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .errors import EngineClosed
from .store import Ownership

logger = get_logger(__name__)

LOOK_SECONDS: Final = 0.1
"""How often is looked, while anybody waits."""
QUIET_SECONDS: Final = 5.0
"""How long is waited for news at first, where the store tells of them (under virtual time); twice as long each time."""
LONGEST_QUIET_SECONDS: Final = 3600.0
"""How long at the most."""
OWNER_LOOKS: Final = 10
"""After how many looks without news whoever waits looks at the flow, and whether its owner still runs."""
UNKNOWN: Final = -1
"""No stamp of a store."""


class Elsewhere:
    """What other processes do with the flows of one store. Nothing is done while nobody waits.

    Args:
        store: Where the flows are.
        nursery: Where the looking runs.

    Attributes:
        looks: How often was looked.
        closed: Whether the engine is closed.
    """

    def __init__(self, store: Ownership, nursery: trio.Nursery) -> None:
        self._store = store
        self._nursery = nursery
        self._stamp = UNKNOWN
        self._look: trio.Event | None = None
        self._alive: dict[str, int] = {}
        self._quiet = QUIET_SECONDS
        self.closed = False
        self.looks = 0

    def close(self) -> None:
        """Whoever waits is told that the engine is closed."""
        self.closed = True

    def refuse_closed(self) -> None:
        """Raises `EngineClosed` once the engine is closed."""
        if self.closed:
            raise EngineClosed("the engine is closed", hint="Use it inside its `async with` block.")

    def runs(self, owner: str | None) -> bool:
        """Whether the process with this name runs; what was true within the last looks still counts."""
        if owner is None:
            return False
        if self.looks - self._alive.get(owner, -OWNER_LOOKS) >= OWNER_LOOKS:
            if not self._store.is_alive(owner):
                self._alive.pop(owner, None)
                return False
            self._alive[owner] = self.looks
        return True

    async def stamp(self) -> int:
        """What `news` compares with: asked for before the flow is looked at, so that nothing is missed in between."""
        return await self._store.stamp()

    async def news(self, stamp: int) -> None:
        """Wait until something was written after `stamp`, or it is time to see whether the flow's owner still runs.

        Raises:
            EngineClosed: The engine was closed meanwhile.
        """
        until = self.looks + OWNER_LOOKS
        while self.looks < until:
            self.refuse_closed()
            if self._look is None:
                self._look = trio.Event()
                self._nursery.start_soon(self._look_once, self._look)
            await self._look.wait()
            if self._stamp != stamp:
                break
        self.refuse_closed()

    async def _look_once(self, looked: trio.Event) -> None:
        """For all who wait now; whoever waits on has the next look made."""
        try:
            await trio.sleep(LOOK_SECONDS)
            with trio.move_on_after(self._quiet) as scope:
                await self._store.written(self._stamp)
            if scope.cancelled_caught:
                self._quiet = min(2 * self._quiet, LONGEST_QUIET_SECONDS)
                self.looks += OWNER_LOOKS  # so long that the owners are looked at again
            else:
                self._quiet = QUIET_SECONDS
            self._stamp = await self._store.stamp()
        except CloudError as exc:  # who looks at the flow now meets the same trouble, and raises it
            logger.debug("it cannot be seen whether anything was written: %s", exc)
            self._stamp = UNKNOWN
        finally:
            self.looks += 1
            self._look = None
            looked.set()
