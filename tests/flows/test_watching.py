"""Watching a server by stream and by polling: what is news, what ends the wait, and how long is waited between tries.

The activities run here on a host that keeps everything in memory, on trio's clock, with streams made of lists.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, ParamSpec, TypeVar, cast

import pytest
import trio
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, StreamLost, TooLarge
from systemprompt_cloud.flows.flow import Outcome
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.visit import Intent, Program, Visit, run_state
from systemprompt_cloud.flows.watching import decode, follow_stream, get_stream_back, poll, refusal, send_news
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.io.polling import Backoff
from systemprompt_cloud.io.sse import EventStream, ServerSentEvent
from systemprompt_cloud.io.wire import ProvisioningEvent
from systemprompt_cloud.machines.machine import Context, Event
from systemprompt_cloud.machines.provisioning import (
    PROVISIONING,
    ProvisioningContext,
    ProvisioningFailed,
    TenantBecameReady,
)
from systemprompt_cloud.machines.watching import AccessRefused, StepObserved, StreamReturned
from systemprompt_cloud.machines.watching import StreamLost as StreamWasLost
from systemprompt_cloud.testing.clock import VirtualClock

P = ParamSpec("P")
T = TypeVar("T")
Watch = Visit[ProvisioningContext]


class InMemory:
    """What stands behind a visit, without a journal: steps the table, remembers the events.

    Attributes:
        events: Every event that was taken.
        visit: The visit it stands behind.
    """

    def __init__(self, state: str = "streaming") -> None:
        self.state = state
        self.context = ProvisioningContext(api_url="http://127.0.0.1:1", tenant_id="t")
        self.events: list[Event] = []
        self.visit: Watch = Visit(
            self, flow="f", state=state, incarnation=1, resumed=False, deadline=None, clock=VirtualClock()
        )

    def current_context(self) -> Context:
        return self.context

    async def deliver(self, event: Event, incarnation: int) -> bool:
        assert incarnation == self.visit.incarnation
        await trio.lowlevel.checkpoint()
        step = PROVISIONING.step(self.state, self.context, event)
        self.events.append(event)
        self.context, self.state = step.context, step.state
        if step.entered:
            self.visit.leave()
        return True

    async def announce(self, effect: str) -> Intent:
        raise NotImplementedError

    async def keep(self, name: str, secret: str) -> str:
        raise NotImplementedError

    async def reveal(self, reference: str) -> str:
        raise NotImplementedError

    async def holds(self, reference: str) -> bool:
        raise NotImplementedError

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    async def run_child(self, program: Program[Any], context: Context) -> Outcome:
        raise NotImplementedError


class Longest(Random):
    """Chance that always takes the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Services of which only the waits are used: polls every 10 s, backs off 1, 2, 4 … s."""
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    return Services(paths, poll_seconds=10.0, backoff=Backoff(base=1.0, cap=60.0, rng=Longest()))


class Streams:
    """Streams made of lists: each connection gets the next one; an error among the events breaks it there.

    Attributes:
        asked: The last event id each connection came with.
    """

    def __init__(self, *streams: Sequence[ServerSentEvent | Exception] | Exception) -> None:
        self._streams = list(streams)
        self.asked: list[str] = []

    def __call__(self, last_event_id: str) -> AbstractAsyncContextManager[EventStream]:
        self.asked.append(last_event_id)
        return self._open(self._streams.pop(0))

    @asynccontextmanager
    async def _open(self, items: Sequence[ServerSentEvent | Exception] | Exception) -> AsyncGenerator[EventStream]:
        await trio.lowlevel.checkpoint()
        if isinstance(items, Exception):
            raise items
        # Not the class itself: it needs a connection, and the activities only iterate.
        yield cast("EventStream", cast("object", Listed(items)))


class Listed:
    """An event stream that gives what is listed and then stays silent."""

    def __init__(self, items: Sequence[ServerSentEvent | Exception]) -> None:
        self._items = list(items)

    def __aiter__(self) -> Listed:
        return self

    async def __anext__(self) -> ServerSentEvent:
        await trio.lowlevel.checkpoint()
        if not self._items:
            await trio.sleep_forever()
        item = self._items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item


def sse(step: str, number: int) -> ServerSentEvent:
    return ServerSentEvent(event="provisioning", data=step, id=str(number))


def progress(event: ServerSentEvent) -> Event | None:
    return StepObserved(event.data, "", "stream", event.id) if event.event == "provisioning" else None


SERVER = Network("gone", sent=True)
BUSY = ApiError("busy", status=503, retry_after=7.0)
GONE = ApiError("not there", status=404)


# --- what is in an event -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", ["", "null", "[]", "{", '{"tenant_id": 1}', '{"tenant_id": "t"}', "[" * 100_000, '"\\ud800"']
)
def test_an_event_that_is_not_what_was_promised_is_skipped(data: str) -> None:
    """Bad JSON, a wrong shape, a bottomless nesting: skipped, never an exception (docs/reference/wire.md section 1)."""
    assert decode(ServerSentEvent("provisioning", data, ""), frozenset({"provisioning"}), ProvisioningEvent) is None


def test_events_of_other_names_are_not_looked_at() -> None:
    """A heartbeat proves life and nothing else, whatever it carries."""
    body = '{"tenant_id": "t", "event_type": "tenant_ready", "status": "ready"}'
    names = frozenset({"provisioning"})
    assert decode(ServerSentEvent("heartbeat", body, ""), names, ProvisioningEvent) is None
    found = decode(ServerSentEvent("provisioning", body, ""), names, ProvisioningEvent)
    assert found is not None
    assert found.event_type == "tenant_ready"


@pytest.mark.parametrize(("status", "over"), [(403, True), (404, True), (410, True), (400, False), (500, False)])
def test_what_ends_a_wait(status: int, over: bool) -> None:
    """Refused, not there, gone: waiting mends nothing. Anything else may be different a moment later."""
    assert isinstance(refusal(ApiError("no", status=status)), AccessRefused) is over
    assert refusal(SERVER) is None


async def test_what_is_known_already_makes_no_event() -> None:
    """The same step from the other source is not recorded again; a new message about it is."""
    host = InMemory()
    for observed in (
        StepObserved("tenant_created", "made", "stream", "1"),
        StepObserved("tenant_created", "made", "polling"),
        StepObserved("", "made", "polling"),
        StepObserved("", "still at it", "polling"),
    ):
        await send_news(host.visit, observed)
    assert len(host.events) == 2


# --- following -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [SERVER, StreamLost("silent for 30 s"), TooLarge("an event of 5 MiB"), BUSY, ApiError("HTML, not the API")],
)
async def test_a_stream_that_cannot_go_on_is_lost(broken: Exception) -> None:
    """Broken, silent, too large, busy, or something else altogether: lost, with its reason; what came before stands."""
    host, streams = InMemory(), Streams([sse("tenant_created", 1), broken])
    ended = await follow_stream(host.visit, streams, progress)
    assert ended == StreamWasLost(str(broken))
    assert [type(event) for event in host.events] == [StepObserved]


async def test_a_stream_that_is_not_there_ends_the_wait() -> None:
    """404 on opening it: nothing to wait for."""
    host = InMemory()
    assert await follow_stream(host.visit, Streams(GONE), progress) == AccessRefused("not there")


async def test_a_refused_token_is_not_a_lost_stream() -> None:
    """401 needs a login, so it is raised and parks the flow; polling would only be refused as well."""
    host = InMemory()
    with pytest.raises(NotAuthenticated):
        await follow_stream(host.visit, Streams(NotAuthenticated("expired")), progress)


async def test_a_stream_goes_on_after_the_last_event_known() -> None:
    """The id that is journaled with the last event is sent when the stream is opened again."""
    host, streams = InMemory(), Streams([sse("tenant_created", 1), sse("database_created", 2), SERVER], SERVER)
    await follow_stream(host.visit, streams, progress)
    await follow_stream(host.visit, streams, progress)
    assert streams.asked == ["", "2"]


# --- getting it back -----------------------------------------------------------------------------------------------


async def lose(host: InMemory) -> None:
    """What led to the state in which a stream is got back."""
    await host.deliver(StreamWasLost("first"), 1)
    host.visit.left = False


async def test_a_lost_stream_is_tried_with_growing_waits(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """1, 2, 4 s at the longest, as the failures in the journal count; any event is a sign of life."""
    host = InMemory()
    await lose(host)
    streams = Streams(SERVER, SERVER, [ServerSentEvent("heartbeat", "{}", "")])
    started = trio.current_time()
    assert await get_stream_back(host.visit, services, streams) == StreamReturned()
    assert trio.current_time() - started == pytest.approx(1 + 2 + 4)
    assert [type(event) for event in host.events] == [StreamWasLost] * 3


async def test_the_server_says_when_to_try_again(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """`Retry-After: 7` is waited for, plus a little jitter so that not everybody comes at once."""
    host = InMemory()
    await lose(host)
    started = trio.current_time()
    await get_stream_back(host.visit, services, Streams(BUSY, [ServerSentEvent("heartbeat", "{}", "")]))
    assert 1 + 7 <= trio.current_time() - started <= 1 + 7 + 1


async def test_a_stream_that_is_open_and_quiet_is_back(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """A server with nothing to say yet is not a server that is away."""
    host = InMemory()
    await lose(host)
    assert await get_stream_back(host.visit, services, Streams([])) == StreamReturned()


async def test_a_stream_that_is_refused_for_good_ends_the_wait(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """404 when it is tried again: over."""
    host = InMemory()
    await lose(host)
    assert await get_stream_back(host.visit, services, Streams(GONE)) == AccessRefused("not there")


# --- polling -------------------------------------------------------------------------------------------------------


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


READY = TenantBecameReady("tenant_ready", "", "polling")


async def test_polling_asks_at_once_and_then_regularly(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """At 0, 10, 20 s; progress is recorded, nothing new is not, and the end ends it."""
    host = InMemory("polling")
    ask, moments = asking(StepObserved("", "booting", "polling"), StepObserved("", "booting", "polling"), None, READY)
    assert await poll(host.visit, services, ask) is READY
    assert [moment - moments[0] for moment in moments] == pytest.approx([0, 10, 20, 30])
    assert len(host.events) == 1


async def test_polling_backs_off_while_it_is_not_answered(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Failures wait longer each time, a Retry-After at least as long; an answer starts from the beginning."""
    host = InMemory("polling")
    ask, moments = asking(SERVER, SERVER, BUSY, None, READY)
    assert await poll(host.visit, services, ask) is READY
    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx([10 + 2, 10 + 4, 10 + 7 + 1, 10])


@pytest.mark.parametrize(
    ("trouble", "raised"), [(NotAuthenticated("no"), NotAuthenticated), (ApiError("HTML, not the API"), ApiError)]
)
async def test_what_polling_cannot_mend_is_raised(
    autojump_clock: trio.testing.MockClock, services: Services, trouble: Exception, raised: type[Exception]
) -> None:
    """A refused token and something that is not the API need a person: the flow is parked."""
    ask, _ = asking(trouble)
    with pytest.raises(raised):
        await poll(InMemory("polling").visit, services, ask)


async def test_polling_ends_when_the_thing_is_gone(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """404: over."""
    ask, _ = asking(GONE)
    assert await poll(InMemory("polling").visit, services, ask) == AccessRefused("not there")


# --- both beside each other ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["polling", "stream"])
async def test_whichever_comes_first_ends_the_state(
    autojump_clock: trio.testing.MockClock, services: Services, first: str
) -> None:
    """The one that leads out is taken, the other one is cancelled: nothing comes after it."""
    host = InMemory()
    await lose(host)
    host.visit = Visit(
        host, flow="f", state="polling", incarnation=2, resumed=False, deadline=None, clock=VirtualClock()
    )
    answers: list[Event | Exception | None] = [None] * 100
    ask, _ = asking(*([ProvisioningFailed("no")] if first == "polling" else answers))
    streams = Streams(*([[ServerSentEvent("heartbeat", "{}", "")]] if first == "stream" else [SERVER] * 50))

    async def polling(visit: Watch) -> Event:
        return await poll(visit, services, ask)

    async def streaming(visit: Watch) -> Event:
        return await get_stream_back(visit, services, streams)

    assert await run_state(host.visit, [polling, streaming]) is None
    assert host.state == ("failed" if first == "polling" else "streaming")
