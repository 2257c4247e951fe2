"""A history is read as a path with the help of the table."""

from __future__ import annotations

from systemprompt_cloud.diagrams._path import event_label, leads_on, visits
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import STAY, Context, Event, State, Verdict, on
from systemprompt_cloud.machines.login import LOGIN

from tests.support.histories import tell


class Knocked(Event, frozen=True):
    """Starts the state anew."""


class Waved(Event, frozen=True):
    """Changes nothing."""


class Left(Event, frozen=True):
    """Ends it."""


DOOR = Machine(
    "door",
    version=1,
    initial="waiting",
    context=Context,
    states=[State("waiting", "at the door"), State("gone", "gone", verdict=Verdict.SUCCESS)],
    rows=[on(Knocked, "waiting", "waiting"), on(Waved, "waiting", STAY), on(Left, "waiting", "gone")],
)


def test_a_state_entered_again_is_another_visit() -> None:
    """The table tells re-entering and staying apart, though both changes name the same state twice."""
    path = visits(
        DOOR, tell(DOOR, ("waiting", "Waved"), ("waiting", "Knocked"), ("waiting", "Waved"), ("gone", "Left"))
    )
    assert [(visit.state, [change.event for change in visit.within]) for visit in path] == [
        ("waiting", ["Waved"]),
        ("waiting", ["Waved"]),
        ("gone", []),
    ]
    assert [visit.exit.event if visit.exit else None for visit in path] == ["Knocked", "Left", None]


def test_no_history_is_no_path() -> None:
    """An empty history has no visit."""
    assert visits(DOOR, []) == []


def test_what_is_no_event_happens_within_a_visit() -> None:
    """Effects, parking and resuming never lead on."""
    changes = tell(DOOR, ("#intent", "key"), ("#paused", "Network"), ("#resumed", "resumed"))
    assert not any(leads_on(DOOR, change) for change in changes)
    assert [change.kind for change in visits(DOOR, changes)[0].within] == ["intent", "paused", "resumed"]


def test_an_event_the_table_does_not_have_leads_on_when_the_state_changed() -> None:
    """A history of an older table can still be read."""
    stayed, left = tell(DOOR, ("waiting", "Sneezed"), ("garden", "Vanished"))[1:]
    assert not leads_on(DOOR, stayed)
    assert leads_on(DOOR, left)
    assert event_label(DOOR, left) == "Vanished"


def test_the_guard_is_told_by_where_the_event_led() -> None:
    """The same event with two destinations is labelled with the guard of the row that was taken."""
    bound = tell(LOGIN, ("verifying_token", "TokenProvided"), ("saving_credentials", "TokenAccepted"))[-1]
    unbound = tell(LOGIN, ("verifying_token", "TokenProvided"), ("confirming_account", "TokenAccepted"))[-1]
    assert event_label(LOGIN, bound) == "TokenAccepted [callback_is_bound]"
    assert event_label(LOGIN, unbound) == "TokenAccepted"
