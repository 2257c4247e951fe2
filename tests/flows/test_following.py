"""A server is followed by its stream and by questions side by side, and only its own answer ends the wait.

On a host that keeps everything in memory, and on trio's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, TooLarge
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.asking import Asking, Reports, ask_firmly
from systemprompt_cloud.flows.steps.counting import IN_A_ROW
from systemprompt_cloud.flows.steps.following import NO_STREAM
from systemprompt_cloud.flows.steps.source import Pauses
from systemprompt_cloud.io.http.polling import LONGEST_RETRY_AFTER
from systemprompt_cloud.io.sse.decoder import ServerSentEvent
from systemprompt_cloud.machines.parts.progress import (
    ORDER,
    AccessRefused,
    EndReported,
    StatusNotAnswered,
    StreamLost,
)
from systemprompt_cloud.machines.provisioning import ProvisioningFailed, TenantBecameReady
from trio.testing import MockClock

from tests.support.watched import (
    BUSY,
    GONE,
    HEARTBEAT,
    SERVER,
    After,
    InMemory,
    Item,
    Streams,
    asking,
    polled,
    said,
    visit,
)

READY = TenantBecameReady("tenant_ready", "", "polling")
FAILED = ProvisioningFailed("no")
PAGE = ApiError("answered with an HTML page, not the API", status=403)
END = ServerSentEvent("end", "", "9")


def waits(moments: list[float]) -> list[float]:
    """The times between questions."""
    return [later - sooner for sooner, later in pairwise(moments)]


# --- asking --------------------------------------------------------------------------------------------------------


async def test_it_is_asked_at_once_and_in_even_steps(autojump_clock: MockClock, services: Services) -> None:
    """Whether or not anything changes, and whether or not it was answered."""
    ask, moments = asking(None, polled(1), SERVER, PAGE, TooLarge("huge"), READY)
    host = InMemory()
    assert await Asking(host.visit, services.timing, ask).until_ended() == READY
    assert waits(moments) == pytest.approx([10.0] * 5)


async def test_retry_after_is_obeyed(autojump_clock: MockClock, services: Services) -> None:
    """A server that names a time is not asked before; and it outlives the visit."""
    host = InMemory()
    ask, moments = asking(ApiError("busy", status=503, retry_after=25.0), READY)
    await Asking(host.visit, services.timing, ask).until_ended()
    assert waits(moments) == pytest.approx([25.0])
    pauses, other = Pauses.of(host.visit), InMemory()
    pauses.note("status", ApiError("busy", status=429, retry_after=1e9))
    host.enter()
    assert Pauses.of(host.visit) is pauses
    with trio.fail_after(1):
        await pauses.wait_over("stream")
        await Pauses.of(other.visit).wait_over("status")
    with trio.fail_after(LONGEST_RETRY_AFTER + 1):
        await pauses.wait_over("status")


@pytest.mark.parametrize(
    ("answers", "end"),
    [
        ([FAILED] * IN_A_ROW, FAILED),
        ([FAILED, FAILED, READY], READY),
        ([FAILED, FAILED, None, FAILED, FAILED, READY], READY),
        ([FAILED, FAILED, PAGE, FAILED, FAILED, READY], READY),
        ([GONE, GONE, READY], READY),
        ([GONE] * IN_A_ROW, AccessRefused("not there", "tenant_not_found")),
        ([PAGE] * 20 + [READY], READY),
        ([ApiError("no", status=404)] * 20 + [READY], READY),
    ],
    ids=["failed", "failed before", "between", "page between", "lagging", "gone", "firewall", "no code"],
)
async def test_only_the_apis_word_ends_a_wait_badly(
    autojump_clock: MockClock, services: Services, answers: list[Event | Exception | None], end: Event
) -> None:
    """A failure or a refusal counts when it comes three times in a row, in a body the API made."""
    ask, _ = asking(*answers)
    asked = Asking(InMemory().visit, services.timing, ask, needed={ProvisioningFailed: IN_A_ROW})
    assert await asked.until_ended() == end


async def test_what_is_paid_for_is_not_refused(autojump_clock: MockClock, services: Services) -> None:
    """Where a refusal is no end, it is asked on."""
    ask, _ = asking(*[GONE] * 20, READY)
    assert await Asking(InMemory().visit, services.timing, ask, refusable=False).until_ended() == READY


async def test_a_token_that_is_refused_pauses_the_flow(autojump_clock: MockClock, services: Services) -> None:
    """401 on the status needs a person."""
    ask, _ = asking(NotAuthenticated("no"))
    with pytest.raises(NotAuthenticated):
        await Asking(InMemory().visit, services.timing, ask).until_ended()


async def test_the_same_trouble_is_one_row_with_a_count(autojump_clock: MockClock, services: Services) -> None:
    """Written the first, second, fourth … time; another reason is another row."""
    host = InMemory()
    reports = Reports(host.visit)
    for number in range(20):
        await reports.note("status", Network("gone", request_id=f"r{number}"))
    await reports.note("status", PAGE)
    await reports.note("stream", PAGE)
    assert host.events == [
        *[StatusNotAnswered("gone", times) for times in (1, 2, 4, 8, 16)],
        StatusNotAnswered(PAGE.user_message, 1),
        StreamLost(PAGE.user_message, 1),
    ]


async def test_a_refusal_before_anything_is_done_must_be_firm(autojump_clock: MockClock, services: Services) -> None:
    """One replica that is behind refuses nothing; three times in a row does; what is no refusal is raised at once."""
    ask, moments = asking(GONE, GONE, READY)
    assert await ask_firmly(services.timing, ask) == READY
    ask, moments = asking(*[GONE] * 5)
    with pytest.raises(ApiError):
        await ask_firmly(services.timing, ask)
    assert len(moments) == IN_A_ROW
    ask, moments = asking(PAGE)
    with pytest.raises(ApiError):
        await ask_firmly(services.timing, ask)
    assert len(moments) == 1


# --- both ----------------------------------------------------------------------------------------------------------


async def test_both_report_and_the_answer_ends(autojump_clock: MockClock, services: Services) -> None:
    """While the stream tells, its words are shown, and it is asked more rarely."""
    host = InMemory()
    ask, moments = asking(polled(1), polled(5), READY)
    await visit(host, services, Streams([said(1), After(15.0, said(2)), After(15.0, said(3))]), ask)
    assert host.told == ["word 1", "word 2", "word 3"]
    assert waits(moments)[1] == pytest.approx(25.0)
    assert host.state == "fetching_secrets"


SILENT: dict[str, Sequence[Item] | Exception | After] = {
    "heartbeats": [HEARTBEAT, *[After(1.0, HEARTBEAT)] * 500],
    "silent": [],
    "undecodable": [After(0.5, ServerSentEvent("other", "[1]", "1"))] * 100,
    "opens late": After(1000.0, SERVER),
    "broken": SERVER,
}


@pytest.mark.parametrize("kind", SILENT)
async def test_ready_is_told_soon_whatever_the_stream_does(
    autojump_clock: MockClock, services: Services, kind: str
) -> None:
    """A stream that tells nothing does not slow the questions."""
    ask, moments = asking(*[None] * 6, READY)
    await visit(InMemory(), services, Streams(*[SILENT[kind]] * 100), ask)
    assert waits(moments) == pytest.approx([10.0] * 6)


@pytest.mark.parametrize("status", sorted(NO_STREAM))
async def test_a_server_without_a_stream_is_not_asked_for_it_again(
    autojump_clock: MockClock, services: Services, status: int
) -> None:
    """404, 405, 406, 410, 501, 204: said once, and polled."""
    host, streams = InMemory(), Streams(ApiError("no stream", status=status))
    ask, _ = asking(None, None, None, READY)
    await visit(host, services, streams, ask)
    assert streams.asked == [""]
    assert host.events[0] == StreamLost("no stream")


async def test_a_lost_stream_is_opened_again_with_backoff(autojump_clock: MockClock, services: Services) -> None:
    """After its last event, later each time it fails, and not before the server's own time; news starts anew."""
    host = InMemory()
    streams = Streams(SERVER, SERVER, BUSY, [said(1), SERVER], SERVER, [])
    ask, _ = asking(*[None] * 10, READY)
    await visit(host, services, streams, ask)
    assert streams.asked == ["", "", "", "", "1", "1"]


async def test_what_a_stream_says_about_the_end_is_asked_about(autojump_clock: MockClock, services: Services) -> None:
    """At once, and the answer decides: a failure of an earlier attempt does not end a tenant that is ready."""
    host = InMemory()
    ask, moments = asking(None, READY)
    await visit(host, services, Streams([After(6.0, END), END, END]), ask)
    assert waits(moments) == pytest.approx([6.0])
    assert [type(event) for event in host.events] == [EndReported, TenantBecameReady]
    assert host.state == "fetching_secrets"


async def test_a_stream_that_repeats_the_end_is_no_flood_of_questions(
    autojump_clock: MockClock, services: Services
) -> None:
    """However often it says so: one row, and not more than one question in half the usual time."""
    host = InMemory()
    ask, moments = asking(*[None] * 10, READY)
    await visit(host, services, Streams([After(0.01, END)] * 20_000), ask)
    assert min(waits(moments)) >= 5.0
    assert sum(isinstance(event, EndReported) for event in host.events) == 1


async def test_a_stream_that_refuses_the_token_does_not_stop_the_flow(
    autojump_clock: MockClock, services: Services
) -> None:
    """The status call has the word; it is asked at once."""
    host = InMemory()
    ask, moments = asking(None, READY)
    await visit(host, services, Streams(*[NotAuthenticated("no")] * 20), ask)
    assert waits(moments) == pytest.approx([5.0])
    assert host.state == "fetching_secrets"


async def test_a_stream_that_is_behind_is_not_shown_until_it_has_caught_up(
    autojump_clock: MockClock, services: Services
) -> None:
    """Polling told 4 while it was away; back again, it tells all of it."""
    host = InMemory()
    late: list[Item] = [said(1), said(2), said(3), said(4), said(5), After(1.0, HEARTBEAT)]
    ask, _ = asking(polled(4), polled(4), None, None, READY)
    await visit(host, services, Streams(*[SERVER] * 4, late), ask)
    assert host.told == ["word 4", "word 5"]
    assert host.context.steps[:5] == ORDER[:5]
