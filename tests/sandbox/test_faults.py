"""Tests of sandbox/faults.py: how a fault is written, and how often it strikes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import EXIT_USAGE
from systemprompt_cloud.errors import InvalidFault
from systemprompt_cloud.sandbox import FAULTS, Fault, fault_syntax
from systemprompt_cloud.sandbox.faults import FaultPlan


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_can_be_written_by_its_name_alone(name: str) -> None:
    """A bare name takes all defaults, and the syntax shown to people is the same fault."""
    assert Fault.parse(name) == Fault.parse(fault_syntax(name))
    assert FAULTS[name]


def test_parameters_are_read_by_type() -> None:
    """Numbers become numbers, text stays text, spaces around do not matter."""
    fault = Fault.parse(" slow:seconds=0.25, path=/status ,times=2")
    assert fault == Fault("slow", {"seconds": 0.25, "times": 2, "path": "/status", "chance": 1.0})
    assert Fault.parse("error:status=500").number("status") == 500
    assert fault.text == "slow:seconds=0.25,times=2,path=/status,chance=1.0"
    assert Fault.parse(fault.text) == fault


def test_an_unknown_fault_lists_the_known_ones() -> None:
    """Who misspells a fault reads what there is, and the command line calls it a usage error."""
    with pytest.raises(InvalidFault) as caught:
        Fault.parse("drop-steam:after=3")
    assert all(name in caught.value.user_message for name in FAULTS)
    assert caught.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("drop-stream:before=3", "after, times"),
        ("drop-stream:after", "'after'"),
        ("needs-deploy:after=1", "none"),
        ("drop-stream:after=three", "'three'"),
        ("drop-stream:after=1.5", "'1.5'"),
        ("drop-stream:after=-1", "out of range"),
        ("slow:seconds=nan", "out of range"),
        ("slow:seconds=inf", "out of range"),
        ("error:status=200", "not an error status"),
        ("reset:chance=1.5", "no probability"),
        ("", "''"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(text: str, named: str) -> None:
    """The message says what is wrong with which part."""
    with pytest.raises(InvalidFault, match=named):
        Fault.parse(text)


@given(st.text(max_size=60) | st.builds("{}:{}".format, st.sampled_from(sorted(FAULTS)), st.text(max_size=40)))
def test_any_text_is_a_fault_or_a_usage_error(text: str) -> None:
    """No text makes the parser fail in any other way."""
    try:
        fault = Fault.parse(text)
    except InvalidFault:
        return
    assert fault.name in FAULTS


def test_a_fault_strikes_as_often_as_it_says_and_only_on_its_path() -> None:
    """`times` is used up by hits alone; 0 means for ever."""
    plan = FaultPlan(["error:times=2,path=/status", "slow:times=0"])
    assert plan.strike("error", "/api/v1/tenants") is None
    assert [plan.strike("error", "/x/status") is not None for _ in range(3)] == [True, True, False]
    assert all(plan.strike("slow", "/") for _ in range(5))


def test_two_faults_of_one_kind_take_turns() -> None:
    """The second is next once the first is used up."""
    plan = FaultPlan(["error:status=500", "error:status=502"])
    struck = [plan.strike("error", "/") for _ in range(3)]
    assert [fault and fault.number("status") for fault in struck] == [500, 502, None]


def test_after_counts_what_was_let_through() -> None:
    """On calls it counts matching requests, on streams the events of one connection."""
    plan = FaultPlan(["unauthorized:after=2", "drop-stream:after=3"])
    assert [plan.strike_call("unauthorized", "/") is not None for _ in range(4)] == [False, False, True, False]
    assert [plan.strike_stream("drop-stream", "/", sent) is not None for sent in (0, 2, 3, 3)] == [
        False,
        False,
        True,
        False,
    ]


def test_chance_is_a_story_of_its_own_for_each_path() -> None:
    """The same seed tells the same again, whatever is asked for elsewhere meanwhile; about as often as it says."""

    def story(seed: int, *, others: int = 0) -> list[bool]:
        plan = FaultPlan(["error:times=0,chance=0.3"], seed)
        struck: list[bool] = []
        for _ in range(400):
            struck.append(plan.strike("error", "/t/1") is not None)
            for _ in range(others):
                plan.strike("error", "/t/2")
        assert plan.struck["error"] >= sum(struck)
        return struck

    assert story(1) == story(1, others=2)
    assert story(1) != story(2)
    assert 80 < sum(story(1)) < 160
    assert not any(FaultPlan(["error:chance=0"]).strike("error", "/") for _ in range(50))
