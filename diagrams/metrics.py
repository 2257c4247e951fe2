"""How wide a text is drawn: in Inter (medium) and JetBrains Mono, by the fonts' own metrics.

A viewer without these fonts draws with others, which the drawings name, and which are no wider.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Face = Literal["sans", "mono"]

_MONO: Final = 600
_WIDE: Final = 1000
_OTHER: Final = 680
"""Thousandths of the font's size: of each character of the mono face, of East Asian ones, and of those not listed."""

_ASCII: Final = (
    "265 294 400 637 643 828 651 217 378 378 522 666 288 463 283 368 646 473 613 644 654 620 636 579 631 "
    "636 283 288 666 666 666 526 968 700 654 735 722 603 586 749 742 270 552 664 564 898 747 768 639 768 "
    "645 643 651 738 700 978 666 685 639 378 368 378 475 460 497 569 626 568 626 587 369 617 602 249 249 "
    "556 249 884 597 602 617 617 384 536 372 594 566 825 551 566 551 378 342 378 666 "
)
_SANS: Final = {chr(code): int(wide) for code, wide in enumerate(_ASCII.split(), 32)}


_NOT_XML: Final = re.compile("[^ -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def drawable(text: str) -> str:
    """Text as it may be in an XML file: that has no control characters, and no half of a pair."""
    return _NOT_XML.sub("\ufffd", text)


def width(text: str, face: Face, size: float) -> float:
    """How wide a text is, in the unit of the font's size."""
    return sum(_advance(character, face) for character in text) * size / 1000


def wrap(text: str, face: Face, size: float, limit: float) -> list[str]:
    """A text in lines of at most this width, broken between words; a longer word has a line of its own."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and width(longer, face, size) > limit:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def _advance(character: str, face: Face) -> int:
    if unicodedata.combining(character):
        return 0
    if unicodedata.east_asian_width(character) in {"W", "F"}:
        return _WIDE
    return _MONO if face == "mono" else _SANS.get(character, _OTHER)
