"""A deployment believes no status that may be the old image's, and does not give up what is under way."""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.deployment import start_deployment

from tests.support.deploying import APP_URL, TENANT, Desk, events
from tests.support.rehearsal import IMAGE, wait_for_state

# --- whose "ready" it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["ready", "failed", "infrastructure_ready"])
async def test_the_old_images_status_is_not_taken_for_the_new_ones(desk: Desk, old: str) -> None:
    """What the status said before is not believed after the acceptance, until it has said something else."""
    desk.cloud.before = old
    desk.cloud.after = [old, old, old, "deploying", "deploying", "ready"]
    outcome, happened = await desk.deploy_and_tell()
    assert (outcome.state, outcome.verdict) == ("deployed", "success")
    assert outcome.result == {
        "tenant_id": TENANT,
        "image": IMAGE,
        "app_url": APP_URL,
        "repository": "registry.example/team",
    }
    assert desk.cloud.looks == [old, old, old, old, "deploying", "deploying", "ready"]
    assert "RolloutSeen" in happened


@pytest.mark.parametrize(("old", "new"), [("failed", "ready"), ("infrastructure_ready", "ready"), ("ready", "failed")])
async def test_an_end_that_was_not_there_before_is_the_new_images(desk: Desk, old: str, new: str) -> None:
    """A rollout that nobody saw at work is over when the status stands at another end."""
    desk.cloud.before, desk.cloud.after = old, [new]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == ("deployed" if new == "ready" else "deployment_failed")


async def test_a_rollout_too_quick_to_be_seen_is_believed_after_a_while(desk: Desk) -> None:
    """`ready` before and `ready` ever after: counted as the new image's when it has settled."""
    desk.cloud.after = ["ready"]
    outcome, happened = await desk.deploy_and_tell(settle=2.0)
    assert outcome.state == "deployed"
    assert happened[-2:] == ["DeadlinePassed", "Deployed"]
    assert len(desk.cloud.looks) > 3


async def test_somebody_elses_rollout_shows_nothing(desk: Desk) -> None:
    """A server that was at work before it was asked may still be at that: its next `ready` is not believed at once."""
    desk.cloud.before, desk.cloud.after = "deploying", ["deploying", "ready"]
    outcome, happened = await desk.deploy_and_tell(settle=0.1)
    assert outcome.state == "deployed"
    assert "RolloutSeen" not in happened
    assert happened[-2:] == ["DeadlinePassed", "Deployed"]


async def test_a_word_nobody_knows_is_a_server_at_work(desk: Desk) -> None:
    """Unknown words neither end the wait nor break it."""
    desk.cloud.takes = [{"status": "queued_for_later"}]
    desk.cloud.after = ["pulling", "warming_up", "ready"]
    outcome, happened = await desk.deploy_and_tell()
    assert outcome.state == "deployed"
    assert "StepObserved" in happened


@pytest.mark.parametrize(("word", "end"), [("ready", "deployed"), ("failed", "deployment_failed")])
async def test_the_answer_to_the_deployment_is_about_it(desk: Desk, word: str, end: str) -> None:
    """`ready` and `failed` in the answer end the flow; the status is not asked again."""
    desk.cloud.takes = [{"status": word, "app_url": APP_URL}]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == end
    assert desk.cloud.looks == ["ready"]


async def test_the_server_gives_up(desk: Desk) -> None:
    """`deployment_failed`, with the server's words, or with our own where it has none."""
    desk.cloud.after = ["deploying", "failed"]
    desk.cloud.message = "the image does not start"
    outcome, _ = await desk.deploy_and_tell()
    assert (outcome.state, outcome.verdict, outcome.problem) == (
        "deployment_failed",
        "failure",
        "the image does not start",
    )
    desk.cloud.asked, desk.cloud.message, desk.cloud.after = [], None, ["deploying", "failed"]
    assert (await desk.deploy()).problem == "the server gave no reason"


# --- time ----------------------------------------------------------------------------------------------------------


async def test_a_rollout_that_takes_too_long_is_not_given_up(desk: Desk) -> None:
    """Asked once more, then parked with 8 and the last word; resumed, it waits on; nothing is asked for twice."""
    desk.cloud.after, desk.cloud.message = ["deploying"], "pulling the image"
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.1))
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.code, parked.value.state) == ("StillPending", EXIT_PENDING, "overdue")
        assert "does not run after 0.1 s; the last word was: pulling the image" in parked.value.user_message
    desk.cloud.after = ["ready"]
    async with desk.open() as engine:
        outcome = await (await engine.resume(flow.id)).wait()
    assert (outcome.state, outcome.problem) == ("deployed", "")
    assert len(desk.cloud.asked) == 1


@pytest.mark.parametrize(("word", "end"), [("ready", "deployed"), ("failed", "deployment_failed")])
async def test_the_last_question_finds_what_happened_between_two_looks(desk: Desk, word: str, end: str) -> None:
    """When the time is up the server is asked once more, and what it says then counts."""
    desk.cloud.after = ["deploying", "deploying", word]
    async with desk.open(poll_seconds=30) as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.2))
        assert (await flow.wait()).state == end
        assert "DeadlinePassed" in events(flow)


async def test_the_last_question_may_be_refused(desk: Desk) -> None:
    """A tenant that is gone by then ends the wait."""
    desk.cloud.after = ["deploying"]
    async with desk.open(poll_seconds=30) as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.2))
        await wait_for_state(flow, "rolling_out")
        while len(desk.cloud.looks) < 3:
            await trio.lowlevel.checkpoint()
        desk.cloud.refuses = {"status": [404]}
        assert (await flow.wait()).state == "deployment_failed"


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "status"),
    [("registry-token", 403), ("registry-token", 404), ("status", 404), ("deploy", 409), ("deploy", 422)],
)
async def test_what_the_api_refuses_is_not_deployed(desk: Desk, what: str, status: int) -> None:
    """The flow ends with the server's words, before anything is waited for."""
    desk.cloud.refuses = {what: [status]}
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployment_failed"
    assert f"the server's words for {status}" in outcome.problem
    assert desk.cloud.asked == []


@pytest.mark.parametrize("state", ["awaiting_rollout", "rolling_out"])
async def test_a_tenant_that_vanishes_meanwhile_ends_the_wait(desk: Desk, state: str) -> None:
    """404 while the status is watched: `deployment_failed`."""
    desk.cloud.after = ["ready"] if state == "awaiting_rollout" else ["deploying"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        await wait_for_state(flow, state)
        desk.cloud.refuses = {"status": [404]}
        assert (await flow.wait()).state == "deployment_failed"


@pytest.mark.parametrize("what", ["registry-token", "status", "deploy"])
async def test_a_login_that_ends_midway_parks_and_a_new_one_goes_on(desk: Desk, what: str) -> None:
    """401 anywhere: exit code 4; after a login the same flow reaches its end, and the image is asked for once."""
    desk.cloud.refuses = {what: [401]}
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.code == EXIT_LOGIN_NEEDED
        desk.log_in()
        assert (await (await start_deployment(engine, desk.wanted())).wait()).state == "deployed"
    assert len(desk.cloud.asked) == 1


async def test_a_status_that_hiccups_is_asked_again(desk: Desk) -> None:
    """503 and 500 on the way are waited out."""
    desk.cloud.after = ["deploying", "ready"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        await wait_for_state(flow, "awaiting_rollout")
        desk.cloud.refuses = {"status": [503, 503, 500, 503]}
        assert (await flow.wait()).state == "deployed"
