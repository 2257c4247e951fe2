"""Asking for what must not happen twice: what checkout and deployment have in common.

A POST acts each time it arrives. So it is announced in the journal first (`Visit.announce`), and sent under the key it
was announced with. What comes of it is the first of these that fits:

- An answer: it has happened.
- A conflict with an earlier process's request under the same key: nobody here knows.
- The API refuses what was asked for, for good (4xx): it has not happened, and asking again will not help.
- It fails, and this server honours idempotency keys: the flow is paused; the same key may be sent again, whatever
  happened.
- It fails in a way that proves that nothing happened (`io/http/polling.py:may_have_happened`). The intent is withdrawn,
  and the flow paused; resumed, it asks as if for the first time.
- Any other failure: nobody here knows.

Where nobody knows, the flow finds out, or asks a person.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ...base.remedies import Remedy
from ...engine.errors import EffectUncertain
from ...engine.machine.parts import Event
from ...engine.visit import Intent, Visit
from ...errors import ApiError, Network, NotAuthenticated, TooLarge
from ...io.cloud.api import CloudApiClient
from ...io.http.polling import may_have_happened
from ...machines.parts.vocabulary import OutcomeUnknown, RepeatConfirmed, RepeatDeclined
from ..outside import Person

T = TypeVar("T")
_CONFLICT = 409


def is_conflict_with_itself(intent: Intent, exc: Exception) -> bool:
    """Whether an error may mean that an earlier process's request under the same key is still being worked on.

    That is what a 409 to a repetition says (draft-ietf-httpapi-idempotency-key-header, section 2.6), and what a server
    answers that forgot the key and is at work.
    """
    return intent.uncertain and isinstance(exc, ApiError) and exc.status == _CONFLICT


async def ask_for(
    visit: Visit[Any],
    api: CloudApiClient,
    intent: Intent,
    call: Callable[..., Awaitable[T]],
    refused: Callable[[str, str], Event],
) -> T | Event:
    """Ask for an effect that was announced.

    Args:
        visit: Whose effect it is.
        api: Who is asked.
        intent: What `announce` gave.
        call: The API's call; it is given the intent's key as `idempotency_key`.
        refused: Makes the event of a refusal, from the API's words and its code.

    Returns:
        The answer; or the event that it was refused, or that the outcome is unknown.

    Raises:
        NotAuthenticated, ApiError, Network, TooLarge: Nothing happened, or asking again under the same key is safe.
    """
    try:
        return await call(idempotency_key=intent.key)
    except (NotAuthenticated, ApiError, Network, TooLarge) as exc:
        if is_conflict_with_itself(intent, exc):
            return OutcomeUnknown(exc.user_message)
        happened = may_have_happened(exc)
        if isinstance(exc, ApiError) and not (happened or exc.retryable):
            return refused(exc.user_message, exc.code or "")
        if api.honours_idempotency:
            raise
        if happened:
            return OutcomeUnknown(exc.user_message)
        visit.withdraw(intent)
        raise


def answer_hint(question: str) -> str:
    """What fixes an error that only an answer fixes, for programs."""
    return f"Resume the flow where you can answer, or cancel it. The question: {question}"


def answer_remedy(flow: str, question: str) -> Remedy:
    """The same as a step; the outermost flow is the one to resume."""
    return Remedy("answer_question", {"flow": flow.partition(".")[0], "question": question})


async def ask_whether_to_repeat(visit: Visit[Any], person: Person, unknown: str, question: str) -> Event:
    """Let a person decide whether to ask again.

    Args:
        visit: Whose effect it is.
        person: Who can be asked.
        unknown: What may or may not have happened, for when nobody can.
        question: To be answered with yes or no.

    Raises:
        EffectUncertain: Nobody is there to be asked.
    """
    if person.confirm is None:
        raise EffectUncertain(unknown, hint=answer_hint(question), remedy=answer_remedy(visit.flow, question))
    return RepeatConfirmed() if await person.confirm(question) else RepeatDeclined()
