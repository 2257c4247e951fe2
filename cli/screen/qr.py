"""An address as a QR code in a terminal, for a phone's camera."""

from __future__ import annotations

import importlib
import os
import shutil
import sys

from .terminal import say, speaks_unicode

# Black on white whatever the theme, and with NO_COLOR too: the colours are the code.
_COLOURS = "\x1b[38;5;16;48;5;231m"
_PLAIN = "\x1b[0m"
_QUIET_ZONE = 2


def show_qr(address: str) -> None:
    """Draw an address on stderr where that is a terminal, or say why it cannot be drawn there.

    Args:
        address: The address.
    """
    stream = sys.__stderr__
    if stream is None or not stream.isatty():
        return
    if os.environ.get("TERM") == "dumb" or not speaks_unicode(stream):
        say("This terminal cannot show a QR code.")
        return
    lines = qr_lines(address)
    size = shutil.get_terminal_size()
    if len(lines[0]) > size.columns:
        say(f"The QR code needs a terminal {len(lines[0])} columns wide; this one has {size.columns}.")
        return
    say()
    for line in lines:
        say(f"{_COLOURS}{line}{_PLAIN}")


def qr_lines(address: str) -> list[str]:
    """The code in half blocks, two rows a line: the lower half of a cell is its background."""
    code = importlib.import_module("segno").make(address, error="l", micro=False)
    rows: list[bytearray] = [*map(bytearray, code.matrix_iter(border=_QUIET_ZONE))]
    if len(rows) % 2:
        rows.append(bytearray(len(rows[0])))
    return [
        "".join(" ▄▀█"[2 * (above & 1) + (below & 1)] for above, below in zip(*rows[at : at + 2], strict=True))
        for at in range(0, len(rows), 2)
    ]
