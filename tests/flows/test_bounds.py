"""What a server that never stops talking, and a browser that comes again, cost: bounded, and no answer is hurried."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import trio
from systemprompt_cloud.errors import StreamLost
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.asking import Asking, Reports
from systemprompt_cloud.flows.steps.counting import IN_A_ROW, InARow
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from systemprompt_cloud.machines.parts.progress import STEPS_KEPT, ForeignEventDropped
from systemprompt_cloud.machines.provisioning import ProvisioningFailed, TenantBecameReady
from trio.testing import MockClock
from typing_extensions import override

from tests.support.rehearsal import open_rehearsal, wait_for_change
from tests.support.watched import InMemory, Streams, asking, polled, said, visit

READY = TenantBecameReady("tenant_ready", "", "polling")
FAILED = ProvisioningFailed("no")
LOST = StreamLost("the server ended it", about="the event stream was lost:")


def test_any_other_answer_starts_the_count_anew() -> None:
    """Also the same answer about another tenant, and none."""
    row = InARow()
    assert [row.count(each) for each in ("a", "a", "b", "b", None, None, "b")] == [1, 2, 1, 2, 0, 0, 1]


async def test_what_is_heard_does_not_hurry_the_answers_that_end_a_wait(
    autojump_clock: MockClock, services: Services
) -> None:
    """They come as far apart as questions are, whatever a stream repeats meanwhile: replicas get time to catch up."""
    ask, moments = asking(*[FAILED] * IN_A_ROW)
    waiting = Asking(InMemory().visit, services.timing, ask, needed={ProvisioningFailed: IN_A_ROW})
    async with trio.open_nursery() as nursery:

        async def noise() -> None:
            while True:
                waiting.ask_now()
                await trio.sleep(0.2)

        nursery.start_soon(noise)
        assert await waiting.until_ended() == FAILED
        nursery.cancel_scope.cancel()
    assert [later - sooner for sooner, later in pairwise(moments)] == pytest.approx([10.0] * (IN_A_ROW - 1))


async def test_an_end_that_a_stream_repeats_is_asked_about_once(autojump_clock: MockClock, services: Services) -> None:
    """Only a new one brings the next question nearer; one that is known does not."""
    ends = [ServerSentEvent("end", "", str(number)) for number in range(50)]
    ask, moments = asking(*[polled(1)] * 5, READY)
    await visit(InMemory(), services, Streams(ends), ask)
    assert len(moments) == 6
    assert moments[-1] - moments[0] >= 40


async def test_a_stream_that_only_repeats_is_opened_more_and_more_rarely(
    autojump_clock: MockClock, services: Services
) -> None:
    """It tells one event, which is known, and ends: that is no news, so the waits grow."""
    opened: list[float] = []

    class Counted(Streams):
        @override
        def __call__(self, last_event_id: str) -> AbstractAsyncContextManager[EventStream]:
            opened.append(trio.current_time())
            return super().__call__(last_event_id)

    ask, _ = asking(*[polled(1)] * 30, READY)
    await visit(InMemory(), services, Counted(*[[said(2), LOST]] * 200), ask)
    waits = [later - sooner for sooner, later in pairwise(opened)]
    assert len(opened) < 20
    assert max(waits) == pytest.approx(60.0, abs=1)


async def test_foreign_names_are_noted_a_number_of_times(autojump_clock: MockClock) -> None:
    """However many there are, and in whatever order they come."""
    host = InMemory()
    reports = Reports(host.visit)
    for _ in range(3):
        for number in range(STEPS_KEPT + 10):
            await reports.note_foreign(ForeignEventDropped(f"tenant {number}", "not ours"))
    assert len(host.events) == STEPS_KEPT


async def test_a_callback_that_comes_again_is_refused_and_makes_no_row(tmp_path: Path) -> None:
    """SECURITY 3: replays are answered 4xx; another callback is still taken."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_checkout(engine, rehearsal.checkout(look_timeout=30.0))
        await rehearsal.wait_shown()
        (checkout,) = rehearsal.cloud.checkouts.values()

        async def come_back(query: str) -> int:
            async with httpx.AsyncClient(trust_env=False) as tab:
                return (await tab.get(f"{checkout.redirect_uri}&{query}")).status_code

        assert await come_back("error=declined") == 200
        await wait_for_change(flow, lambda change: change.to_state == "looking_for_payment")
        assert [await come_back("error=declined") for _ in range(5)] == [409] * 5
        assert await come_back("error=otherwise") == 200
        declined = [change for change in flow.history if change.event == "PaymentDeclined"]
        assert len(declined) == 2
