"""One story from two sources: whatever the stream and the polling saw, and in whatever order, the end is the same."""

from __future__ import annotations

from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.machine.parts import Context
from systemprompt_cloud.flows.provisioning import meaning, start_provisioning, status_meaning
from systemprompt_cloud.io.cloud.wire import ProvisioningEventType, TenantStatus
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.machines.parts.watching import StepObserved, StreamLost, StreamReturned, news
from systemprompt_cloud.machines.provisioning import (
    PROVISIONING,
    ProvisioningContext,
    ProvisioningFailed,
    TenantBecameReady,
)
from systemprompt_cloud.sandbox import views
from systemprompt_cloud.sandbox.provisioning import MESSAGES
from trio.testing import MockClock

from tests.support.length import by_length
from tests.support.rehearsal import open_rehearsal, wait_for_state

EVENTS = "path=/events"
STEPS = list(ProvisioningEventType)[:10]
WAITING = ProvisioningContext(api_url="http://127.0.0.1:1", tenant_id="t")


def test_both_sources_use_the_same_words() -> None:
    """The two ends and progress, from a stream's event and from a polled status."""
    for step, status in (("tenant_ready", "ready"), ("provisioning_failed", "failed"), ("", "working")):
        streamed = meaning(WAITING, step, "said", "polling")
        polled = status_meaning(WAITING, TenantStatus(status=status, message="said"))
        assert type(streamed) is type(polled)
    assert meaning(WAITING, "infrastructure_ready", "", "stream") == StepObserved(
        "infrastructure_ready", "", "stream", "", "t"
    )
    assert isinstance(meaning(WAITING, "provisioning_failed", "", "stream"), ProvisioningFailed)


def observe_all(seen: list[tuple[str, int]]) -> tuple[str, Context]:
    """Take observations in this order, as the activities do: what is no news makes no event."""
    state, context = "streaming", WAITING
    for source, upto in seen:
        if source == "lost":
            step = PROVISIONING.step(state, context, StreamLost("gone"))
        elif source == "back" and state == "polling":
            step = PROVISIONING.step(state, context, StreamReturned())
        elif source in {"stream", "polling"}:
            name = STEPS[upto]
            observed = meaning(WAITING, name, MESSAGES[name], "stream" if source == "stream" else "polling")
            if isinstance(observed, TenantBecameReady):
                continue
            told = news(context, observed) if isinstance(observed, StepObserved) else observed
            if told is None:
                continue
            step = PROVISIONING.step(state, context, told)
        else:
            continue
        state, context = step.state, step.context
    step = PROVISIONING.step(state, context, meaning(WAITING, "tenant_ready", "", "stream", app_url="https://a"))
    return step.state, step.context


@settings(max_examples=by_length(60, 1000), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stream", "polling", "lost", "back"]), st.integers(0, 9)), max_size=30))
def test_any_interleaving_ends_the_same(seen: list[tuple[str, int]]) -> None:
    """Whoever saw which step first, however often the stream broke: the same state, and each step known once."""
    state, context = observe_all(seen)
    assert isinstance(context, ProvisioningContext)
    assert (state, context.app_url, context.problem) == ("fetching_secrets", "https://a", "")
    expected = {STEPS[upto] for source, upto in seen if source in {"stream", "polling"}} | {"tenant_ready"}
    assert set(context.steps) == expected
    assert len(context.steps) == len(expected)


@settings(max_examples=6, deadline=None)
@given(
    drops=st.lists(st.integers(0, 9), max_size=3),
    outage=st.sampled_from([0.0, 0.05]),
    malformed=st.integers(0, 9),
    silent=st.booleans(),
)
async def test_any_accident_of_the_stream_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory, drops: list[int], outage: float, malformed: int, silent: bool
) -> None:
    """Over real sockets: whatever happens to the stream, the same tenant is stored, with the same secrets."""
    faults = [f"drop-stream:after={after},outage={outage},{EVENTS}" for after in drops]
    faults += [f"malformed:after={malformed},{EVENTS}", *([f"silence:after=1,{EVENTS}"] if silent else [])]
    async with (
        open_rehearsal(tmp_path_factory.mktemp("accident"), faults=faults, step_seconds=0.01) as rehearsal,
        rehearsal.open_engine(idle_seconds=0.1) as engine,
    ):
        rehearsal.log_in()
        tenant = rehearsal.buy()
        outcome = await (await start_provisioning(engine, rehearsal.provisioning(tenant.id))).wait()
        assert outcome.state == "ready"
        (stored,) = TenantStore.load_from_path(rehearsal.paths.tenants).tenants
        assert stored.sync_token == views.tenant_secrets(rehearsal.cloud, tenant).sync_token


# --- what a stream that is away costs ------------------------------------------------------------------------------

SILENCE = 2.0
"""Seconds a dropped stream may cost somebody who looks on."""


@pytest.fixture
def slow_clock() -> MockClock:
    """A clock that goes a quarter as fast: what the engine waits for counts, what a busy machine adds hardly does."""
    return MockClock(rate=0.25)


@pytest.mark.parametrize(
    "faults",
    [
        [f"drop-stream:after=3,outage=1000,{EVENTS}"],
        [f"drop-stream:after=3,{EVENTS}"],
        [f"drop-stream:after=1,times=4,{EVENTS}", f"duplicate:times=0,{EVENTS}", f"replay-all:times=0,{EVENTS}"],
        [f"drop-stream:after=2,times=3,outage=0.3,{EVENTS}", f"reorder:after=1,{EVENTS}"],
        [f"error:status=503,times=0,{EVENTS}"],
        [f"silence:after=3,times=0,{EVENTS}"],
    ],
    ids=["away", "blip", "repeats", "reorders", "no stream", "silent"],
)
async def test_a_stream_that_is_away_costs_little(tmp_path: Path, faults: list[str], slow_clock: MockClock) -> None:
    """At the command line's own pace: noticed, polling has answered within two seconds; nothing is told twice."""
    async with (
        open_rehearsal(tmp_path, faults=faults, step_seconds=0.125) as rehearsal,
        rehearsal.open_engine(poll_seconds=2.0, idle_seconds=0.8, backoff=None) as engine,
    ):
        rehearsal.log_in()
        tenant = rehearsal.buy()
        flow = await start_provisioning(engine, rehearsal.provisioning(tenant.id))
        asked, lost, told = "GET /api/v1/tenants/{id}/status", list[float](), list[tuple[float, str]]()
        waits = list[float]()
        questions = rehearsal.cloud.ledger.requests
        async with aclosing(flow.changes()) as changes, trio.open_nursery() as nursery:

            async def until_asked(before: int) -> None:
                noticed = trio.current_time()
                while questions[asked] == before:
                    await trio.lowlevel.checkpoint()
                waits.append(trio.current_time() - noticed)

            async for change in changes:
                if change.event == "StreamLost" and change.from_state != change.to_state:
                    lost.append(trio.current_time())
                    nursery.start_soon(until_asked, questions[asked])
                if change.event in {"StepObserved", "TenantBecameReady"} and change.message:
                    told.append((trio.current_time(), change.message))
            nursery.cancel_scope.cancel()
        assert (await flow.wait()).state == "ready"
    assert lost
    assert max(waits) < SILENCE
    messages = [message for _, message in told if message in MESSAGES.values()]
    assert messages == [message for message in MESSAGES.values() if message in messages]
    for gone in lost:
        after = [moment for moment, _ in told if moment >= gone]
        assert after[0] - gone < SILENCE
    assert max(later[0] - sooner[0] for sooner, later in pairwise(told)) < SILENCE


async def test_ready_is_found_out_soon_after_the_stream_went(tmp_path: Path, slow_clock: MockClock) -> None:
    """The stream breaks for good right before the end: ready is known within two seconds of being so."""
    faults = [f"drop-stream:after=9,outage=1000,{EVENTS}"]
    async with (
        open_rehearsal(tmp_path, faults=faults, step_seconds=0.2) as rehearsal,
        rehearsal.open_engine(poll_seconds=2.0, backoff=None) as engine,
    ):
        rehearsal.log_in()
        tenant = rehearsal.buy()
        flow = await start_provisioning(engine, rehearsal.provisioning(tenant.id))
        await wait_for_state(flow, "fetching_secrets")
        assert rehearsal.cloud.now() - (tenant.started + 10 * 0.2) < SILENCE
