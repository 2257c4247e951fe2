"""Watching a server by stream and by polling: what is news, what ends the wait, and how long is waited between tries.

The activities run here on a host that keeps everything in memory, on trio's clock, with streams made of lists.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import pytest
import trio
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, StreamLost, TooLarge
from systemprompt_cloud.flows.flow import Outcome
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.visit import Intent, Program, Visit, run_state
from systemprompt_cloud.flows.watching import (
    CATCH_UP_SECONDS,
    OPEN_SECONDS,
    Ask,
    Pauses,
    decode,
    follow_stream,
    look_once,
    poll,
    poll_without_stream,
    refusal,
    send_news,
)
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.io.polling import LONGEST_RETRY_AFTER, Backoff
from systemprompt_cloud.io.sse import EventStream, ServerSentEvent
from systemprompt_cloud.io.wire import ProvisioningEvent
from systemprompt_cloud.machines.machine import Context, Event
from systemprompt_cloud.machines.provisioning import (
    PROVISIONING,
    ProvisioningContext,
    ProvisioningFailed,
    TenantBecameReady,
)
from systemprompt_cloud.machines.watching import ORDER, AccessRefused, StepObserved, StreamReturned
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
        self.visit: Watch
        self.enter()

    def enter(self) -> None:
        """Begin a visit of the state it stands in."""
        self.visit = Visit(
            self, flow="f", state=self.state, incarnation=1, resumed=False, deadline=None, clock=VirtualClock()
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


def progress(event: ServerSentEvent) -> Event | None:
    if event.event == "spoken":
        number = int(event.data)
        return StepObserved(ORDER[number - 1], f"word {number}", "stream", event.id)
    if event.event == "end":
        return ProvisioningFailed("no")
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
async def test_a_stream_that_cannot_go_on_is_lost(services: Services, broken: Exception) -> None:
    """Broken, silent, too large, busy, or something else altogether: lost, with its reason; what came before stands."""
    host, streams = InMemory(), Streams([sse("tenant_created", 1), broken])
    ended = await follow_stream(host.visit, services, streams, progress)
    assert ended == StreamWasLost(str(broken))
    assert [type(event) for event in host.events] == [StepObserved]


async def test_a_stream_that_is_not_there_ends_the_wait(services: Services) -> None:
    """404 on opening it: nothing to wait for."""
    host = InMemory()
    assert await follow_stream(host.visit, services, Streams(GONE), progress) == AccessRefused("not there")


async def test_a_refused_token_is_not_a_lost_stream(services: Services) -> None:
    """401 needs a login, so it is raised and parks the flow; polling would only be refused as well."""
    host = InMemory()
    with pytest.raises(NotAuthenticated):
        await follow_stream(host.visit, services, Streams(NotAuthenticated("expired")), progress)


async def test_a_stream_goes_on_after_the_last_event_known(services: Services) -> None:
    """The id that is journaled with the last event is sent when the stream is opened again."""
    host, streams = InMemory(), Streams([sse("tenant_created", 1), sse("database_created", 2), SERVER], SERVER)
    await follow_stream(host.visit, services, streams, progress)
    await follow_stream(host.visit, services, streams, progress)
    assert streams.asked == ["", "2"]


async def test_a_stream_that_was_silent_too_long_is_lost_by_silence(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Broken after the idle time without an event: being open will not be proof that it is back."""
    host = InMemory()
    lost = StreamLost("the event stream fell silent for 30 s")
    silent = await follow_stream(host.visit, services, Streams([After(30.0, lost)]), progress)
    assert silent == StreamWasLost(lost.user_message, silent=True)
    soon = await follow_stream(host.visit, services, Streams([After(29.0, lost)]), progress)
    assert soon == StreamWasLost(lost.user_message)


async def test_a_stream_that_does_not_open_is_not_waited_for(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """After two seconds polling answers. Once it was lost, and opened beside polling, it may take its time."""
    host = InMemory()
    started = trio.current_time()
    lost = await follow_stream(host.visit, services, Streams(After(20.0, SERVER)), progress)
    assert (lost, trio.current_time() - started) == (
        StreamWasLost("the event stream did not open within 2 s"),
        pytest.approx(OPEN_SECONDS),
    )
    await lose(host)
    assert await follow_stream(host.visit, services, Streams(After(20.0, SERVER)), progress) == StreamWasLost("gone")


async def test_events_without_ids_of_their_own_are_not_the_one_before_them(services: Services) -> None:
    """An id is carried on to events that have none (HTML 9.2.6); those are news all the same."""
    host = InMemory()
    events = [ServerSentEvent("provisioning", step, "7") for step in ("tenant_created", "vm_provisioned")]
    await follow_stream(host.visit, services, Streams([*events, SERVER]), progress)
    assert host.context.steps == ("tenant_created", "vm_provisioned")
    assert [event.event_id for event in host.events if isinstance(event, StepObserved)] == ["7", ""]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (StepObserved("", "booting", "polling"), None),
        (SERVER, None),
        (GONE, None),
        (ProvisioningFailed("no"), ProvisioningFailed("no")),
    ],
)
async def test_beside_a_stream_only_the_end_counts(answer: Event | Exception, said: Event | None) -> None:
    """Progress is the stream's to tell: it may be about to tell what came before."""
    host = InMemory()
    ask, _ = asking(answer)
    assert await look_once(host.visit, ask, Pauses()) == said
    assert host.events == []


# --- getting it back -----------------------------------------------------------------------------------------------

HEARTBEAT = ServerSentEvent("heartbeat", "{}", "")


async def lose(host: InMemory, *, silent: bool = False) -> None:
    """What led to the state in which a stream is got back."""
    await host.deliver(StreamWasLost("first", silent=silent), 1)
    host.enter()


async def without_stream(host: InMemory, services: Services, streams: Streams, ask: Ask) -> None:
    """One visit of the polling state."""
    trouble = await run_state(
        host.visit,
        [
            partial(
                poll_without_stream, services=services, connect=streams, interpret=progress, ask=ask, pauses=Pauses()
            )
        ],
    )
    if trouble is not None:
        raise trouble


async def nothing_new() -> Event | None:
    """What is asked says nothing."""
    await trio.lowlevel.checkpoint()
    return None


async def test_a_lost_stream_is_tried_with_growing_waits(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """1, 2, 4 s at the longest, as the failures in the journal count; open, it is back."""
    host = InMemory()
    await lose(host)
    started = trio.current_time()
    await without_stream(host, services, Streams(SERVER, SERVER, []), nothing_new)
    assert host.state == "streaming"
    assert trio.current_time() - started == pytest.approx(1 + 2 + 4)
    assert [type(event) for event in host.events] == [StreamWasLost] * 3 + [StreamReturned]


async def test_the_server_says_when_to_try_again(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """`Retry-After: 7` is waited for, plus a little jitter so that not everybody comes at once."""
    host = InMemory()
    await lose(host)
    started = trio.current_time()
    await without_stream(host, services, Streams(BUSY, []), nothing_new)
    assert 1 + 7 <= trio.current_time() - started <= 1 + 7 + 1


async def test_a_stream_that_was_mute_must_speak(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """Lost by silence and open again: a proxy may hold everything back, so polling goes on until something comes."""
    host = InMemory()
    await lose(host, silent=True)
    ask, moments = asking(*[None] * 100)
    await without_stream(host, services, Streams([After(60.0, HEARTBEAT)]), ask)
    assert host.state == "streaming"
    assert not host.context.stream_silent
    assert moments[-1] - moments[0] > 30.0


async def test_a_stream_that_is_refused_for_good_ends_the_wait(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """404 when it is tried again: over."""
    host = InMemory()
    await lose(host)
    await without_stream(host, services, Streams(GONE), nothing_new)
    assert host.events[-1] == AccessRefused("not there")


async def test_a_token_that_is_refused_is_raised(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """401 when the stream is tried again: a login mends it, so the flow is parked."""
    host = InMemory()
    await lose(host)
    with pytest.raises(NotAuthenticated):
        await without_stream(host, services, Streams(NotAuthenticated("expired")), nothing_new)


# --- in whose words ------------------------------------------------------------------------------------------------


def said(number: int) -> ServerSentEvent:
    """The event of a step, which says a word of its own."""
    return ServerSentEvent("spoken", str(number), str(number))


def polled(number: int) -> StepObserved:
    """What polling learns of the same step."""
    return StepObserved("", f"word {number}", "polling")


async def test_a_stream_that_is_back_does_not_tell_what_polling_overtook(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """The stream had 1; polling told 4; back, it tells 2 to 6: 2 and 3 are recorded, 5 and 6 are told."""
    host = InMemory()
    await lose(host)
    ask, _ = asking(polled(4), *[polled(4)] * 100)
    await without_stream(host, services, Streams([said(number) for number in range(2, 5)]), ask)
    assert host.state == "streaming"
    host.enter()
    await follow_stream(host.visit, services, Streams([said(5), said(6), SERVER]), progress)
    told = [event.message for event in host.events if isinstance(event, StepObserved) and event.message]
    assert told == ["word 4", "word 5", "word 6"]
    assert host.context.steps == ORDER[1:6]
    assert set(host.context.messages) == {f"word {number}" for number in range(2, 7)}


async def test_a_stream_that_has_other_words_is_not_waited_for(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """What polling told does not come: after a second it is taken as it comes."""
    host = InMemory()
    await lose(host)
    ask, _ = asking(StepObserved("", "60 %", "polling"), *[None] * 100)
    started = trio.current_time()
    await without_stream(host, services, Streams([said(2), said(3)]), ask)
    assert trio.current_time() - started == pytest.approx(1 + CATCH_UP_SECONDS)
    told = [event.message for event in host.events if isinstance(event, StepObserved)]
    assert told == ["60 %", "word 2", "word 3"]


async def test_a_stream_that_comes_back_with_the_end_has_told_the_rest(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """What it caught up with is told, and then the end."""
    host = InMemory()
    await lose(host)
    ask, _ = asking(polled(2), *[None] * 100)
    end = ServerSentEvent("end", "", "")
    await without_stream(host, services, Streams([said(3), end]), ask)
    assert host.state == "failed"
    assert [type(event) for event in host.events[-2:]] == [StepObserved, ProvisioningFailed]


async def test_an_answer_that_was_overtaken_is_not_told(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Asked before the newest step was known, answered after it: it may be about an older one."""
    host = InMemory()
    await lose(host, silent=True)

    async def slow() -> Event | None:
        await trio.sleep(5.0)
        return polled(2)

    await without_stream(host, services, Streams([After(3.0, said(3)), SERVER]), slow)
    await trio.sleep(10.0)
    assert [event.message for event in host.events if isinstance(event, StepObserved)] == ["word 3"]


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


async def test_polling_asks_at_once_and_less_often_while_nothing_changes(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """News makes the next wait short again; the end ends it."""
    host = InMemory("polling")
    ask, moments = asking(None, None, None, StepObserved("", "booting", "polling"), None, READY)
    assert await poll(host.visit, services, ask) is READY
    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx([2.5, 3.75, 5.625, 2.5, 3.75], rel=0.21)
    assert len(host.events) == 1


async def test_polling_backs_off_while_it_is_not_answered(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Failures wait longer each time, a Retry-After at least as long."""
    host = InMemory("polling")
    services.poll_seconds = 0.0
    ask, moments = asking(SERVER, SERVER, SERVER, BUSY, READY)
    assert await poll(host.visit, services, ask) is READY
    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx([2, 4, 8, 7 + 1])


async def test_a_pause_the_server_asked_for_outlives_the_visit(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """A stream that comes and goes meanwhile does not make us ask sooner; another flow may ask at once."""
    host, pauses = InMemory("polling"), Pauses()
    started = trio.current_time()
    ask, _ = asking(BUSY)
    assert await look_once(host.visit, ask, pauses) is None
    ask, moments = asking(READY)
    await poll(host.visit, services, ask, pauses=pauses)
    assert moments == [pytest.approx(started + 7)]
    pauses.note("f", 1e9)
    with trio.fail_after(1):
        await pauses.wait_over("another")
    with trio.fail_after(LONGEST_RETRY_AFTER + 1):
        await pauses.wait_over("f")


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
    answers: list[Event | Exception | None] = [None] * 100
    ask, _ = asking(*([ProvisioningFailed("no")] if first == "polling" else answers))
    streams = Streams(*([[HEARTBEAT]] if first == "stream" else [SERVER] * 50))
    await without_stream(host, services, streams, ask)
    assert host.state == ("failed" if first == "polling" else "streaming")
    events = list(host.events)
    await trio.sleep(1000.0)
    assert host.events == events
