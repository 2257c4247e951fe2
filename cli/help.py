"""The help of every command in one file, so that asking for it imports nothing.

`python -m systemprompt_cloud.cli.help` writes `help.txt` anew after a command was added or an option changed; a test
compares the two. `__main__` reads it: a section for each command, under a line `### ` and its words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from .app import app
from .shared.names import CLI

FILE: Final = Path(__file__).with_name("help.txt")
MARK: Final = "### "


def live_help() -> str:
    """What the commands say of themselves now."""
    return "".join(f"{MARK}{words}\n{text}\n" for words, text in _sections(app, CLI, None))


def _sections(command: Any, words: str, parent: Any) -> Iterator[tuple[str, str]]:
    # resilient_parsing: nothing is run, nothing is required, the context is only there to ask for help with.
    with command.make_context(words.rsplit(maxsplit=1)[-1], ["-"], parent=parent, resilient_parsing=True) as context:
        yield words, command.get_help(context)
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                yield from _sections(command.get_command(context, name), f"{words} {name}", context)


if __name__ == "__main__":
    FILE.write_text(live_help(), encoding="utf-8")
