"""The words of the texts that people read: plain ones. Banned are the old-fashioned and the figurative.

Checked are the sentences in the code (every string constant with a space in it that is no docstring), the help of the
commands, and the pages of the documentation. A new text is covered by itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("base", "cli", "diagrams", "engine", "examples", "flows", "io", "machines", "sandbox", "testing")
PAGES = ("*.md", "docs/*.md", "docs/*/*.md", "diagrams/gallery/*.md", "cli/help.txt")

BANNED: Final = (
    "(some|no|any)body('s)?|whoever|whosoever",
    "stands?|stood|standing",
    "mend(s|ed|ing)?",
    "(go|goes|going|went|gone) on",
    "(wait|waits|waited|waiting) on",
    "park(s|ed|ing)?",
    "told",
    "its own words",
    "must say",
    "is whole",
    "unseen|doomed",
    "pull(s|ed)? the plug",
    "set(s|ting)? right",
    "nothing is lost",
    "(wait|waits|waiting) for a person",
    "said no",
    "came back in time",
    "whose token this is",
    "stream is away",
    "can be asked here",
    "in the way",
    "effect again",
)
"""Expressions for what is not written, in a page or on the screen."""

BANNED_ON_SCREEN: Final = ("says?(?!=)|said|saying", "tells?|telling", "shall", "there is none")
"""What is written in a page, and not in a message; `says=` is a parameter of the local cloud's faults."""

ALLOWED: Final = {
    "nobody came back from the browser within": "stored in journals: histories are checked by computing it again",
}
"""Parts of texts in which banned words stay, and why."""

_QUOTED: Final = re.compile(r"```.*?```|`[^`\n]*`|'\w+'|\"\w+\"", re.DOTALL)
"""Code in a text, and a word that is quoted as such: a status of the journal is called `paused` there."""


def expression(words: Iterable[str]) -> re.Pattern[str]:
    """Any of these, as whole words, however the line is broken."""
    return re.compile("|".join(rf"\b(?:{each})\b" for each in words).replace(" ", r"\s+"), re.IGNORECASE)


IN_PAGES: Final = expression(BANNED)
ON_SCREEN: Final = expression((*BANNED, *BANNED_ON_SCREEN))


def offences(text: str, banned: re.Pattern[str]) -> list[str]:
    """The banned words of a text, each with what is around it."""
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    text = _QUOTED.sub("``", text)
    return [" ".join(text[max(found.start() - 30, 0) : found.end() + 30].split()) for found in banned.finditer(text)]


def shown(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The sentences in a file, with their lines; what an f-string fills in is left out."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))  # a docstring
        elif isinstance(node, ast.JoinedStr):
            parts = [each for each in node.values if isinstance(each, ast.Constant)]
            skipped |= {id(each) for each in parts}
            yield node.lineno, "…".join(str(each.value) for each in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """What of a file's strings is text for people: what has a space in it."""
    for line, text in shown(ast.parse(path.read_text(encoding="utf-8"))):
        if " " in text.strip():
            yield line, text


def test_the_code_shows_plain_words() -> None:
    """Messages, hints, questions, the meanings of states, help and pages in the code."""
    files = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]
    found = [
        f"{path.relative_to(ROOT)}:{line}: {each}"
        for path in files
        for line, text in sentences(path)
        for each in offences(text, ON_SCREEN)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern", PAGES)
def test_the_pages_use_plain_words(pattern: str) -> None:
    """The help of the commands, and the documentation; code in it is none of their words."""
    files = sorted(ROOT.glob(pattern))
    assert files
    found = [
        f"{path.relative_to(ROOT)}: {each}"
        for path in files
        for each in offences(path.read_text(encoding="utf-8"), ON_SCREEN if path.suffix == ".txt" else IN_PAGES)
    ]
    assert not found, "\n".join(found)


def test_every_exception_is_still_needed() -> None:
    """A text that is gone needs no exception."""
    texts = [
        text for room in ROOMS for path in (ROOT / room).rglob("*.py") for _, text in shown(ast.parse(path.read_text()))
    ]
    assert [each for each in ALLOWED if not any(each in text for text in texts)] == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('say(f"{flow} was told to stop")', ["told"]),
        ('State("overdue", "waiting for a person")', ["waiting for a person"]),
        ('hint = "Go on with it: " "[[flows resume]]"', ["Go on"]),
        ("say('it goes\\non')", ["goes on"]),
        ('"""A docstring: nobody stands here."""', []),
        ('status = "paused"', []),
        ("SQL = \"WHERE kind = 'paused' AND x\"", []),
    ],
)
def test_what_is_found(code: str, words: list[str]) -> None:
    """A banned word is found in a text of any call, in an f-string and across a line; not in code and docstrings."""
    texts = [text for _, text in shown(ast.parse(code)) if " " in text]
    found = [" ".join(match[0].split()) for text in texts for match in ON_SCREEN.finditer(_QUOTED.sub("``", text))]
    assert found == words
