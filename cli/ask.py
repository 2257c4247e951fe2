"""Asking a person at the terminal.

The line is read from the descriptor itself, a byte at a time, in a thread that may be left behind: Python's own stdin
would keep its lock there and make the interpreter's end fail, and would read more than the line.
"""

from __future__ import annotations

import os
import sys

import trio

from .settings import Settings
from .terminal import clean

LONGEST_LINE = 65_536


def somebody_is_there(settings: Settings) -> bool:
    """Whether a person can be asked: stdin is a terminal, and nobody said otherwise."""
    return not settings.no_input and sys.stdin is not None and sys.stdin.isatty()


async def ask_yes_or_no(question: str) -> bool:
    """Ask until the answer is yes or no; the end of the input is no."""
    while True:
        answer = await ask(f"{question} [y/n]")
        if answer is None or answer.strip().casefold() in {"n", "no"}:
            return False
        if answer.strip().casefold() in {"y", "yes"}:
            return True


async def ask(question: str) -> str | None:
    """Ask, and give the line that is typed, without its end; None at the end of the input."""
    sys.stderr.write(f"{clean(question)} ")
    sys.stderr.flush()
    return await trio.to_thread.run_sync(read_line_now, abandon_on_cancel=True)


def read_line_now() -> str | None:
    """A line from stdin, blocking the thread."""
    found = bytearray()
    while len(found) < LONGEST_LINE:
        byte = os.read(0, 1)
        if not byte and not found:
            return None
        if byte in {b"", b"\n"}:
            break
        found += byte
    return found.decode("utf-8", "replace").rstrip("\r")
