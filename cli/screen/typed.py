"""Lines that are typed, or pasted, at a terminal: of any length, with or without echo.

A terminal in canonical mode gives a program a line at a time, and cuts one off at 4,095 characters (Linux) or 1,024
(macOS): a pasted address with a token in it is often longer. So the mode is left while a question is open, and what the
kernel does for a line is done here: echo, the erase keys, the end of the input. Ctrl-C and Ctrl-Z stay the kernel's;
while Ctrl-Z stops the process, the mode is the one from before.

Nothing here waits: whoever asks reads the bytes, as `ask` does with trio and `secret_input` without.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from ...base.columns import measure
from .stopping import around_stop

LONGEST_LINE: Final = 131_072
"""Bytes of a line that are kept: an address with the longest token is shorter."""

_ESCAPE: Final = 0x1B
_ERASE: Final = frozenset({0x08, 0x7F})
_KILL, _WORD, _END = 0x15, 0x17, 0x04
_ENDS_OF_LINE: Final = frozenset({0x0A, 0x0D})


class TypedLine:
    """A line while it is typed: bytes in, the line and what its writer should see out.

    Attributes:
        done: Whether the line, or the input, has ended.
        ended: Whether the input has ended: there is no line.
    """

    def __init__(self) -> None:
        self.done = False
        self.ended = False
        self._found = bytearray()
        self._escape = b""

    @property
    def text(self) -> str:
        """What has been typed so far."""
        return self._found.decode("utf-8", "replace")

    @property
    def strict(self) -> str:
        """The same. Raises `UnicodeDecodeError` where it is no UTF-8."""
        return self._found.decode()

    def take(self, byte: int) -> bytes:
        """Take a byte; return what is to be shown for it."""
        if self._escape:
            return self._skip(byte)
        if byte in _ENDS_OF_LINE:
            self.done = True
            return b"\n"
        if byte == _END:
            self.done = self.ended = not self._found
            return b""
        if byte == _ESCAPE:
            self._escape = b"\x1b"
            return b""
        if byte in _ERASE:
            return self._erase(1)
        if byte == _KILL:
            return self._erase(len(self.text))
        if byte == _WORD:
            kept = self.text.rstrip()
            return self._erase(len(self.text) - max(kept.rfind(" ") + 1, 0) if kept else len(self.text))
        if byte < 0x20 and byte != 0x09:
            return b""
        if len(self._found) < LONGEST_LINE:
            self._found.append(byte)
            return bytes([byte])
        return b""

    def _skip(self, byte: int) -> bytes:
        """Leave out what a key, or the paste mode of a terminal, sends besides characters (ECMA-48 section 5.4)."""
        introduced = len(self._escape) == 1
        if introduced and byte in b"[O":
            self._escape += bytes([byte])
        elif introduced or 0x40 <= byte <= 0x7E or byte in _ENDS_OF_LINE:
            self._escape = b""
            if byte in _ENDS_OF_LINE:
                return self.take(byte)
        return b""

    def _erase(self, characters: int) -> bytes:
        before = measure(self.text)
        for _ in range(characters):
            while self._found and self._found[-1] & 0xC0 == 0x80:
                self._found.pop()
            if not self._found:
                break
            self._found.pop()
        return b"\b \b" * (before - measure(self.text))


@contextmanager
def any_length(
    descriptor: int, *, hidden: bool = False, drawn: bool = False, show_again: Callable[[], None] | None = None
) -> Generator[bool]:
    """Read lines of any length from a terminal inside the block; gives whether it is one, and can.

    While Ctrl-Z has stopped the process, the terminal has the mode it had before.

    Args:
        descriptor: Of what is read.
        hidden: Show nothing of it, and drop what was typed before.
        drawn: Something is drawn meanwhile with the cursor hidden: it is shown while the process is stopped.
        show_again: Shows the question again when the process continues.
    """
    try:
        import termios
    except ImportError:  # no such terminals on Windows
        yield False
        return
    try:
        before = termios.tcgetattr(descriptor)
        wanted: list[Any] = [*before[:6], [*before[6]]]
        # What is typed is shown on stderr (`show_typed`); where that is no terminal, the kernel still shows it.
        wanted[3] &= ~(termios.ICANON | (termios.ECHO if hidden or _shown() is not None else 0))
        wanted[6][termios.VMIN], wanted[6][termios.VTIME] = 1, 0
        termios.tcsetattr(descriptor, termios.TCSAFLUSH if hidden else termios.TCSANOW, wanted)
    except (termios.error, OSError):  # not a terminal, or one that hung up
        yield False
        return

    def change(mode: list[Any]) -> None:
        with contextlib.suppress(termios.error, OSError):
            termios.tcsetattr(descriptor, termios.TCSANOW, mode)

    def give_back() -> None:
        change(before)
        if drawn:
            show_typed(b"\x1b[?25h\n")

    def take_again() -> None:
        change(wanted)
        if drawn:
            show_typed(b"\x1b[?25l")
        if show_again is not None:
            show_again()

    try:
        with around_stop(give_back, take_again):
            yield True
    finally:
        change(before)


def show_typed(data: bytes) -> None:
    """Show the writer of a line what was typed, where stderr is a terminal."""
    descriptor = _shown() if data else None
    if descriptor is not None:
        with contextlib.suppress(OSError):
            os.write(descriptor, data)


def _shown() -> int | None:
    """The descriptor of stderr where it is a terminal."""
    stream = sys.__stderr__  # a live display puts its own in place of sys.stderr
    return stream.fileno() if stream is not None and not stream.closed and stream.isatty() else None


def type_hidden(descriptor: int, prompt: str) -> str | None:
    """Ask for a line that is not shown; None at the end of the input.

    Args:
        descriptor: A terminal.
        prompt: Shown before.

    Raises:
        UnicodeDecodeError: What was typed is not UTF-8.
    """
    with any_length(descriptor, hidden=True, show_again=lambda: show_typed(prompt.encode())) as unlimited:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = TypedLine()
        while not line.done:
            byte = os.read(descriptor, 1)
            if not byte:
                return line.strict if line.text else None
            line.take(byte[0])
        if unlimited:
            show_typed(b"\n")
    return None if line.ended else line.strict
