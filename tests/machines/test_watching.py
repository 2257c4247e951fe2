"""Two sources tell one story: what is known at the end does not depend on who told it, in which order, how often."""

from __future__ import annotations

from typing import Final, Literal, get_args

from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.machines.watching import (
    MESSAGES_KEPT,
    StepObserved,
    StreamLost,
    WatchingContext,
    is_news,
    lose_stream,
    observe,
)

Source = Literal["stream", "polling"]
STEPS: Final = ("", "tenant_created", "database_created", "vm_provisioned", "tenant_ready", "a step from the future")
observations = st.builds(
    StepObserved,
    step=st.sampled_from(STEPS),
    message=st.sampled_from(("", "creating", "starting", "nearly there")),
    source=st.sampled_from(get_args(Source)),
    event_id=st.sampled_from(("", "1", "2", "3")),
    tenant_id=st.just("t"),
)
stories = st.lists(observations, max_size=12)


def told(story: list[StepObserved], context: WatchingContext | None = None) -> WatchingContext:
    """What is known after the story."""
    context = context or WatchingContext()
    for observed in story:
        context = observe(context, observed)
    return context


@given(stories, st.data())
def test_order_and_repetition_change_nothing(story: list[StepObserved], data: st.DataObject) -> None:
    """Any shuffling and doubling of the same observations gives the same steps and the same messages, each once."""
    again = data.draw(st.permutations(story + data.draw(st.lists(st.sampled_from(story)) if story else st.just([]))))
    one, other = told(story), told(again)
    assert set(one.steps) == set(other.steps) == {observed.step for observed in story if observed.step}
    assert set(one.messages) == set(other.messages)
    assert len(other.steps) == len(set(other.steps))
    assert len(other.messages) == len(set(other.messages))


@given(stories, observations)
def test_what_is_no_news_adds_nothing(story: list[StepObserved], observed: StepObserved) -> None:
    """A source may keep it to itself: neither steps nor messages would change."""
    before = told(story)
    after = observe(before, observed)
    if not is_news(before, observed):
        assert (after.steps, after.messages) == (before.steps, before.messages)


@given(stories, observations)
def test_news_is_news_once(story: list[StepObserved], observed: StepObserved) -> None:
    """After it was observed it is known."""
    assert not is_news(told([*story, observed]), observed)


@given(stories)
def test_observing_the_same_twice_is_observing_it_once(story: list[StepObserved]) -> None:
    """The reducer is idempotent."""
    for observed in story:
        once = told([observed])
        assert observe(once, observed) == once


@given(stories)
def test_steps_stand_in_the_order_they_were_first_seen(story: list[StepObserved]) -> None:
    """What a person watched is what the history says."""
    assert list(told(story).steps) == list(dict.fromkeys(observed.step for observed in story if observed.step))


@given(stories)
def test_the_last_event_id_is_the_streams(story: list[StepObserved]) -> None:
    """An observation without an id, as polling makes them, does not forget where the stream was."""
    ids = [observed.event_id for observed in story if observed.event_id]
    assert told(story).last_event_id == (ids[-1] if ids else "")


def test_failures_count_until_the_stream_speaks_again() -> None:
    """Polling's observations do not say that the stream is well."""
    context = lose_stream(lose_stream(WatchingContext(), StreamLost("reset")), StreamLost("silent"))
    assert context.stream_failures == 2
    assert observe(context, StepObserved("a", "", "polling")).stream_failures == 2
    assert observe(context, StepObserved("a", "", "stream")).stream_failures == 0


def test_a_server_that_never_stops_talking_is_bounded() -> None:
    """The newest messages stay; steps are never dropped."""
    story = [StepObserved(f"s{number}", f"m{number}", "stream") for number in range(MESSAGES_KEPT + 50)]
    known = told(story)
    assert len(known.messages) == MESSAGES_KEPT
    assert known.messages[-1] == f"m{MESSAGES_KEPT + 49}"
    assert len(known.steps) == MESSAGES_KEPT + 50
