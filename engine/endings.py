"""Stopping flows for good: cancelled by their own table, or abandoned where no table is known any more.

The leaf goes first, always. A crash between two of these writes then leaves a parent that learns that its child was
cancelled, and never a child that works for nobody; and what a crash left behind all the same is found by
`cancel_orphans`.
"""

from __future__ import annotations

from ..base.errors import CloudError
from ..base.log import get_logger
from .claims import Claims
from .driven import Driven
from .errors import EngineClosed, EventNotAccepted, FlowBusy, IncompatibleFlow
from .journal.records import FlowRow
from .ledger import Ledger
from .live import LiveFlow
from .machine.parts import CancelRequested
from .secrets import discard_secrets
from .signals import post
from .store import Ownership, Vault
from .versions import abandon

logger = get_logger(__name__)


class Endings:
    """How one engine stops flows before they end by themselves.

    Args:
        store: Where they are.
        ledger: How they are written.
        claims: Which flows may be ended here.
        driven: Which are driven here.
        vault: Where their secrets are.
    """

    def __init__(self, store: Ownership, ledger: Ledger, claims: Claims, driven: Driven, vault: Vault) -> None:
        self._store = store
        self._ledger = ledger
        self._claims = claims
        self._driven = driven
        self._vault = vault

    async def cancel(self, flow: str, reason: str) -> bool:
        """Stop a flow, whoever drives it; see `Engine.cancel`."""
        row = await self._claims.existing(flow)
        if row.status == "ended":
            return True
        live = self._driven.driven(flow)
        if live is not None:
            await self.cancel_driven(live, reason)
            return True
        try:
            live = await self._driven.take_over(row)
        except FlowBusy:
            await post(self._store, self._ledger.clock, flow, CancelRequested(reason))
            return False
        except IncompatibleFlow:
            await self._abandon(row, reason)
            return True
        failure: Exception | None = EngineClosed(f"flow {flow} could not be cancelled; it is in state {live.row.state}")
        try:
            await self.cancel_driven(live, reason)
            failure = None
        finally:
            await self._driven.finish(live, failure)
        return True

    async def cancel_driven(self, live: LiveFlow, reason: str, *, signal: int | None = None) -> None:
        """Stop a flow that this engine has taken over; `signal` leaves the inbox with the step."""
        for child in await self._store.children(live.row.id):
            if child.status != "ended":
                driven = self._driven.driven(child.id)
                await self.cancel(child.id, reason)
                if driven is not None:
                    await driven.settled.wait()  # its port is free and its tasks are gone before the parent ends
        try:
            if not live.ended:
                await live.step(CancelRequested(reason), signal=signal)
        except EventNotAccepted:
            if not live.ended:  # a parent that follows its child may have ended meanwhile: that is what was asked for
                raise

    async def cancel_orphans(self) -> None:
        """Stop the children of flows that ended in a process that was killed before it could: nobody resumes them."""
        try:
            for orphan in await self._store.orphans():
                await self.cancel(orphan.id, "the flow it belonged to has ended")
        except CloudError as exc:  # they can wait; what the engine was opened for need not
            logger.warning("a child of a flow that has ended could not be cancelled: %s", exc)

    async def _abandon(self, row: FlowRow, reason: str) -> None:
        # Cancelling without a table: whatever version wrote the flow, it must not stand in anybody's way for ever.
        for child in await self._store.children(row.id):
            if child.status != "ended":
                await self.cancel(child.id, reason)
        after, record = abandon(row, reason, self._ledger.clock.now())
        await self._ledger.advance(row, after, record)
        await discard_secrets(self._vault, row.id)
