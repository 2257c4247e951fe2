"""Who shows a flow to a person: with a moving last line on a terminal, in plain lines elsewhere."""

from __future__ import annotations

import sys

from ..shared.settings import Settings
from .render import People
from .terminal import wants_colour


def presenter(settings: Settings) -> People:
    """People's view of a flow: moving on a terminal, plain lines elsewhere."""
    if wants_colour(sys.stderr):
        from .live import LivePeople

        return LivePeople(settings)
    return People(settings)
