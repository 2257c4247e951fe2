"""Two checkouts can be compared; which of them is faster is never asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = ROOT / "benchmarks" / "base-2026-11-30.json"
FIGURES = {
    "leaving, 1 flow",
    "leaving, many flows",
    "staying, 1 flow",
    "staying, many flows",
    "send, p50",
    "send, p99",
    "--help, CPU",
    "whoami, CPU",
}


def compare(other: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compare this checkout with another in the shortest way."""
    command = [sys.executable, "-m", "benchmarks.side_by_side", str(other), "--quick", "--rounds", "1"]
    return subprocess.run(
        [*command, "--directory", str(directory), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_figure_is_measured_on_both_sides(tmp_path: Path) -> None:
    """Compared with itself: a table, the same figures in a file, and nothing left on the disk."""
    work = tmp_path / "work"
    done = compare(ROOT, work, "--json", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stderr
    assert not list(work.iterdir())
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert {figure["name"] for figure in report["figures"]} == FIGURES
    assert all(figure["old"] > 0 and figure["new"] > 0 and figure["ratio"] > 0 for figure in report["figures"])
    assert all(f"| {name}, " in done.stdout for name in FIGURES)


def test_a_side_that_is_another_package_is_refused(tmp_path: Path) -> None:
    """The installed package must never stand in for a checkout that cannot be imported."""
    other = tmp_path / "other"
    other.mkdir()
    done = compare(other, tmp_path / "work")
    assert done.returncode != 0
    assert "| " not in done.stdout


def test_the_base_has_the_figures_that_are_measured_today() -> None:
    """What later versions are held against names every figure, and where it was measured."""
    base = json.loads(BASE.read_bytes())
    assert {figure["name"] for figure in base["figures"]} == FIGURES
    assert base["python"]
    assert base["cpu"]
    assert len(base["old"]) == 40
