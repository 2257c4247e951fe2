"""Texts of a server, fit to be journaled and shown: cut, on one line, and without secrets."""

from __future__ import annotations

from ...base.redaction import printable, redact
from ...machines.parts.progress import LONGEST_MESSAGE

_LONGEST_WORD = 200


def shown(text: str | None, limit: int = LONGEST_MESSAGE) -> str:
    """A text of a server, cut and redacted.

    It is cut first, so that the work is bounded; and cut between two words, so that no part of a secret is left that
    the redactor would not know.

    Args:
        text: As it came; None for nothing.
        limit: Characters that are kept, at most.
    """
    text = text or ""
    if len(text) > limit:
        head = text[:limit]
        cut = max(head.rfind(" "), head.rfind("\n"), head.rfind("\t"))
        text = (head[:cut] if cut > 0 else "") + " …"
    return redact(printable(text)).strip()


def word(text: str | None) -> str:
    """A single word of a server: an id, a step, a status."""
    return shown((text or "")[:_LONGEST_WORD], _LONGEST_WORD)
