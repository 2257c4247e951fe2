"""Every benchmark's table is made, with our figure and a ratio in it; how fast anything is, is never asserted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {
    "Durable transitions a second": "raw SQLite",
    "Cost of a step": "transitions",
    "From `flow.send` to durable": "one flow alone",
    "Among 500 finished flows": "raw SQLite",
    "Memory of an idle flow": "two bare trio tasks",
    "Reading back what is written": "ten fields, all typed",
    "Growth: watching flows": "flows, each with a follower",
    "Growth: opening": "flows that have ended, after a crash",
    "Growth: checking and pruning": "vaults of others beside them",
    "Growth: the past of one flow": "records, asked about one visit",
    "Growth: deadlines": "waits until a deadline",
    "Growth: secrets that are known": "secrets that begin alike",
    "Growth: tenants": "tenants stored at once",
    "Growth: flows inside flows": "levels",
    "Growth: flows that rest": "flows at rest, one is due",
    "Growth: resuming": "flows resumed at once",
    "Growth: signals to flows that no process drives": "signals that wait",
    "Decoding event streams": "httpx-sse",
    "From bytes on the socket to durable": "a bare httpx loop",
    "Many event streams": "20 streams, an event every",
    "Starting the command line": "`flows list`",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the shortest run of all the tables prints, against whatever is installed beside the tests."""
    directory = tmp_path_factory.mktemp("benchmarks")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--directory", str(directory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(directory.iterdir()), "a run leaves nothing behind"
    return done.stdout


@pytest.mark.parametrize(("title", "other"), TABLES.items())
def test_every_table_is_made_with_ours_and_a_ratio(report: str, title: str, other: str) -> None:
    """Under each title stands a table whose columns name ours and a ratio, and each figure of a row is there."""
    (section,) = [part for part in report.split("\n## ") if part.startswith(title)]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    head, rows = lines[0], lines[2:]
    assert "ours" in head
    assert "÷" in head
    (row, *_) = [line for line in rows if other in line]
    figures = [cell.strip() for cell in row.strip("|").split("|")[1:]]
    assert len(figures) == len(head.strip("|").split("|")) - 1
    assert all(re.match(r"[\d,.]+", figure) for figure in figures)


def test_a_report_says_on_which_machine_it_was_made(report: str) -> None:
    """Cores, Python, SQLite and the price of an fsync stand at the top."""
    top = report.split("\n## ", maxsplit=1)[0]
    for fact in ("cores", "Python", "SQLite", "fsync", "peers:"):
        assert fact in top


def test_the_peers_are_pinned_by_hash_and_stay_out_of_the_other_environments() -> None:
    """What `make bench` installs is pinned, and none of it is among what the package or its tests need."""
    bench = (ROOT / "requirements-bench.lock").read_text()
    for peer in ("dbos", "harel", "langgraph", "langgraph-checkpoint-sqlite", "python-statemachine", "automat"):
        assert re.search(rf"^{peer}==", bench, re.MULTILINE)
        for lock in ("requirements.lock", "requirements-dev.lock"):
            assert not re.search(rf"^{peer}==", (ROOT / lock).read_text(), re.MULTILINE)
