"""What is answered without importing the command line: help, unknown words, the names that Tab offers.

The help comes from a file that a test keeps equal to what the commands say of themselves, the names from a table
(`commands`). Everything that is not plainly one of these questions is left to `app`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .commands import inside, is_group, unknown
from .screen.columns import HELP_COLUMNS, help_columns
from .tab import Asked

HELP = os.path.join(os.path.dirname(__file__), "help.txt")  # noqa: PTH118, PTH120 pathlib costs as much as all of this


def help_for(arguments: Sequence[str]) -> str:
    """The help that is asked for, when it is plainly that; empty for everything else."""
    if (arguments and arguments[-1] not in {"--help", "-h"}) or help_columns(sys.stdout) < HELP_COLUMNS:
        return ""
    wanted = " ".join(["### systemprompt-cloud", *arguments[:-1]])
    try:
        with open(HELP, encoding="utf-8") as lines:  # noqa: PTH123
            return "".join(_section(lines, wanted))
    except OSError:
        return ""  # the commands themselves know it too


def _section(lines: Iterable[str], head: str) -> Iterator[str]:
    """The lines under one head line, up to the next."""
    inside = False
    for line in lines:
        if line.startswith("### "):
            inside = line.rstrip("\n") == head
        elif inside:
            yield line


def mistake(arguments: Sequence[str], name: str) -> str:
    """What is wrong with a word that is no command; empty where that is not plainly all there is to say.

    Args:
        arguments: What was typed after the program's name.
        name: What the program is called.
    """
    if not arguments or any(word.startswith("-") for word in arguments) or help_columns(sys.stderr) < HELP_COLUMNS:
        return ""
    group = arguments[0] if len(arguments) > 1 and is_group(arguments[0]) else ""
    word, names = arguments[1 if group else 0], inside(group)
    if word in names or not _is_plain(word):
        return ""
    path = f"{name} {group}".strip()
    usage = f"Usage: {path} [OPTIONS] COMMAND [ARGS]...\nTry '{path} -h' for help."
    return f"{usage}\n\nError: {unknown(word, [*names])}\n"


def _is_plain(word: str) -> bool:
    """Whether a word is short and of letters: no secret, which would have to be redacted."""
    return len(word) < 32 and word.replace("-", "").isalpha() and word.isascii()


def names_for(asked: Asked) -> list[tuple[str, str, str]] | None:
    """The commands to offer; None where something else may be meant."""
    group = " ".join(asked.words)
    if asked.incomplete.startswith("-") or len(asked.words) > 1 or not is_group(group):
        return None
    return [("plain", name, what) for name, what in inside(group).items() if name.startswith(asked.incomplete)]


def tab(instruction: str, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """The answer to a shell that asks, and the exit code; None where the commands have to be asked."""
    asked = Asked(instruction, environ)
    if asked.source or not asked.shell:
        return None
    offered = names_for(asked)
    return None if offered is None else asked.answer(offered, environ)
