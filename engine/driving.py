"""Driving the flows of one engine: each in a task of its own, from when it is ours until it ends, is paused or stopped.

Whatever goes wrong with one flow is that flow's: it is paused with what went wrong, and the others go on. A pause that
cannot be written (a full disk) is tried again until it can, so that the flow does not stay in the hands of a process
that does nothing for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.texts import text_of
from .children import Children
from .drive import Rest, drive
from .driven import Driven
from .endings import Endings
from .errors import EngineClosed, FlowBusy, FlowParked, JournalError, UnexpectedFailure
from .gates import Gates
from .inbox import Inbox
from .live import LiveFlow, ResumeFlow
from .nursery import AGAIN_SECONDS, try_again
from .secrets import Removal
from .store import Ownership
from .turns import Turns

logger = get_logger(__name__)


class Driving:
    """The tasks that drive one engine's flows.

    Args:
        store: Where the flows are.
        removal: Removes the secrets of those that have ended.
        driven: The flows that are driven here.
        gates: Each flow's gate.
        turns: When they begin.
        nursery: Where the tasks run.
    """

    def __init__(
        self, store: Ownership, removal: Removal, driven: Driven, gates: Gates, turns: Turns, nursery: trio.Nursery
    ) -> None:
        self._store = store
        self._removal = removal
        self._driven = driven
        self._gates = gates
        self._turns = turns
        self._nursery = nursery
        self._inbox: Inbox
        self._children: Children
        self._endings: Endings
        self._resume: ResumeFlow
        self._rest: Rest | None

    def connect(
        self, inbox: Inbox, children: Children, endings: Endings, *, resume: ResumeFlow, rest: Rest | None = None
    ) -> None:
        """What is needed besides, and needs this: the inbox, the children, and how a flow is cancelled and resumed."""
        self._rest = rest
        self._inbox, self._children, self._endings, self._resume = inbox, children, endings, resume

    def set_going(self, live: LiveFlow, *, resumed: bool = False) -> None:
        """Drive a flow that was just written as ours; `resumed` when its state was entered before."""
        self._driven.add(live)
        self._turns.line_up(live)
        self._nursery.start_soon(self._drive, live, resumed, name=f"flow {live.row.id}")

    async def _drive(self, live: LiveFlow, resumed: bool) -> None:
        flow = live.row.id
        failure: Exception | None = EngineClosed(f"the engine was closed while flow {flow} was running")
        try:
            with live.scope:
                await self._wait_for_turn(live)
                failure = await drive(
                    live,
                    self._store,
                    self._cancel_stray,
                    stop_children=self._children.stop,
                    catch_up=self._inbox.take_waiting,
                    rest=self._rest,
                    resumed=resumed,
                )
            if live.scope.cancelled_caught:
                failure = EngineClosed(f"flow {flow} was stopped; it continues when flow {live.row.parent} is resumed")
                await self._release(live)
            elif isinstance(failure, FlowParked):
                await self._cancel_if_asked(live)
        except CloudError as exc:  # the store cannot be written: nothing changed, and `wait` raises this
            failure = exc
        except Exception as exc:
            logger.exception("flow %s cannot be driven", flow)
            failure = UnexpectedFailure(f"flow {flow} cannot be driven: {type(exc).__name__}: {text_of(exc)}")
        finally:
            self._turns.over(live)
            with trio.CancelScope(shield=True):
                async with live.lock:  # a step that is being written is the last one, and may be the end
                    live.stopped = live.stopped or not live.ended
                if live.ended:
                    await self._removal.discard(flow)
            self._driven.settle(live, None if live.ended else failure)
        if not live.ended and live.row.owner is not None:
            self._nursery.start_soon(try_again, partial(self._see_to, live, live.unwritten or failure))

    async def _wait_for_turn(self, live: LiveFlow) -> None:
        while live.queued and live.behind:  # what waits in its inbox may be that it is to end
            try:
                await self._inbox.take_waiting(live)
            except JournalError as exc:
                logger.warning("the inbox of flow %s has to wait: %s", live.row.id, exc)
                await trio.sleep(AGAIN_SECONDS)
        await self._turns.wait(live)

    async def _cancel_stray(self, flow: str, reason: str) -> None:
        """Stop a child of a state that was left, whatever its table says."""
        await self._cancel_in_time(partial(self._endings.cancel_wholly, flow, reason), flow)

    async def _cancel_in_time(self, cancel: Callable[[], Awaitable[object]], flow: str) -> None:
        """Cancel a flow now, or, where that cannot be written, later; nobody waits for that."""

        async def cancelled() -> bool:
            try:
                await cancel()
            except (JournalError, FlowBusy) as exc:
                logger.debug("flow %s cannot be cancelled yet: %s", flow, exc)
                return False
            except Exception as exc:  # noqa: BLE001 it is this flow's; the engine and the others go on
                logger.warning("flow %s cannot be cancelled: %s", flow, exc)
            return True

        if not await cancelled():
            self._nursery.start_soon(try_again, cancelled)

    async def _release(self, live: LiveFlow) -> None:
        """Its parent is about to be paused: whoever resumes that drives this too, also in another process."""
        with trio.CancelScope(shield=True):
            await self._children.stop(live.row.id)
            async with live.lock:
                if not live.ended and not live.stopped:
                    try:
                        await self._store.claim(live.row, None)
                        live.row = msgspec.structs.replace(live.row, owner=None)
                    finally:
                        live.stopped = True

    async def _see_to(self, live: LiveFlow, trouble: BaseException | None) -> bool:
        """Pause a flow that is driven no more and could not be written; drive it if it was resumed before that.

        Returns:
            False when it has to be tried again.
        """
        flow = live.row.id
        if self._driven.known(flow) is not live:
            return True
        try:
            if live.again is None:
                await self._pause(live, trouble or EngineClosed(f"{flow} was stopped in state {live.row.state}"))
            else:
                await self._resume(flow, why=live.again, repeating=live.repeating)
        except Exception as exc:  # noqa: BLE001 it is this flow's; the engine and the others go on
            logger.debug("%s has to wait: %s", flow, exc)
            if not await self._moved(live):
                return False
        self._driven.forget(live)
        await self._cancel_if_asked(live)
        return True

    async def _cancel_if_asked(self, live: LiveFlow) -> None:
        """Cancel a flow that was asked to end while it was being paused: whoever asked does not look again."""
        try:
            reason = await self._inbox.asked_to_end(live)
        except CloudError as exc:  # whoever resumes it takes it
            logger.warning("the inbox of flow %s cannot be read: %s", live.row.id, exc)
            return
        if reason is not None:
            cancel = partial(self._endings.cancel, live.row.id, reason)
            self._nursery.start_soon(self._cancel_in_time, cancel, live.row.id)

    async def _pause(self, live: LiveFlow, trouble: BaseException) -> None:
        async with self._gates.flow(live.row.id):
            if self._driven.known(live.row.id) is not live:
                return
            if live.queued:  # it has done nothing that could be paused: whoever resumes it waits on
                await self._store.claim(live.row, None)
                live.row = msgspec.structs.replace(live.row, owner=None)
            else:
                await live.park(trouble)

    async def _moved(self, live: LiveFlow) -> bool:
        try:
            row = await self._store.flow(live.row.id)
        except CloudError:
            return False
        return row is None or row.seq != live.row.seq
