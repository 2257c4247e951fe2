"""Watching a server in memory: a visit without a journal, streams made of lists, answers in turn.

Under trio's `MockClock` waits of minutes take no time. What an event of such a stream means is `progress`; a step may
come with words of its own (`said`), which polling may learn without its step (`polled`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import trio
from systemprompt_cloud.engine.machine.parts import Context, Event
from systemprompt_cloud.engine.run import Run, run_state
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.errors import ApiError, Network
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.asking import Ask
from systemprompt_cloud.flows.steps.counting import IN_A_ROW
from systemprompt_cloud.flows.steps.following import follow
from systemprompt_cloud.flows.steps.source import Pauses, Source
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from systemprompt_cloud.machines.parts.progress import FAILED, ORDER, EndReported, StepObserved
from systemprompt_cloud.machines.provisioning import (
    PROVISIONING,
    ProvisioningContext,
    ProvisioningFailed,
    TenantBecameReady,
)
from systemprompt_cloud.testing.clock import VirtualClock
from typing_extensions import override

from tests.support.visits import Memory

P = ParamSpec("P")
T = TypeVar("T")

HEARTBEAT = ServerSentEvent("heartbeat", "{}", "")
SERVER = Network("gone", sent=True)
BUSY = ApiError("busy", status=503, retry_after=7.0)
GONE = ApiError("not there", status=404, code="tenant_not_found")


class InMemory(Memory):
    """What stands behind a visit, without a journal: steps the table, remembers the events.

    Attributes:
        events: Every event that was taken.
        visit: The visit it stands behind.
    """

    visit: Visit[Any]

    def __init__(self, state: str = "awaiting_tenant") -> None:
        super().__init__()
        self.state = state
        self.context = ProvisioningContext(api_url="http://127.0.0.1:1", tenant_id="t")
        self.enter()

    @property
    def told(self) -> list[str]:
        """The words somebody who looks on has read."""
        told = [event for event in self.events if isinstance(event, StepObserved | TenantBecameReady)]
        return [event.message for event in told if event.message]

    def enter(self, *, resumed: bool = False) -> None:
        """Begin a visit of the state it stands in, or go on with one that was interrupted."""
        self.visit = Visit(
            self, flow="f", state=self.state, incarnation=1, resumed=resumed, deadline=None, clock=VirtualClock()
        )
        self.run = Run(self.visit)

    @override
    def current_context(self) -> Context:
        """What is known of the tenant."""
        return self.context

    @override
    def current_state(self) -> str:
        """Where it is."""
        return self.state

    @override
    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Step the table, and lead out when it does."""
        assert incarnation == self.visit.incarnation
        await trio.lowlevel.checkpoint()
        step = PROVISIONING.step(self.state, self.context, event)
        self.events.append(event)
        self.context, self.state = step.context, step.state
        if step.entered:
            self.run.leave()
        return True


class Longest(Random):
    """Chance that always takes the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


class After(NamedTuple):
    """Something that comes, or breaks, only after a while."""

    seconds: float
    what: ServerSentEvent | Exception


Item = ServerSentEvent | Exception | After


class Streams:
    """Streams made of lists: each connection gets the next one; an error among the events breaks it there.

    Attributes:
        asked: The last event id each connection came with.
    """

    def __init__(self, *streams: Sequence[Item] | Exception | After) -> None:
        self._streams = list(streams)
        self.asked: list[str] = []

    def __call__(self, last_event_id: str) -> AbstractAsyncContextManager[EventStream]:
        self.asked.append(last_event_id)
        return self._open(self._streams.pop(0))

    @asynccontextmanager
    async def _open(self, items: Sequence[Item] | Exception | After) -> AsyncGenerator[EventStream]:
        await trio.lowlevel.checkpoint()
        if isinstance(items, After):
            await trio.sleep(items.seconds)
            items = cast("Exception", items.what)
        if isinstance(items, Exception):
            raise items
        # Not the class itself: it needs a connection, and the activities only iterate.
        yield cast("EventStream", cast("object", Listed(items)))


class Listed:
    """An event stream that gives what is listed and then stays silent."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = list(items)

    def __aiter__(self) -> Listed:
        return self

    async def __anext__(self) -> ServerSentEvent:
        await trio.lowlevel.checkpoint()
        if not self._items:
            await trio.sleep_forever()
        item = self._items[0]
        if isinstance(item, After):
            await trio.sleep(item.seconds)
            item = item.what
        self._items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def sse(step: str, number: int) -> ServerSentEvent:
    return ServerSentEvent(event="provisioning", data=step, id=str(number))


def progress(event: ServerSentEvent) -> Sequence[Event] | None:
    if event.event == "spoken":
        number = int(event.data)
        return [StepObserved(ORDER[number - 1], f"word {number}", "stream", event.id)]
    if event.event == "end":
        return [EndReported(FAILED, "no", event.id)]
    return [StepObserved(event.data, "", "stream", event.id)] if event.event == "provisioning" else None


def said(number: int) -> ServerSentEvent:
    """The event of a step, which says a word of its own."""
    return ServerSentEvent("spoken", str(number), str(number))


def polled(number: int) -> StepObserved:
    """What polling learns of the same step."""
    return StepObserved("", f"word {number}", "polling")


def asking(*answers: Event | Exception | None) -> tuple[Callable[[], Awaitable[Event | None]], list[float]]:
    """A question with these answers in turn, and the moments it was asked at."""
    left, moments = list(answers), list[float]()

    async def ask() -> Event | None:
        await trio.lowlevel.checkpoint()
        moments.append(trio.current_time())
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask, moments


async def nothing_new() -> Event | None:
    """What is asked says nothing."""
    await trio.lowlevel.checkpoint()
    return None


class Listing(Source[ProvisioningContext]):
    """What is followed: streams made of lists, and a question."""

    def __init__(
        self,
        host: InMemory,
        services: Services,
        streams: Streams | None = None,
        ask: Ask = nothing_new,
        pauses: Pauses | None = None,
    ) -> None:
        super().__init__(host.visit, services.timing, pauses or Pauses())
        self._streams = streams or Streams()
        self._ask = ask

    @override
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        """The next of the streams."""
        return self._streams(after)

    @override
    def interpret(self, sse: ServerSentEvent) -> Sequence[Event] | None:
        """Its progress."""
        return progress(sse)

    @override
    async def ask(self) -> Event | None:
        """The next of the answers."""
        return await self._ask()


async def visit(
    host: InMemory, services: Services, streams: Streams, ask: Ask = nothing_new, pauses: Pauses | None = None
) -> None:
    """One visit of the state in which a server is followed; raises what stopped it."""
    source = Listing(host, services, streams, ask, pauses)

    async def activity(_visit: Visit[Any]) -> Event:
        return await follow(source, {ProvisioningFailed: IN_A_ROW})

    trouble = await run_state(host.run, [activity])
    if trouble is not None:
        raise trouble
