"""Flows that only wait need no process: they rest in the journal, and are woken by an event or by their deadline.

A flow rests where all activities of its state are `await_signal`, in an engine that was opened with `wake=True`: it has
no owner and no task, and costs no memory. An engine with `wake` looks 30 times a second for events that were left for
resting flows and for deadlines that have passed, by an index of each, and takes such a flow over with the step that
wakes it: of several engines one does. A flow that runs inside another does not rest, nor one with a limit.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from logging import DEBUG, WARNING
from typing import NamedTuple

import msgspec
import trio

from ..base.clock import Clock
from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.moments import moment_text, parse_moment
from .claims import Claims
from .driven import Driven
from .errors import FlowBusy, FlowNotFound, IncompatibleFlow
from .gates import Gates
from .inbox import Inbox
from .journal.records import RESTING, Signal
from .live import LiveFlow, ResumeFlow
from .machine.parts import DeadlinePassed, Event
from .nursery import AGAIN_SECONDS
from .secrets import Removal
from .signals import refuse_own
from .store import Ownership, Vault

logger = get_logger(__name__)

LOOK_SECONDS = 0.03
"""How often is looked."""
AT_ONCE = 200
"""Flows that are woken side by side."""
AT_WORK = 0.1
"""The greatest part of its time that an engine spends with looking."""


class _Failed(NamedTuple):
    """A flow that could not be woken: when that is tried again, and the event that it was to take."""

    again: float
    signal: Signal | None


class Resting:
    """The resting flows of one store, as one engine wakes them.

    Args:
        store: Where they are.
        claims: Takes over those that are woken.
        driven: The flows that are driven here.
        gates: Each flow's gate.
        inbox: What waits for them.
        vault: Where their secrets are.
        removal: Removes those of flows that have ended.
        clock: The time.
        drive: Drives a flow that was woken.
        resume: Resumes one that cannot take what wakes it: it pauses, and says why.
    """

    def __init__(
        self,
        store: Ownership,
        claims: Claims,
        driven: Driven,
        gates: Gates,
        inbox: Inbox,
        vault: Vault,
        removal: Removal,
        clock: Clock,
        *,
        drive: Callable[[LiveFlow], None],
        resume: ResumeFlow,
    ) -> None:
        self._store = store
        self._claims = claims
        self._driven = driven
        self._gates = gates
        self._inbox = inbox
        self._vault = vault
        self._removal = removal
        self._clock = clock
        self._drive = drive
        self._resume = resume
        self._seen = self._heard = self._stamp = 0
        self._looked = ""
        self._lasted = 0.0
        self._failed: dict[str, _Failed] = {}
        self._rested = trio.Event()

    async def rest(self, live: LiveFlow) -> bool:
        """Have a flow rest that is driven here; False when there is something to do for it after all.

        Raises:
            CloudError: It could not be written; the flow is driven as before.
        """
        async with live.lock:
            if live.ended or live.stopped or live.cancelling or live.behind:
                return False
            if live.row.state not in live.may_rest:  # an event led on while this waited for the lock
                return False
            with trio.CancelScope(shield=True):
                if not await self._store.rest(live.row, len(live.kept)):
                    live.behind = True  # more came in meanwhile: it is taken first
                    return False
                live.row = msgspec.structs.replace(live.row, owner=None, status=RESTING)
                live.stopped = True
        self._rested.set()
        return True

    async def watch(self) -> None:
        """Wake what is due, or was sent an event, for as long as the engine is open."""
        while True:
            self._rested = trio.Event()
            try:
                self._stamp = await self._store.stamp()
                more = await self._look()
            except Exception as exc:  # noqa: BLE001 it is looked for again
                logger.warning("resting flows cannot be looked for: %s", exc)
                more = False
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        """Until there may be something; under virtual time until something happens."""
        try:
            due = await self._store.next_due(self._claims.all_names, self._looked)
        except CloudError:  # it is looked for again, and said then
            due = None
        again = min((each.again for each in self._failed.values()), default=math.inf)
        async with trio.open_nursery() as nursery:

            async def until(happens: Callable[[], Awaitable[object]]) -> None:
                await happens()
                nursery.cancel_scope.cancel()

            if due is not None:
                nursery.start_soon(until, partial(self._clock.sleep_until, parse_moment(due)))
            if again < math.inf:
                nursery.start_soon(until, partial(trio.sleep, max(0.0, again - self._clock.elapsed())))
            nursery.start_soon(until, self._rested.wait)
            nursery.start_soon(until, self._hear)
        await trio.sleep(max(LOOK_SECONDS, self._lasted / AT_WORK))

    async def _hear(self) -> None:
        """Until an event was left, or may have been: until anything was written, where nothing tells of events."""
        self._heard = await self._store.posted(self._heard)
        while await self._store.stamp() == self._stamp:  # noqa: ASYNC110 other processes tell nothing
            await trio.sleep(LOOK_SECONDS)

    async def _look(self) -> bool:
        """Whether there may be more."""
        machines, now, failed = self._claims.all_names, self._clock.elapsed(), self._failed
        newest = await self._store.newest_signal()
        signals = await self._store.signals_to_resting(machines, self._seen)
        self._looked = moment_text(self._clock.now())
        due = await self._store.due(machines, self._looked, AT_ONCE + len(failed))
        self._lasted = self._clock.elapsed() - now
        due = [row for row in due if row.id not in failed]
        wake = {flow: each.signal for flow, each in failed.items() if each.again <= now}
        wake |= {row.id: None for row in due} | {signal.flow: signal for signal in reversed(signals)}
        limit = trio.CapacityLimiter(AT_ONCE)
        async with trio.open_nursery() as nursery:
            for flow, signal in wake.items():
                nursery.start_soon(self._wake_logged, flow, signal, limit)
        self._seen = signals[-1].id if signals else max(self._seen, newest)
        return bool(signals) or len(due) >= AT_ONCE

    async def _wake_logged(self, flow: str, signal: Signal | None, limit: trio.CapacityLimiter) -> None:
        async def take(live: LiveFlow) -> None:
            if signal is None:
                await live.step(DeadlinePassed())
            else:
                await self._inbox.take_waiting(live)

        async with limit:
            before = self._failed.pop(flow, None)
            try:
                await self.wake(flow, take)
            except (FlowBusy, FlowNotFound) as exc:  # another process was quicker
                logger.debug("flow %s is not woken here: %s", flow, exc)
            except Exception as exc:  # noqa: BLE001 it is this flow's; the engine and the others go on
                logger.log(DEBUG if before else WARNING, "flow %s cannot be woken: %s", flow, exc)
                await self._pause(flow, signal)

    async def _pause(self, flow: str, signal: Signal | None) -> None:
        """Drive a flow that cannot take what wakes it: driven, it meets the same trouble, and is paused with it."""
        try:
            await self._resume(flow, why="handover")
        except (FlowBusy, FlowNotFound) as exc:
            logger.debug("flow %s is not resumed here: %s", flow, exc)
        except Exception as exc:  # noqa: BLE001 whoever looks at the flow is told
            logger.debug("flow %s cannot be resumed: %s", flow, exc)
            # Another version's flow waits for a process of that version.
            wait = math.inf if isinstance(exc, IncompatibleFlow) else AGAIN_SECONDS
            self._failed[flow] = _Failed(self._clock.elapsed() + wait, signal)

    async def send(self, flow: str, event: Event, keep: Callable[[str], Awaitable[Signal]]) -> bool | None:
        """Wake a flow with an event that is sent to it, after those that wait; for a caller that is at its gate.

        Returns:
            Whether it was taken, as `LiveFlow.offer`; None when it does not rest any more, or has ended.

        Raises:
            EventNotAccepted: Neither its state nor one that it can enter takes it; the flow goes on resting.
            CloudError: It cannot be read or written.
        """
        taken: list[bool | None] = []

        async def take(live: LiveFlow) -> None:
            await self._inbox.take_waiting(live)
            if not live.ended:
                refuse_own(live.machine.name, live.row.state, event)
                taken.append(await live.offer(event, keep))

        try:
            await self.wake_alone(flow, take)
        except FlowBusy:  # another process was quicker: what it drives is sent events by its inbox
            return None
        return taken[0] if taken else None

    async def wake(self, flow: str, take: Callable[[LiveFlow], Awaitable[object]]) -> None:
        """Take a resting flow over with the step that wakes it; nothing where it does not rest any more.

        Args:
            flow: Its id.
            take: Takes what wakes it; a flow that takes nothing goes on resting.

        Raises:
            FlowBusy: Another process was quicker.
            CloudError: It cannot be read or written, or what `take` raises.
        """
        async with self._gates.flow(flow):
            await self.wake_alone(flow, take)

    async def wake_alone(self, flow: str, take: Callable[[LiveFlow], Awaitable[object]]) -> None:
        """`wake` for a caller that is at the flow's gate."""
        if (driven := self._driven.driven(flow)) is not None:
            async with driven.lock:  # it may be about to rest
                pass
        row = await self._claims.existing(flow)
        if row.status != RESTING or self._driven.driven(flow) is not None:
            return
        failures: list[Exception] = []
        woken = False

        async def write(live: LiveFlow) -> None:
            nonlocal woken
            if live.row.status != RESTING:  # another process was quicker, and is gone already: it is to be resumed
                return
            try:
                await take(live)
            except Exception as exc:
                if live.row.status == RESTING:  # nothing was written
                    raise
                failures.append(exc)
            woken = live.row.status != RESTING

        with trio.CancelScope(shield=True):  # written and driven, or neither
            await self._vault.make_known(flow)
            live = await self._claims.take_over(flow, write)
            if woken and live.ended:
                await self._removal.discard(flow)
            elif woken:
                self._drive(live)
        if failures:
            raise failures[0]
