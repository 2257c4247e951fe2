"""Numbers that are typed, with their bounds in words: types of options, as click takes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import click

MOST: Final = 1_000_000_000
"""More than there is of anything that is counted, and less than SQLite takes."""

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


def whole_number(low: int, high: int) -> Callable[[str | int], int]:
    """A type of whole numbers, for `click.option(type=…)`.

    Args:
        low: The least.
        high: The most.
    """

    def number(value: str | int) -> int:
        text = str(value).strip()
        if not _WHOLE.fullmatch(text) or not low <= (found := int(text)) <= high:
            raise click.BadParameter(f"{text[:40]!r} is not a whole number from {low} to {high}")
        return found

    return number


def any_whole_number(value: str | int) -> int:
    """A type of whole numbers without bounds."""
    if not _WHOLE.fullmatch(text := str(value).strip()):
        raise click.BadParameter(f"{text[:40]!r} is not a whole number")
    return int(text)


def number(low: int, high: int) -> Callable[[str | float], float]:
    """The same for numbers that need not be whole."""

    def any_number(value: str | float) -> float:
        text = str(value).strip()
        if not _NUMBER.fullmatch(text) or not low <= (found := float(text)) <= high:
            raise click.BadParameter(f"{text[:40]!r} is not a number from {low} to {high}")
        return found

    return any_number
