"""Polling: how long is waited between questions, and what ends it.

On a host that keeps everything in memory, and on trio's clock.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
import trio
from systemprompt_cloud.errors import ApiError, NotAuthenticated
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.source import Pauses
from systemprompt_cloud.flows.steps.watching import look_once, poll
from systemprompt_cloud.io.http.polling import LONGEST_RETRY_AFTER
from systemprompt_cloud.machines.parts.watching import AccessRefused, StepObserved
from systemprompt_cloud.machines.provisioning import TenantBecameReady

from tests.support.watched import BUSY, GONE, SERVER, InMemory, Listing, asking

READY = TenantBecameReady("tenant_ready", "", "polling")


async def test_polling_asks_at_once_and_less_often_while_nothing_changes(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """News makes the next wait short again; the end ends it."""
    host = InMemory("polling")
    ask, moments = asking(None, None, None, StepObserved("", "booting", "polling"), None, READY)
    assert await poll(host.visit, services.timing, ask) is READY
    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx([2.5, 3.75, 5.625, 2.5, 3.75], rel=0.21)
    assert len(host.events) == 1


async def test_polling_backs_off_while_it_is_not_answered(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """Failures wait longer each time, a Retry-After at least as long."""
    host = InMemory("polling")
    at_once = msgspec.structs.replace(services.timing, poll_seconds=0.0)
    ask, moments = asking(SERVER, SERVER, SERVER, BUSY, READY)
    assert await poll(host.visit, at_once, ask) is READY
    waits = [later - sooner for sooner, later in pairwise(moments)]
    assert waits == pytest.approx([2, 4, 8, 7 + 1])


async def test_a_pause_the_server_asked_for_outlives_the_visit(
    autojump_clock: trio.testing.MockClock, services: Services
) -> None:
    """A stream that comes and goes meanwhile does not make us ask sooner; another flow may ask at once."""
    host, other = InMemory("polling"), InMemory("polling")
    pauses = Pauses.of(host.visit)
    started = trio.current_time()
    ask, _ = asking(BUSY)
    with trio.move_on_after(1.0):  # the stream is lost meanwhile
        await look_once(Listing(host, services, ask=ask, pauses=pauses))
    ask, moments = asking(READY)
    await poll(host.visit, services.timing, ask, pauses=pauses)
    assert moments == [pytest.approx(started + 7)]
    pauses.note("status", ApiError("busy", status=429, retry_after=1e9))
    host.enter()
    assert Pauses.of(host.visit) is pauses
    with trio.fail_after(1):
        await pauses.wait_over("stream")
        await Pauses.of(other.visit).wait_over("status")
    with trio.fail_after(LONGEST_RETRY_AFTER + 1):
        await pauses.wait_over("status")


@pytest.mark.parametrize(
    ("trouble", "raised"), [(NotAuthenticated("no"), NotAuthenticated), (ApiError("HTML, not the API"), ApiError)]
)
async def test_what_polling_cannot_mend_is_raised(
    autojump_clock: trio.testing.MockClock, services: Services, trouble: Exception, raised: type[Exception]
) -> None:
    """A refused token and something that is not the API need a person: the flow is parked."""
    ask, _ = asking(trouble)
    with pytest.raises(raised):
        await poll(InMemory("polling").visit, services.timing, ask)


async def test_polling_ends_when_the_thing_is_gone(autojump_clock: trio.testing.MockClock, services: Services) -> None:
    """404: over."""
    ask, _ = asking(GONE)
    assert await poll(InMemory("polling").visit, services.timing, ask) == AccessRefused("not there")
