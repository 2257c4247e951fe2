"""The rooms, who may import whom, and that no file is in a circle: arrows only run downward.

An import counts wherever it is written: at the top, in a function, under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "systemprompt_cloud"

# What each room may import besides itself. A room of `io` counts as a room of its own.
IO = {"io.http", "io.sse", "io.loopback", "io.cloud", "io.local"}
MAY_IMPORT: dict[str, set[str]] = {
    "": {"base", "cli", "_version"},
    "_version": set(),
    "base": set(),
    "errors": {"base"},
    "engine": {"base"},
    "io.http": {"base", "errors"},
    "io.sse": {"io.http", "base", "errors"},
    "io.loopback": {"io.http", "base", "errors"},
    "io.cloud": {"io.http", "io.sse", "base", "errors"},
    "io.local": {"io.http", "io.cloud", "base", "errors"},
    "machines": {"engine"},
    "flows": {"machines", *IO, "engine", "base", "errors"},
    "diagrams": {"engine", "base"},
    "sandbox": {"io.http", "io.loopback", "io.cloud", "base", "errors"},
    "testing": {"machines", *IO, "flows", "diagrams", "sandbox", "engine", "base", "errors"},
    "cli": {"machines", *IO, "flows", "diagrams", "sandbox", "engine", "base", "errors", "_version"},
}
# The outside libraries that belong to one room only: a machine that imports trio is no longer a table.
BELONGS_TO: dict[str, set[str]] = {
    "transitions": {"engine"},
    "anyio": {"io.http"},
    "sqlite3": {"engine"},
    "httpx": {"io.http", "io.sse", "io.cloud", "sandbox", "testing"},
    "h11": {"io.loopback"},
    "starlette": {"sandbox", "testing"},
    "hypercorn": set(),  # only tests use it, for TLS and HTTP/2
    "wsproto": set(),
    "loguru": {"cli"},
    "click": {"cli", ""},
    "rich": {"cli"},
    "hypothesis": {"testing"},
    "pytest": {"testing"},
}
KEEPS_OUT = {
    "machines": {"trio", "logging", "httpx", "sqlite3", "time", "random"},
    "engine/machine": {"trio", "logging", "httpx", "sqlite3", "time", "random"},
    "diagrams": {"trio", "httpx"},
}
ROOMS = ("base", "cli", "diagrams", "engine", "flows", "io", "machines", "sandbox", "testing")
MOST_LINES = 400


def package_files(root: Path) -> list[Path]:
    """Every source file of the package in a checkout."""
    return [*sorted(root.glob("*.py")), *(path for room in ROOMS for path in sorted((root / room).rglob("*.py")))]


def room_of(module: tuple[str, ...]) -> str:
    """The room of a module, by its dotted name without the package's."""
    if module[:1] == ("io",) and len(module) > 1:
        return ".".join(module[:2])
    if module and (module[0] in ROOMS or module[0] in MAY_IMPORT):
        return module[0]
    return ""


@cache
def import_statements(source: str) -> Sequence[ast.Import | ast.ImportFrom]:
    """Every import in a source, wherever it is written."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(root: Path, path: Path) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every imported module as (its name in parts, whether it is ours), relative ones resolved."""
    package = path.relative_to(root).parts[:-1]
    for node in import_statements(path.read_text()):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield tuple(name.name.split(".")), False
        else:
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level == 0:
                yield module, False
                continue
            target = package[: len(package) - (node.level - 1)] + module
            for alias in node.names:
                inner = (*target, alias.name)
                yield (inner if is_module(root, inner) else target), True


def is_module(root: Path, module: tuple[str, ...]) -> bool:
    """Whether there is a file or a package of this name."""
    path = root.joinpath(*module)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def arrows_up(root: Path) -> list[str]:
    """Every import that runs up, or that brings an outside library into a room it does not belong to."""
    wrong: list[str] = []
    for path in package_files(root):
        place = path.relative_to(root)
        room = room_of((*place.parts[:-1], place.stem))
        for name, ours in imports(root, path):
            if ours:
                if (other := room_of(name)) != room and other not in MAY_IMPORT[room]:
                    wrong.append(f"{place} imports {'.'.join(name)}")
                continue
            if name[0] == PACKAGE:
                wrong.append(f"{place} imports its own package by its absolute name")
            if room not in BELONGS_TO.get(name[0], {room}):
                wrong.append(f"{place} imports {name[0]}, which does not belong there")
            if any(place.is_relative_to(kept) and name[0] in names for kept, names in KEEPS_OUT.items()):
                wrong.append(f"{place} must not know {name[0]}")
    return wrong


def circles(root: Path) -> list[str]:
    """A circle of files that import each other; empty when there is none."""
    graph: dict[str, set[str]] = {}
    for path in package_files(root):
        place = path.relative_to(root)
        targets = {
            root.joinpath(*name).with_suffix(".py")
            for name, ours in imports(root, path)
            if ours and root.joinpath(*name).with_suffix(".py").is_file()
        }
        graph[str(place)] = {str(target.relative_to(root)) for target in targets}
    return circle_in(graph)


def circle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes of a circle in a graph."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        return [str(each) for each in exc.args[1]]
    return []


def long_files(root: Path) -> list[str]:
    """Files that are two rooms in one."""
    sizes = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in package_files(root)}
    return [f"{name} has {lines} lines" for name, lines in sizes.items() if lines > MOST_LINES]


def test_arrows_run_down() -> None:
    """No file imports from a room above its own, and outside libraries stay in the rooms they belong to."""
    assert arrows_up(ROOT) == []


def test_no_file_is_in_a_circle() -> None:
    """Every file can be understood after those it imports."""
    assert circles(ROOT) == []


def test_a_file_can_be_read_in_one_sitting() -> None:
    """At most 400 lines."""
    assert long_files(ROOT) == []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's sources, to break rules in."""
    copy = tmp_path_factory.mktemp("house")
    for path in package_files(ROOT):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return copy


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("engine/ledger.py", "from ..io.http.urls import Origin", "io.http.urls"),
        ("engine/ids.py", "def late() -> None:\n    from ..machines.login import LOGIN", "machines.login"),
        ("engine/ids.py", "from .. import _version", "_version"),
        ("engine/journal/journal.py", "from ...errors import ApiError", "errors"),
        ("base/files.py", "from ..engine.errors import FlowBusy", "engine.errors"),
        ("io/http/urls.py", "from ..local.paths import CloudPaths", "io.local.paths"),
        ("diagrams/mermaid.py", "from ..machines.login import LOGIN", "machines.login"),
        ("machines/login.py", "import trio", "trio"),
        ("machines/login.py", "from ..errors import ApiError", "errors"),
        ("base/clock.py", "def late() -> None:\n    import anyio", "anyio"),
        ("engine/machine/machine.py", "import trio", "trio"),
        ("flows/login.py", "import starlette", "starlette"),
        ("io/loopback/serving.py", "from starlette.types import ASGIApp", "starlette"),
        ("sandbox/serving.py", "import h11", "h11"),
        ("sandbox/serving.py", "def late() -> None:\n    import hypercorn", "hypercorn"),
        ("base/log.py", "import loguru", "loguru"),
        ("sandbox/api.py", "def late() -> None:\n    import loguru", "loguru"),
        ("flows/login.py", "from systemprompt_cloud.errors import ApiError", "absolute"),
    ],
)
def test_an_arrow_that_runs_up_is_found(house: Path, file: str, line: str, found: str) -> None:
    """Wherever the import is written."""
    path = house / file
    before = path.read_text()
    path.write_text(f"{before}\n\n{line}\n")
    try:
        assert [each for each in arrows_up(house) if each.startswith(file) and found in each]
    finally:
        path.write_text(before)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/ids.py", "from .engine import Engine"),
        ("engine/visit.py", "if TYPE_CHECKING:\n    from .run import Run"),
        ("engine/machine/parts.py", "def late() -> None:\n    from .machine import Machine"),
    ],
)
def test_a_circle_is_found(house: Path, file: str, line: str) -> None:
    """Wherever the import is written that closes it."""
    path = house / file
    before = path.read_text()
    path.write_text(f"{before}\n\n{line}\n")
    try:
        assert file in circles(house)
    finally:
        path.write_text(before)


def test_a_long_file_is_found(house: Path) -> None:
    """One line more than a sitting."""
    path = house / "engine" / "ids.py"
    before = path.read_text()
    path.write_text("\n" * (MOST_LINES + 1))
    try:
        assert long_files(house) == [f"engine/ids.py has {MOST_LINES + 1} lines"]
    finally:
        path.write_text(before)


def test_the_packages_list_is_complete() -> None:
    """Every folder of the package is in pyproject.toml's explicit list, or the wheel would lack it."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in package_files(ROOT)}
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
