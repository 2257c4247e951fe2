"""The engine stands alone: copied into another package, beside nothing but four libraries, it keeps its promises."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from systemprompt_cloud import engine

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".venv" / "wheels"
LIBRARIES = ("trio", "msgspec", "filelock", "transitions")

PROGRAM = '''\
"""A flow of two effects whose process is killed in the second."""

import os
import signal
import sys
from pathlib import Path

import trio

from elsewhere.engine import (
    ANY, CancelRequested, Context, EnginePaths, Event, Machine, Program, ResumePolicy, State, Verdict, on, open_engine,
)


class Baked(Event, frozen=True):
    loaves: int


class Sold(Event, frozen=True):
    pass


class Bakery(Context, frozen=True, kw_only=True):
    loaves: int = 0


def count(bakery, event):
    return Bakery(loaves=event.loaves)


BAKERY = Machine(
    "bakery",
    version=1,
    initial="baking",
    context=Bakery,
    states=[
        State("baking", "Baking", effect="bakes", resume=ResumePolicy.RETRY),
        State("selling", "Selling", effect="sells", resume=ResumePolicy.RETRY),
        State("sold_out", "Sold out", verdict=Verdict.SUCCESS),
        State("closed", "Closed", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Baked, "baking", "selling", update=count),
        on(Sold, "selling", "sold_out"),
        on(CancelRequested, ANY, "closed"),
    ],
)


async def bake(visit):
    await visit.announce("bake")
    return Baked(3)


async def sell(visit):
    intent = await visit.announce("sell")
    if not intent.uncertain:
        os.kill(os.getpid(), signal.SIGKILL)
    return Sold()


async def main():
    paths = EnginePaths.inside(Path(sys.argv[1]) / "state")
    async with open_engine(paths, [Program(BAKERY, {"baking": [bake], "selling": [sell]})]) as engine:
        flow = await engine.start(BAKERY, Bakery(), key="today")
        outcome = await flow.wait()
        print(outcome.state, outcome.result["loaves"], len(flow.history))


trio.run(main)
'''


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command that finds nothing of this environment."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environ, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An interpreter with four libraries, and a directory with the package `elsewhere` of `engine` and `base` only."""
    base = tmp_path_factory.mktemp("alone")
    assert run(sys.executable, "-m", "venv", "--without-pip", base / "venv", cwd=base).returncode == 0
    python = base / "venv" / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", python, "install")
    done = run(*install, "--no-index", "--find-links", WHEELS, *LIBRARIES, cwd=base)
    assert done.returncode == 0, done.stderr
    for room in ("base", "engine"):
        shutil.copytree(ROOT / room, base / "elsewhere" / room, ignore=shutil.ignore_patterns("__pycache__"))
    (base / "elsewhere" / "__init__.py").touch()
    return python, base


def test_a_copy_of_the_engine_survives_a_kill(alone: tuple[Path, Path]) -> None:
    """It runs a flow, is killed in the middle of an effect, and resumes the flow to its end."""
    python, base = alone
    (base / "bakery.py").write_text(PROGRAM)
    killed = run(python, "bakery.py", base, cwd=base)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, ""), killed.stderr
    resumed = run(python, "bakery.py", base, cwd=base)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    # started, announced, baked, announced, resumed, sold
    assert resumed.stdout == "sold_out 3 6\n"
    state = base / "state"
    assert (state.stat().st_mode & 0o777, (state / ".gitignore").read_text()) == (0o700, "*\n")


def test_every_public_name_and_every_file_loads_alone(alone: tuple[Path, Path]) -> None:
    """Each name of `engine` is in the copy, and no file of it needs anything that is not there."""
    python, base = alone
    script = "from elsewhere import engine\nfor name in dir(engine): getattr(engine, name)\nprint(len(dir(engine)))"
    done = run(python, "-c", script, cwd=base)
    assert (done.returncode, done.stdout) == (0, f"{len(dir(engine))}\n"), done.stderr
    files = [path.relative_to(base).with_suffix("") for path in sorted((base / "elsewhere").rglob("*.py"))]
    imports = "\n".join(f"import {'.'.join(file.parts).removesuffix('.__init__')}" for file in files)
    done = run(python, "-c", imports, cwd=base)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module", ["engine", "engine.machine.machine", "machines.every", "diagrams.mermaid", "diagrams.text"]
)
def test_a_table_needs_no_trio(module: str) -> None:
    """Who only steps, checks or draws a machine waits for no event loop to load."""
    script = f"import sys, systemprompt_cloud.{module}; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_type_checkers_and_programs_see_the_same_names() -> None:
    """What is listed for the one is listed for the other, and each name loads."""
    tree = ast.parse(Path(str(engine.__file__)).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    listed = [alias.asname for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(map(str, listed)) == dir(engine)
    for name in dir(engine):
        assert hasattr(engine, name), name
