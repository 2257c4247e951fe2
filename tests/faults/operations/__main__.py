"""Try random operations on real engines, and check every promise at the end of each history.

    python -m tests.faults.operations --histories 20000 --seed 1

Each history has a seed of its own, the first `--seed`, the next one more. A history that breaks a promise is printed:
its seed, its operations, made as few as they can be, and the promises. `--seed S --histories 1` repeats it exactly.
"""

from __future__ import annotations

import argparse
import faulthandler
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from .plan import Plan, generate, shrink
from .simulation import CarryOut, Report, place_for_histories

HANGS_SECONDS: Final = 120
"""A history that takes longer hangs without giving the scheduler a turn; where it does is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if no promise was broken, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.operations", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=1, help="stop after so many histories that break a promise")
    parser.add_argument("--no-shrink", action="store_true", help="print the operations as they were generated")
    parser.add_argument("--log", action="store_true", help="print each history, and everything that happened in it")
    parser.add_argument("--plan", type=Path, help="carry out the plan in a JSON file, as one was printed")
    wanted = parser.parse_args(argv)
    if wanted.plan is not None:
        plans = iter([msgspec.json.decode(wanted.plan.read_bytes(), type=Plan)])
    else:
        plans = (generate(wanted.seed + number) for number in range(wanted.histories))
    began, histories, calls, writes, broken = time.perf_counter(), 0, 0, 0, 0
    with place_for_histories() as carry_out:
        for plan in plans:
            faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
            report = carry_out(plan, log=wanted.log)
            histories, calls, writes = histories + 1, calls + report.calls, writes + report.writes
            if report.problems:
                broken += 1
                if not wanted.no_shrink:
                    faulthandler.cancel_dump_traceback_later()
                    report = carry_out(_shortest(report, carry_out))
            if report.problems or wanted.log:
                print_report(report, log=wanted.log)
            if broken == wanted.most:
                break
    faulthandler.cancel_dump_traceback_later()
    rate = histories / (time.perf_counter() - began)
    print(f"{histories} histories, {calls} calls, {writes} records: {broken} broke a promise")
    print(f"{rate:.0f} histories a second", file=sys.stderr)
    return 1 if broken else 0


def _shortest(report: Report, carry_out: CarryOut) -> Plan:
    """A plan with fewer operations that breaks one of the same promises."""

    def kinds(found: Report) -> set[str]:
        return {re.sub(r"\d+", "", problem) for problem in found.problems}

    wanted = kinds(report)
    return shrink(report.plan, lambda smaller: bool(kinds(carry_out(smaller)) & wanted))


def print_report(report: Report, *, log: bool) -> None:
    """Print a history and the promises it broke."""
    print(*report.plan.lines(), sep="\n")
    print(msgspec.json.encode(report.plan).decode())
    if log:
        print(*report.log, sep="\n")
    print(*(f"* {problem}" for problem in report.problems), sep="\n")
    print()


if __name__ == "__main__":
    sys.exit(main())
