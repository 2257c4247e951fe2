"""How wide a terminal is. Nothing is imported for it: help and unknown words are answered before anything is."""

from __future__ import annotations

import os
from collections.abc import Mapping

TYPE_CHECKING = False  # typing itself costs more than all of this
if TYPE_CHECKING:
    from typing import TextIO

HELP_COLUMNS = 80
"""What help is written for; on a narrower terminal it is written anew."""


def terminal_columns(stream: TextIO, environ: Mapping[str, str] = os.environ) -> int | None:
    """The columns of the terminal that a stream is; None where it is none.

    Args:
        stream: What is written to.
        environ: May hold COLUMNS, which counts before what the terminal says.
    """
    try:
        if not stream.isatty():
            return None
        named = environ.get("COLUMNS", "")
        return int(named) if named.isdecimal() and int(named) else os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # it hung up, or was closed
        return None


def help_columns(stream: TextIO) -> int:
    """The columns that help may take on a stream."""
    return min(terminal_columns(stream) or HELP_COLUMNS, HELP_COLUMNS)
