"""Moments as text: RFC 3339 in UTC, so that text sorts as time does."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec


def moment_text(moment: datetime) -> str:
    """A moment as the journal writes it, always with microseconds."""
    # Ten times as fast as `isoformat`, but it omits a fraction of zero.
    text: str = msgspec.to_builtins(moment.astimezone(UTC))
    return text if moment.microsecond else f"{text[:-1]}.000000Z"


def parse_moment(text: str) -> datetime:
    """The moment that `moment_text` wrote. Raises `ValueError` for any other text."""
    return datetime.fromisoformat(text)
