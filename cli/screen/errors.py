"""What went wrong, for people and for programs, and the exit code it ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...base.errors import EXIT_FAILED, EXIT_PENDING, CloudError
from ...engine.errors import FlowParked
from ..shared.settings import Settings
from .remedies import hint_of
from .terminal import clean, put_json, say

if TYPE_CHECKING:
    from ...engine.history import Outcome
    from ...engine.journal.records import FlowRow

WAITING: Final = frozenset({"AccountNotConfirmed", "EffectUncertain", "OrderInDoubt", "StillPending"})
"""The kinds that pause a flow until a person answers, or until it is looked at again."""

LONGEST_MESSAGE: Final = 2000
"""Characters of a message that are shown: a mistaken argument may hold a whole file."""


def report(settings: Settings | None, error: CloudError) -> int:
    """Print an error and its hint, and return the exit code.

    Args:
        settings: The global options; None when they could not even be read.
        error: What happened.
    """
    hint = hint_of(settings, error)
    code = exit_code(error)
    if settings is not None and settings.json:
        put_json(as_json(error, hint, code), whole=True)
    tell(error.user_message, hint)
    return code


def as_json(error: CloudError, hint: str, code: int) -> dict[str, Any]:
    """An error for programs."""
    return {"error": error.kind, "message": in_short(error.user_message), "hint": clean(hint), "exit_code": code}


def headline(error: CloudError) -> str:
    """The word before the message of what stopped a flow: nothing went wrong where only an answer or time is missing.

    A person who answered no has not made an error either.
    """
    return "Paused" if error.kind in WAITING else "Error"


def decided(outcome: Outcome) -> bool:
    """Whether a flow ended as a person decided, and not by an error: a person's no, a denial, a cancel."""
    return outcome.verdict == "cancelled" or outcome.state in {"denied", "declined"}


def tell(message: str, hint: str, word: str = "Error") -> None:
    """What happened and what to do about it, in two lines on stderr; an empty word is left out."""
    say(f"{word}: {in_short(message)}" if word else in_short(message))
    if hint:
        say(clean(hint))


def in_short(message: str) -> str:
    """A message on a line that is safe to show; of a very long one the beginning and the end."""
    line, half = clean(message), LONGEST_MESSAGE // 2
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:half]} … {line[-half:]}"


def stuck_code(row: FlowRow | None, error: CloudError) -> int:
    """The exit code after an error stopped a flow: a failure of an unfinished flow counts as pending.

    Args:
        row: The flow's row; None when no flow was reached.
        error: What stopped it.
    """
    code = exit_code(error)
    waits = row is not None and row.status != "ended"
    return EXIT_PENDING if waits and code == EXIT_FAILED else code


def exit_code(error: CloudError) -> int:
    """The exit code of an error."""
    return error.code if isinstance(error, FlowParked) else error.exit_code
