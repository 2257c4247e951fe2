"""Moments for people: how long ago, or in how long. Programs get RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def relative(moment: datetime, now: datetime) -> str:
    """How far a moment is, in the largest unit: `2 minutes ago`, `in 3 hours`, `now`."""
    seconds = int(abs((moment - now).total_seconds()))
    for name, size in _UNITS:
        if amount := seconds // size:
            far = f"{amount} {name}{'' if amount == 1 else 's'}"
            return f"in {far}" if moment > now else f"{far} ago"
    return "now"


def dated(moment: datetime, now: datetime) -> str:
    """A moment in UTC, and how far it is."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({relative(moment, now)})"
