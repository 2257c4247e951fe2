"""One name for one thing: no two files of the package call different classes the same."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("base", "cli", "diagrams", "engine", "flows", "io", "machines", "sandbox", "testing")

THE_SAME_THING = frozenset(
    {"ActivityRequest", "CheckoutRequest", "CustomDomainRequest", "DeployRequest", "ExternalDbAccessRequest"}
    | {"SetSecretsRequest"}
)
"""The local cloud's requests are the wire's, with bounds; their names are in the description it gives of itself."""

IN_JOURNALS = frozenset({"StreamLost"})
"""An event's name is in people's journals and in its table's fingerprint, and the error of this name is public."""


def names(path: Path) -> Iterator[str]:
    """The classes of a file, and what it calls a type by another name, as far as others may import them."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (
                target.id
                for target in node.targets
                if isinstance(target, ast.Name) and target.id[:1].isupper() and not target.id.isupper()
            )


def test_one_name_for_one_thing() -> None:
    """A name that two files define makes a reader look up which of them is meant."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in (*ROOT.glob("*.py"), *(each for room in ROOMS for each in (ROOT / room).rglob("*.py"))):
        for name in names(path):
            if not name.startswith("_"):
                found[name].append(str(path.relative_to(ROOT)))
    twice = {name: files for name, files in found.items() if len(files) > 1}
    assert {name: files for name, files in twice.items() if name not in THE_SAME_THING | IN_JOURNALS} == {}
    assert twice.keys() >= THE_SAME_THING | IN_JOURNALS, "an exception that is none any more"
