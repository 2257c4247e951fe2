"""Shared by every table: contestants in separate processes, interleaved rounds, medians, and Markdown."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from .machine import facts, installed
from .worker import Answer, Question

ROOT: Final = Path(__file__).parents[1]
SKIP_SECONDS: Final = 20.0
"""A peer that would need more seconds than this for one round of a size is skipped, and the table says so."""

ANSWER_SECONDS: Final = 120.0
"""Seconds after which a contestant that has not answered is killed."""

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True):
    """How thorough a run is.

    Attributes:
        directory: Where files are written; the disk that is measured.
        quick: True for the shortest run that fills every table.
        rounds: How often each contestant is measured.
    """

    directory: Path
    quick: bool
    rounds: int


class Contestant(msgspec.Struct, frozen=True):
    """One implementation that is measured.

    Attributes:
        label: The name in the table.
        module: Where its functions are, a module of this package.
        function: What is called.
        needs: The modules that must be installed.
        note: How it was set up, for the reader of the table.
        arguments: Passed to the function besides what the table passes to each contestant.
        imports: A directory to import from before any other; empty for none.
    """

    label: str
    module: str
    function: str
    needs: tuple[str, ...] = ()
    note: str = ""
    arguments: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    imports: str = ""


class ContestantFailed(Exception):
    """A contestant raised; its traceback is the message."""


class Workers:
    """The contestants' processes, each started for its first measurement.

    Args:
        settings: Where they write.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def ask(self, contestant: Contestant, kind: type[T], **arguments: object) -> T:
        """Measure one contestant once.

        Raises:
            ContestantFailed: It raised, or its process died.
        """
        process = self._processes.get(contestant.label) or self._start(contestant)
        assert process.stdin is not None
        assert process.stdout is not None
        question = Question(
            contestant.function, {**contestant.arguments, **arguments}, str(self._settings.directory.resolve())
        )
        process.stdin.write(msgspec.json.encode(question) + b"\n")
        process.stdin.flush()
        with killed_after(process, ANSWER_SECONDS):
            line = process.stdout.readline()
        answer = (
            msgspec.json.decode(line, type=Answer)
            if line
            else Answer(error=f"its process died, or did not answer within {ANSWER_SECONDS:g} s")
        )
        if not line:
            self.stop(contestant.label)
        if answer.error:
            raise ContestantFailed(f"{contestant.label}: {answer.error}")
        return msgspec.convert(answer.value, kind)

    def ask_once(self, contestant: Contestant, kind: type[T], **arguments: object) -> T:
        """Measure once in a fresh process, for figures that an earlier measurement would change, such as memory."""
        self.stop(contestant.label)
        answer = self.ask(contestant, kind, **arguments)
        self.stop(contestant.label)
        return answer

    def stop(self, label: str) -> None:
        """Kill one contestant's process; the next measurement starts a new one."""
        process = self._processes.pop(label, None)
        if process is not None:
            with process:
                process.kill()

    def close(self) -> None:
        """Kill every process."""
        for label in list(self._processes):
            self.stop(label)

    def _start(self, contestant: Contestant) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 our own module
            [sys.executable, "-m", "benchmarks.worker", contestant.module],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": contestant.imports} if contestant.imports else None,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes[contestant.label] = process
        return process


@contextlib.contextmanager
def killed_after(process: subprocess.Popen[bytes], seconds: float) -> Generator[None, None, None]:
    """Kill the process if the block takes longer."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def workers(settings: Settings) -> Generator[Workers, None, None]:
    """Processes for the contestants of one table."""
    made = Workers(settings)
    try:
        yield made
    finally:
        made.close()


def present(contestants: Iterable[Contestant]) -> list[Contestant]:
    """The contestants whose modules are installed."""
    return [each for each in contestants if installed(each.needs)]


def take_turns(
    names: Sequence[Contestant], rounds: int, ask: Callable[[Contestant], T], *, warm: bool = False
) -> dict[str, list[T]]:
    """Measure each contestant once a round, starting with a different one each time; returns the results by label.

    Args:
        names: The contestants.
        rounds: How often each is measured.
        ask: Measures one contestant once.
        warm: Whether to discard a first round.
    """
    answers: dict[str, list[T]] = {name.label: [] for name in names}
    for number in range(-warm, rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            answer = ask(name)
            if number >= 0:
                answers[name.label].append(answer)
    return answers


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def ratio(ours: float, other: float) -> str:
    """Ours as a multiple of the other."""
    quotient = ours / other if other else 0.0
    return f"{quotient:,.2f}" if quotient < 10 else f"{quotient:,.1f}"


def spread(values: Sequence[float]) -> str:
    """The smallest and the largest value, as fractions of the median."""
    middle = median(values)
    return f"{min(values) / middle:.2f} to {max(values) / middle:.2f}" if middle else ""


def compared(ours: float, others: Sequence[float], form: str = ",.2f") -> list[str]:
    """Cells: ours, the other's median, their ratio, and the other's spread."""
    return [f"{ours:{form}}", f"{median(others):{form}}", ratio(ours, median(others)), spread(others)]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def section(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], contestants: Iterable[Contestant], *, said: str = ""
) -> str:
    """A table under its title, the text `said` about it, the contestants' notes, and the peers that are missing."""
    everybody = list(contestants)
    notes = "\n".join(f"- {each.label}: {each.note}" for each in everybody if each.note)
    missing = dict.fromkeys(each.label for each in everybody if not installed(each.needs))
    absent = f"Not installed here: {', '.join(missing)}." if missing else ""
    return "\n\n".join(part for part in (f"## {title}", markdown(head, rows), said, notes, absent) if part)


Table = Callable[[Settings], str]


def run_tables(tables: Sequence[Table], arguments: Sequence[str] | None = None) -> None:
    """Print the machine's facts and the tables; the entry point of every file here."""
    parser = ArgumentParser(description="Measure, and print Markdown.")
    parser.add_argument("--quick", action="store_true", help="the shortest run that fills every table")
    parser.add_argument("--rounds", type=int, default=0, help="how often each contestant is measured (5; 1 when quick)")
    parser.add_argument("--directory", type=Path, default=ROOT / "build", help="a directory on the disk to measure")
    options = parser.parse_args(arguments)
    options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as name:
        settings = Settings(Path(name), options.quick, options.rounds or (1 if options.quick else 5))
        print(facts(settings.directory), flush=True)
        if options.quick:
            print("\nA quick run: it shows that the tables work. Its figures mean nothing.")
        for table in tables:
            print(f"\n{table(settings)}", flush=True)
