"""Numbers that are typed, with their bounds in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import typer

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


def whole_number(low: int, high: int | None = None) -> Callable[[str | int], int]:
    """A parser of whole numbers, for `typer.Option(parser=…)`.

    Args:
        low: The least.
        high: The most; None for no bound.
    """

    def number(value: str | int) -> int:
        text = str(value).strip()
        if not _WHOLE.fullmatch(text) or not _within(found := int(text), low, high):
            raise typer.BadParameter(f"{text[:40]!r} is not a whole number {_bounds(low, high)}")
        return found

    return number


def any_whole_number(value: str | int) -> int:
    """A parser of whole numbers without bounds."""
    if not _WHOLE.fullmatch(text := str(value).strip()):
        raise typer.BadParameter(f"{text[:40]!r} is not a whole number")
    return int(text)


def number(low: float, high: float) -> Callable[[str | float], float]:
    """The same for numbers that need not be whole."""

    def any_number(value: str | float) -> float:
        text = str(value).strip()
        if not _NUMBER.fullmatch(text) or not _within(found := float(text), low, high):
            raise typer.BadParameter(f"{text[:40]!r} is not a number {_bounds(low, high)}")
        return found

    return any_number


def _within(found: float, low: float, high: float | None) -> bool:
    return found >= low and (high is None or found <= high)


def _bounds(low: float, high: float | None) -> str:
    return f"of {low:g} or more" if high is None else f"from {_plain(low)} to {_plain(high)}"


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)
