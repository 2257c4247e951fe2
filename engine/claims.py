"""Which flows this process may drive.

A flow names its owner; an owner that is dead has lost it. A flow is taken over by its first write here: that succeeds
only if the flow is still as it was when its owner was looked at. A flow that moved in between is looked at once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from ..base.remedies import Remedy
from .errors import EffectUncertain, FlowBusy
from .journal.owners import OwnerName
from .journal.records import QUEUED, FlowRow
from .ledger import Ledger
from .live import LiveFlow
from .loading import Loading, MakeLive
from .machine.parts import ResumePolicy
from .store import Ownership
from .visit import Program


class Claims(Loading):
    """The flows of one store, as one engine may claim them.

    Args:
        store: Where they are.
        ledger: How they are written.
        programs: The machines that are known here, with their activities.
        owner: This engine, as the store names it.
        make_live: Makes a flow that can be driven of what is stored.
    """

    def __init__(
        self, store: Ownership, ledger: Ledger, programs: Iterable[Program[Any]], owner: str, make_live: MakeLive
    ) -> None:
        super().__init__(store, ledger, programs, make_live)
        self._owned = store
        self.owner = owner

    async def must_await_decision(self, row: FlowRow, *, driven: bool) -> None:
        """Refuse to repeat an effect where nobody was asked about one.

        Raises:
            EffectUncertain: The flow is driven here, has ended, is in a state whose effect is not asked about, or has
                announced none in this visit.
        """
        policy = self.program(row.machine, row.id).machine.states[row.state].resume
        if row.status == "ended":
            raise EffectUncertain(f"flow {row.id} has ended in {row.state}", hint="Nothing is left to repeat.")
        if driven:
            raise EffectUncertain(
                f"flow {row.id} is running in state {row.state}; nothing is waiting for a decision now",
                hint="Wait for it. If it then pauses with `EffectUncertain`, resume it with `repeat`.",
            )
        if row.status == QUEUED:
            raise EffectUncertain(
                f"flow {row.id} is queued and has done nothing yet", hint="Resume it without `repeat`."
            )
        if policy is not ResumePolicy.ASK:
            raise EffectUncertain(
                f"flow {row.id} is in state {row.state}, where nothing waits for a decision: only effects with the "
                "policy `ask` do",
                hint="Resume it without `repeat`.",
                remedy=Remedy("resume_without_repeat", {"flow": row.id}),
            )
        if not await self._owned.intents(row.id, row.incarnation):
            raise EffectUncertain(
                f"flow {row.id} is in state {row.state} and has announced no effect there, so none is uncertain",
                hint="Resume it without `repeat`.",
                remedy=Remedy("resume_without_repeat", {"flow": row.id}),
            )

    def refuse_busy(self, row: FlowRow) -> None:
        """Raises `FlowBusy` when another process drives the flow."""
        if row.owner not in (None, self.owner) and self._owned.is_alive(row.owner):
            owner = OwnerName.parse(row.owner)
            raise FlowBusy(row.id, pid=owner.pid, host=owner.host)

    async def take_over(self, flow: str, write: Callable[[LiveFlow], Awaitable[object]]) -> LiveFlow:
        """Make a flow ours with its first write here; one that has ended is only loaded.

        Args:
            flow: Its id.
            write: Writes at least one record of the flow.

        Raises:
            FlowNotFound: No flow has this id.
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version wrote it, and no migration leads from there.
            CloudError: What `write` raises.
        """
        row = await self.existing(flow)
        try:
            return await self._take_over(row, write)
        except FlowBusy:
            moved = await self.existing(flow)
            if (moved.seq, moved.owner) == (row.seq, row.owner):
                raise
            return await self._take_over(moved, write)

    async def _take_over(self, row: FlowRow, write: Callable[[LiveFlow], Awaitable[object]]) -> LiveFlow:
        self.refuse_busy(row)
        live = await self.load(row)
        live.behind = True
        if not live.ended:
            await write(live)
        return live
