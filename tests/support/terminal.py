"""A real terminal window: tmux on a private server, typed into and read from."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

PATIENCE = 30.0
"""Seconds to wait for something to appear."""


class Window:
    """One terminal window with a shell in it."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ("tmux", "-S", str(socket), "-f", "/dev/null")

    def tmux(self, *arguments: str) -> str:
        """Run a tmux command on this window's server."""
        done = subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def type(self, *keys: str) -> None:
        """Press keys, in tmux's names for them: `C-c`, `Enter`."""
        self.tmux("send-keys", *keys)

    def run(self, argv: Sequence[str]) -> None:
        """Type a command line and press Enter."""
        self.tmux("send-keys", "-l", shlex.join(argv))
        self.type("Enter")

    def text(self) -> str:
        """What stands in the window and above it, wrapped lines joined."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-")

    async def wait_for(self, *texts: str) -> str:
        """Wait until all of it has appeared; the whole text then. Raises `trio.TooSlowError` that says what stood."""
        shown = ""
        try:
            with trio.fail_after(PATIENCE):
                while not all(text in (shown := self.text()) for text in texts):  # noqa: ASYNC110 tmux tells nobody
                    await trio.sleep(0.05)
        except trio.TooSlowError as exc:
            exc.add_note(f"waited for {texts}; the window shows:\n{shown}")
            raise
        return shown

    def close(self) -> None:
        """Close the window, as somebody does with a mouse: everything in it gets a hang-up."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False)


@contextmanager
def open_window(*, columns: int = 200, lines: int = 50) -> Generator[Window, None, None]:
    """A new terminal window, closed at the end of the block.

    Raises:
        FileNotFoundError: tmux is not installed.
    """
    if shutil.which("tmux") is None:
        raise FileNotFoundError("tmux is needed for a terminal window: apt-get install tmux")
    with tempfile.TemporaryDirectory(prefix="window-") as place:
        window = Window(Path(place) / "socket")
        window.tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "env PS1='$ ' sh")
        try:
            yield window
        finally:
            window.close()
