"""Texts of a server, fit to be journaled and shown: cut, on one line, and without secrets."""

from __future__ import annotations

from typing import Final

from ...base.redaction import printable, redact

LONGEST_TEXT: Final = 1000
"""Characters kept of one text of a server; a message of 4 KiB is long already."""

LONGEST_WORD: Final = 200
"""Characters kept of an id, a step or a status."""


def shown(text: str | None, limit: int = LONGEST_TEXT) -> str:
    """A text of a server, cut and redacted.

    It is cut first, so that the work is bounded; and cut between two words, so that no part of a secret is left that
    the redactor would not know.

    Args:
        text: As it came; None for nothing.
        limit: Characters that are kept, at most, and a sign that there were more.
    """
    text = text or ""
    if len(text) > limit:
        head = text[:limit]
        cut = max(head.rfind(white) for white in " \n\t")
        text = (head[:cut] if cut > 0 else "") + " …"
    return redact(printable(text)).strip()


def word(text: str | None) -> str:
    """A single word of a server: an id, a step, a status. One that is longer than words are is only a sign of that."""
    return shown(text, LONGEST_WORD)


def is_word(text: str) -> bool:
    """Whether a text can be journaled and shown as it came: then what is compared with it later is the same text."""
    return text != "" and len(text) <= LONGEST_WORD and word(text) == text
