"""A stream that was lost: how it is got back beside polling, and in whose words the story goes on.

The activities run on a host that keeps everything in memory, on trio's clock, with streams made of lists.
"""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.errors import NotAuthenticated
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.source import Pauses
from systemprompt_cloud.flows.steps.streaming import CATCH_UP_SECONDS
from systemprompt_cloud.flows.steps.watching import send_news
from systemprompt_cloud.io.sse.decoder import ServerSentEvent
from systemprompt_cloud.machines.parts.watching import ORDER, AccessRefused, StepObserved, StreamReturned
from systemprompt_cloud.machines.parts.watching import StreamLost as StreamWasLost
from systemprompt_cloud.machines.provisioning import ProvisioningFailed

from tests.support.watched import (
    BUSY,
    GONE,
    HEARTBEAT,
    SERVER,
    After,
    InMemory,
    Streams,
    asking,
    follow,
    lose,
    nothing_new,
    polled,
    said,
    without_stream,
)


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


async def test_it_says_so_too_to_whom_follows_it(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """What was said in the one state holds in the other; the status may be asked meanwhile."""
    host, pauses, started = InMemory(), Pauses(), trio.current_time()
    ask, moments = asking(*[None] * 9)
    await host.deliver(await follow(host, services, Streams(BUSY), pauses), 1)
    host.enter()
    await without_stream(host, services, Streams([]), ask, pauses)
    assert host.state == "streaming"
    assert 7 <= trio.current_time() - started <= 7 + 1
    assert moments[0] == started


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
    await follow(host, services, Streams([said(5), said(6), SERVER]))
    assert host.told == ["word 4", "word 5", "word 6"]
    assert host.context.steps == ORDER[1:6]
    assert set(host.context.messages) == {f"word {number}" for number in range(2, 7)}


async def test_a_stream_that_takes_its_time_tells_nothing_late(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """As long as it goes on telling: 2 and 3 come long after 4, and polling goes on."""
    host = InMemory()
    await lose(host)
    answers = [polled(4)] * 3 + [polled(5)] * 100
    slow = [After(8.0, said(number)) for number in range(2, 7)]
    await without_stream(host, services, Streams(slow), asking(*answers)[0])
    assert host.state == "streaming"
    assert host.told == ["word 4", "word 5"]
    assert set(host.context.messages) == {"word 2", "word 3", "word 4", "word 5"}
    assert host.context.steps == ORDER[1:5]


@pytest.mark.parametrize("later", ["says the same", "says nothing", "is refused"])
@pytest.mark.parametrize("beat", [5.0, None], ids=["heartbeats", "no heartbeats"])
async def test_a_stream_that_has_other_words_tells_what_is_new(
    autojump_clock: trio.testing.MockClock, services: Services, later: str, beat: float | None
) -> None:
    """What polling told never comes: after a while without news the stream is back, and tells on from there."""
    host = InMemory()
    await lose(host)
    same, started = StepObserved("", "60 %", "polling"), trio.current_time()
    then = {"says the same": same, "says nothing": None, "is refused": BUSY}[later]
    beats = [After(beat, HEARTBEAT)] * 100 if beat else []
    await without_stream(host, services, Streams([said(2), *beats]), asking(same, *[then] * 100)[0])
    assert host.state == "streaming"
    assert trio.current_time() - started <= 1 + CATCH_UP_SECONDS
    host.enter()
    await follow(host, services, Streams([said(3), SERVER]))
    assert host.told == ["60 %", "word 3"]
    assert host.context.steps == ORDER[1:3]


async def test_what_a_stream_told_before_it_caught_up_is_known(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """It breaks, and the next one does not tell it anew; or polling learns of the end: it is recorded, and not told."""
    host = InMemory()
    await lose(host)
    streams = Streams([said(2), said(3), SERVER], [said(4)])
    started = trio.current_time()

    async def ask() -> Event | None:
        await trio.lowlevel.checkpoint()
        late = trio.current_time() - started > 5.0
        return ProvisioningFailed("no") if late else StepObserved("", "60 %", "polling")

    await without_stream(host, services, streams, ask)
    assert host.state == "failed"
    assert streams.asked == ["", "3"]
    assert host.told == ["60 %"]
    assert host.context.steps == ORDER[1:4]


async def test_a_stream_that_forgets_what_is_past_loses_no_word(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """It tells only what happens from now on. Whether that is newer than what polling told, the next answer says."""
    host = InMemory()
    await lose(host)
    answers = [polled(4)] * 3 + [polled(5)] * 100
    live = [After(8.0, said(5)), *[After(5.0, HEARTBEAT)] * 10]
    await without_stream(host, services, Streams(live), asking(*answers)[0])
    assert host.state == "streaming"
    assert host.told == ["word 4", "word 5"]


async def test_a_wait_that_is_taken_up_again_does_not_go_back(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """The time ran out while polling was ahead: it goes on with polling, until the stream has come as far."""
    host = InMemory()
    await send_news(host.visit, polled(4))
    lost = await follow(host, services, Streams())
    assert lost == StreamWasLost("polling is ahead of the event stream")
    await host.deliver(lost, 1)
    host.enter()
    await without_stream(host, services, Streams([said(3), said(4), said(5)]), asking(*[polled(4)] * 100)[0])
    host.enter()
    await follow(host, services, Streams([said(5), SERVER]))
    assert host.told == ["word 4", "word 5"]


async def test_a_stream_that_comes_back_with_the_end_has_told_the_rest(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """The step that led to it is known, and then the end."""
    host = InMemory()
    await lose(host)
    ask, _ = asking(polled(2), *[None] * 100)
    end = ServerSentEvent("end", "", "")
    await without_stream(host, services, Streams([said(3), end]), ask)
    assert host.state == "failed"
    assert [type(event) for event in host.events[-2:]] == [StepObserved, ProvisioningFailed]
    assert host.context.steps == ORDER[2:3]


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
    assert host.told == ["word 3"]


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
