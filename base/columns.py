"""How many columns a text takes on a terminal."""

from __future__ import annotations

import unicodedata

_WIDE = frozenset("WF")
_JOINED = frozenset({"Mn", "Me", "Cf"})
_EMOJI = "\ufe0f"
"""Makes the character before it an emoji, which is wide (Unicode Technical Standard 51)."""


def measure(text: str) -> int:
    """The columns a text takes on a terminal (Unicode Standard Annex 11: wide characters take two)."""
    if text.isascii():
        return len(text)
    columns = last = 0
    for character in text:
        if character == _EMOJI and last == 1:
            size = last = 1
        elif unicodedata.category(character) in _JOINED or "\u1160" <= character <= "\u11ff":
            continue  # drawn over the character before it
        else:
            size = last = 2 if unicodedata.east_asian_width(character) in _WIDE else 1
        columns += size
    return columns


def padded(text: str, width: int) -> str:
    """The text with spaces up to `width` columns."""
    return text + " " * max(width - measure(text), 0)
