"""A trouble with the server is told of when it lasts."""

from __future__ import annotations

import pytest
from systemprompt_cloud.cli.screen.steady import SETTLE_SECONDS, Steady
from systemprompt_cloud.engine.history import Change


class Time:
    """A clock a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def change(event: str, after: str = "awaiting_tenant", flow: str = "f") -> Change:
    return Change(
        flow=flow,
        seq=1,
        at="",
        machine="provisioning",
        kind="event",
        event=event,
        from_state="awaiting_tenant",
        to_state=after,
    )


LOST = change("StreamLost")


@pytest.mark.parametrize(
    ("trouble", "after", "told"),
    [
        ("StreamLost", change("StreamReturned"), False),
        ("StreamLost", change("TenantBecameReady", "fetching_secrets"), True),
        ("StatusNotAnswered", change("StepObserved"), True),
        ("StatusNotAnswered", change("TenantBecameReady", "fetching_secrets"), True),
    ],
)
def test_a_trouble_that_is_over_soon_is_not_told_of(trouble: str, after: Change, told: bool) -> None:
    """Neither that it began nor that it is over; what happens otherwise is."""
    time = Time()
    steady = Steady(time)
    assert not steady.offer(change(trouble))
    time.now += SETTLE_SECONDS - 0.1
    assert steady.settled() == []
    assert steady.offer(after) is told
    time.now += 100.0
    assert steady.settled() == []


def test_a_trouble_that_lasts_is_told_of_once() -> None:
    """After two seconds from when it began, however often it was noted since; and then that it is over."""
    time = Time()
    steady = Steady(time)
    steady.offer(LOST)
    assert steady.offer(change("StepObserved"))  # polling brings news; the stream is away all the same
    time.now += SETTLE_SECONDS - 0.1
    steady.offer(change("StreamLost"))
    assert steady.settled() == []
    time.now += 0.1
    assert steady.settled() == [LOST]
    assert steady.settled() == []
    steady.offer(change("StreamLost"))  # it was opened again, and refused
    time.now += SETTLE_SECONDS
    assert steady.settled() == []
    assert steady.offer(change("StreamReturned"))
    steady.offer(change("StreamLost"))
    assert not steady.offer(change("StreamReturned")), "a new trouble, over at once"


def test_flows_do_not_disturb_each_other() -> None:
    """One flow's stream is away, another's is back."""
    time = Time()
    steady = Steady(time)
    steady.offer(LOST)
    steady.offer(change("StreamLost", flow="g"))
    steady.offer(change("StreamReturned", flow="g"))
    time.now += SETTLE_SECONDS
    assert steady.settled() == [LOST]
