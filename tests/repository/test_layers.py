"""The rooms and who may import whom: arrows only run downward."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "systemprompt_cloud"

# What each room may import besides itself. `errors` is the floor; the root's lazy face imports nothing by itself.
MAY_IMPORT = {
    "": {"errors", "cli", "_version"},
    "_error": set[str](),
    "errors": {"_error"},
    "_version": set[str](),
    "machines": {"errors"},
    "io": {"errors", "_version"},
    "flows": {"machines", "io", "errors"},
    "diagrams": {"machines", "flows", "errors"},
    "sandbox": {"io", "errors"},
    "testing": {"machines", "io", "flows", "diagrams", "sandbox", "errors"},
    "cli": {"machines", "io", "flows", "diagrams", "sandbox", "testing", "errors", "_version"},
}
# The outside libraries that belong to one room only: a machine that imports trio is no longer a table.
BELONGS_TO = {
    "transitions": {"machines"},
    "sqlite3": {"io"},
    "httpx": {"io", "testing"},
    "hypercorn": {"io"},
    "typer": {"cli", ""},
    "rich": {"cli"},
    "hypothesis": {"testing"},
    "pytest": {"testing"},
}
KEEPS_OUT = {"machines": {"trio", "loguru", "httpx", "sqlite3", "time", "random"}, "diagrams": {"trio", "httpx"}}


def package_files() -> list[Path]:
    rooms = [ROOT / room for room in MAY_IMPORT if (ROOT / room).is_dir() and room]
    return [*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return relative.stem if relative.stem in MAY_IMPORT else ""


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every imported module as (first part, whether it is ours), relative ones resolved."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name.split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level == 0:
                yield module[0], False
                continue
            base = list(package[: len(package) - (node.level - 1)])
            target = base + module
            for name in [target[0]] if target else [alias.name for alias in node.names]:
                yield name, True


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    """No file imports from a room above its own, and outside libraries stay in the rooms they belong to."""
    room = room_of(path)
    for name, ours in imports(path):
        if ours:
            assert name == room or name in MAY_IMPORT[room], f"{path.name} imports {name}"
        else:
            assert name != PACKAGE, f"{path.name} imports its own package by its absolute name"
            assert room in BELONGS_TO.get(name, {room}), f"{name} does not belong in {room or 'the root'}"
            assert name not in KEEPS_OUT.get(room, set()), f"{room} must not know {name}"


def test_the_packages_list_is_complete() -> None:
    """Every folder of the package is in pyproject.toml's explicit list, or the wheel would lack it."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in package_files()}
    found = {".".join([PACKAGE, *folder.parts]) for folder in folders}
    assert found == listed


def test_no_lock_file_names_an_index_or_a_host() -> None:
    """A lock file pins and hashes; where packages come from is the machine's business."""
    for lock in ROOT.glob("requirements*.lock"):
        lines = lock.read_text().splitlines()
        assert not [
            line for line in lines if "://" in line or (line.lstrip().startswith(("-", "#")) and "--hash" not in line)
        ]
        pinned = [line for line in lines if line and not line.startswith(" ")]
        assert all("==" in line for line in pinned)
        assert sum("--hash=sha256:" in line for line in lines) >= len(pinned)
