"""The soak, shortened: flows while streams break, calls fail and both processes are killed; and what it would find."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.faults import soak
from tests.faults.soak_plan import Plan, build_world
from tests.faults.soak_verdict import Report, examine
from tests.support.length import by_length

FLOWS = by_length(20, 100)
SECONDS = by_length(12.0, 180.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Report]:
    """One short soak, and what it left."""
    plan = soak.make_plan(tmp_path_factory.mktemp("soak"), flows=FLOWS, seconds=SECONDS, seed=20261123)
    return plan, soak.run_soak(plan)


def test_every_flow_ends_in_the_state_the_cloud_says(run: tuple[Plan, Report]) -> None:
    """None is stuck, wrong or repeated, the worker does not grow, and enough went wrong for that to mean something."""
    plan, report = run
    assert report.problems == []
    assert sum(report.ended.values()) == report.tenants == len(plan.tenants()) > FLOWS
    assert report.worker_kills >= 1
    assert report.stream_losses >= 10
    assert len(report.faults) >= 8


def test_the_report_says_what_happened(run: tuple[Plan, Report]) -> None:
    """Every figure of the table is there, and the seed to try again."""
    text = soak.table(run[1])
    for said in ("seed", "flows resumed", "streams lost, reopened", "drop-stream", "worst", "worker's memory"):
        assert said in text


def test_a_plan_is_the_same_for_every_process(run: tuple[Plan, Report]) -> None:
    """Each of them builds the world anew, after a SIGKILL too, and must find the same tenants with the same stories."""
    plan, _ = run
    copy = msgspec.json.decode(msgspec.json.encode(plan), type=Plan)
    (one, first), (other, second) = build_world(plan), build_world(copy, life=3)
    assert [tenant.id for tenant in first] == [tenant.id for tenant in second]
    assert [tenant.steps for tenant in first] == [tenant.steps for tenant in second]
    assert one.keys.signing_key == other.keys.signing_key


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            "DELETE FROM flows WHERE state = 'ready' AND id = (SELECT max(id) FROM flows WHERE state = 'ready')",
            "0 flows",
        ),
        ("UPDATE flows SET status = 'paused' WHERE id = (SELECT max(id) FROM flows)", "is stuck"),
        ("UPDATE flows SET state = 'cancelled' WHERE id = (SELECT max(id) FROM flows)", "ended in cancelled"),
        (
            "UPDATE events SET body = json_set(body, '$.message', 'again') WHERE name = 'StepObserved'",
            "reported twice: again",
        ),
        (
            "UPDATE events SET body = json_set(body, '$.message', 'Database created') WHERE name = 'TenantBecameReady'",
            "reported out of order: ",
        ),
    ],
)
def test_what_is_wrong_is_found(damage: str, found: str, run: tuple[Plan, Report], tmp_path: Path) -> None:
    """A flow that is missing, stuck, in the wrong state, or repeats itself fails the run."""
    plan, _ = run
    copy = msgspec.structs.replace(plan, directory=str(tmp_path))
    copy.paths.directory.mkdir(mode=0o700)
    copy.paths.tenants.write_bytes(plan.paths.tenants.read_bytes())
    copy.paths.tenants.chmod(0o600)
    with sqlite3.connect(plan.paths.journal) as source, sqlite3.connect(copy.paths.journal) as target:
        source.backup(target)
        target.execute(damage)
    source.close()
    target.close()
    copy.paths.journal.chmod(0o600)
    report = examine(copy, [], [], [])
    assert any(found in problem for problem in report.problems), report.problems


def test_a_worker_that_grows_is_found(run: tuple[Plan, Report]) -> None:
    """Memory is compared between the halves of the time in which nothing is killed."""
    plan, _ = run
    sizes = [(second / 10, 50_000_000 + 1_000_000 * second) for second in range(int(plan.seconds * 10))]
    assert any("grew from" in problem for problem in examine(plan, [], [], sizes).problems)
