"""Opening the person's browser, and knowing when there is none to open.

Theory: opening a browser is optional. The URL has been printed before; whatever happens here, the flow goes on waiting
for the callback, and this module only reports whether something was started and why not. Two things it does refuse: a
URL that is not plainly a web address, because openers start programs for other schemes (SECURITY 12), and a shell,
because an API's answer would become a command line.

Where a browser is looked for, in order: `BROWSER`, as the person's own choice; then what the system has. Over SSH
without a display, and without any display on Linux, none is started: it would appear on a screen nobody sees.
No `webbrowser` of the standard library: it runs text browsers in our terminal, waits without bound, and guesses.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from ...errors import UnsafeUrl
from ..http.urls import LOOPBACK_NAMES, URL_CHARACTERS

OPEN_SECONDS: Final = 5.0
"""How long an opener may take before we stop watching it. It is not killed: some openers are the browser itself."""

# xdg-open and wslview are scripts, and wslview builds a PowerShell line; these four characters mean something in it.
_SCRIPT_CHARACTERS: Final = str.maketrans({char: f"%{ord(char):02X}" for char in "$'()"})
_RUNDLL: Final = "/mnt/c/Windows/System32/rundll32.exe"

Which = Callable[[str], str | None]


class BrowserCommand(msgspec.Struct, frozen=True):
    """How to open a browser here: the command without the URL, or None and why not."""

    argv: tuple[str, ...] | None
    reason: str

    def with_url(self, url: str) -> list[str]:
        """Return the whole command; `%s` in an argument stands for the URL, else it comes last."""
        if self.argv is None:
            return []
        if any("%s" in part for part in self.argv):
            return [part.replace("%s", url) for part in self.argv]
        return [*self.argv, url]


class BrowserOutcome(msgspec.Struct, frozen=True):
    """Whether something was started that should show the page, and what it was or why not.

    Attributes:
        opened: Whether something was started.
        reason: What it was, or why not, for people.
        code: The same for programs, where they need to know it.
        later: Waits until the person wants it opened after all, and opens it; None where that is not offered.
    """

    opened: bool
    reason: str
    code: str = ""
    later: Callable[[], Awaitable[BrowserOutcome]] | None = None


def check_openable(url: str) -> None:
    """Check that a URL may be handed to a browser: https, or http on loopback, with a host (SECURITY 12).

    Args:
        url: What an API answered; it is not trusted.

    Raises:
        UnsafeUrl: It may not. The message names scheme and host only: the rest may hold a nonce.
    """
    if not URL_CHARACTERS.fullmatch(url):
        raise UnsafeUrl("the address to open is empty or holds characters a URL cannot hold (RFC 3986)")
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as exc:
        raise UnsafeUrl(f"the address to open is not a URL: {exc}") from exc
    if not host or not url.lower().startswith(("https://", "http://")):
        raise UnsafeUrl(f"the address to open must be https:// with a host, not {parts.scheme or 'without a scheme'}:")
    if "@" in parts.netloc:
        raise UnsafeUrl(f"the address to open hides its host ({host}) behind a user name")
    if parts.scheme == "http" and host not in LOOPBACK_NAMES:
        raise UnsafeUrl(f"the address to open is http on {host}; only https, or http on this computer, is opened")


def is_remote(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether the person's browser is on another computer: SSH without a display, and no browser was chosen.

    Args:
        environ: The environment variables.
        platform: As `sys.platform`. On a Mac a display of X11 is not where its browsers are.
    """
    remote = environ.get("SSH_CONNECTION") or environ.get("SSH_TTY")
    chosen = environ.get("BROWSER", "").strip()
    return bool(remote) and not chosen and not (_display(environ) and platform != "darwin")


def _display(environ: Mapping[str, str]) -> str:
    return environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") or ""


def browser_command(
    environ: Mapping[str, str], platform: str = sys.platform, which: Which = shutil.which
) -> BrowserCommand:
    """Choose how to open a browser, looking only at what is handed in.

    Args:
        environ: The environment variables.
        platform: As `sys.platform`: linux, darwin, win32.
        which: Finds a program, as `shutil.which`.
    """
    wanted = environ.get("BROWSER", "").strip()
    if wanted:
        return _chosen(wanted, platform, which)
    display = _display(environ)
    if is_remote(environ, platform):
        return BrowserCommand(None, "this is an SSH session without a display")
    if platform == "darwin":
        return _found(("open",), which)
    if platform == "win32":
        # Not `cmd /c start`: that is a shell.
        return _found(("rundll32.exe", "url.dll,FileProtocolHandler"), which)
    if environ.get("WSL_DISTRO_NAME") or environ.get("WSL_INTEROP"):
        # Not `powershell.exe -Command`: that is a shell too. rundll32 is what both end up doing.
        for argv in (("wslview",), *((name, "url.dll,FileProtocolHandler") for name in ("rundll32.exe", _RUNDLL))):
            if which(argv[0]):
                return _found(argv, which)
    if not display:
        return BrowserCommand(None, "there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set)")
    return _found(("xdg-open",), which)


async def open_browser(
    url: str,
    *,
    environ: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    which: Which = shutil.which,
    timeout: float = OPEN_SECONDS,
) -> BrowserOutcome:
    """Open a URL in the person's browser, if there is one.

    The opener gets a session of its own, so that a Ctrl-C in our terminal does not reach the browser it may become; its
    output is discarded. It is reaped whenever it ends, also long after we stopped watching.

    Args:
        url: What to open; it should have been shown to the person before.
        environ, platform, which: As for `browser_command`; the opener inherits `environ`.
        timeout: Seconds to watch the opener. One that is still running then counts as opened.

    Returns:
        Whether something was started; if not, `reason` says why and the person opens the printed URL.

    Raises:
        UnsafeUrl: The URL may not be opened; nothing was started.
    """
    check_openable(url)
    command = browser_command(environ, platform, which)
    if command.argv is None:
        return BrowserOutcome(opened=False, reason=command.reason)
    argv = command.with_url(url.translate(_SCRIPT_CHARACTERS))
    name = os.path.basename(argv[0])  # noqa: PTH119 (a Windows name on Linux is no Path)
    code: int | None = None
    with trio.move_on_after(timeout):
        # The thread both starts and reaps. Left behind on a timeout, it waits on and so leaves no zombie; a limiter of
        # its own, because otherwise it would take a place from everybody else's threads.
        try:
            code = await trio.to_thread.run_sync(
                _run, argv, dict(environ), abandon_on_cancel=True, limiter=trio.CapacityLimiter(math.inf)
            )
        except OSError as exc:
            return BrowserOutcome(opened=False, reason=f"{name} could not be started: {exc.strerror}")
    if code:
        return BrowserOutcome(opened=False, reason=f"{name} ended with exit code {code}")
    return BrowserOutcome(opened=True, reason=f"opened with {name}")


def _run(argv: list[str], environ: dict[str, str]) -> int:
    nothing = subprocess.DEVNULL
    ended = subprocess.run(  # noqa: S603 (a list, no shell, and the URL is checked)
        argv, stdin=nothing, stdout=nothing, stderr=nothing, env=environ, start_new_session=True, check=False
    )
    return ended.returncode


def _chosen(wanted: str, platform: str, which: Which) -> BrowserCommand:
    """Return the first command of `BROWSER` that is installed; several are separated as in PATH."""
    for choice in wanted.split(";" if platform == "win32" else ":"):
        try:
            argv = shlex.split(choice, posix=platform != "win32")
        except ValueError:
            return BrowserCommand(None, "BROWSER is not a command: a quotation mark is not closed")
        if argv and which(argv[0]):
            return BrowserCommand(tuple(argv), "chosen by BROWSER")
    return BrowserCommand(None, f"BROWSER names nothing that is installed: {wanted}")


def _found(argv: tuple[str, ...], which: Which) -> BrowserCommand:
    if which(argv[0]) is None:
        return BrowserCommand(None, f"{argv[0]} is not installed")
    return BrowserCommand(argv, f"this system opens pages with {argv[0]}")
