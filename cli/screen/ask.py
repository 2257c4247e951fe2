"""Asking a person at the terminal.

The line is read from the descriptor itself, a byte at a time and only when there is one: Python's own stdin would read
more than the line, and a thread that waits in `read` cannot be called back. It would stand there after its question was
withdrawn and take the answer to the next one. At a terminal the line may have any length (`typed.py`).
"""

from __future__ import annotations

import os
import sys

import trio

from ..shared.settings import Settings
from .terminal import clean, say
from .typed import LONGEST_LINE, TypedLine, any_length, show_typed

STDIN = 0


def somebody_is_there(settings: Settings) -> bool:
    """Whether a person can be asked: stdin is a terminal, and `--no-input` was not given."""
    return not settings.no_input and sys.stdin.isatty()


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
    prompt, line = f"{clean(question)} ", TypedLine()
    try:
        with any_length(STDIN, show_again=lambda: show_typed((prompt + line.text).encode())) as unlimited:
            sys.stderr.write(prompt)
            sys.stderr.flush()
            return await (read_typed_line(STDIN, line) if unlimited else read_line(STDIN))
    except trio.Cancelled:
        say()  # the question is withdrawn; what comes next begins on a line of its own
        raise


async def read_line(descriptor: int) -> str | None:
    """Read a line, without its end; None at the end of the input, and when there is no input any more.

    Cancelled while nothing has been typed, it has taken nothing: the next reader gets the whole line.
    """
    found = bytearray()
    while len(found) < LONGEST_LINE:
        byte = await read_key(descriptor)
        if not byte and not found:
            return None
        if byte in {b"", b"\n"}:
            break
        found += byte
    return found.decode("utf-8", "replace").rstrip("\r")


async def read_typed_line(descriptor: int, line: TypedLine | None = None) -> str | None:
    """The same at a terminal in `any_length`; the line is kept in `line` while it is typed."""
    line = line or TypedLine()
    while not line.done:
        byte = await read_key(descriptor)
        if not byte:
            return line.text or None
        show_typed(line.take(byte[0]))
    return None if line.ended else line.text


async def read_key(descriptor: int) -> bytes:
    """The next byte, a key at a terminal in `any_length`; empty at the end of the input."""
    try:
        await _wait_readable(descriptor)
        return os.read(descriptor, 1)
    except OSError:  # the terminal hung up
        return b""


async def _wait_readable(descriptor: int) -> None:
    try:
        await trio.lowlevel.wait_readable(descriptor)
    except PermissionError:
        # epoll does not take what is always readable: a regular file, /dev/null.
        await trio.lowlevel.checkpoint()
