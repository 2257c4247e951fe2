"""Several processes operate on the same flows at the same moment, writes fail, and no promise of the engine is broken.

The model is `tests/faults/operations`: `python -m tests.faults.operations --help`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.engine.journal.journal import Journal

from tests.faults.operations.plan import Burst, Operation, Plan, Start, generate, shrink
from tests.faults.operations.plants import PLANTS, planted
from tests.faults.operations.simulation import CarryOut, Report, place_for_histories
from tests.faults.operations.strategies import plans
from tests.support.length import by_length

QUIET: Final = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
MOST_HISTORIES: Final = 400
"""In so many histories each planted fault has to be found."""
FOUND_AT: Final = {
    "flows_without_gates": 22,
    "keys_without_gates": 2,
    "cancels_what_is_driven": 1,
    "claims_first": 80,
    "pauses_and_takes_events": 13,
    "resumes_what_is_pausing": 22,
    "pauses_are_written_once": 158,
    "inbox_waits_for_the_next_look": 37,
    "kept_events_stay": 67,
    "deadlines_follow_the_wall_clock": 16,
    "intents_after_the_end": 192,
    "errors_are_swallowed": 4,
    "groups_fail_silently": 23,
    "signals_stay_in_the_inbox": 11,
    "sends_without_a_turn": 87,
    "secrets_after_the_end": 4,
    "children_go_on": 5,
    "exits_end_the_engine": 20,
}
"""The seeds that found them last: a short test run tries these first."""
SIMPLE: Final = Plan(1, 1, "one", (Start(),), (Burst((Operation("start"),)),))

CLOSED_WHILE_ENDING: Final = Plan(
    seed=400709,
    processes=1,
    latency="threads",
    starts=(Start(habit="keeps"),),
    bursts=(
        Burst((Operation("start"),)),
        Burst((Operation("cancel", after=8),), gap=10),
        Burst((Operation("close", times=5),)),
    ),
)
"""An engine is closed while the end of a flow is being written: its secrets once stayed until another was opened."""


BROKE_PROMISES: Final = (
    20_006_966,
    10_004_124,
    70_000_009,
    70_003_602,
    80_003_773,
    110_007_850,
    130_007_045,
    140_000_947,
)
"""The seeds of histories in which the engine broke a promise once, each one of thousands that were tried."""


@pytest.fixture
def carry_out() -> Iterator[CarryOut]:
    """Carries out histories."""
    with place_for_histories() as carry_out:
        yield carry_out


def text_of(report: Report) -> str:
    """A history and the promises it broke, for people."""
    return "\n".join([*report.plan.lines(), *report.problems])


# --- no promise is broken ---------------------------------------------------------------------------------------------


def test_random_operations_break_no_promise(carry_out: CarryOut) -> None:
    """Histories by seed; `python -m tests.faults.operations --histories 1 --seed N` shows the one that failed."""
    for seed in (*BROKE_PROMISES, *range(by_length(150, 20_000))):
        report = carry_out(generate(seed))
        assert not report.problems, text_of(report)


@settings(max_examples=by_length(40, 2000), deadline=None, suppress_health_check=QUIET)
@given(plan=plans())
@example(plan=CLOSED_WHILE_ENDING)
def test_operations_of_hypothesis_break_no_promise(carry_out: CarryOut, plan: Plan) -> None:
    """Hypothesis makes the operations, and as few of them as fail."""
    report = carry_out(plan)
    assert not report.problems, text_of(report)


# --- and what is broken is found --------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_fault_is_found(plant: str) -> None:
    """An engine with one fault breaks a promise in one of a few hundred histories, which the right one does not."""
    likely = by_length([FOUND_AT[plant]], list[int]())
    for seed in chain(likely, range(MOST_HISTORIES)):
        with planted(plant), place_for_histories() as carry_out:
            broken = bool(carry_out(generate(seed)).problems)
        if broken:
            break
    else:
        pytest.fail(f"{MOST_HISTORIES} histories did not find it")
    with place_for_histories() as carry_out:
        assert not carry_out(generate(seed)).problems


def test_a_failing_history_becomes_shorter_and_fails_still() -> None:
    """What is printed of a failing history is what it takes, and not all there was."""
    with planted("secrets_after_the_end"), place_for_histories() as carry_out:
        plan = next(plan for plan in map(generate, range(MOST_HISTORIES)) if carry_out(plan).problems)
        shorter = shrink(plan, lambda smaller: bool(carry_out(smaller).problems))
        assert carry_out(shorter).problems
    assert len(list(shorter.lines())) < len(list(plan.lines()))


# --- the model itself -------------------------------------------------------------------------------------------------


def test_a_history_is_the_same_in_every_process() -> None:
    """A seed decides every task switch: otherwise a failure could be neither repeated nor made shorter."""
    command = [sys.executable, "-m", "tests.faults.operations", "--histories", "12", "--seed", "7", "--log"]
    outputs = [
        subprocess.run(
            [*command, "--most", "99", "--no-shrink"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hashes},
        ).stdout
        for hashes in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("kind=started") > 12


def test_the_engine_is_as_it_was_afterwards() -> None:
    """Nothing of what a history puts around the engine is left for the tests that come after it."""
    before = Journal.write, Commits.write
    with place_for_histories() as carry_out:
        assert (Journal.write, Commits.write) != before
        assert not carry_out(SIMPLE).problems
    assert (Journal.write, Commits.write) == before
