"""What must never be an argument: typed at a terminal without echo, or piped in.

Pipes are read as bytes: in the C locale Python would let bytes that are no text pass as half characters, which can
neither be sent nor stored. A byte order mark, which PowerShell and editors of Windows begin a file with, is no part of
what is in it; one of UTF-16 tells how to read it.
"""

from __future__ import annotations

import codecs
import sys

import click

from ..screen.typed import type_hidden
from ..shared.settings import Settings

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_typed(settings: Settings, prompts: list[str], option: str) -> list[str] | None:
    """Ask for each, hidden; None when stdin is no terminal: then it is piped in.

    Args:
        settings: Whether a person can be asked.
        prompts: What to call each.
        option: What the person gave to get here, for the message.

    Raises:
        click.BadParameter: Questions are not allowed (`--no-input`), or what was typed is not text.
    """
    if not sys.stdin.isatty():
        return None
    if settings.no_input:
        raise click.BadParameter("--no-input allows no questions; pipe it in by stdin", param_hint=option)
    try:
        typed = [type_hidden(sys.stdin.fileno(), f"{prompt} (it is not shown): ") for prompt in prompts]
    except UnicodeError as exc:
        raise click.BadParameter("what was typed is not UTF-8 text", param_hint=option) from exc
    except OSError as exc:
        raise click.BadParameter(f"the terminal cannot be read: {exc.strerror or exc}", param_hint=option) from exc
    given = [each for each in typed if each is not None]
    if len(given) < len(prompts):
        raise click.BadParameter("nothing was typed", param_hint=option)
    return given


def read_piped(longest: int, option: str) -> str:
    """All of stdin.

    Args:
        longest: Bytes it may hold at most.
        option: What the person gave to get here, for the message.

    Raises:
        click.BadParameter: It cannot be read, is longer, or no text.
    """
    try:
        found = sys.stdin.buffer.read(longest + 1)
    except OSError as exc:
        raise click.BadParameter(f"stdin cannot be read: {exc.strerror or exc}", param_hint=option) from exc
    if len(found) > longest:
        raise click.BadParameter(f"stdin holds more than {longest} bytes", param_hint=option)
    try:
        return found.decode(next((name for mark, name in _MARKS if found.startswith(mark)), "utf-8"))
    except UnicodeDecodeError as exc:
        raise click.BadParameter("stdin is not UTF-8 text", param_hint=option) from exc
