"""Watching a server work: what checkout and provisioning have in common.

Two sources tell the same story: an event stream, which is quick and may break, and polling, which is slow and robust.
Whatever either of them sees becomes the same few events, and the reducers below do not care about order or repetition:
a step seen twice counts once, an old message does not come back. So the state at the end depends on what happened at
the server, not on which source saw it first.

`is_news` is how a source knows that an observation needs no event at all.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from .machine import Context, Event

MESSAGES_KEPT = 200
"""Enough for any tenant's story; a server that never stops talking does not make the journal's rows grow for ever."""


class WatchingContext(Context, frozen=True, kw_only=True):
    """What is known of the server's work so far."""

    steps: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    last_event_id: str = ""
    stream_failures: int = 0


class StepObserved(Event, frozen=True):
    """The server took a step, or said something new about the one it is at."""

    step: str
    message: str
    source: Literal["stream", "polling"]
    event_id: str = ""
    tenant_id: str = ""


class StreamLost(Event, frozen=True):
    """The event stream broke, ended or fell silent; polling takes over."""

    reason: str


class StreamReturned(Event, frozen=True):
    """The event stream is back; polling may stop."""


class AccessRefused(Event, frozen=True):
    """The API says this is not ours to watch, or does not exist; waiting longer will not help."""

    problem: str


class WaitResumed(Event, frozen=True):
    """Somebody came back and wants to wait on."""


W = TypeVar("W", bound=WatchingContext)


def is_news(context: WatchingContext, observed: StepObserved) -> bool:
    """Whether the observation adds anything to what is known."""
    new_step = observed.step != "" and observed.step not in context.steps
    return new_step or (observed.message != "" and observed.message not in context.messages)


def observe(context: W, observed: StepObserved) -> W:
    """The context with the observation in it; taking the same one again changes nothing."""
    steps, messages = context.steps, context.messages
    if observed.step and observed.step not in steps:
        steps = (*steps, observed.step)
    if observed.message and observed.message not in messages:
        messages = (*messages, observed.message)[-MESSAGES_KEPT:]
    from_stream = observed.source == "stream"
    return msgspec.structs.replace(
        context,
        steps=steps,
        messages=messages,
        last_event_id=observed.event_id or context.last_event_id,
        stream_failures=0 if from_stream else context.stream_failures,
    )


def lose_stream(context: W, _event: StreamLost) -> W:
    """One more failure: the next attempt waits longer."""
    return msgspec.structs.replace(context, stream_failures=context.stream_failures + 1)


def refuse_access(context: W, event: AccessRefused) -> W:
    """Why the wait is over."""
    return msgspec.structs.replace(context, problem=event.problem)


def wait_on(context: W, _event: WaitResumed) -> W:
    """What was said about the time that ran out is no longer true."""
    return msgspec.structs.replace(context, problem="")
