"""Texts that can be written, of errors that anybody made."""

from __future__ import annotations

from .redaction import redact


def storable_text(text: str) -> str:
    """The text with what UTF-8 cannot hold (parts of file names that are no text) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_of(exc: BaseException) -> str:
    """What an error says, redacted; also where making its text raises."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 the code of whoever made the error
        text = "(its text cannot be made)"
    return redact(storable_text(text))
