"""How an address reaches the browser: at once, or on a terminal when Enter is pressed.

`c` copies the address instead (OSC 52, which terminals also understand over SSH). The flow listens meanwhile: a browser
that comes back without Enter ends the wait, and cancels the reading of keys, which puts the terminal's mode back.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio

from ...flows.outside import OpenBrowser
from ...io.loopback.browser import BrowserOutcome, browser_command, check_openable, open_browser
from ...machines.parts.vocabulary import NOT_WANTED
from ..screen.ask import STDIN, read_key, somebody_is_there
from ..screen.terminal import clean
from ..screen.typed import any_length, show_typed
from ..shared.settings import Settings

ENTER: Final = frozenset({b"\r", b"\n"})
COPY: Final = b"c"

Note = Callable[[str], None]
"""Shows a line to the person."""


def opening(settings: Settings, note: Note) -> OpenBrowser:
    """What opens addresses here: on a terminal it waits for Enter, everywhere else it opens them at once.

    Args:
        settings: Whether a person can be asked, and reads text.
        note: Shows what the keys do.
    """
    if settings.json or not (somebody_is_there(settings) and sys.stderr.isatty() and _in_foreground(STDIN)):
        return open_browser
    if browser_command(os.environ).argv is None:
        return open_browser

    async def offer(url: str) -> BrowserOutcome:
        check_openable(url)
        return BrowserOutcome(
            opened=False, reason="Enter was not pressed", code=NOT_WANTED, later=partial(_on_enter, url, note)
        )

    return offer


async def _on_enter(url: str, note: Note) -> BrowserOutcome:
    """Open the address when Enter is pressed, and copy it when `c` is."""
    with any_length(STDIN, hidden=True, drawn=True) as has_keys:
        if has_keys:
            # After the mode is set: a key that is pressed once this is shown is always read.
            host = clean(urlsplit(url).hostname or "")
            note(f"  Press Enter to open {host} in your browser (c copies the address).")
            while (key := await read_key(STDIN)) not in ENTER:
                if not key:  # the input has ended
                    await trio.sleep_forever()
                if key == COPY:
                    show_typed(copying(url))
                    note("  Address copied, if your terminal allows it.")
    outcome = await open_browser(url)
    if outcome.opened:
        note("  Opened in your browser.")
    return outcome


def copying(text: str) -> bytes:
    """The escape sequence that makes a terminal copy a text (xterm's OSC 52)."""
    return b"\x1b]52;c;" + base64.b64encode(text.encode()) + b"\x07"


def _in_foreground(descriptor: int) -> bool:
    """Whether keys typed at a terminal are ours to read: a job in the background is stopped when it tries."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except (OSError, AttributeError):  # not our terminal; Windows
        return False
