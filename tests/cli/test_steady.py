"""A stream that comes and goes is told of when it stays away."""

from __future__ import annotations

from systemprompt_cloud.cli.screen.steady import SETTLE_SECONDS, Steady
from systemprompt_cloud.engine.history import Change


class Time:
    """A clock a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def change(event: str, before: str = "streaming", after: str = "streaming", flow: str = "f") -> Change:
    return Change(
        flow=flow, seq=1, at="", machine="provisioning", kind="event", event=event, from_state=before, to_state=after
    )


LOST = change("StreamLost", "streaming", "polling")
BACK = change("StreamReturned", "polling", "streaming")


def test_a_stream_that_is_back_soon_is_not_told_of() -> None:
    """Neither that it was lost nor that it is back; what happens meanwhile is."""
    time = Time()
    steady = Steady(time)
    assert not steady.offer(LOST)
    assert steady.holds("f")
    assert steady.offer(change("StepObserved", "polling", "polling"))
    time.now += SETTLE_SECONDS - 0.1
    assert steady.settled() == []
    assert not steady.offer(BACK)
    time.now += 100.0
    assert steady.settled() == []


def test_a_stream_that_stays_away_is_told_of_once() -> None:
    """After two seconds; and then that it is back, at once."""
    time = Time()
    steady = Steady(time)
    steady.offer(LOST)
    time.now += SETTLE_SECONDS
    assert steady.settled() == [LOST]
    assert steady.settled() == []
    assert not steady.holds("f")
    assert steady.offer(BACK)


def test_what_the_flow_goes_on_to_is_told() -> None:
    """Ready while the stream is away: the loss does not matter any more."""
    time = Time()
    steady = Steady(time)
    steady.offer(LOST)
    assert steady.offer(change("TenantBecameReady", "polling", "fetching_secrets"))
    time.now += SETTLE_SECONDS
    assert steady.settled() == []


def test_flows_do_not_disturb_each_other() -> None:
    """One flow's stream is away, another's is back."""
    time = Time()
    steady = Steady(time)
    steady.offer(LOST)
    steady.offer(change("StreamLost", "streaming", "polling", "g"))
    steady.offer(change("StreamReturned", "polling", "streaming", "g"))
    time.now += SETTLE_SECONDS
    assert steady.settled() == [LOST]
