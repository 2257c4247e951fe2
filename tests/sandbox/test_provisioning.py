"""Tests of sandbox/provisioning.py: the timeline as a function of time alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.sandbox.provisioning import reached, timeline

WIRE_ORDER = [
    "subscription_created",
    "tenant_created",
    "database_created",
    "secrets_stored",
    "vm_provisioning_started",
    "vm_provisioning_progress",
    "vm_provisioned",
    "secrets_configured",
    "infrastructure_ready",
    "tenant_ready",
]


def test_the_ten_steps_come_in_the_wires_order() -> None:
    """Numbers count from 1, a step each `step_seconds`, and only the last one is ready."""
    steps = timeline(2.0)
    assert [step.event_type for step in steps] == WIRE_ORDER
    assert [(step.number, step.offset) for step in steps[:2]] == [(1, 2.0), (2, 4.0)]
    assert [step.status for step in steps] == ["provisioning"] * 9 + ["ready"]
    assert all(step.message for step in steps)


def test_needs_deploy_ends_with_the_infrastructure() -> None:
    """Without an image there is nothing to run, and nothing that failed."""
    assert [step.event_type for step in timeline(1.0, needs_deploy=True)] == WIRE_ORDER[:9]


@given(st.integers(0, 40), st.booleans())
def test_a_failure_is_always_the_last_step(after: int, needs_deploy: bool) -> None:
    """However late it is asked for, it comes before success and nothing follows it."""
    steps = timeline(1.0, fail_after=after, needs_deploy=needs_deploy)
    assert steps[-1].event_type == "provisioning_failed"
    assert steps[-1].status == "failed"
    assert [step.event_type for step in steps[:-1]] == WIRE_ORDER[: len(steps) - 1]
    assert len(steps) - 1 == min(after, 8 if needs_deploy else 9)


@given(st.floats(0, 1e6), st.lists(st.floats(0, 40), max_size=8))
def test_looking_more_often_shows_the_same_history(started: float, looks: list[float]) -> None:
    """Reading on after the last seen step, at any moments, gives each step once and in order."""
    steps = timeline(0.3)
    seen: list[int] = []
    for elapsed in [*sorted(looks), 40.0]:
        seen += [step.number for step in reached(steps, started, started + elapsed, after=len(seen))]
    assert seen == list(range(1, 11))
