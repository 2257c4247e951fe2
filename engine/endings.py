"""Stopping flows for good: cancelled by their own table, or abandoned where no table is known any more.

The leaf goes first, always. A crash between two of these writes then leaves a parent that learns that its child was
cancelled, and never a child that works for nobody; and what a crash left behind all the same is found by
`cancel_orphans`. While its children are being cancelled a flow takes no step, so that it ends cancelled whatever they
say.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .claims import Claims
from .driven import Driven
from .errors import EventNotAccepted, FlowBusy, IncompatibleFlow, NotStorable, TableFailed
from .gates import Gates
from .journal.records import FlowRow
from .ledger import Ledger
from .live import LiveFlow
from .machine.parts import CancelRequested
from .nursery import in_task
from .secrets import Removal
from .signals import ask_to_end
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
        removal: Removes those of flows that have ended.
        gates: Each flow's gate.
        nursery: Where flows are cancelled.
        go_on: Drives a flow whose table does something before it ends.
    """

    def __init__(
        self,
        store: Ownership,
        ledger: Ledger,
        claims: Claims,
        driven: Driven,
        vault: Vault,
        removal: Removal,
        gates: Gates,
        nursery: trio.Nursery,
        go_on: Callable[[LiveFlow], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._claims = claims
        self._driven = driven
        self._vault = vault
        self._gates = gates
        self._nursery = nursery
        self._go_on = go_on
        self._removal = removal

    async def cancel(self, flow: str, reason: str) -> bool:
        """Stop a flow, whoever drives it; see `Engine.cancel`.

        It is done in a task of the engine: stopped halfway, it would leave a parent that runs on without its children.
        """
        return await in_task(self._nursery, partial(self._cancel, flow, reason))

    async def cancel_wholly(self, flow: str, reason: str) -> None:
        """Stop a flow that nobody needs, and wait until nothing of it runs here: its port is free, its tasks are gone.

        Where its table does not allow that, it is ended all the same: it belongs to a state that has been left.
        """
        before = self._driven.driven(flow)
        try:
            await self.cancel(flow, reason)
        except (EventNotAccepted, TableFailed, NotStorable) as exc:
            logger.warning("flow %s is ended without its table: %s", flow, exc)
            await in_task(self._nursery, partial(self._abandon_wholly, flow, reason))
        for live in (before, self._driven.driven(flow)):  # its table may do something before it ends
            if live is not None:
                await live.settled.wait()

    async def _cancel(self, flow: str, reason: str) -> bool:
        while True:
            async with self._gates.flow(flow):
                row = await self._claims.existing(flow)
                if row.status == "ended":
                    return True
                live = self._driven.driven(flow)
                if live is None and not await self._may_end(row, reason):
                    if await self._will_see(row):
                        return False
                    continue
            if live is None:
                if not await self._cancel_children_of_undriven(row, reason):
                    return False
                with suppress(FlowBusy):  # another process was quicker: looked at anew
                    async with self._gates.flow(flow):
                        if self._driven.driven(flow) is None:
                            return await self._end_here(flow, reason)
            elif await self.cancel_driven(live, reason):
                return live.ended

    async def cancel_driven(self, live: LiveFlow, reason: str, *, signal: int | None = None) -> bool:
        """Stop a flow that is driven here; `signal` leaves the inbox with the step.

        While its children are being cancelled nothing else happens to it, and nobody has to wait for that.

        Returns:
            False when it is not driven here any more.

        Raises:
            EventNotAccepted: Its state has no row for `CancelRequested`, or a guard refused it; nothing was changed.
            TableFailed: The table's update raised; nothing was changed.
        """
        async with live.lock:
            if live.stopped:
                return False
            if live.ended:
                return True
            first = None if live.cancelling else live.look_up(CancelRequested(reason))
            if first is not None:
                live.cancelling, live.decided = True, trio.Event()
        if first is None:  # somebody else cancels it: what comes of that counts for both
            await live.decided.wait()
            return await self.cancel_driven(live, reason, signal=signal)
        try:
            await self._cancel_children(live.row.id, reason)
            async with live.lock:
                if live.stopped:
                    return False
                if not live.ended:
                    await live.step_alone(CancelRequested(reason), signal=signal)
        finally:
            live.cancelling = False
            live.decided.set()
        return True

    async def _may_end(self, row: FlowRow, reason: str) -> bool:
        """Whether a flow that nobody drives here may be ended here; the process that drives it is asked to end it.

        Raises:
            EventNotAccepted: Its state has no row for `CancelRequested`, or a guard refused it.
        """
        try:
            self._claims.refuse_busy(row)
            (await self._claims.load(row)).look_up(CancelRequested(reason))
        except FlowBusy:
            with suppress(EventNotAccepted):  # it has ended meanwhile
                await ask_to_end(self._store, self._ledger.clock, row.id, reason)
            return False
        except (IncompatibleFlow, TableFailed) as exc:
            logger.debug("flow %s will end without its table: %s", row.id, exc)
        return True

    async def _will_see(self, row: FlowRow) -> bool:
        """Whether the process that was asked to end a flow drives it still; it may just have paused it."""
        row = await self._claims.existing(row.id)
        try:
            self._claims.refuse_busy(row)
        except FlowBusy:
            return True
        return False

    async def _end_here(self, flow: str, reason: str) -> bool:
        known = self._driven.known(flow)
        ended = False
        with trio.CancelScope(shield=True):  # written and driven, or neither
            try:
                live = await self._claims.take_over(flow, lambda live: live.step(CancelRequested(reason)))
            except (IncompatibleFlow, TableFailed):
                await self._abandon(await self._claims.existing(flow), reason)
                ended = True
            else:
                ended = live.ended
                if ended:
                    await self._removal.discard(flow)
                else:
                    await self._vault.make_known(flow)
                    self._go_on(live)
            if known is not None:
                self._driven.forget(known)
        return ended

    async def _cancel_children_of_undriven(self, row: FlowRow, reason: str) -> bool:
        """Cancel the children of a flow that nobody drives.

        Whoever resumes it meanwhile finds in its inbox that it is to end, before its activities see what became of its
        children.

        Returns:
            False when another process drives it already, and was asked to end it.
        """
        if not await self._store.unfinished_children(row.id):
            return True
        with suppress(EventNotAccepted):  # it has ended meanwhile
            await ask_to_end(self._store, self._ledger.clock, row.id, reason)
            if await self._will_see(row):
                return False
        await self._cancel_children(row.id, reason)
        return True

    async def _abandon_wholly(self, flow: str, reason: str) -> None:
        live = self._driven.driven(flow)
        if live is not None:
            live.scope.cancel()
            await live.settled.wait()
        await self._cancel_children(flow, reason)
        async with self._gates.flow(flow):
            row = await self._claims.existing(flow)
            self._claims.refuse_busy(row)
            await self._abandon(row, reason)
            if (known := self._driven.known(flow)) is not None:
                self._driven.forget(known)

    async def _cancel_children(self, flow: str, reason: str) -> None:
        failures: list[CloudError] = []

        async def cancel(child: str) -> None:
            try:
                await self.cancel_wholly(child, reason)
            except CloudError as exc:
                failures.append(exc)

        children = [child.id for child in await self._store.unfinished_children(flow)]
        if len(children) == 1:
            await self.cancel_wholly(children[0], reason)
        elif children:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(cancel, child)
            if failures:
                raise failures[0]

    async def cancel_orphans(self) -> None:
        """Stop the children of flows that ended in a process that was killed before it could: nobody resumes them."""
        try:
            orphans = await self._store.orphans()
        except CloudError as exc:  # they can wait; what the engine was opened for need not
            logger.warning("the children of flows that have ended cannot be looked for: %s", exc)
            return
        for orphan in orphans:
            try:
                await self.cancel_wholly(orphan.id, "the flow it belonged to has ended")
            except Exception as exc:  # noqa: BLE001 it is this flow's; the engine goes on
                logger.warning("a child of a flow that has ended could not be cancelled: %s", exc)

    async def _abandon(self, row: FlowRow, reason: str) -> None:
        # Cancelling without a table: whatever version wrote the flow, it must not stand in anybody's way for ever.
        if row.status != "ended":
            after, record = abandon(row, reason, self._ledger.clock.now())
            await self._ledger.advance(row, after, record)
        await self._removal.discard(row.id)
