"""Lines that fit a terminal: long ones continue below with a hanging indent, columns are aligned.

An address, and a command to copy, is never broken: once a line is too long, each is a line of its own, which the
terminal itself continues where it has to. What a terminal continues is copied as one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from ...base.columns import measure, padded
from ..commands import COMMANDS
from ..shared.names import CLI

HANG: Final = 2
"""How much deeper than its beginning a line continues, where its beginning does not say it."""

_WORDS: Final = re.compile(r"(\s*)(\S+)")


@cache
def _never_broken() -> re.Pattern[str]:
    """Commands and addresses, with the punctuation around them, which is left out where they stand alone."""
    word = r"""(?:'[^']*'|"[^"]*"|[^\s'"`])+"""
    names = "|".join(sorted(name for name in COMMANDS if " " not in name))
    options = rf"(?: --?[a-z-]+(?: (?!-|(?:{names})\b){word})?)*"
    program = rf"(?:\S*/)?(?:{CLI}|spc)(?= )"
    end = r"(?<=\S)[.;,:](?=\s|$)"
    closing = r"[`'\"](?=\s|[.;,:]|$)"
    ours = rf"{program}{options} (?:{names})\b"
    others = r"(?:pip install|ls -ld|docker push)\b"
    command = rf"(?:{ours}|{others})(?:(?!{end})(?: {word}?(?={end}|{closing}|\s|$)))*"
    return re.compile(
        rf"[`'\"]?(?P<command>{command})(?:{closing})?(?:{end})?|(?P<address>https?://\S+?)(?:[.;,:)]+(?=\s|$)|(?=\s|$))"
    )


def laid_out(text: str, columns: int | None, hang: int | None = None) -> str:
    """The text with its long lines wrapped.

    Args:
        text: Lines without colour.
        columns: How many there are; None for as many as it takes.
        hang: The column in which a line continues; by default a little deeper than it begins. Where that leaves less
            than half of the terminal, it is not used.
    """
    if columns is None:
        return text
    return "\n".join(_wrapped(line, columns, hang) for line in text.split("\n"))


def _wrapped(line: str, columns: int, hang: int | None) -> str:
    if measure(line) <= columns:
        return line
    indent = len(line) - len(line.lstrip())
    if hang is None or hang > columns // 2:
        hang = indent + HANG
    behind = " " * hang
    lines = [line[:indent]]
    for gap, piece, whole in _pieces(line[indent:]):
        begins = not lines[-1].strip()
        if whole:
            # It stands alone, unless the line begins with it.
            lines[-1:] = [lines[-1] + piece] if begins and len(lines) == 1 else [lines[-1], behind + piece]
            lines.append(behind)
        elif begins:
            lines[-1] += piece
        elif measure(lines[-1] + gap + piece) <= columns:
            lines[-1] += gap + piece
        else:
            lines.append(behind + piece)
    return "\n".join(each for each in lines if each.strip())


def _pieces(text: str) -> Iterator[tuple[str, str, bool]]:
    """The words of a text, each with the blanks before it and whether it is to stand alone."""
    end = 0
    for found in _never_broken().finditer(text):
        yield from ((gap, word, False) for gap, word in _WORDS.findall(text[end : found.start()]))
        yield "", found["command"] or found["address"], True
        end = found.end()
    yield from ((gap, word, False) for gap, word in _WORDS.findall(text[end:]))


def rows_in_columns(rows: Sequence[Sequence[str]], columns: int | None) -> str:
    """Rows in columns, two spaces apart; the first row is the head.

    Where that is wider than the terminal, each row is a block: its name, then a line for each of the other cells.

    Args:
        rows: Cells that are safe to show.
        columns: How many the terminal has; None for as many as it takes.
    """
    widths = [max(measure(row[number]) for row in rows) for number in range(len(rows[0]))]
    if columns is None or sum(widths) + 2 * (len(widths) - 1) <= columns or len(rows) == 1:
        lines = ("  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)
    head, *rest = rows
    return "\n".join(laid_out("\n".join(_block(head, row)), columns) for row in rest)


def _block(head: Sequence[str], row: Sequence[str]) -> Iterator[str]:
    first = 0 if head[0] else 1  # a mark has no head
    yield " ".join(cell for cell in row[: first + 1] if cell)
    for name, cell in zip(head[first + 1 :], row[first + 1 :], strict=True):
        if cell not in {"", "-"}:
            yield f"  {name.capitalize()}: {cell}"
