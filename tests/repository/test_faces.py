"""What an engine is asked from outside goes through its public methods: nobody reaches through it to the journal."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FACES = ("cli", "diagrams", "flows", "sandbox")
"""Not `testing`: that looks behind an engine to check what it wrote."""
BEHIND = {"journal", "store"}


def reached(source: str) -> Iterator[str]:
    """The attributes of an engine that only the engine itself should use, as they are written in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in BEHIND:
            owner = ast.unparse(node.value)
            if owner.rpartition(".")[2].strip("_") == "engine":
                yield f"{node.lineno}: {owner}.{node.attr}"


@pytest.mark.parametrize("room", FACES)
def test_no_face_reaches_through_an_engine(room: str) -> None:
    """On another store there is no journal to reach."""
    found = {path: list(reached(path.read_text())) for path in (ROOT / room).rglob("*.py")}
    assert found
    assert {str(path.relative_to(ROOT)): lines for path, lines in found.items() if lines} == {}


def test_reaching_through_is_seen() -> None:
    """Also through an attribute; a path of the same name is none of that."""
    source = "a = cloud.engine.journal.flows()\nb = self._engine.store\nc = paths.journal\nd = engine.flows()\n"
    assert sorted(reached(source)) == ["1: cloud.engine.journal", "2: self._engine.store"]
