"""What went wrong, for people and for programs, and the exit code it ends with."""

from __future__ import annotations

from typing import Any, Final

from ...base.errors import EXIT_FAILED, EXIT_PENDING, CloudError
from ...engine.errors import FlowParked
from ...engine.journal.records import FlowRow
from ..shared.settings import Settings
from .remedies import hint_of
from .terminal import clean, put_json, say

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
        put_json(as_json(error, hint, code))
    tell(error.user_message, hint)
    return code


def as_json(error: CloudError, hint: str, code: int) -> dict[str, Any]:
    """An error for programs."""
    return {"error": error.kind, "message": in_short(error.user_message), "hint": clean(hint), "exit_code": code}


def tell(message: str, hint: str) -> None:
    """An error in two lines, on stderr."""
    say(f"Error: {in_short(message)}")
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
