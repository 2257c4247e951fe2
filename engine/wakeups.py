"""An event that any thread may set."""

from __future__ import annotations

import trio


class Wakeup:
    """What a task waits for, and any thread may bring about. Made in the event loop that waits."""

    __slots__ = ("_event", "_token")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._token = trio.lowlevel.current_trio_token()

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()

    def set(self) -> None:
        """Wake who waits; a second time does nothing."""
        try:
            here = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            here = False
        if here:
            self._event.set()
            return
        try:
            self._token.run_sync_soon(self._event.set)
        except trio.RunFinishedError:  # its event loop is over, and who waits with it
            return
