"""Users of either type checker get the same errors: mypy allows and refuses what basedpyright does.

basedpyright checks `tests/engine/typed.py` with everything else (`make types`); mypy checks that file alone.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.missing import missing

ROOT = Path(__file__).parents[2]
TYPED = ROOT / "tests" / "engine" / "typed.py"
MISSING = "mypy is not installed; run `make setup-dev`, or install it with: pip install -r requirements-dev.lock"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which mypy finds the package by its name, and where its cache is."""
    if importlib.util.find_spec("mypy") is None:
        missing(MISSING)
    directory = tmp_path_factory.mktemp("mypy")
    (directory / "systemprompt_cloud").symlink_to(ROOT)
    return directory


def checked(package: Path, source: str) -> subprocess.CompletedProcess[str]:
    """mypy's report on one file: of errors in other files it says nothing."""
    file = package / "typed.py"
    file.write_text(source)
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--follow-imports=silent"]
    return subprocess.run(
        [*command, f"--config-file={os.devnull}", f"--cache-dir={package / 'cache'}", file.name],
        cwd=package,
        env={**os.environ, "MYPYPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_mypy_allows_and_refuses_what_the_file_says(package: Path) -> None:
    """Every error that a comment expects is found, and no other."""
    done = checked(package, TYPED.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_refusal_is_one_of_mypys(package: Path) -> None:
    """Without the comments each of those lines is an error: mypy sees the types, and not `Any`."""
    lines = TYPED.read_text().splitlines()
    refused = [number for number, line in enumerate(lines, 1) if "# type: ignore[" in line]
    done = checked(package, "\n".join(line.partition("  # type: ignore[")[0] for line in lines))
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error: " in line}
    assert len(refused) > 10
    assert sorted(found) == refused, done.stdout + done.stderr
