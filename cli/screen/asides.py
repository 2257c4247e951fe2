"""Journals that were damaged and set aside: as long as one is there, it may hold unfinished flows."""

from __future__ import annotations

from ..shared.settings import Settings
from .terminal import say


def mention_journals_set_aside(settings: Settings) -> None:
    """Say, in a line each, which damaged journals lie beside the one in use."""
    journal = settings.paths.journal
    for path in sorted(journal.parent.glob(f"{journal.name}.unreadable-*")):
        if not path.name.endswith(("-wal", "-shm")):  # its log goes with it
            say(f"A damaged journal was set aside, and unfinished flows may be in it: {path}")
