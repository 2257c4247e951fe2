"""A deployment is asked for once, whatever becomes of the answer or the process, and keeps the token to itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.base.errors import EXIT_PENDING
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.errors import DeploymentUnfinished, InvalidImage
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.steps.counting import IN_A_ROW
from systemprompt_cloud.machines.deployment import DeploymentContext

from tests.support.deploying import TENANT, TOKEN, Desk
from tests.support.rehearsal import IMAGE, wait_for_state

OTHER = "registry.example/team/other:2"


async def test_a_lost_answer_is_asked_for_again_under_the_same_key(desk: Desk) -> None:
    """A server that honours keys gets the same request again, and the flow goes on."""
    desk.cloud.takes = [None, {"status": "deploying"}]
    desk.cloud.after = ["deploying", "deploying", "ready"]
    outcome, _ = await desk.deploy_and_tell()
    assert outcome.state == "deployed"
    (first, second) = desk.cloud.asked
    assert first == second
    assert first[1].endswith(":deploy")


@pytest.mark.parametrize("answer", [None, {"status": "x" * (4 << 20)}], ids=["lost", "too large"])
async def test_without_keys_the_status_tells_that_it_was_taken(desk: Desk, answer: dict[str, str] | None) -> None:
    """The answer cannot be read and the status shows a server that has begun: nothing is asked for again."""
    desk.cloud.keys, desk.cloud.takes = False, [answer]
    desk.cloud.after = ["ready", *["deploying"] * IN_A_ROW, "ready"]
    outcome, happened = await desk.deploy_and_tell()
    assert (outcome.state, outcome.problem) == ("deployed", "")
    assert happened[2:5] == ["OutcomeUnknown", "RolloutSeen", "Deployed"]
    assert len(desk.cloud.asked) == 1


async def test_without_keys_and_without_a_sign_a_person_decides(desk: Desk) -> None:
    """Nothing is repeated by itself: parked with 8; a yes asks again under another key, and that is waited for."""
    desk.cloud.keys, desk.cloud.takes, desk.cloud.after = False, [None, {"status": "deploying"}], ["ready"]
    with pytest.raises(FlowParked) as parked:
        await desk.deploy(settle=0.05)
    assert (parked.value.kind, parked.value.code) == ("EffectUncertain", EXIT_PENDING)
    assert f"{IMAGE} may or may not have been deployed" in parked.value.user_message
    assert len(desk.cloud.asked) == 1
    questions: list[str] = []

    async def yes(question: str) -> bool:
        await trio.lowlevel.checkpoint()
        questions.append(question)
        return True

    assert (await desk.deploy(confirm=yes, settle=0.05)).state == "deployed"
    assert len(questions) == 1
    (first, second) = desk.cloud.asked
    assert first[1] != second[1]


async def test_a_no_leaves_it_at_that(desk: Desk) -> None:
    """Declined: cancelled, and nothing was asked for again."""
    desk.cloud.keys, desk.cloud.takes, desk.cloud.after = False, [None], ["ready"]

    async def no(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    outcome = await desk.deploy(confirm=no, settle=0.05)
    assert (outcome.state, outcome.problem) == ("cancelled", "asking for the deployment again was declined")
    assert len(desk.cloud.asked) == 1


@pytest.mark.parametrize("status", [301, 303, 307])
async def test_a_redirect_is_no_refusal(desk: Desk, status: int) -> None:
    """It does not say that nothing was done (303 says the opposite): with keys it is asked again under the same one."""
    desk.cloud.refuses = {"deploy": [status]}
    with pytest.raises(FlowParked, match="redirect") as parked:
        await desk.deploy()
    assert parked.value.kind == "ApiError"
    assert (await desk.deploy()).state == "deployed"
    assert [key for _, key in desk.cloud.asked] == [f"{parked.value.flow}:2:deploy"]


async def test_a_redirect_without_keys_is_for_a_person_to_judge(desk: Desk) -> None:
    """The status shows nothing new, so nobody here knows: parked with 8, and not asked again by itself."""
    desk.cloud.keys, desk.cloud.refuses = False, {"deploy": [303]}
    with pytest.raises(FlowParked) as parked:
        await desk.deploy(settle=0.05)
    assert (parked.value.kind, parked.value.code) == ("EffectUncertain", EXIT_PENDING)
    assert desk.cloud.asked == []


async def left_after(desk: Desk, *events: str, **changes: float) -> None:
    """A run that ends right after these were committed, one after the other."""
    async with desk.open() as engine:
        with engine.feed.subscribe() as feed:
            await start_deployment(engine, desk.wanted(**changes))
            for event in events:
                while not (await feed.receive()).event.endswith(event):
                    pass


async def test_an_interruption_before_anything_was_asked_for_is_no_question(desk: Desk) -> None:
    """Announced, and nothing noted: nothing was sent, so it is sent now, even to a server without keys."""
    desk.cloud.keys = False
    await left_after(desk, ":deploy")
    assert desk.cloud.asked == []
    assert (await desk.deploy()).state == "deployed"
    assert len(desk.cloud.asked) == 1


async def test_what_was_noted_for_a_request_that_came_to_nothing_is_no_sign_of_the_next(desk: Desk) -> None:
    """Turned away, resumed, announced again and killed: that nothing was asked for is certain, and nobody is asked."""
    desk.cloud.keys, desk.cloud.refuses = False, {"deploy": [429]}
    await left_after(desk, "StatusNoted", "ApiError")
    await left_after(desk, ":deploy")
    assert desk.cloud.asked == []
    assert (await desk.deploy()).state == "deployed"
    assert len(desk.cloud.asked) == 1


async def test_turned_away_and_killed_before_that_was_written_down_is_no_question_either(desk: Desk) -> None:
    """The note is taken back first, the announcement with the parking: between the two nothing is open."""
    desk.cloud.keys, desk.cloud.refuses = False, {"deploy": [429]}
    await left_after(desk, "StatusNoted", "StatusNoted")
    assert (await desk.deploy()).state == "deployed"
    assert len(desk.cloud.asked) == 1


async def test_a_conflict_with_oneself_is_no_refusal(desk: Desk) -> None:
    """Asked again after an interruption, a server that is still at the first request says 409: the status decides."""
    desk.cloud.after = [*["deploying"] * (IN_A_ROW + 1), "ready"]
    await left_after(desk, "StatusNoted")
    desk.cloud.asked = [(IMAGE, "as if it had arrived")]
    desk.cloud.refuses = {"deploy": [409]}
    assert (await desk.deploy()).state == "deployed"


async def test_a_lost_answer_is_not_decided_by_a_replica_that_is_behind(desk: Desk) -> None:
    """Nothing arrived, and one answer is about the deployment before: a person decides, and nothing is told as done."""
    desk.cloud.keys, desk.cloud.takes = False, [None]
    desk.cloud.after = ["ready", *["deploying"] * (IN_A_ROW - 1), "ready"]
    with pytest.raises(FlowParked) as parked:
        await desk.deploy(settle=0.3)
    assert (parked.value.kind, parked.value.state) == ("EffectUncertain", "outcome_unknown")


async def test_the_word_that_is_noted_is_one_the_replicas_agree_on(desk: Desk) -> None:
    """Where keys are not honoured a lost answer is judged by it; with keys nothing hangs on it, and one answer does."""
    desk.cloud.keys, desk.cloud.earlier = False, ["infrastructure_ready", "ready", "infrastructure_ready"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        assert (await flow.wait()).state == "deployed"
        assert isinstance(flow.context, DeploymentContext)
        assert flow.context.before == "ready"
    assert desk.cloud.looks[:6] == ["infrastructure_ready", "ready", "infrastructure_ready", "ready", "ready", "ready"]


async def test_where_replicas_never_agree_a_lost_answer_is_a_question(desk: Desk) -> None:
    """Nothing can be told by the word that is noted then, whatever the status says afterwards."""
    desk.cloud.keys, desk.cloud.takes, desk.cloud.after = False, [None], ["deploying"]
    desk.cloud.earlier = ["ready", "infrastructure_ready"] * 10
    with pytest.raises(FlowParked) as parked:
        await desk.deploy(settle=0.3)
    assert (parked.value.kind, parked.value.state) == ("EffectUncertain", "outcome_unknown")


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_does_not_decide_whether_the_deployment_arrived(desk: Desk, status: int) -> None:
    """It did, and the API refuses every status since: a question, and not told as failed."""
    desk.cloud.keys, desk.cloud.takes = False, [None]

    def refuse_from_now_on(_image: str) -> None:
        desk.cloud.refuses = {"status": [status] * 1000}

    desk.cloud.taken = refuse_from_now_on
    with pytest.raises(FlowParked) as parked:
        await desk.deploy(settle=0.3)
    assert (parked.value.kind, parked.value.state) == ("EffectUncertain", "outcome_unknown")
    assert len(desk.cloud.asked) == 1


async def test_a_tenant_that_is_gone_meanwhile_is_a_question(desk: Desk) -> None:
    """Interrupted while it was being asked for, and the tenant is not there any more: a person says that it is over."""
    await left_after(desk, "StatusNoted", settle=0.05)
    desk.cloud.refuses = {"status": [404] * 1000}

    async def no(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    with pytest.raises(FlowParked):
        await desk.deploy()
    assert (await desk.deploy(confirm=no)).state == "cancelled"


@pytest.mark.parametrize("after", ["StatusNoted", "DeploymentAccepted", "StepObserved"])
async def test_an_interruption_later_never_asks_twice_by_itself(desk: Desk, after: str) -> None:
    """Wherever it was left, the next run takes the same flow to its end with one deployment, keys or not."""
    desk.cloud.keys = after == "StatusNoted"
    desk.cloud.after = ["ready", "deploying", "deploying", "ready"]
    await left_after(desk, after)
    assert (await desk.deploy()).state == "deployed"
    assert len({key for _, key in desk.cloud.asked}) == 1
    async with desk.open() as engine:
        assert len(engine.journal.flows()) == 1


async def test_the_same_image_is_the_same_flow_and_another_one_is_told_of_it(desk: Desk) -> None:
    """While one runs the same command joins it, another image is told its id, and another tenant is free."""
    desk.cloud.after = ["deploying"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted())
        assert (await start_deployment(engine, desk.wanted(timeout=3.0))).id == flow.id
        with pytest.raises(DeploymentUnfinished) as refused:
            await start_deployment(engine, desk.wanted(image=OTHER))
        assert refused.value.flow == flow.id
        assert refused.value.user_message == f"{IMAGE} is being deployed to {TENANT} and that is not finished"
        assert refused.value.remedy == Remedy("resume_or_cancel", {"flow": flow.id})
        other = await start_deployment(engine, desk.wanted(tenant_id="tnt_2", image=OTHER))
        assert other.id != flow.id
        await other.cancel()
        await flow.cancel("another image")
        desk.cloud.asked.clear()
        desk.cloud.after = ["deploying", "ready"]
        third = await start_deployment(engine, desk.wanted(image=OTHER))
        assert (await third.wait()).result["image"] == OTHER


async def test_what_names_no_image_starts_nothing(desk: Desk) -> None:
    """`InvalidImage` before the journal is written."""
    async with desk.open() as engine:
        with pytest.raises(InvalidImage):
            await start_deployment(engine, desk.wanted(image="-o ProxyCommand"))
        assert engine.journal.flows() == []


@pytest.mark.parametrize("state", ["deploying", "rolling_out", "overdue"])
async def test_it_can_be_cancelled_anywhere(desk: Desk, state: str) -> None:
    """`cancelled`, with the reason, wherever it stands."""
    desk.cloud.after = ["deploying"]
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.1 if state == "overdue" else 20.0))
        await wait_for_state(flow, state)
        await flow.cancel("changed my mind")
        assert (await flow.wait()).problem == "changed my mind"


# --- the token -----------------------------------------------------------------------------------------------------


def everything_in(directory: Path, leaving_out: Sequence[str] = ()) -> bytes:
    """What the files say."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.parent.name not in leaving_out]
    return b"".join(path.read_bytes() for path in files)


async def test_the_registry_token_stays_in_the_vault(desk: Desk) -> None:
    """The journal has a reference; a server that says the token is not quoted; at the end it is gone."""
    desk.cloud.after, desk.cloud.message = ["deploying"], f"pulling with {TOKEN}"
    async with desk.open() as engine:
        flow = await start_deployment(engine, desk.wanted(timeout=0.1))
        with pytest.raises(FlowParked):
            await flow.wait()
        context = flow.context
        assert isinstance(context, DeploymentContext)
        assert context.registry_token == "vault:registry_token"
        assert TOKEN.encode() in everything_in(desk.paths.vault)
        assert TOKEN.encode() not in everything_in(desk.paths.directory, leaving_out=["vault"])
        assert TOKEN not in str(flow.history)
    desk.cloud.after = ["ready"]
    assert (await desk.deploy()).state == "deployed"
    assert TOKEN.encode() not in everything_in(desk.paths.directory)
