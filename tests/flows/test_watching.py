"""Following a server by its stream: what an event means, what ends the wait, and what is asked beside it.

The activities run on a host that keeps everything in memory, on trio's clock, with streams made of lists.
"""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.run import run_state
from systemprompt_cloud.errors import ApiError, NotAuthenticated, StreamLost, TooLarge
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.streaming import OPEN_SECONDS, REOPEN_SECONDS, decode, follow_and_look
from systemprompt_cloud.flows.steps.watching import FINISH_SECONDS, look_once, refusal, send_news
from systemprompt_cloud.io.cloud.wire import ProvisioningEvent
from systemprompt_cloud.io.sse.decoder import ServerSentEvent
from systemprompt_cloud.machines.parts.watching import AccessRefused, StepObserved
from systemprompt_cloud.machines.parts.watching import StreamLost as StreamWasLost
from systemprompt_cloud.machines.provisioning import ProvisioningFailed, TenantBecameReady

from tests.support.watched import (
    BUSY,
    GONE,
    SERVER,
    After,
    InMemory,
    Listing,
    Streams,
    asking,
    follow,
    lose,
    said,
    sse,
)

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
    ended = await follow(host, services, streams)
    assert ended == StreamWasLost(str(broken))
    assert [type(event) for event in host.events] == [StepObserved]


async def test_a_stream_that_is_not_there_ends_the_wait(services: Services) -> None:
    """404 on opening it: nothing to wait for."""
    host = InMemory()
    assert await follow(host, services, Streams(GONE)) == AccessRefused("not there")


async def test_a_refused_token_is_not_a_lost_stream(services: Services) -> None:
    """401 needs a login, so it is raised and parks the flow; polling would only be refused as well."""
    host = InMemory()
    with pytest.raises(NotAuthenticated):
        await follow(host, services, Streams(NotAuthenticated("expired")))


async def test_a_stream_goes_on_after_the_last_event_known(services: Services) -> None:
    """The id that is journaled with the last event is sent when the stream is opened again."""
    host, streams = InMemory(), Streams([sse("tenant_created", 1), sse("database_created", 2), SERVER], SERVER)
    await follow(host, services, streams)
    await follow(host, services, streams)
    assert streams.asked == ["", "2"]


async def test_a_stream_that_was_silent_too_long_is_lost_by_silence(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Broken after the idle time without an event: being open will not be proof that it is back."""
    host = InMemory()
    lost = StreamLost("the event stream fell silent for 30 s")
    silent = await follow(host, services, Streams([After(30.0, lost)]))
    assert silent == StreamWasLost(lost.user_message, silent=True)
    soon = await follow(host, services, Streams([After(29.0, lost)]))
    assert soon == StreamWasLost(lost.user_message)


@pytest.mark.parametrize(
    ("lost_before", "resumed", "seconds"),
    [(False, False, OPEN_SECONDS), (True, False, REOPEN_SECONDS), (True, True, OPEN_SECONDS)],
)
async def test_a_stream_that_does_not_open_is_not_waited_for(
    autojump_clock: trio.testing.MockClock, services: Services, lost_before: bool, resumed: bool, seconds: float
) -> None:
    """After a second and a half polling answers; one that was opened beside polling just now gets a little longer.

    That another process had lost it says nothing of now.
    """
    host = InMemory()
    if lost_before:
        await lose(host)
    host.enter(resumed=resumed)
    started = trio.current_time()
    lost = await follow(host, services, Streams(After(20.0, SERVER)))
    assert lost == StreamWasLost(f"the event stream did not open within {seconds:g} s")
    assert trio.current_time() - started == pytest.approx(seconds)
    assert await follow(host, services, Streams(After(seconds - 0.1, SERVER))) == StreamWasLost("gone")


async def test_events_without_ids_of_their_own_are_not_the_one_before_them(services: Services) -> None:
    """An id is carried on to events that have none (HTML 9.2.6); those are news all the same."""
    host = InMemory()
    events = [ServerSentEvent("provisioning", step, "7") for step in ("tenant_created", "vm_provisioned")]
    await follow(host, services, Streams([*events, SERVER]))
    assert host.context.steps == ("tenant_created", "vm_provisioned")
    assert [event.event_id for event in host.events if isinstance(event, StepObserved)] == ["7", ""]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([StepObserved("", "booting", "polling")], None),
        ([None], None),
        ([GONE], None),
        ([ProvisioningFailed("no")], ProvisioningFailed("no")),
        ([SERVER, BUSY, ProvisioningFailed("no")], ProvisioningFailed("no")),
    ],
)
async def test_beside_a_stream_only_the_end_counts(
    autojump_clock: trio.testing.MockClock,
    services: Services,
    answers: list[Event | Exception | None],
    found: Event | None,
) -> None:
    """Progress is the stream's to tell: it may be about to tell what came before. A failure is no answer."""
    host = InMemory()
    ask, moments = asking(*answers)
    assert await look_once(Listing(host, services, ask=ask)) == found
    assert host.events == []
    assert len(moments) == len(answers)


@pytest.mark.parametrize("pause", [None, 0.9])
async def test_an_end_found_beside_a_stream_waits_for_what_led_there(
    autojump_clock: trio.testing.MockClock, services: Services, pause: float | None
) -> None:
    """As long as the stream tells, it is let finish; one that says nothing delays the end by a second, no more."""
    host, end = InMemory(), ServerSentEvent("end", "", "")
    streams = Streams([After(pause, event) for event in (said(1), said(2), said(3), end)] if pause else [])
    ask, moments = asking(ProvisioningFailed("no"))
    source = Listing(host, services, streams, ask)
    started = trio.current_time()
    assert await run_state(host.run, [lambda _visit: follow_and_look(source)]) is None
    assert host.told == (["word 1", "word 2", "word 3"] if pause else [])
    assert host.events[-1] == ProvisioningFailed("no")
    assert trio.current_time() - started == pytest.approx(4 * pause if pause else FINISH_SECONDS)
    assert moments == [started]
    assert sum(isinstance(event, ProvisioningFailed) for event in host.events) == 1


async def test_an_end_repeats_no_word_that_the_stream_told_while_it_waited(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """What is said last is said once, whichever source says it first."""
    host, ready = InMemory(), TenantBecameReady("tenant_ready", "word 9", "polling")
    streams, (ask, _) = Streams([After(0.5, said(8)), After(0.2, said(9))]), asking(ready)
    source = Listing(host, services, streams, ask)
    assert await run_state(host.run, [lambda _visit: follow_and_look(source)]) is None
    assert (host.state, host.told) == ("fetching_secrets", ["word 8", "word 9"])


async def test_nothing_is_asked_before_the_stream_is_open(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """What happens between an answer and the opening would be told by nobody; one that does not open is polling's."""
    host = InMemory()
    ask, moments = asking()
    streams = Streams(After(1.0, SERVER))
    source = Listing(host, services, streams, ask)
    assert await run_state(host.run, [lambda _visit: follow_and_look(source)]) is None
    assert (host.state, moments) == ("polling", [])


async def test_a_stream_that_takes_long_to_open_hides_no_end(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Lost before and slow to open, it is not waited for: every second and a half it is asked whether all is over."""
    host = InMemory()
    await lose(host)
    host.state = "streaming"
    host.enter()
    ask, moments = asking(StepObserved("", "booting", "polling"), ProvisioningFailed("no"))
    streams, started = Streams(After(30.0, SERVER)), trio.current_time()
    source = Listing(host, services, streams, ask)
    assert await run_state(host.run, [lambda _visit: follow_and_look(source)]) is None
    assert host.state == "failed"
    assert [moment - started for moment in moments] == pytest.approx([1.5, 3.0])
