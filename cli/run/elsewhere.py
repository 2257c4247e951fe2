"""A browser on another computer: how a login is finished with it, and when that is said.

Such a browser ends on its own computer's 127.0.0.1, where nothing listens. The address it ends on is all that is
needed, so it can be pasted here (`--paste`). Over SSH that is the usual case: at a terminal the address is asked for
without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ...engine.history import Change
from ...io.loopback.browser import browser_command, is_remote
from ...machines.login import LOGIN
from ...machines.parts.vocabulary import NOT_WANTED, BrowserNotOpened
from ..screen.ask import somebody_is_there
from ..shared.settings import Settings


def asks_unasked(settings: Settings, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the address is asked for without `--paste`: over SSH, at a terminal."""
    return is_remote(environ) and somebody_is_there(settings)


def paste_note(settings: Settings, change: Change, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What to say where no browser was opened for a login that waits for one.

    Args:
        settings: The global options and the command line.
        change: What just happened.
        environ: Tells whether this is an SSH session, and whether there is any browser here.
    """
    if change.machine != LOGIN.name or change.event != BrowserNotOpened.__name__:
        return ()
    wanted = change.code != NOT_WANTED
    if not is_remote(environ) and not (wanted and browser_command(environ).argv is None):
        return ()
    command = settings.again_with("--paste") or settings.command("flows resume --paste")
    return (
        "If your browser is on another computer, press Ctrl-C, run this, and paste the address it ends on:",
        f"  {command}",
    )
