"""The example of a hundred children: killed wherever, each letter is sent once, by one flow."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from systemprompt_cloud.engine.journal.journal import Journal

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fan_out.py"
GUIDE = ROOT / "docs" / "guides" / "own-machine.md"

# Runs the example, and kills the process while a letter is written: the first number says which one.
KILLED = """
import os, runpy, signal, sys

left = int(sys.argv[1])


def count(event, arguments):
    global left
    if event == "open" and "/outbox/" in str(arguments[0]):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(count)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words."""
    return subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, timeout=120, check=False)


def test_the_guide_shows_the_example() -> None:
    """As it is, so that what a reader copies is what is tested here."""
    assert f"```python\n{EXAMPLE.read_text()}```\n" in GUIDE.read_text()


def test_its_usage_is_told() -> None:
    """Whoever gives it something else gets a line that says what it takes."""
    ran = subprocess.run(
        [sys.executable, EXAMPLE, "d", "many"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 2
    assert "usage: fan_out.py [-h] [directory] [letters]" in ran.stderr


def test_a_hundred_children_run_once(tmp_path: Path) -> None:
    """Without trouble; asked for again, the ended mailing is given back and nothing is sent."""
    for _ in range(2):
        assert run(str(EXAMPLE), str(tmp_path)).stdout.split()[-1] == "done"
        _each_once(tmp_path)


def test_killed_in_the_middle_each_child_runs_once(tmp_path: Path) -> None:
    """Several times, each time by another process: found again by their keys, none is started or sent twice."""
    for letter in (1, 40, 5, 30):
        assert run("-c", KILLED, str(letter), str(EXAMPLE), str(tmp_path)).returncode == -signal.SIGKILL
    assert run(str(EXAMPLE), str(tmp_path)).stdout.split()[-1] == "done"
    _each_once(tmp_path)


def _each_once(directory: Path) -> None:
    letters = list((directory / "outbox").iterdir())
    assert sorted(each.read_text() for each in letters) == sorted(f"reader-{n}@example.org" for n in range(100))
    with Journal(directory / "state" / "journal.sqlite3", create=False) as journal:
        (mailing,) = journal.flows(roots_only=True)
        children = journal.children(mailing.id)
        assert Counter(row.state for row in (mailing, *children)) == {"done": 1, "sent": 100}
        for child in children:
            kinds = Counter(record.kind for record in journal.records(child.id))
            assert (kinds["started"], kinds["intent"], kinds["event"]) == (1, 1, 1)
