"""Stopping flows for good: cancelled by their own table, or abandoned where no table is known any more.

The leaf goes first, always. A crash between two of these writes then leaves a parent that learns that its child was
cancelled, and never a child that works for nobody; and what a crash left behind all the same is found by
`cancel_orphans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import CloudError, EngineClosed, EventNotAccepted, FlowBusy, IncompatibleFlow
from ..io.log import logger
from ..io.records import FlowRow
from ..machines.machine import CancelRequested
from .ids import visit_of_child
from .live import LiveFlow
from .versions import abandon

if TYPE_CHECKING:
    from .engine import Engine


class Endings:
    """How one engine stops flows before they end by themselves."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def cancel(self, flow: str, reason: str) -> bool:
        """Stop a flow, whoever drives it; see `Engine.cancel`."""
        engine = self._engine
        row = engine.claims.existing(flow)
        if row.status == "ended":
            return True
        live = engine.driven(flow)
        if live is not None:
            await self.cancel_driven(live, reason)
            return True
        try:
            live = await engine.take_over(row)
        except FlowBusy:
            await engine.inbox.post(flow, CancelRequested(reason))
            return False
        except IncompatibleFlow:
            await self._abandon(row, reason)
            return True
        failure: Exception | None = EngineClosed(f"flow {flow} could not be cancelled; it stands in {live.row.state}")
        try:
            await self.cancel_driven(live, reason)
            failure = None
        finally:
            engine.finish(live, failure)
        return True

    async def cancel_driven(self, live: LiveFlow, reason: str, *, signal: int | None = None) -> None:
        """Stop a flow that this engine has taken over; `signal` leaves the inbox with the step."""
        for child in self._engine.journal.children(live.row.id):
            if child.status != "ended":
                driven = self._engine.driven(child.id)
                await self.cancel(child.id, reason)
                if driven is not None:
                    await driven.settled.wait()  # its port is free and its tasks are gone before the parent ends
        try:
            if not live.ended:
                await live.step(CancelRequested(reason), signal=signal)
        except EventNotAccepted:
            if not live.ended:  # a parent that follows its child may have ended meanwhile: that is what was asked for
                raise

    async def cancel_strays(self, live: LiveFlow) -> None:
        """Stop the children of visits that are over: a state left by another way than its child's end leaves them."""
        for child in self._engine.journal.children(live.row.id):
            if child.status != "ended" and visit_of_child(child.id) != live.row.incarnation:
                await self.cancel(child.id, f"{live.machine.name} went on to {live.row.state}")

    async def cancel_orphans(self) -> None:
        """Stop the children of flows that ended in a process that was killed before it could: nobody resumes them."""
        try:
            for orphan in self._engine.journal.orphans():
                await self.cancel(orphan.id, "the flow it belonged to has ended")
        except CloudError as exc:  # they can wait; what the engine was opened for need not
            logger.warning("a child of a flow that has ended still stands where it was: {}", exc)

    async def _abandon(self, row: FlowRow, reason: str) -> None:
        # Cancelling without a table: whatever version wrote the flow, it must not stand in anybody's way for ever.
        engine = self._engine
        for child in engine.journal.children(row.id):
            if child.status != "ended":
                await self.cancel(child.id, reason)
        after, record = abandon(row, reason, engine.clock.now())
        await engine.commits.write(lambda: engine.journal.advance(row, after, record))
        engine.claims.discard_secrets(row.id)
