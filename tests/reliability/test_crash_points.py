"""Killed anywhere, a flow goes on to the same end, and the world is asked for nothing twice."""

import time
from pathlib import Path

import pytest
from systemprompt_cloud.testing.crash import NO_KEYS, STREAM_FAULTS, Tally, enumerate_points, table, try_points
from systemprompt_cloud.testing.crash_probe import Point
from systemprompt_cloud.testing.crash_stage import Scenario, Stage, open_zygote

EVERY = 4
"""`make crash` tries every point of everything; here a fourth of the long flow's, and not the same ones each time."""


def survived(tally: Tally) -> None:
    """Every point that was tried was survived, and something was tried."""
    story = "\n".join([table([tally]), *map(str, tally.losses)])
    assert not tally.losses, story
    assert tally.tried == tally.survived > 10, story
    assert len(tally.unmet) <= tally.tried // 20, f"{story}\nnot met: {tally.unmet}"
    assert tally.repeated == 0, story


async def test_login_survives_death_at_every_point(tmp_path: Path) -> None:
    """SIGKILL before, inside and after every effect of a login: the same end, the same effects, the same files."""
    survived(await try_points(Scenario(flow="login"), tmp_path))


async def test_onboarding_survives_death_at_its_points(tmp_path: Path) -> None:
    """SIGKILL at every fourth point of an onboarding, from a rotating one on."""
    offset = int(time.time()) % EVERY
    print(f"every {EVERY}th point from number {offset} on")  # noqa: T201 shown when it fails
    survived(await try_points(Scenario(flow="onboarding"), tmp_path, every=EVERY, offset=offset))


@pytest.mark.parametrize("flow", ["checkout", "provisioning"])
async def test_broken_streams_make_no_difference(tmp_path: Path, flow: str) -> None:
    """The same with event streams that break, fail and lie, at every eighth point."""
    offset = int(time.time()) % 8
    print(f"every 8th point from number {offset} on")  # noqa: T201 shown when it fails
    scenario = Scenario(flow=flow, payment="pending", faults=STREAM_FAULTS)
    survived(await try_points(scenario, tmp_path, every=8, offset=offset))


async def test_a_cloud_without_keys_never_gets_a_checkout_twice_unasked(tmp_path: Path) -> None:
    """Where `Idempotency-Key` is ignored, a death around the checkout leads to a question, never to another checkout."""
    scenario = Scenario(flow="checkout", faults=NO_KEYS)
    async with open_zygote() as zygote:
        stage = Stage(scenario, zygote, tmp_path, 3)
        for when, asked in (("before", True), ("after", True)):
            run = await stage.play([Point("request", "POST /api/v1/checkout", when)])
            assert run.killed == 1
            assert run.facts.asked is asked
            assert run.facts.effects["checkouts"] <= 2
            assert run.facts.end.startswith("checkout completed (success)")
            assert run.facts.problems == ()


async def test_the_points_of_a_run_are_enumerated_by_what_happens_there(tmp_path: Path) -> None:
    """An undisturbed run tells its points: each commit before, inside and after, each state, each request, each file."""
    async with open_zygote() as zygote:
        run = await Stage(Scenario(flow="login"), zygote, tmp_path, 4).play(trace=True)
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
        paid = await Stage(Scenario(flow="checkout"), zygote, tmp_path / "a", 5).play()
        failed = await Stage(Scenario(flow="login"), zygote, tmp_path / "b", 5).play()
    assert paid.facts.differences(paid.facts) == []
    assert paid.facts.repeated(failed.facts) == 2
    assert {said.partition(":")[0] for said in paid.facts.differences(failed.facts)} == {
        "end",
        "effects",
        "files",
        "flows",
    }
