"""What is known of a server's work is a join: order, repetition and source of the reports do not matter."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Final, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.io.cloud.wire import ProvisioningEventType
from systemprompt_cloud.io.http.texts import LONGEST_TEXT
from systemprompt_cloud.machines.parts.progress import (
    FAILED,
    MESSAGES_KEPT,
    ORDER,
    REPORTS_TAKEN,
    STEPS_KEPT,
    TEXT_KEPT,
    EndReported,
    ProgressContext,
    StepObserved,
    is_news,
    news,
    note_end,
    observe,
    untold,
)
from systemprompt_cloud.machines.provisioning import TenantBecameReady

Source = Literal["stream", "polling"]
UNKNOWN: Final = "a step from the future"
STEPS: Final = ("", "tenant_created", "database_created", "vm_provisioned", "tenant_ready", UNKNOWN)
reports = st.builds(
    StepObserved,
    step=st.sampled_from(STEPS),
    message=st.sampled_from(("", "creating", "starting", "nearly there")),
    source=st.sampled_from(get_args(Source)),
    event_id=st.sampled_from(("", "1", "2", "3")),
)
stories = st.lists(reports, max_size=12)


def joined(story: list[StepObserved], context: ProgressContext | None = None) -> ProgressContext:
    """What is known after the story."""
    context = context or ProgressContext()
    for observed in story:
        if (new := news(context, observed)) is not None:
            context = observe(context, new)
    return context


def shown(story: list[StepObserved]) -> list[str]:
    """The words that are shown to somebody who reads along."""
    context, words = ProgressContext(), list[str]()
    for observed in story:
        if (new := news(context, observed)) is not None:
            context = observe(context, new)
            words += [new.message] if new.message else []
    return words


def said(step: str, source: Source = "stream") -> StepObserved:
    """A report as a server makes it: a message of its own for each step; polling does not name it."""
    number = ORDER.index(step) + 1
    if source == "polling":
        return StepObserved("", f"{number}: {step}", "polling")
    return StepObserved(step, f"{number}: {step}", "stream", str(number))


def test_the_order_is_the_wires() -> None:
    """Every step of the wire but the failure has a rank, in the wire's order."""
    assert tuple(ProvisioningEventType)[:-1] == ORDER
    assert list(ProvisioningEventType)[-1] == FAILED


@given(stories, st.randoms(use_true_random=False))
def test_the_order_of_the_reports_does_not_matter(story: list[StepObserved], chance: Random) -> None:
    """Any order: the same set of steps and words, and the same highest step."""
    other = list(story)
    chance.shuffle(other)
    one, two = joined(story), joined(other)
    assert set(one.steps) == set(two.steps) == {each.step for each in story} - {""}
    assert set(one.messages) == set(two.messages) == {each.message for each in story} - {""}
    known = [[step for step in context.steps if step in ORDER] for context in (one, two)]
    assert known[0] == known[1] == sorted(known[0], key=ORDER.index)


@given(stories)
def test_a_report_taken_twice_adds_nothing(story: list[StepObserved]) -> None:
    """Everything told again: nothing is new, and nothing is shown twice."""
    once = joined(story)
    again = joined(story, once)
    assert (again.steps, again.messages) == (once.steps, once.messages)
    words = shown(story + story)
    assert len(words) == len(set(words))


@given(st.lists(st.tuples(st.sampled_from(get_args(Source)), st.integers(0, 9)), max_size=30))
def test_what_is_shown_only_goes_forward(seen: list[tuple[Source, int]]) -> None:
    """Two honest sources of one story, each at its own place and each going forward: the words shown do, too."""
    at = {"stream": -1, "polling": -1}
    story = list[StepObserved]()
    for source, upto in seen:
        if source == "stream":  # tells every step, one after the other
            at["stream"] = min(at["stream"] + 1, 9)
            story.append(said(ORDER[at["stream"]]))
        else:  # knows the newest at least
            at["polling"] = max(at["polling"], at["stream"], upto)
            story.append(said(ORDER[at["polling"]], "polling"))
    places = [int(word.partition(":")[0]) for word in shown(story)]
    assert all(sooner < later for sooner, later in pairwise(places)), places


def test_a_stream_that_is_behind_polling_is_recorded_and_not_shown() -> None:
    """Until it comes to the words polling showed; from then on it is shown."""
    story = [said(ORDER[3], "polling"), said(ORDER[1]), said(ORDER[2]), said(ORDER[3]), said(ORDER[4])]
    assert shown(story) == ["4: secrets_stored", "5: vm_provisioning_started"]
    context = joined(story)
    assert context.steps == ORDER[1:5]
    assert context.messages == ("2: tenant_created", "3: database_created", "4: secrets_stored", story[-1].message)


def test_a_stream_with_words_of_its_own_is_shown_when_it_is_known_to_be_current() -> None:
    """It never comes to polling's words: what decides is that nothing older can be on its way."""
    context = joined([StepObserved("", "starting up", "polling")])
    late = StepObserved("tenant_created", "made", "stream", "1")
    assert news(context, late) == msgspec.structs.replace(late, message="", earlier="made")
    assert news(context, late, current=True) == late
    assert observe(context, late).ahead == ""


def test_an_answer_that_was_overtaken_on_its_way_is_recorded() -> None:
    """Its words are kept, and not shown."""
    context = joined([said(ORDER[5])])
    told = news(context, StepObserved("", "older words", "polling"), late=True)
    assert told == StepObserved("", "", "polling", earlier="older words")
    assert told is not None
    assert observe(context, told).messages == ("older words", "6: vm_provisioning_progress")


@pytest.mark.parametrize("known", [(), ("said before",)])
def test_an_end_is_shown_with_its_words_unless_they_were_shown(known: tuple[str, ...]) -> None:
    """Ready is always told; what it says, once."""
    context = ProgressContext(messages=known)
    end = TenantBecameReady("tenant_ready", "said before", "polling")
    assert untold(context, end).message == ("" if known else "said before")


def test_the_same_end_is_noted_once() -> None:
    """A stream that repeats it makes no more rows; another end is another row."""
    failed, ready = EndReported(FAILED, "no", "4"), EndReported("tenant_ready", "", "5")
    context = ProgressContext()
    assert is_news(context, failed)
    context = note_end(context, failed)
    assert not is_news(context, failed)
    assert is_news(context, ready)
    assert (note_end(context, ready).reported, note_end(context, ready).last_event_id) == ("tenant_ready", "5")


def test_a_context_is_bounded() -> None:
    """A server that never stops talking: words, steps and rows have an end, and known steps are still taken."""
    context = ProgressContext()
    for number in range(REPORTS_TAKEN + 50):
        new = news(context, StepObserved(f"step {number}", f"{number} " + "x" * LONGEST_TEXT, "stream", str(number)))
        if new is not None:
            context = observe(context, new)
    assert context.reports == REPORTS_TAKEN
    assert len(context.steps) <= STEPS_KEPT
    assert len(context.messages) <= MESSAGES_KEPT
    assert sum(map(len, context.messages)) <= TEXT_KEPT
    assert len(msgspec.json.encode(context)) < TEXT_KEPT + 10_000
    told = news(context, StepObserved("vm_provisioned", "", "stream"))
    assert told is not None
    assert "vm_provisioned" in observe(context, told).steps
