"""Texts that can be written anywhere, of anything: names of files that are no text, errors that anybody made."""

from __future__ import annotations

from .redaction import redact


def storable_text(text: str) -> str:
    """The text with what UTF-8 cannot hold (bytes of file names) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown_text(text: str) -> str:
    """The text as it may be logged or kept: redacted, and storable."""
    return redact(storable_text(text))


def text_of(exc: BaseException) -> str:
    """What an error says, as it may be logged or kept; also where making its text raises."""
    try:
        return shown_text(str(exc))
    except Exception:  # noqa: BLE001 the code of whoever made the error
        return "(its text cannot be made)"
