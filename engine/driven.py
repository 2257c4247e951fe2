"""What is driven here: the flows of this engine's own tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .errors import FlowParked
from .journal.records import FlowRow
from .live import LiveFlow

MOST_CAUSES: Final = 100
"""Exceptions of paused flows that are kept for who waits for them later: each has a traceback, and so its frames."""


class Driven:
    """The flows one engine drives, or has just stopped driving because the journal could not be written.

    Args:
        settled: Called with a flow when nothing of it runs here any more.
    """

    def __init__(self, settled: Callable[[LiveFlow], None]) -> None:
        self._settled = settled
        self._live: dict[str, LiveFlow] = {}
        self._children: dict[str, dict[str, LiveFlow]] = {}
        self._causes: dict[str, tuple[int, BaseException]] = {}

    @property
    def any(self) -> bool:
        """Whether any flow is driven here."""
        return bool(self._live)

    def known(self, flow: str) -> LiveFlow | None:
        """The flow, also when it was stopped here and only this process knows why."""
        return self._live.get(flow)

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        live = self._live.get(flow)
        return None if live is None or live.stopped or live.settled.is_set() else live

    @property
    def all(self) -> Sequence[LiveFlow]:
        """Every one of them."""
        return tuple(self._live.values())

    def cause(self, row: FlowRow) -> BaseException | None:
        """What a paused flow was paused by, if that was here and not too long ago."""
        seq, cause = self._causes.get(row.id, (0, None))
        return cause if seq == row.seq else None

    def children(self, flow: str) -> Sequence[LiveFlow]:
        """The child flows of a flow that are driven here."""
        return tuple(self._children.get(flow, {}).values())

    def add(self, live: LiveFlow) -> None:
        """A flow that was just written, owned by this engine."""
        flow, parent = live.row.id, live.row.parent
        self._causes.pop(flow, None)
        self._live[flow] = live
        if parent is not None:
            self._children.setdefault(parent, {})[flow] = live

    def forget(self, live: LiveFlow) -> None:
        """The journal can answer for the flow from now on."""
        if self._live.get(live.row.id) is live:
            del self._live[live.row.id]

    def settle(self, live: LiveFlow, failure: Exception | None) -> None:
        """Nothing of the flow runs here any more; `failure` is why, when it has not ended."""
        driven = self._live.get(live.row.id, live)
        if live.ended or live.row.status == "paused" or live.row.owner is None:
            self.forget(live)
        parent = live.row.parent
        if parent is not None and self._children.get(parent, {}).get(live.row.id) is live:
            del self._children[parent][live.row.id]
            if not self._children[parent]:
                del self._children[parent]
            if not live.ended and parent in self._live:
                self._live[parent].lost_child = True
        live.stopped = live.stopped or not live.ended
        if isinstance(failure, FlowParked) and failure.__cause__ is not None:
            self._causes[live.row.id] = (live.row.seq, failure.__cause__)
            if len(self._causes) > MOST_CAUSES:
                del self._causes[next(iter(self._causes))]
        live.settle(failure)
        if driven is live:  # else it was taken up again meanwhile, and whoever follows it goes on following it
            self._settled(live)
