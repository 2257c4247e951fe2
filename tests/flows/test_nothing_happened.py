"""A failure that proves that nothing happened is no lost answer: nobody is asked, and it is done once all the same.

The server honours no idempotency keys, so a request whose outcome is unknown would need a person to decide.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from systemprompt_cloud.flows.checkout import checkout_program, start_checkout
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.engine import Engine, open_engine
from systemprompt_cloud.flows.flow import Flow, Outcome
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.visit import Program, await_signal
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.testing.deploying import events
from systemprompt_cloud.testing.fixtures import Rehearsal, open_rehearsal, wait_for_state, wait_parked

Start = Callable[[Engine], Awaitable[Flow]]


def a_checkout(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_checkout(engine, rehearsal.checkout())


def a_deployment(rehearsal: Rehearsal) -> Start:
    wanted = rehearsal.deployment(rehearsal.build().id)
    return lambda engine: start_deployment(engine, wanted)


async def run_until_parked(rehearsal: Rehearsal, start: Start) -> str:
    """One run of the command, and what stopped it."""
    async with rehearsal.open_engine() as engine:
        return (await wait_parked(await start(engine))).kind


async def run_to_the_end(rehearsal: Rehearsal, start: Start) -> tuple[Outcome, list[str]]:
    """One run of the command: how it ended, and what happened, by name."""
    async with rehearsal.open_engine() as engine:
        flow = await start(engine)
        return await flow.wait(), events(flow)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    ("story", "refused"),
    [(a_checkout, "path=/checkout,after=1"), (a_deployment, "path=/deploy")],
    ids=["buy", "deploy"],
)
async def test_a_refused_token_is_no_lost_answer(
    tmp_path: Path, story: Callable[[Rehearsal], Start], refused: str, times: int
) -> None:
    """401 to the one request that acts: the flow waits for a login, and after it goes on without a question."""
    faults = ["no-idempotency", f"unauthorized:{refused},times={times}"]
    async with open_rehearsal(tmp_path, faults=faults) as rehearsal:
        rehearsal.log_in()
        start = story(rehearsal)
        for _ in range(times):
            assert await run_until_parked(rehearsal, start) == "NotAuthenticated"
            rehearsal.log_in()
        outcome, happened = await run_to_the_end(rehearsal, start)
        assert outcome.succeeded
        assert "OutcomeUnknown" not in happened
        ledger = rehearsal.cloud.ledger
        assert (ledger.checkouts if story is a_checkout else len(ledger.deployments)) == 1


async def test_a_connection_that_was_never_made_is_no_lost_answer(tmp_path: Path) -> None:
    """The cloud is away when the order is to be placed: one checkout when it is back, and no question."""
    async with open_rehearsal(tmp_path, faults=["no-idempotency"]) as rehearsal:
        rehearsal.log_in()
        start = a_checkout(rehearsal)
        async with Services(rehearsal.paths) as services:
            stops_there = checkout_program(services).activities | {"creating_checkout": (await_signal,)}
            async with open_engine(rehearsal.paths, [Program(CHECKOUT, stops_there)]) as engine:
                await wait_for_state(await start(engine), "creating_checkout")
        await rehearsal.go_down()
        assert await run_until_parked(rehearsal, start) == "Network"
        await rehearsal.come_up()
        outcome, happened = await run_to_the_end(rehearsal, start)
        assert outcome.succeeded
        assert "OutcomeUnknown" not in happened
        assert rehearsal.cloud.ledger.checkouts == 1
