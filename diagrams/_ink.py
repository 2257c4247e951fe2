"""Drawing on a terminal: the characters used, styles, and lines that fit a width.

Text that comes from a server is shown to a person here, so control characters (which could move the cursor, retitle the
window or hide what stands before them) never reach the terminal: `printable` replaces them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final, Literal, NamedTuple

from ..base.columns import measure
from ..base.redaction import printable

Style = Literal["plain", "strong", "dim", "event", "good", "bad", "warn"]

_SGR: Final[dict[Style, str]] = {
    "plain": "",
    "strong": "1",
    "dim": "2",
    "event": "36",
    "good": "1;32",
    "bad": "1;31",
    "warn": "33",
}


class Glyphs(NamedTuple):
    """The characters a drawing is made of."""

    state: str
    here: str
    success: str
    failure: str
    cancelled: str
    line: str
    arrow: str
    to: str
    intent: str
    parked: str
    resumed: str
    times: str
    dot: str
    ellipsis: str
    branch: str


UNICODE: Final = Glyphs(
    "●", "◉", "✔", "✘", "⊘", "│", "▼", "→", "◦", "‖", "▸", "\N{MULTIPLICATION SIGN}", " · ", "…", "╭"
)
ASCII: Final = Glyphs("o", "@", "+", "x", "-", "|", "v", "->", "*", "#", ">", "x", "; ", "...", ".")


class Span(NamedTuple):
    """A piece of a line in one style."""

    text: str
    style: Style = "plain"


_ROOM: Final = 640
"""Columns that the words of one entry may take, over all its lines: what the API is quoted with, and what we say."""
_LEAST_HANG: Final = 2


class Paper:
    """Where a drawing collects its lines.

    Args:
        width: Columns there are; a line never takes more. Fewer than 40 count as 40.
        color: Whether styles become ANSI SGR sequences.
        ascii_only: Whether only ASCII characters are drawn; others in the text become `?`.
    """

    def __init__(self, *, width: int, color: bool, ascii_only: bool) -> None:
        self.width = max(width, 40)
        self.glyphs = ASCII if ascii_only else UNICODE
        self._color = color
        self._ascii = ascii_only
        self._lines: list[str] = []

    def write(self, *spans: Span, hang: str = "", most: int | None = None) -> None:
        """Add a line; words that do not fit go on below, each line behind `hang`, for at most `most` lines,
        or as many as `_ROOM` columns of words take."""
        # However deep the drawing is, half the width is left for words.
        behind = self._safe(Span(hang[: self.width // 2], "dim"))
        for line in self._fold([self._safe(span) for span in spans], behind, most):
            runs = groupby(line, key=_style_of)
            inked = "".join(self._ink(Span("".join(span.text for span in run), style)) for style, run in runs)
            self._lines.append(inked.rstrip())

    def text(self) -> str:
        """Everything drawn so far, ending with a newline."""
        return "\n".join(self._lines) + "\n"

    def _safe(self, span: Span) -> Span:
        text = printable(span.text)
        if self._ascii:
            plain = text.replace("…", "...").replace("→", "->")
            text = plain.encode("ascii", "replace").decode()
        return span._replace(text=text)

    def _ink(self, span: Span) -> str:
        code = _SGR[span.style]
        return f"\x1b[{code}m{span.text}\x1b[0m" if self._color and code and span.text else span.text

    def _fold(self, spans: list[Span], hang: Span, most: int | None) -> list[list[Span]]:
        lines: list[list[Span]] = [[]]
        room, indent = self.width, measure(hang.text)
        # On a narrow page the same words take more lines; none of them is left out for that.
        most = -(-_ROOM // (self.width - indent)) if most is None else most
        # An id or an address is not broken where it fits a line that is hung less deep.
        for word in _words(spans, self.width - min(indent, _LEAST_HANG)):
            size, blank = measure(word.text), not word.text.strip()
            if size > room and blank:
                room = 0
                continue
            if size > room:
                if len(lines) == most:
                    lines[-1] = self._cut([*lines[-1], word])
                    break
                behind = min(indent, self.width - size)
                lines.append([hang._replace(text=hang.text[:behind])])
                room = self.width - behind
            lines[-1].append(word)
            room -= size
        return lines

    def _cut(self, line: list[Span]) -> list[Span]:
        end = self.glyphs.ellipsis
        room = self.width - len(end)
        kept: list[Span] = []
        for span in line:
            text = ""
            for character in span.text:
                if measure(character) > room:
                    break
                text += character
                room -= measure(character)
            kept.append(span._replace(text=text))
            if text != span.text:
                break
        last = kept[-1]
        kept[-1] = last._replace(text=last.text.rstrip())
        return [*kept, Span(end, last.style)]


def elapsed(seconds: float) -> str:
    """A duration for people: `0.04 s`, `3.2 s`, `4:05 min`, `2:03:04 h`, `3 d 02:00 h`; a clock set back gives 0."""
    seconds = max(seconds, 0.0)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes}:{rest:02} min"
    if hours < 24:
        return f"{hours}:{minutes:02}:{rest:02} h"
    return f"{hours // 24} d {hours % 24:02}:{minutes:02} h"


def _style_of(span: Span) -> Style:
    return span.style


def _words(spans: Iterable[Span], most: int) -> list[Span]:
    """The spans cut at their spaces, which are pieces of their own, and words of more than `most` columns cut there."""
    pieces: list[Span] = []
    for span in spans:
        word, blank, size = "", False, 0
        for character in span.text:
            columns = measure(character)
            if word and ((character == " ") != blank or (size + columns > most and not blank)):
                pieces.append(Span(word, span.style))
                word, size = "", 0
            word, blank, size = word + character, character == " ", size + columns
        if word:
            pieces.append(Span(word, span.style))
    return pieces
