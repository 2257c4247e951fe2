"""A failure that proves that nothing happened is no lost answer: nobody is asked, and it is done once all the same.

The server honours no idempotency keys, so a request whose outcome is unknown would need a person to decide.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.flows.checkout import checkout_program, start_checkout
from systemprompt_cloud.flows.deployment import deployment_program, start_deployment
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.sandbox.faults import FaultPlan

from tests.support.deploying import events
from tests.support.rehearsal import CLIENT_ATTEMPTS, Rehearsal, open_rehearsal, wait_for_state, wait_parked

Start = Callable[[Engine], Awaitable[Flow]]


class Story(NamedTuple):
    """Something that must not happen twice: how it begins, and where it is asked for."""

    begin: Callable[[Rehearsal], Start]
    program: Callable[[Services], Program[Any]]
    state: str
    path: str


def a_checkout(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_checkout(engine, rehearsal.checkout())


def a_deployment(rehearsal: Rehearsal) -> Start:
    wanted = rehearsal.deployment(rehearsal.build().id)
    return lambda engine: start_deployment(engine, wanted)


BUY = Story(a_checkout, checkout_program, "creating_checkout", "/checkout")
DEPLOY = Story(a_deployment, deployment_program, "deploying", "/deploy")
both = pytest.mark.parametrize("story", [BUY, DEPLOY], ids=["buy", "deploy"])


async def come_to_asking(rehearsal: Rehearsal, story: Story) -> Start:
    """A run of the command that ends right before the request that acts; what the next run begins with."""
    rehearsal.log_in()
    start = story.begin(rehearsal)
    async with Services(rehearsal.paths) as services:
        whole = story.program(services)
        stops_there = Program(whole.machine, whole.activities | {story.state: (await_signal,)})
        async with open_engine(rehearsal.paths, [stops_there]) as engine:
            await wait_for_state(await start(engine), story.state)
    return start


def go_wrong(rehearsal: Rehearsal, fault: str) -> None:
    """From now on."""
    rehearsal.cloud.faults = FaultPlan(["no-idempotency", fault])


async def run_until_parked(rehearsal: Rehearsal, start: Start) -> str:
    """One run of the command, and what stopped it."""
    async with rehearsal.open_engine() as engine:
        return (await wait_parked(await start(engine))).kind


def times_done(rehearsal: Rehearsal, story: Story) -> int:
    """How often the cloud did it."""
    ledger = rehearsal.cloud.ledger
    return ledger.checkouts if story is BUY else len(ledger.deployments)


async def assert_done_once(rehearsal: Rehearsal, start: Start, story: Story) -> None:
    """One run of the command takes the flow to a good end, without a question."""
    async with rehearsal.open_engine() as engine:
        flow = await start(engine)
        assert (await flow.wait()).succeeded
        assert "OutcomeUnknown" not in events(flow)
    assert times_done(rehearsal, story) == 1


@both
@pytest.mark.parametrize("times", [1, 2])
async def test_a_refused_token_is_no_lost_answer(tmp_path: Path, story: Story, times: int) -> None:
    """401 to the one request that acts: the flow waits for a login, and after it goes on without a question."""
    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        start = await come_to_asking(rehearsal, story)
        go_wrong(rehearsal, f"unauthorized:path={story.path},times={times}")
        for _ in range(times):
            assert await run_until_parked(rehearsal, start) == "NotAuthenticated"
            rehearsal.log_in()
        await assert_done_once(rehearsal, start, story)


@both
@pytest.mark.parametrize("status", [408, 425, 429])
async def test_being_turned_away_for_now_is_no_lost_answer(tmp_path: Path, story: Story, status: int) -> None:
    """The server is too busy, and says that it did nothing: the flow is paused, and asks when it is resumed."""
    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        start = await come_to_asking(rehearsal, story)
        go_wrong(rehearsal, f"error:status={status},path={story.path}")
        assert await run_until_parked(rehearsal, start) == "ApiError"
        assert times_done(rehearsal, story) == 0
        await assert_done_once(rehearsal, start, story)


@both
async def test_a_connection_that_was_never_made_is_no_lost_answer(tmp_path: Path, story: Story) -> None:
    """The cloud is away when it is to be asked: once when it is back, and no question."""
    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        start = await come_to_asking(rehearsal, story)
        await rehearsal.go_down()
        assert await run_until_parked(rehearsal, start) == "Network"
        await rehearsal.come_up()
        await assert_done_once(rehearsal, start, story)


@pytest.mark.parametrize(
    ("fault", "paused"),
    [
        ("unauthorized:path=/status", "NotAuthenticated"),
        (f"error:status=503,path=/status,times={CLIENT_ATTEMPTS}", "ApiError"),
        (None, "Network"),
    ],
    ids=["refused", "broken", "away"],
)
async def test_a_second_run_that_comes_to_nothing_either_leaves_no_doubt(
    tmp_path: Path, fault: str | None, paused: str
) -> None:
    """Refused when it asked, resumed, and stopped before it asked: what the first run noted is no sign of a request."""
    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        start = await come_to_asking(rehearsal, DEPLOY)
        go_wrong(rehearsal, "unauthorized:path=/deploy")
        assert await run_until_parked(rehearsal, start) == "NotAuthenticated"
        rehearsal.log_in()
        if fault is None:
            await rehearsal.go_down()
        else:
            go_wrong(rehearsal, fault)
        assert await run_until_parked(rehearsal, start) == paused
        if fault is None:
            await rehearsal.come_up()
        rehearsal.log_in()
        await assert_done_once(rehearsal, start, DEPLOY)
