"""Checks of what callers without a type checker hand in: a `TypeError` that names what is wanted and what was given."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def kind_of(value: object) -> str:
    """What a value is, for a message: `the class Order`, or the name of its type."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def check_is(value: object, wanted: type[T], where: str) -> None:
    """Check that a value is an instance of a class.

    Args:
        value: What was given.
        wanted: The class.
        where: What it was given to: `Engine.start`.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, wanted):
        raise TypeError(f"{where} takes a {wanted.__name__}, not {kind_of(value)}")
