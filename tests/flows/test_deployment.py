"""A deployment believes no status that may be the old image's, and does not give up what is under way."""

from __future__ import annotations

import pytest
import trio
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.steps.counting import IN_A_ROW

from tests.support.deploying import APP_URL, TENANT, Desk, events
from tests.support.rehearsal import CLIENT_ATTEMPTS, IMAGE, wait_for_state

# --- whose "ready" it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["ready", "failed", "infrastructure_ready"])
async def test_the_old_images_status_is_not_taken_for_the_new_ones(desk: Desk, old: str) -> None:
    """What replicas still say of the image before is not believed: an end counts three times in a row only."""
    desk.cloud.before = old
    desk.cloud.after = [old, old, "deploying", old, old, "deploying", "ready", "ready", "ready"]
    outcome, _ = await desk.deploy_and_tell()
    assert (outcome.state, outcome.verdict) == ("deployed", "success")
    assert outcome.result == {
        "tenant_id": TENANT,
        "image": IMAGE,
        "app_url": APP_URL,
        "repository": "registry.example/team",
    }
    assert desk.cloud.looks == [old, old, old, "deploying", old, old, "deploying", "ready", "ready", "ready"]


async def test_an_image_that_crashes_is_not_told_as_running(desk: Desk) -> None:
    """Ready in between, from a replica that is behind, then failed."""
    desk.cloud.after = ["deploying", "ready", "deploying", "ready", "ready", "failed"]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployment_failed"


@pytest.mark.parametrize("status", [403, 404, 500, 503])
async def test_any_other_answer_starts_the_count_anew(desk: Desk, status: int) -> None:
    """Two in a row, an error, and three in a row: five looks that say ready."""
    desk.cloud.after = ["ready"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        await wait_for_state(flow, "rolling_out")
        while len(desk.cloud.looks) < 3:  # the one before it was asked for, and two after that
            await trio.lowlevel.checkpoint()
        desk.cloud.refuses = {"status": [status] * CLIENT_ATTEMPTS}
        assert (await flow.wait()).state == "deployed"
    assert len(desk.cloud.looks) == 6


async def test_a_word_nobody_knows_is_a_server_at_work(desk: Desk) -> None:
    """Unknown words neither end the wait nor break it."""
    desk.cloud.takes = [{"status": "queued_for_later"}]
    desk.cloud.after = ["pulling", "warming_up", "ready"]
    outcome, happened = await desk.deploy_and_tell()
    assert outcome.state == "deployed"
    assert "StepObserved" in happened


async def test_a_failure_in_the_answer_to_the_deployment_is_about_it(desk: Desk) -> None:
    """`failed` there ends the flow; the status is not asked again."""
    desk.cloud.takes = [{"status": "failed"}]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployment_failed"
    assert desk.cloud.looks == ["ready"]


async def test_ready_in_the_answer_to_the_deployment_is_not_the_end(desk: Desk) -> None:
    """The image runs when the status has said so, three times in a row."""
    desk.cloud.takes, desk.cloud.after = [{"status": "ready", "app_url": APP_URL}], ["ready", "deploying", "ready"]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployed"
    assert desk.cloud.looks == ["ready", "ready", "deploying", "ready", "ready", "ready"]


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
        assert "does not run after 0.1 s; last message: pulling the image" in parked.value.user_message
    desk.cloud.after = ["ready"]
    async with desk.open() as engine:
        outcome = await (await engine.resume(flow.id)).wait()
    assert (outcome.state, outcome.problem) == ("deployed", "")
    assert len(desk.cloud.asked) == 1


async def test_the_last_questions_find_what_happened_between_two_looks(desk: Desk) -> None:
    """When the time is up the server is asked three more times, and ready counts when all of them say so."""
    desk.cloud.after = ["deploying", "ready"]
    async with desk.open(poll_seconds=0.3) as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.2))
        assert (await flow.wait()).state == "deployed"
        assert "DeadlinePassed" in events(flow)


@pytest.mark.parametrize("last", ["failed", "refused"])
async def test_what_the_last_question_leaves_in_doubt_pauses(desk: Desk, last: str) -> None:
    """One answer is not enough for a bad end: the flow is paused, and goes on when it is resumed."""
    desk.cloud.after = ["deploying", "failed"] if last == "failed" else ["deploying"]
    async with desk.open(poll_seconds=0.3) as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.2))
        await wait_for_state(flow, "asking_once_more")
        if last == "refused":
            desk.cloud.refuses = {"status": [404]}
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.state == "overdue"


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "status"),
    [("registry-token", 403), ("registry-token", 404), ("status", 404), ("deploy", 409), ("deploy", 422)],
)
async def test_what_the_api_refuses_is_not_deployed(desk: Desk, what: str, status: int) -> None:
    """The flow ends with the server's words, before anything is waited for."""
    desk.cloud.refuses = {what: [status] * (1 if what == "deploy" else IN_A_ROW)}
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployment_failed"
    assert f"the server's words for {status}" in outcome.problem
    assert desk.cloud.asked == []


@pytest.mark.parametrize("what", ["registry-token", "status"])
async def test_a_replica_that_is_behind_refuses_nothing(desk: Desk, what: str) -> None:
    """One 404 before anything was asked for: asked again."""
    desk.cloud.refuses = {what: [404]}
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployed"


async def test_a_tenant_that_vanishes_meanwhile_ends_the_wait(desk: Desk) -> None:
    """404 while the status is watched, several times in a row: `deployment_failed`."""
    desk.cloud.after = ["deploying"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        await wait_for_state(flow, "rolling_out")
        desk.cloud.refuses = {"status": [404] * IN_A_ROW}
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
        await wait_for_state(flow, "rolling_out")
        desk.cloud.refuses = {"status": [503, 503, 500, 503]}
        assert (await flow.wait()).state == "deployed"
