"""Watching a server work: what checkout and provisioning have in common.

Theory
------
Two sources tell the same story: an event stream, which is quick and may break, and polling, which is slow and robust.
Whatever either of them sees becomes the same few events, and the reducers below do not care about order or repetition:
a step seen twice counts once, an old message does not come back. So the state at the end depends on what happened at
the server, not on which source saw it first.

What is *told* is stricter than what is known, for a person reads it in order. `news` reduces an observation to what
nobody has been told yet: words that were told before are taken out (also when they come back under the id of an event
that was told), and the words of a step older than the newest one move to `earlier`, where they are recorded and not
shown. Polling does not say which step its words are about. So when the last word is polling's (`overtaken`), what a
stream tells that is back counts as older until it comes to the same word, and `catch_up` records it as past. So
whatever the two sources do, the messages of a flow's events are a story told once, forward; as long as both use the
same words, and the stream does not fall silent over catching up (`flows/steps/streaming.py`).

The steps' order is known (`ORDER`). A step this version does not know is taken as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeVar

import msgspec

from ...engine.machine.parts import Context, Event

MESSAGES_KEPT = 200
"""Enough for any tenant's story; a server that never stops talking does not make the journal's rows grow for ever."""

ORDER: Final = (
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
)
"""The steps in the order they happen (docs/reference/wire.md section 1). A failure may come after any of them."""

STREAM: Final = "stream"
"""The tag of a state in which the event stream tells how far the server is."""

POLLING: Final = "polling"
"""The tag of a state in which polling does."""

_RANKS: Final = {step: rank for rank, step in enumerate(ORDER)}


class WatchingContext(Context, frozen=True, kw_only=True):
    """What is known of the server's work so far.

    Attributes:
        steps: The steps, in the server's order; the last one is the current one.
        messages: What was said, in the order it was learned of, but what came too late before the last.
        event_ids: The ids of the newest events of the stream, for a stream that repeats them.
        last_event_id: Where the stream goes on.
        stream_failures: How often in a row the stream was lost without bringing news.
        overtaken: The last word told is polling's, and the stream has not come to it yet.
        stream_silent: It was lost because it said nothing, so being open is no proof that it is back.
    """

    steps: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    last_event_id: str = ""
    overtaken: bool = False
    stream_failures: int = 0
    stream_silent: bool = False


class StepObserved(Event, frozen=True):
    """The server took a step, or said something new about the one it is at.

    `earlier` is in place of `message` when the step is past: for the record, not to be shown. A step that polling has
    overtaken always has it, by its name if it came without words: so it is known to be past.
    """

    step: str
    message: str
    source: Literal["stream", "polling"]
    event_id: str = ""
    tenant_id: str = ""
    earlier: str = ""


class StreamLost(Event, frozen=True):
    """The event stream broke, ended or fell silent; polling takes over."""

    reason: str
    silent: bool = False


class StreamReturned(Event, frozen=True):
    """The event stream is back; polling may stop."""


class AccessRefused(Event, frozen=True):
    """The API says this is not ours to watch, or does not exist; waiting longer will not help."""

    problem: str
    code: str = ""


class WaitResumed(Event, frozen=True):
    """A person resumed the flow to wait longer."""


W = TypeVar("W", bound=WatchingContext)
E = TypeVar("E", bound=Event)


# --- what is told ------------------------------------------------------------------------------------------------


def untold(context: WatchingContext, end: E) -> E:
    """An event that ends the wait, without its words when they were told before."""
    told_before = getattr(end, "message", "") in context.messages
    return msgspec.structs.replace(end, message="") if told_before else end


def is_past(context: WatchingContext, step: str) -> bool:
    """Whether a newer step than this one is known; never for a step whose place nobody knows."""
    rank = _RANKS.get(step)
    return rank is not None and any(_RANKS.get(known, -1) > rank for known in context.steps)


def news(context: WatchingContext, observed: StepObserved, *, past: bool = False) -> StepObserved | None:
    """What of an observation is to be told.

    Args:
        context: What is known.
        observed: What a source saw, as it saw it.
        past: True when it is known to be older than what was told last.

    Returns:
        The observation without what was told before, and without the words of a step that is past; None when nothing
        is left of it.
    """
    new_step = observed.step != "" and observed.step not in context.steps
    # An id alone is not believed where there is a new step: servers have begun to count anew before.
    repeated = observed.event_id != "" and observed.event_id in context.event_ids and not new_step
    message = "" if repeated or observed.message in context.messages else observed.message
    if not new_step and not message:
        return None
    if past:
        return msgspec.structs.replace(observed, message="", earlier=observed.message or observed.step)
    if is_past(context, observed.step):
        return msgspec.structs.replace(observed, message="", earlier=message)
    return msgspec.structs.replace(observed, message=message)


def has_come_to(context: WatchingContext, told_since: Sequence[StepObserved]) -> bool:
    """Whether a stream that told this since it is back has come as far as what was told last."""
    return not context.overtaken or any(observed.message in context.messages[-1:] for observed in told_since)


def catch_up(context: WatchingContext, told_since: Sequence[StepObserved]) -> list[StepObserved]:
    """What is to be told of a stream that came back, and told this of what had happened while it was away.

    Polling has told some of it meanwhile, without saying which step it was. Whatever comes before the last thing that
    was told is past; all of it, when the stream has not come as far.
    """
    known = [number for number, observed in enumerate(told_since) if observed.message in context.messages]
    newest = max(known, default=0) if has_come_to(context, told_since) else len(told_since)
    telling: list[StepObserved] = []
    for number, observed in enumerate(told_since):
        if (new := news(context, observed, past=number < newest)) is not None:
            telling.append(new)
            context = observe(context, new)
    return telling


# --- what is known -----------------------------------------------------------------------------------------------


def observe(context: W, observed: StepObserved) -> W:
    """The context with the observation in it; taking the same one again changes nothing."""
    messages = context.messages
    if observed.earlier and observed.earlier not in messages:
        messages = (*messages[:-1], observed.earlier, *messages[-1:])
    if observed.message and observed.message not in messages:
        messages = (*messages, observed.message)
    event_ids = context.event_ids
    if observed.event_id and observed.event_id not in event_ids:
        event_ids = (*event_ids, observed.event_id)[-MESSAGES_KEPT:]
    from_stream, polled = observed.source == "stream", observed.message != ""
    return msgspec.structs.replace(
        context,
        steps=_with_step(context.steps, observed.step),
        messages=messages[-MESSAGES_KEPT:],
        event_ids=event_ids,
        last_event_id=observed.event_id or context.last_event_id,
        # What is past does not say that the stream has come as far as polling: a process may die in between.
        overtaken=(context.overtaken and observed.earlier != "") if from_stream else context.overtaken or polled,
        stream_failures=0 if from_stream else context.stream_failures,
        stream_silent=context.stream_silent and not from_stream,
    )


def _with_step(steps: tuple[str, ...], step: str) -> tuple[str, ...]:
    if not step or step in steps:
        return steps
    rank = _RANKS.get(step)
    newer = (at for at, known in enumerate(steps) if rank is not None and _RANKS.get(known, -1) > rank)
    at = next(newer, len(steps))
    return (*steps[:at], step, *steps[at:])


def lose_stream(context: W, event: StreamLost) -> W:
    """One more failure: the next attempt waits longer."""
    return msgspec.structs.replace(
        context,
        stream_failures=context.stream_failures + 1,
        stream_silent=context.stream_silent or event.silent,
    )


def regain_stream(context: W, _event: StreamReturned) -> W:
    """It has shown that it lives, and has told what polling has, or has had its time for it."""
    return msgspec.structs.replace(context, stream_silent=False, overtaken=False)


def refuse_access(context: W, event: AccessRefused) -> W:
    """Why the wait is over."""
    return msgspec.structs.replace(context, problem=event.problem, problem_code=event.code)


def wait_on(context: W, _event: WaitResumed) -> W:
    """What was said about the time that ran out is no longer true."""
    return msgspec.structs.replace(context, problem="")
