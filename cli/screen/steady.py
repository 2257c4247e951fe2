"""Hold back messages about a short outage of the server until it has lasted.

A stream that breaks and is back a moment later has no consequence, and neither has a question that fails once.
Lines about it would only worry the reader, and a bad connection would write them again and again. So a trouble
is held back, and forgotten when it is over meanwhile or the flow continues with something else. The journal, and
with it `--json`, has all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ...engine.history import Change

SETTLE_SECONDS: Final = 2.0
"""How long a trouble must last before it is shown."""

_OVER: Final = {
    "StreamLost": frozenset({"StreamReturned"}),
    "StatusNotAnswered": frozenset({"StepObserved"}),
}
"""The troubles, and which events show that each is over."""


class _Trouble(NamedTuple):
    change: Change
    since: float
    shown: bool = False


class Steady:
    """Holds troubles back until they have lasted.

    Args:
        now: Seconds on a clock that nobody sets.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    def offer(self, change: Change) -> bool:
        """Take a change in; returns whether it is to be shown now."""
        if change.kind == "event" and change.event in _OVER:
            self._troubles.setdefault((change.flow, change.event), _Trouble(change, self._now()))
            return False
        went_on = change.from_state != change.to_state
        over = [trouble for trouble, signs in _OVER.items() if went_on or change.event in signs]
        ended = [self._troubles.pop((change.flow, trouble), None) for trouble in over]
        # That a trouble is over is shown where the trouble was.
        return change.event != "StreamReturned" or all(trouble is None or trouble.shown for trouble in ended)

    def settled(self) -> list[Change]:
        """The troubles that have lasted by now, and are to be shown."""
        lasting = {
            key: trouble
            for key, trouble in self._troubles.items()
            if not trouble.shown and self._now() - trouble.since >= SETTLE_SECONDS
        }
        self._troubles |= {key: trouble._replace(shown=True) for key, trouble in lasting.items()}
        return [trouble.change for trouble in lasting.values()]
