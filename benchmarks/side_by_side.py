"""Compare two checkouts of this package: `python -m benchmarks.side_by_side OTHER_CHECKOUT [--rounds N]`.

The new side is the checkout this file is in, the old side is the other one. Each is the directory that is the package
`systemprompt_cloud`. In each round both sides get fresh processes, and they alternate in which one is measured first.
The benchmark uses public names only, so the modules of the two checkouts may differ.

A ratio is the median of the rounds' ratios. Larger is better: 1.00 is the same, below 1 is worse.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from .machine import fsync_seconds
from .measure import ROOT, Contestant, Settings, Workers, markdown, median, spread, workers
from .results import Latencies, Run

DRIVEN: Final = "benchmarks.driven_ours"
NOT_LOGGED_IN: Final = 4
"""The exit code of `whoami` in an empty directory."""


class Sizes(msgspec.Struct, frozen=True):
    """How much is measured in a round.

    Attributes:
        alone: Transitions of the single flow.
        flows: How many flows "many flows" are.
        each: Transitions of each of the many flows.
        events: Events whose latency is measured.
        starts: How often each command is run.
    """

    alone: int = 2_000
    flows: int = 1_000
    each: int = 8
    events: int = 1_500
    starts: int = 5


QUICK: Final = Sizes(alone=20, flows=10, each=2, events=20, starts=1)


class Side(msgspec.Struct, frozen=True):
    """One of the two checkouts.

    Attributes:
        label: `old` or `new`.
        checkout: Its directory.
        imports: A directory to import from, in which the checkout is `systemprompt_cloud`.
    """

    label: str
    checkout: Path
    imports: Path

    def asks(self, function: str) -> Contestant:
        """The contestant that runs a function of `driven_ours` with this side's package."""
        return Contestant(self.label, DRIVEN, function, imports=str(self.imports))


class Figure(msgspec.Struct, frozen=True):
    """One line of the table.

    Attributes:
        name: What was measured.
        unit: `/s` (more is better), `µs` or `ms` (less is better).
        old: The median of the other checkout.
        new: The median of this checkout.
        ratio: The median of the rounds' ratios; above 1 the new one is better.
        spread: The smallest and the largest of these ratios, as fractions of the median.
    """

    name: str
    unit: str
    old: float
    new: float
    ratio: float
    spread: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison, as `--json` stores it."""

    made: str
    python: str
    cpu: str
    cores: int
    system: str
    fsync_microseconds: float
    old: str
    new: str
    rounds: int
    sizes: Sizes
    figures: list[Figure]


UNITS: Final = {
    "leaving, 1 flow": "/s",
    "leaving, many flows": "/s",
    "staying, 1 flow": "/s",
    "staying, many flows": "/s",
    "send, p50": "µs",
    "send, p99": "µs",
    "--help, CPU": "ms",
    "whoami, CPU": "ms",
}


class WrongPackage(Exception):
    """A process imported another package than the one it was to measure."""


@contextmanager
def sides(old: Path, new: Path) -> Generator[tuple[Side, Side]]:
    """Both checkouts, each under the package's name in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as name:
        made: list[Side] = []
        for label, checkout in (("old", old.resolve()), ("new", new.resolve())):
            imports = Path(name, label)
            imports.mkdir()
            (imports / "systemprompt_cloud").symlink_to(checkout)
            made.append(Side(label, checkout, imports))
        yield made[0], made[1]


def measure(old: Side, new: Side, settings: Settings, sizes: Sizes) -> list[Figure]:
    """Measure every figure in every round.

    Raises:
        WrongPackage: A side's process imported another package.
    """
    rounds: list[dict[str, dict[str, float]]] = []
    with workers(settings) as asked:
        for number in range(settings.rounds):
            for side in (old, new):
                asked.stop(side.label)
                found = asked.ask(side.asks("where"), str)
                if Path(found) != side.checkout:
                    raise WrongPackage(f"the {side.label} side imports {found}, not {side.checkout}")
                asked.ask(side.asks("leaving"), Run, flows=1, transitions=sizes.alone // 10)  # to warm up
            rounds.append(_round(number, (old, new), asked, settings, sizes))
    figures: list[Figure] = []
    for name, unit in UNITS.items():
        pairs = [(each["old"][name], each["new"][name]) for each in rounds]
        ratios = [after / before if unit == "/s" else before / after for before, after in pairs]
        before, after = (round(median(values), 1) for values in zip(*pairs, strict=True))
        figures.append(Figure(name, unit, before, after, round(median(ratios), 3), spread(ratios)))
    return figures


def _round(
    number: int, both: tuple[Side, Side], asked: Workers, settings: Settings, sizes: Sizes
) -> dict[str, dict[str, float]]:
    taken: dict[str, dict[str, float]] = {side.label: {} for side in both}
    for place, (name, function) in enumerate(
        (
            ("leaving, 1 flow", "leaving"),
            ("leaving, many flows", "leaving"),
            ("staying, 1 flow", "staying"),
            ("staying, many flows", "staying"),
            ("send", "latencies"),
            ("--help, CPU", "--help"),
            ("whoami, CPU", "whoami"),
        )
    ):
        for side in both if (number + place) % 2 == 0 else reversed(both):
            own = taken[side.label]
            if name == "send":
                latencies = asked.ask(side.asks(function), Latencies, flows=1, events=sizes.events)
                own |= {"send, p50": latencies.p50 * 1e6, "send, p99": latencies.p99 * 1e6}
            elif name.endswith("CPU"):
                own[name] = median(start_cpu(side, function, settings.directory) for _ in range(sizes.starts)) * 1e3
            else:
                flows = 1 if name.endswith("1 flow") else sizes.flows
                transitions = sizes.alone if flows == 1 else flows * sizes.each
                own[name] = asked.ask(side.asks(function), Run, flows=flows, transitions=transitions).rate
    return taken


def start_cpu(side: Side, command: str, directory: Path) -> float:
    """Seconds of CPU, in user and system mode, that one run of a command takes in an empty home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYSTEMPROMPT_", "XDG_"))}
    with tempfile.TemporaryDirectory(dir=directory) as home:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(  # noqa: S603 our own module
            [sys.executable, "-P", "-m", "systemprompt_cloud", command],
            cwd=home,
            env={**kept, "PYTHONPATH": str(side.imports), "HOME": home},
            capture_output=True,
            text=True,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != (NOT_LOGGED_IN if command == "whoami" else 0):
        raise RuntimeError(f"{side.checkout}: {command} ended with {done.returncode}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commit_of(checkout: Path) -> str:
    """The commit a checkout is at, with `-dirty` when files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 our own words
    return done.stdout.strip() or "unknown"


def cpu_model() -> str:
    """The processor's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def table(report: Report) -> str:
    """The report in Markdown."""
    rows = [
        [f"{each.name}, {each.unit}", f"{each.old:,.1f}", f"{each.new:,.1f}", f"{each.ratio:.2f}", each.spread]
        for each in report.figures
    ]
    head = ["", "old", "new", "ratio (larger is better)", "smallest to largest ratio"]
    many = f"Many flows: {report.sizes.flows:,}. Medians of {report.rounds} rounds."
    return f"old: {report.old}\nnew: {report.new}\n{many}\n\n{markdown(head, rows)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = ArgumentParser(prog="python -m benchmarks.side_by_side", description="Compare two checkouts.")
    parser.add_argument("other", type=Path, help="the old checkout: the directory that is the package")
    parser.add_argument("--rounds", type=int, default=9, help="how often each side is measured (9)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="a file to keep the figures in")
    parser.add_argument("--directory", type=Path, default=ROOT / "build", help="a directory on the disk to measure")
    given = parser.parse_args(arguments)
    given.directory.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if given.quick else Sizes()
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", dir=given.directory) as name,
        sides(given.other, ROOT) as (old, new),
    ):
        fsync = fsync_seconds(Path(name))
        report = Report(
            made=datetime.now(UTC).date().isoformat(),
            python=platform.python_version(),
            cpu=cpu_model(),
            cores=os.cpu_count() or 0,
            system=f"{platform.system()} {platform.release()}",
            fsync_microseconds=round(fsync * 1e6, 1),
            old=commit_of(given.other),
            new=commit_of(ROOT),
            rounds=given.rounds,
            sizes=sizes,
            figures=measure(old, new, Settings(Path(name), given.quick, given.rounds), sizes),
        )
    print(table(report))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


if __name__ == "__main__":
    main()
