"""What a person is told to do is written here only, and the commands it names exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import systemprompt_cloud
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.cli.commands import inside, is_group
from systemprompt_cloud.cli.screen.remedies import TEMPLATES, remedy_text
from systemprompt_cloud.cli.shared.names import CLI

ROOT = Path(systemprompt_cloud.__file__).parent
BELOW = ("base", "engine", "io", "machines", "flows", "diagrams")
COMMAND = re.compile(r"\[\[!?((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)")
OPTION = re.compile(r"(?<![\w(-])--[a-z][\w-]*(?![\w-]*[:)])")
"""An option; not a property of a style sheet."""


def sources(*rooms: str) -> Iterator[Path]:
    """The files of these rooms, and `errors.py`."""
    yield ROOT / "errors.py"
    for room in rooms:
        yield from (ROOT / room).rglob("*.py")


def steps(path: Path) -> Iterator[str]:
    """The steps a file names: `Remedy("step")`, and `remedy="step"` in the head of a kind of error."""
    for node in ast.walk(ast.parse(path.read_text())):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Remedy":
            found = node.args[:1]
        elif isinstance(node, ast.ClassDef):
            found = [each.value for each in node.keywords if each.arg == "remedy"]
        yield from (each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str))


def spoken(path: Path) -> Iterator[str]:
    """The texts of a file that may reach a person: its string constants without docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | alone:
            yield node.value


def exists(words: str) -> bool:
    """Whether there is such a command; what follows a command that has none below it is its argument."""
    here = ""
    for word in words.split():
        if not is_group(here):
            return True
        if word not in inside(here):
            return False
        here = f"{here} {word}".strip()
    return True


def is_spoken(text: str) -> bool:
    """Whether a text names a command of ours, or an option."""
    words = re.findall(rf"{CLI} ([a-z][a-z-]*)", text)
    return bool(OPTION.search(text)) or any(map(exists, words))


def test_the_search_finds_what_it_should() -> None:
    """A command that is there is told from one that is not."""
    assert exists("flows resume")
    assert exists("login again")
    assert not exists("tenants levitate")
    assert COMMAND.findall("Do `[[flows resume {flow}]]`, then [[!up --plan x]]") == ["flows resume", "up"]
    assert is_spoken(f"Log in: {CLI} login")
    assert is_spoken("check --api-url")
    assert not is_spoken(f"{CLI} flow 1")
    assert not is_spoken("ls -ld /x")
    assert not is_spoken("a { --ink: black; color: var(--ink) }")


@pytest.mark.parametrize("step", TEMPLATES)
def test_a_sentence_names_commands_that_exist(step: str) -> None:
    """No person is sent to a command that is not there."""
    for words in COMMAND.findall(TEMPLATES[step]):
        assert exists(words), words


def test_every_step_has_its_sentence() -> None:
    """Whatever an error asks for, the command line knows the words; and no sentence is left over."""
    named = {step for path in sources(*BELOW, "sandbox", "cli") for step in steps(path)} - {""}
    of_flows = {"resume", "resume_or_cancel"}
    assert named - set(TEMPLATES) == set()
    assert set(TEMPLATES) - named - of_flows == set()


@pytest.mark.parametrize("path", sorted(sources(*BELOW)), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_below_the_command_line_speaks_its_words(path: Path) -> None:
    """Neither a command nor an option: who embeds a flow has neither."""
    assert [text for text in spoken(path) if is_spoken(text)] == []


@given(st.text(), st.text())
def test_a_fact_is_never_taken_for_a_command(flow: str, machine: str) -> None:
    """What a fact holds is text, quoted where it is part of a command, whatever it looks like."""
    for step in TEMPLATES:
        for value in (flow, f"[[{CLI} {machine}]]", "{machine}"):
            words = remedy_text(None, Remedy(step, {"flow": value, "directory": value, "disk": value}), {})
            assert words is not None
            assert words.count(f"{CLI} {machine}") == words.count(f"[[{CLI} {machine}]]") or machine in words


def test_a_fact_is_quoted_where_it_is_to_be_pasted() -> None:
    """Elsewhere in a sentence it is text; which it is, the template says."""
    place = "/mnt/my disk"
    assert remedy_text(None, Remedy("use_directory", {"directory": place}), {}) == (
        f"Name an empty directory: --dir '{place}'"
    )
    assert f"disk of {place} " in (remedy_text(None, Remedy("writable_disk", {"disk": place}), {}) or "")
