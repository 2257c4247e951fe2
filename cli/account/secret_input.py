"""What must never be an argument: typed at a terminal without echo, or piped in.

Pipes are read as bytes: in the C locale Python would let bytes that are no text pass as half characters, which can
neither be sent nor stored.
"""

from __future__ import annotations

import getpass
import sys

import click

from ..shared.settings import Settings


def read_typed(settings: Settings, prompts: list[str], option: str) -> list[str] | None:
    """Ask for each, hidden; None when stdin is no terminal: then it is piped in.

    Args:
        settings: Whether anybody may be asked.
        prompts: What to call each.
        option: What the person gave to get here, for the message.

    Raises:
        click.BadParameter: It is a terminal, and nobody may be asked; or what was typed is no text.
    """
    if not sys.stdin.isatty():
        return None
    if settings.no_input:
        raise click.BadParameter("--no-input forbids to ask; pipe it in by stdin", param_hint=option)
    try:
        typed = [getpass.getpass(f"{prompt} (it is not shown): ", stream=sys.stderr) for prompt in prompts]
        "".join(typed).encode()
    except UnicodeError as exc:
        raise click.BadParameter("what was typed is not UTF-8 text", param_hint=option) from exc
    except EOFError as exc:
        raise click.BadParameter("nothing was typed", param_hint=option) from exc
    return typed


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
        return found.decode()
    except UnicodeDecodeError as exc:
        raise click.BadParameter("stdin is not UTF-8 text", param_hint=option) from exc
