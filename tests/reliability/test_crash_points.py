"""Killed anywhere, a flow goes on to the same end, and the world is asked for nothing twice."""

import time
from pathlib import Path

import pytest

from tests.faults.crash import NO_KEYS, STATUS_FAULTS, STREAM_FAULTS, Tally, enumerate_points, table, try_points
from tests.faults.crash_probe import Point
from tests.faults.crash_stage import Scenario, Stage, open_zygote
from tests.support.length import by_length

LOGIN = by_length(4, 1)
ONBOARDING = by_length(14, 1)
STREAMS = by_length(12, 1)
DEPLOYMENT = by_length(5, 1)
"""One point in so many is tried, and not the same ones each time; `make test-long` and `make crash` try all."""


def survived(tally: Tally) -> None:
    """Every point that was tried was survived, and something was tried."""
    story = "\n".join([table([tally]), *map(str, tally.losses)])
    assert not tally.losses, story
    assert tally.tried == tally.survived > 10, story
    # Some points (the fourth status request, say) do not occur in every run; each was tried several times.
    assert len(tally.unmet) <= 2 + tally.tried // 10, f"{story}\nnot hit: {tally.unmet}"
    assert tally.repeated == 0, story


async def try_some(scenario: Scenario, directory: Path, every: int, *, lanes: int = 2) -> Tally:
    """Try one point in so many, from a rotating one on."""
    offset = int(time.time()) % every
    print(f"one point in {every}, from number {offset} on")  # noqa: T201 shown when it fails
    return await try_points(scenario, directory, every=every, offset=offset, lanes=lanes)


async def test_login_survives_death_at_its_points(tmp_path: Path) -> None:
    """SIGKILL before, inside and after the effects of a login: the same end, the same effects, the same files."""
    survived(await try_some(Scenario(flow="login"), tmp_path, LOGIN, lanes=3))


async def test_onboarding_survives_death_at_its_points(tmp_path: Path) -> None:
    """SIGKILL at every so many points of an onboarding, from a rotating one on."""
    survived(await try_some(Scenario(flow="onboarding"), tmp_path, ONBOARDING, lanes=3))


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(flow="checkout", payment="pending", faults=STREAM_FAULTS),
        Scenario(flow="provisioning", faults=STREAM_FAULTS),
    ],
    ids=lambda scenario: scenario.flow,
)
async def test_broken_streams_make_no_difference(tmp_path: Path, scenario: Scenario) -> None:
    """The same with event streams that break, fail and lie, at every eighth point."""
    survived(await try_some(scenario, tmp_path, STREAMS, lanes=3))


async def test_deployment_survives_death_at_its_points(tmp_path: Path) -> None:
    """SIGKILL at every fifth point of a deployment whose status hiccups and whose answer is lost: one deployment."""
    survived(await try_some(Scenario(flow="deployment", faults=STATUS_FAULTS), tmp_path, DEPLOYMENT))


async def test_a_cloud_without_keys_never_gets_a_deployment_twice_unasked(tmp_path: Path) -> None:
    """Where `Idempotency-Key` is ignored, a death around the deployment leads to a look, then perhaps to a question."""
    async with open_zygote() as zygote:
        stage = Stage(Scenario(flow="deployment", faults=NO_KEYS), zygote, tmp_path)
        for when in ("before", "after"):
            run = await stage.play([Point("request", "POST /api/v1/tenants/{id}/deploy", when)])
            assert run.killed == 1
            assert run.facts.asked or run.facts.effects["deployments"] == 1
            assert run.facts.effects["deployments"] <= 2
            assert run.facts.end.startswith("deployment deployed (success)")
            assert run.facts.problems == ()


async def test_a_cloud_without_keys_never_gets_a_checkout_twice_unasked(tmp_path: Path) -> None:
    """Where `Idempotency-Key` is ignored, a death around the checkout leads to a question, not to another checkout."""
    scenario = Scenario(flow="checkout", faults=NO_KEYS)
    async with open_zygote() as zygote:
        stage = Stage(scenario, zygote, tmp_path)
        points = [
            Point("request", "POST /api/v1/checkout", "before"),
            Point("request", "POST /api/v1/checkout", "after"),
        ]
        for point in points:
            run = await stage.play([point])
            assert run.killed == 1
            assert run.facts.asked
            assert run.facts.effects["checkouts"] <= 2
            assert run.facts.end.startswith("checkout completed (success)")
            assert run.facts.problems == ()


async def test_a_cloud_without_keys_is_told_of_a_login_at_most_once(tmp_path: Path) -> None:
    """A report that may have arrived is not made again where nobody would notice that it is the same."""
    async with open_zygote() as zygote:
        stage = Stage(Scenario(flow="login", faults=NO_KEYS), zygote, tmp_path)
        arrived = await stage.play([Point("request", "POST /api/v1/activity", "after")])
        unsent = await stage.play([Point("request", "POST /api/v1/activity", "before")])
    assert arrived.killed == unsent.killed == 1
    assert arrived.facts.effects["activities"] == 1
    assert unsent.facts.effects["activities"] == 0
    for run in (arrived, unsent):
        assert run.facts.end.startswith("login authenticated (success)")
        assert run.facts.problems == ()


async def test_the_points_of_a_run_are_enumerated_by_what_happens_there(tmp_path: Path) -> None:
    """An undisturbed run tells its points: each commit before, inside and after, each state, request and file."""
    async with open_zygote() as zygote:
        run = await Stage(Scenario(flow="login"), zygote, tmp_path).play(trace=True)
    points = enumerate_points([run])
    assert len(points) == len(set(points))
    sides = [point.when for point in points if point.kind == "commit" and point.what == "login CredentialsSaved"]
    assert sides == ["before", "inside", "after"]
    assert Point("rename", "credentials.json", "before") in points
    assert Point("request", "POST /api/v1/activity", "after") in points
    assert Point("state", "awaiting_callback", "before") in points
    assert Point("fsync", "vault", "after") in points


async def test_a_death_that_changes_the_end_is_told_as_a_loss(tmp_path: Path) -> None:
    """The comparison can fail: a run in another world is not taken for the same one."""
    async with open_zygote() as zygote:
        paid = await Stage(Scenario(flow="checkout"), zygote, tmp_path / "a").play()
        failed = await Stage(Scenario(flow="login"), zygote, tmp_path / "b").play()
    assert paid.facts.differences(paid.facts) == []
    assert paid.facts.repeated(failed.facts) == 2
    said = {difference.partition(":")[0] for difference in paid.facts.differences(failed.facts)}
    assert said == {"end", "effects", "flows"}


async def test_an_engine_that_announces_nothing_is_caught(tmp_path: Path) -> None:
    """With intents left out of the journal, a death after the request makes a second checkout, and that is told."""
    async with open_zygote() as zygote:
        stage = Stage(Scenario(flow="checkout", careless=True), zygote, tmp_path)
        true = await stage.play()
        killed = await stage.play([Point("request", "POST /api/v1/checkout", "after")])
    assert killed.facts.repeated(true.facts) == 1
    assert any(difference.startswith("effects") for difference in killed.facts.differences(true.facts))
