"""Two sources tell one story: what is known at the end does not depend on who told it, in which order, how often.

And what is told of it to people is told once, forward.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.io.cloud.wire import ProvisioningEventType
from systemprompt_cloud.machines.parts.watching import (
    MESSAGES_KEPT,
    ORDER,
    StepObserved,
    StreamLost,
    StreamReturned,
    WatchingContext,
    catch_up,
    lose_stream,
    news,
    observe,
    regain_stream,
)

Source = Literal["stream", "polling"]
UNKNOWN: Final = "a step from the future"
STEPS: Final = ("", "tenant_created", "database_created", "vm_provisioned", "tenant_ready", UNKNOWN)
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


def seen(*steps: str, source: Source = "stream") -> list[StepObserved]:
    """Observations of these steps as a server tells them: a message of its own for each, and an id on a stream."""
    return [
        StepObserved(step, f"words about {step}", source, str(ORDER.index(step) + 1) if source == "stream" else "")
        for step in steps
    ]


def words(story: list[StepObserved], context: WatchingContext | None = None) -> list[str]:
    """What somebody who reads along is told: the messages of the events that are made of the story."""
    context, messages = context or WatchingContext(), list[str]()
    for observed in story:
        if (new := news(context, observed)) is not None:
            context = observe(context, new)
            messages += [new.message] if new.message else []
    return messages


# --- what is known -------------------------------------------------------------------------------------------------


@given(stories, st.data())
def test_order_and_repetition_change_nothing(story: list[StepObserved], data: st.DataObject) -> None:
    """Any shuffling and doubling of the same observations gives the same steps and the same messages, each once."""
    again = data.draw(st.permutations(story + data.draw(st.lists(st.sampled_from(story)) if story else st.just([]))))
    one, other = told(story), told(again)
    assert set(one.steps) == set(other.steps) == {observed.step for observed in story if observed.step}
    assert set(one.messages) == set(other.messages)
    assert len(other.steps) == len(set(other.steps))
    assert len(other.messages) == len(set(other.messages))
    # Where their places are known the steps stand in the server's order, whatever order they came in.
    assert [step for step in one.steps if step != UNKNOWN] == [step for step in other.steps if step != UNKNOWN]


@given(stories)
def test_observing_the_same_twice_is_observing_it_once(story: list[StepObserved]) -> None:
    """The reducer is idempotent."""
    for observed in story:
        once = told([observed])
        assert observe(once, observed) == once


def test_the_order_of_the_steps_is_the_apis() -> None:
    """The table's list and the wire's are the same; a failure has no place in it."""
    assert [*ORDER, "provisioning_failed"] == list(ProvisioningEventType)


@given(st.permutations(ORDER))
def test_steps_stand_in_the_servers_order(steps: list[str]) -> None:
    """However they came, the last one is the current one."""
    assert told(seen(*steps)).steps == ORDER


def test_an_unknown_step_stands_where_it_came() -> None:
    """Nobody knows its place, so it is the current one when it comes, and what comes then is newer."""
    story = [StepObserved(step, "", "stream") for step in ("tenant_created", UNKNOWN, "vm_provisioned")]
    assert told(story[:2]).steps[-1] == UNKNOWN
    assert told(story).steps == ("tenant_created", UNKNOWN, "vm_provisioned")
    assert news(told(story[2:]), story[1]) == story[1]


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


def test_silence_is_remembered_until_a_sign_of_life() -> None:
    """A 503 after it changes nothing; what the stream says, or that it is back, does."""
    context = lose_stream(WatchingContext(), StreamLost("silent for 30 s", silent=True))
    assert lose_stream(context, StreamLost("503")).stream_silent
    assert not regain_stream(context, StreamReturned()).stream_silent
    assert not observe(context, StepObserved("a", "", "stream")).stream_silent
    assert observe(context, StepObserved("a", "", "polling")).stream_silent


def test_a_server_that_never_stops_talking_is_bounded() -> None:
    """The newest messages and ids stay; steps are never dropped."""
    story = [StepObserved(f"s{number}", f"m{number}", "stream", str(number)) for number in range(MESSAGES_KEPT + 50)]
    known = told(story)
    assert len(known.messages) == len(known.event_ids) == MESSAGES_KEPT
    assert known.messages[-1] == f"m{MESSAGES_KEPT + 49}"
    assert len(known.steps) == MESSAGES_KEPT + 50


# --- what is told --------------------------------------------------------------------------------------------------


@given(stories, observations)
def test_what_is_no_news_adds_nothing(story: list[StepObserved], observed: StepObserved) -> None:
    """A source may keep it to itself: neither steps nor messages would change."""
    before = told(story)
    after = observe(before, without_id(observed))
    if news(before, without_id(observed)) is None:
        assert (after.steps, after.messages) == (before.steps, before.messages)


def without_id(observed: StepObserved) -> StepObserved:
    """The observation as a server without ids would have made it."""
    return StepObserved(observed.step, observed.message, observed.source, "", observed.tenant_id)


@given(stories, observations)
def test_news_is_news_once(story: list[StepObserved], observed: StepObserved) -> None:
    """After it was told it is known, by its content and by its id."""
    before = told(story)
    new = news(before, observed)
    assert news(observe(before, new or observed), observed) is None


@given(stories)
def test_nothing_is_told_twice(story: list[StepObserved]) -> None:
    """Whoever saw it first, and whether with its step or without."""
    messages = words(story)
    assert len(messages) == len(set(messages))


def test_a_message_polling_knew_is_not_told_again_with_its_step() -> None:
    """The stream's event is news for its step alone."""
    (streamed,) = seen("tenant_created")
    known = told([StepObserved("", streamed.message, "polling")])
    new = news(known, streamed)
    assert new is not None
    assert (new.step, new.message, new.earlier, new.event_id) == ("tenant_created", "", "", streamed.event_id)


@given(st.permutations(ORDER))
def test_an_older_step_is_recorded_and_not_told(steps: list[str]) -> None:
    """What is told goes forward only; all of it is known."""
    story = seen(*steps)
    places = [ORDER.index(message.removeprefix("words about ")) for message in words(story)]
    assert places == sorted(places)
    known = WatchingContext()
    for observed in story:
        if (new := news(known, observed)) is not None:
            known = observe(known, new)
    assert known.steps == ORDER
    assert set(known.messages) == {observed.message for observed in story}


def test_the_last_message_is_about_the_last_step() -> None:
    """What came too late does not stand where the waiting page looks."""
    known = WatchingContext()
    for observed in seen("vm_provisioned", "tenant_created", "database_created"):
        known = observe(known, news(known, observed) or observed)
    assert known.messages == (
        "words about tenant_created",
        "words about database_created",
        "words about vm_provisioned",
    )


def test_an_event_that_is_repeated_is_known_by_its_id() -> None:
    """Its words have been forgotten, there were so many since; its id has not."""
    first = StepObserved("vm_provisioning_progress", "1 %", "stream", "7")
    known = told([first, *(StepObserved("", f"m{number}", "polling") for number in range(MESSAGES_KEPT))])
    assert first.message not in known.messages
    assert news(known, first) is None
    assert news(known, StepObserved("vm_provisioning_progress", "1 %", "stream", "8")) is not None


def test_an_id_alone_is_not_believed() -> None:
    """A server that began to count anew: the same id with a new step is a new step."""
    known = told([StepObserved("tenant_created", "one", "stream", "1")])
    new = StepObserved("vm_provisioned", "two", "stream", "1")
    assert news(known, new) == new


# --- catching up ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_what_polling_overtook_is_past(streamed: int, polled: int, reached: int) -> None:
    """A stream that comes back and tells what polling has told meanwhile: only what is newer is told."""
    known = told(seen(*ORDER[:streamed]))
    if (overtaking := news(known, StepObserved("", seen(ORDER[polled])[0].message, "polling"))) is not None:
        known = observe(known, overtaking)
    telling = catch_up(known, seen(*ORDER[streamed:reached]))
    messages = [each.message for each in telling if each.message]
    newest = max(streamed - 1, polled)
    assert messages == [each.message for each in seen(*ORDER[newest + 1 : reached])]
    for each in telling:
        known = observe(known, each)
    assert set(known.steps) == {*ORDER[:streamed], *ORDER[streamed:reached]}


def test_a_stream_that_tells_everything_again() -> None:
    """What is known is not told; what came before the newest of it neither; what is newer is."""
    known = told([*seen(*ORDER[:2]), StepObserved("", "words about vm_provisioned", "polling")])
    telling = catch_up(known, seen(*ORDER[:8]))
    assert [(each.step, each.message) for each in telling] == [
        *((step, "") for step in ORDER[2:7]),
        (ORDER[7], f"words about {ORDER[7]}"),
    ]
