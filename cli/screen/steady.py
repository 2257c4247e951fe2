"""What a person is told of a stream that comes and goes: nothing, unless it stays away.

A stream that breaks and is back a moment later costs nobody anything, for polling answers at once. Four lines about it
would only worry somebody who sees them; and a bad connection would write them again and again. So the loss is held
back, and forgotten when the stream returns meanwhile or the flow goes on to something else. The journal, and with it
`--json`, has all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ...engine.history import Change

SETTLE_SECONDS: Final = 2.0
"""How long a stream must be away before a person is told."""


class _Held(NamedTuple):
    change: Change
    since: float


class Steady:
    """Holds losses of streams back until they have lasted.

    Args:
        now: Seconds on a clock that nobody sets.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._held: dict[str, _Held] = {}

    def holds(self, flow: str) -> bool:
        """Whether a flow's stream is away and nobody has been told."""
        return flow in self._held

    def offer(self, change: Change) -> bool:
        """Take a change in; returns whether it is to be told now."""
        if change.from_state == change.to_state and change.kind == "event":
            return True
        if change.event == "StreamLost":
            self._held[change.flow] = _Held(change, self._now())
            return False
        held = self._held.pop(change.flow, None)
        return held is None or change.event != "StreamReturned"

    def settled(self) -> list[Change]:
        """The losses that have lasted by now, and are to be told."""
        lasting = [held.change for held in self._held.values() if self._now() - held.since >= SETTLE_SECONDS]
        for change in lasting:
            del self._held[change.flow]
        return lasting
