"""Global options anywhere: `systemprompt-cloud up --json` is `systemprompt-cloud --json up`.

click takes the options of the program only before the name of the command. People type them where they think of them,
so the line is put in order before click sees it. Everything after `--` is left as it is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from ...base.errors import Io

FLAGS: Final = frozenset({"--json", "--no-input", "--version", "--verbose"})
VALUED: Final = frozenset({"--dir", "--account", "--api-url", "--env", "--log-file", "--fields", "--jq"})


def hoist(argv: Sequence[str]) -> list[str]:
    """The same arguments with the global options first, in the order they were given.

    Args:
        argv: What was typed after the program's name.

    Returns:
        A new list. An option whose value is missing stays at the end, where click says so.
    """
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in VALUED:
            value = next(words, None)
            if value is None:
                return [*front, word]
            front += [word, value]
        elif word.partition("=")[0] in FLAGS | VALUED or _is_verbosity(word):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def known_text(argv: Sequence[str]) -> list[str]:
    """The same arguments, if all are text: half characters can neither be sent nor stored nor be said again.

    Raises:
        click.BadParameter: One holds bytes that are not UTF-8.
    """
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError as exc:
            shown = word.encode(errors="surrogateescape").decode(errors="backslashreplace")
            raise click.BadParameter(f"'{shown}' is not UTF-8 text") from exc
    return list(argv)


@contextmanager
def as_usage(option: str | None = None) -> Generator[None]:
    """Make what is wrong with a path that was typed a mistake in the usage.

    Args:
        option: The option or variable that holds it; in the callback of an option it is known.
    """
    try:
        yield
    except Io as exc:
        raise click.BadParameter(f"{exc.user_message}. {exc.recovery_hint}", param_hint=option) from exc


def known_path(value: Path) -> Path:
    """A file or directory that was typed, with a leading `~` expanded, also where no shell did.

    Raises:
        click.BadParameter: It is the home of a user that does not exist.
    """
    from ...io.local.paths import expand_user

    with as_usage():
        return expand_user(value)


def _is_verbosity(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and set(word[1:]) == {"v"}
