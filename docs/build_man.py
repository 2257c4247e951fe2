"""Makes the man pages in `man/` from the commands: a page each, and `spc.1`, which is the main one.

python docs/build_man.py

A test compares the committed pages with what is made here, so they cannot fall behind the commands. The wheel puts them
into `share/man/man1`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from systemprompt_cloud.cli.app import app
from systemprompt_cloud.cli.commands import COMMANDS
from systemprompt_cloud.cli.fields import fields_of
from systemprompt_cloud.cli.shared.names import CLI

MAN: Final = Path(__file__).resolve().parent / "man"
_ABOUT: Final = "SystemPrompt Cloud at the command line"


def pages() -> dict[str, str]:
    """Every page: the name of its file, and its text."""
    made = {f"{words.replace(' ', '-')}.1": text for words, text in _pages(app, CLI, None)}
    return made | {"spc.1": f".so man1/{CLI}.1\n"}


def _pages(command: Any, words: str, parent: Any) -> Iterator[tuple[str, str]]:
    # resilient_parsing: nothing is run, nothing is required, the context is only there to ask for help with.
    with command.make_context(words.rsplit(maxsplit=1)[-1], ["-"], parent=parent, resilient_parsing=True) as context:
        yield words, "".join(f"{line}\n" for line in _lines(command, words, context))
        for name in _inside(command, context):
            yield from _pages(command.get_command(context, name), f"{words} {name}", context)


def _inside(command: Any, context: click.Context) -> list[str]:
    return command.list_commands(context) if isinstance(command, click.Group) else []


def _lines(command: Any, words: str, context: click.Context) -> Iterator[str]:
    name, short = words.replace(" ", "-"), words.partition(" ")[2]
    about = COMMANDS[short][1].rstrip(".") if short else _ABOUT
    yield f'.TH "{_plain(name.upper())}" "1" "" "{_plain(CLI)}" ""'
    yield from (".nh", ".ad l")  # a command's name is not divided
    yield from (".SH NAME", rf"{_plain(name)} \- {_text(about)}")
    yield from (".SH SYNOPSIS", rf"\fB{_plain(words)}\fR {_text(' '.join(command.collect_usage_pieces(context)))}")
    yield from (".SH DESCRIPTION", *_paragraphs(inspect.cleandoc(command.help)))
    for title, kind in (("ARGUMENTS", "argument"), ("OPTIONS", "option")):
        found = [each for each in command.get_params(context) if each.param_type_name == kind]
        records = [record for each in found if (record := each.get_help_record(context)) is not None]
        yield from _listed(title, records)
    inner = _inside(command, context)
    yield from _listed("COMMANDS", [(each, COMMANDS[f"{short} {each}".strip()][1]) for each in inner])
    if known := fields_of(short):
        yield from (".SH JSON FIELDS", _text(", ".join(known)))
    rest, _, example = (command.epilog or "").rpartition("Example: ")
    if rest.strip():
        yield from (".SH NOTES", *_paragraphs(rest))
    if example:
        yield from (".SH EXAMPLE", ".nf", _text(example), ".fi")
    above = [name.rpartition("-" + words.rpartition(" ")[2])[0]] if short else []
    also = [*above, *(f"{name}-{each}" for each in inner)]
    yield from (".SH SEE ALSO", ",\n".join(rf"\fB{_plain(each)}\fR(1)" for each in also))


def _listed(title: str, records: list[tuple[str, str]]) -> Iterator[str]:
    if records:
        yield f".SH {title}"
    for name, about in records:
        yield from (".TP", rf"\fB{_plain(name.strip())}\fR", _text(about) or r"\&")


def _paragraphs(text: str) -> Iterator[str]:
    for number, each in enumerate(re.split(r"\n\s*\n", text.strip())):
        yield from ([".PP"] if number else [])
        yield _text(" ".join(each.split()))


def _text(text: str) -> str:
    """Text with its `code` in bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _plain(" ".join(text.split())))


def _plain(text: str) -> str:
    """Text that roff shows as it is, in any locale."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace('"', r"\(dq")
    text = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in text)
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    MAN.mkdir(exist_ok=True)
    found = pages()
    for old in MAN.glob("*.1"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        (MAN / name).write_text(text, encoding="ascii", newline="\n")
