"""How far a server is with a tenant, put together from an event stream and from polling.

Theory
------
Two sources report side by side. What a flow knows is a *join*: the set of the steps seen, the highest of them, and the
words heard. Joining the same report twice changes nothing, and reports may come in any order and from either source,
so neither source has to wait for the other and none of it is lost when one of them breaks.

- Known steps have a rank (`ORDER`); an unknown step takes its place by arrival.
- A step below the highest one is recorded (`earlier`) and not shown: what people read only goes forward.
- Polling names no step, only words. Words that the stream has said too have their step's rank. Others stand by arrival,
  and may be ahead of a stream that is late. So the newest words of polling are kept (`ahead`), and what the stream says
  until it comes to them is recorded and not shown. The cost: a stream whose words differ from those of the status is
  shown again only after a sign of life or ten seconds without a report (`flows/steps/following.py`). Nothing but the
  display depends on it.
- The end is the API's answer about the tenant. What a stream says about an end is recorded (`EndReported`) and asked
  about.

Texts of a server are cut before they become events (`io/http/texts.py`), and a context keeps at most `TEXT_KEPT`
characters of them.
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar

import msgspec

from ...engine.machine.parts import Context, Event

MESSAGES_KEPT: Final = 200
TEXT_KEPT: Final = 32_000
STEPS_KEPT: Final = 64
"""Bounds of a context: messages, characters in all of them together, and steps."""

REPORTS_TAKEN: Final = 1000
"""Reports after which only new known steps are recorded: a server that never stops talking does not fill the disk."""

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

READY: Final = "tenant_ready"
INFRASTRUCTURE: Final = "infrastructure_ready"
FAILED: Final = "provisioning_failed"

_RANKS: Final = {step: rank for rank, step in enumerate(ORDER)}


class ProgressContext(Context, frozen=True, kw_only=True):
    """What is known of the server's work so far.

    Attributes:
        steps: The steps, in the server's order; the last one is the highest.
        messages: What the server said, in the order it was heard; words that came late stand before the last.
        last_event_id: Where the stream goes on.
        ahead: The newest words of polling that the stream has not come to; empty when there are none.
        reported: The end that the stream reported last; the API is asked about it.
        reports: How many reports were taken.
        foreign: Tenants and sessions that events of our streams named and that are not ours, the first ones.
    """

    steps: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    last_event_id: str = ""
    ahead: str = ""
    reported: str = ""
    reports: int = 0
    foreign: tuple[str, ...] = ()


class StepObserved(Event, frozen=True):
    """The server took a step, or said something new about the one it is at.

    `earlier` is in place of `message` when the words are past: recorded, not shown.
    """

    step: str
    message: str
    source: Literal["stream", "polling"]
    event_id: str = ""
    earlier: str = ""


class EndReported(Event, frozen=True):
    """The stream says that the wait is over, well or badly; the API is asked whether it is.

    Its words are no `message`: what is shown is what the API answers.
    """

    step: str
    words: str
    event_id: str = ""


class StreamLost(Event, frozen=True):
    """The event stream broke, ended, or is not there; polling goes on.

    `times` counts the same reason; `brief` is the reason without the call, where it names one.
    """

    reason: str
    times: int = 1
    brief: str = ""


class StreamReturned(Event, frozen=True):
    """The event stream brings something again after a loss that was noted."""


class StatusNotAnswered(Event, frozen=True):
    """A question to the API failed, or something else answered; it is asked again.

    `times` counts the same reason; `brief` is the reason without the call, where it names one.
    """

    reason: str
    times: int = 1
    brief: str = ""


class ForeignEventDropped(Event, frozen=True):
    """An event on our stream named another tenant or session; it was dropped."""

    named: str
    reason: str


class AccessRefused(Event, frozen=True):
    """The API itself says, several times in a row, that this is not ours or does not exist."""

    problem: str
    code: str = ""


class WaitResumed(Event, frozen=True):
    """A person resumed the flow to wait longer."""


P = TypeVar("P", bound=ProgressContext)
E = TypeVar("E", bound=Event)


# --- what is new -------------------------------------------------------------------------------------------------


def is_past(context: ProgressContext, step: str) -> bool:
    """Whether a higher step than this one is known; never for a step whose rank nobody knows."""
    rank = _RANKS.get(step)
    return rank is not None and any(_RANKS.get(known, -1) > rank for known in context.steps)


def untold(context: ProgressContext, end: E) -> E:
    """An event that ends the wait, without its words when they were shown before."""
    heard = getattr(end, "message", "") in context.messages
    return msgspec.structs.replace(end, message="") if heard else end


def news(
    context: ProgressContext, observed: StepObserved, *, late: bool = False, current: bool = False
) -> StepObserved | None:
    """What is new in a report.

    Args:
        context: What is known.
        observed: The report, as its source made it.
        late: True when it is known to be older than what was shown last.
        current: True when a stream is known to be no longer behind polling.

    Returns:
        The report without words that are known, and with words that are past as `earlier`; None when nothing is new.
    """
    from_stream = observed.source == "stream"
    new_step = observed.step != "" and observed.step not in context.steps
    words = "" if observed.message in context.messages else observed.message
    caught_up = from_stream and context.ahead != "" and observed.message == context.ahead
    full = context.reports >= REPORTS_TAKEN
    if not (new_step and (not full or observed.step in _RANKS)) and (full or not (words or caught_up)):
        return None
    if caught_up:  # the words are known; that the stream has come to them is not
        return msgspec.structs.replace(observed, message="", earlier=observed.message)
    behind = from_stream and context.ahead != "" and not current
    if late or behind or is_past(context, observed.step):
        return msgspec.structs.replace(observed, message="", earlier=words)
    return msgspec.structs.replace(observed, message=words)


def is_news(context: ProgressContext, heard: EndReported | ForeignEventDropped) -> bool:
    """Whether the report of an end is not the one that was taken last; whether a foreign name was not noted yet."""
    if isinstance(heard, ForeignEventDropped):
        # A bound of its own: events of others must not use up what our stream may report.
        return heard.named not in context.foreign and len(context.foreign) < STEPS_KEPT
    return context.reported != heard.step and context.reports < REPORTS_TAKEN


# --- what is known -----------------------------------------------------------------------------------------------


def observe(context: P, observed: StepObserved) -> P:
    """The context joined with a report; joining the same one again adds nothing."""
    messages = context.messages
    if observed.earlier and observed.earlier not in messages:
        messages = (*messages[:-1], observed.earlier, *messages[-1:])
    if observed.message and observed.message not in messages:
        messages = (*messages, observed.message)
    ahead = context.ahead
    if observed.source == "polling":
        ahead = observed.message or ahead
    elif observed.message or observed.earlier == ahead:
        ahead = ""
    return msgspec.structs.replace(
        context,
        steps=_with_step(context.steps, observed.step),
        messages=_bounded(messages),
        last_event_id=observed.event_id or context.last_event_id,
        ahead=ahead,
        reports=context.reports + 1,
    )


def note_end(context: P, reported: EndReported) -> P:
    """The context with what the stream says about the end."""
    return msgspec.structs.replace(
        context,
        reported=reported.step,
        last_event_id=reported.event_id or context.last_event_id,
        reports=context.reports + 1,
    )


def note_foreign(context: P, event: ForeignEventDropped) -> P:
    """The context with a tenant or session that is not ours."""
    return msgspec.structs.replace(context, foreign=(*context.foreign, event.named)[:STEPS_KEPT])


def refuse_access(context: P, event: AccessRefused) -> P:
    """Why the wait is over."""
    return msgspec.structs.replace(context, problem=event.problem, problem_code=event.code)


def resume_wait(context: P, _event: WaitResumed) -> P:
    """What was said about the time that ran out is no longer true."""
    return msgspec.structs.replace(context, problem="", problem_code="", reported="")


def _with_step(steps: tuple[str, ...], step: str) -> tuple[str, ...]:
    rank = _RANKS.get(step)
    if not step or step in steps or (rank is None and len(steps) >= STEPS_KEPT):
        return steps
    higher = (at for at, known in enumerate(steps) if rank is not None and _RANKS.get(known, -1) > rank)
    at = next(higher, len(steps))
    return (*steps[:at], step, *steps[at:])


def _bounded(messages: tuple[str, ...]) -> tuple[str, ...]:
    messages = messages[-MESSAGES_KEPT:]
    while len(messages) > 1 and sum(map(len, messages)) > TEXT_KEPT:
        messages = messages[1:]
    return messages
