"""What grows with what: `python -m benchmarks.growth`, a table for each.

Each line is measured at two sizes, one ten times the other, and shows how many times more the larger one takes. 10 is
linear in the size. Where only one thing is done beside many that are not touched, nothing should grow: 1. Processor
time is measured and not time, so that a busy disk changes little, and without the garbage collector, whose full
collections grow with everything that is alive; memory is what Python has allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from .measure import (
    Contestant,
    Settings,
    Table,
    Workers,
    median,
    ratio,
    run_tables,
    section,
    spread,
    take_turns,
    workers,
)
from .results import Cost, Filled

TIMES: Final = 10
"""How much larger the larger size is."""
DRIVEN: Final = "benchmarks.growth_driven"
STORED: Final = "benchmarks.growth_stored"
RESTING: Final = "benchmarks.growth_resting"


class Line(msgspec.Struct, frozen=True):
    """One thing that is measured at two sizes.

    Attributes:
        what: What it is.
        unit: What the figures are.
        module: Where its function is.
        function: What is called with `size`, and with `home` where something is filled before.
        size: The smaller size.
        note: How it is set up.
        fill: The function that fills a directory with `size` things, once for all rounds.
    """

    what: str
    unit: str
    module: str
    function: str
    size: int
    note: str
    fill: str = ""


class Subject(msgspec.Struct, frozen=True):
    """The lines of one table."""

    title: str
    lines: Sequence[Line]


SUBJECTS: Final = (
    Subject(
        "watching flows",
        (
            Line(
                "flows, each with a follower",
                "ms",
                DRIVEN,
                "watched",
                100,
                "seven events of each flow, each flow followed by `changes()` of its own.",
            ),
            Line(
                "children, followed together",
                "ms",
                DRIVEN,
                "watched_family",
                100,
                "a flow that runs all of them at once, followed by `changes(children=True)`.",
            ),
            Line(
                "children, one after the other",
                "ms",
                DRIVEN,
                "series",
                50,
                "a flow that begins the next when one has ended.",
            ),
        ),
    ),
    Subject(
        "opening",
        (
            Line(
                "flows that have ended",
                "ms",
                STORED,
                "opened",
                50_000,
                "`open_engine` and its end; the journal was closed.",
                "flows",
            ),
            Line(
                "flows that have ended, after a crash",
                "ms",
                STORED,
                "opened_after_crash",
                50_000,
                "the same; the last process was killed, so the journal is checked first.",
                "flows",
            ),
        ),
    ),
    Subject(
        "checking and pruning",
        (
            Line("flows checked", "ms", STORED, "checked", 1_000, "what `flows check` does.", "flows"),
            Line(
                "flows checked, memory",
                "KB",
                STORED,
                "checked_memory",
                1_000,
                "the most that is held at once during the same.",
                "flows",
            ),
            Line("flows pruned", "ms", STORED, "pruned", 500, "all have ended long ago."),
            Line(
                "vaults of others beside them",
                "ms",
                STORED,
                "pruned_beside",
                1_000,
                "100 flows are pruned while so many have secrets; their rows are looked through for old ones.",
                "vaults",
            ),
        ),
    ),
    Subject(
        "the past of one flow",
        (
            Line(
                "records, asked about one visit",
                "ms",
                STORED,
                "asked",
                1_000,
                "200 times the intents, the refused events, the first and the last record.",
                "long_history",
            ),
            Line(
                "records, read as they are shown",
                "KB",
                STORED,
                "history_memory",
                1_000,
                "the most that is held at once while `flows history --json` would go through them.",
                "long_history",
            ),
        ),
    ),
    Subject(
        "deadlines",
        (
            Line(
                "waits until a deadline",
                "ms",
                DRIVEN,
                "deadlines",
                1_000,
                "an hour of waiting in which none passes, on a virtual clock.",
            ),
        ),
    ),
    Subject(
        "secrets that are known",
        (
            Line("secrets, all different", "ms", STORED, "redacted", 1_000, "1,000 lines are redacted."),
            Line(
                "secrets that begin alike",
                "ms",
                STORED,
                "redacted_alike",
                1_000,
                "1,000 lines, each with a word that begins as all secrets do.",
            ),
        ),
    ),
    Subject(
        "tenants",
        (
            Line(
                "tenants stored at once", "ms", STORED, "tenants_stored", 50, "as flows do that save theirs together."
            ),
            Line(
                "tenants synchronized",
                "ms",
                STORED,
                "tenants_synced",
                100,
                "20 times `TenantStore.sync` with the whole list.",
            ),
        ),
    ),
    Subject(
        "flows inside flows",
        (
            Line("levels", "ms", DRIVEN, "nested", 5, "each flow runs one inside it; all of them end."),
            Line("levels, the longest id", "characters", DRIVEN, "longest_id", 5, "of the innermost flow."),
        ),
    ),
    Subject(
        "flows that rest",
        (
            Line(
                "flows at rest",
                "ms",
                RESTING,
                "opened",
                100_000,
                "`open_engine(wake=True)` and its end beside them.",
                "resting",
            ),
            Line(
                "flows at rest, memory",
                "KB",
                RESTING,
                "opened_memory",
                100_000,
                "the most that is held in the first 0.2 s beside them.",
                "resting",
            ),
            Line(
                "flows at rest, events to 100 of them",
                "ms",
                RESTING,
                "answered",
                100_000,
                "each is woken, takes its event and rests again.",
                "resting",
            ),
            Line(
                "flows at rest, one is due",
                "ms",
                RESTING,
                "woken",
                100_000,
                "it is woken by its deadline, and ends.",
                "resting",
            ),
        ),
    ),
    Subject(
        "resuming",
        (Line("flows resumed at once", "ms", DRIVEN, "resumed", 100, "after an engine with all of them was closed."),),
    ),
    Subject(
        "signals to flows that no process drives",
        (
            Line(
                "signals that wait",
                "ms",
                DRIVEN,
                "looked",
                1_000,
                "100 looks into the inbox after the first, on a virtual clock.",
            ),
        ),
    ),
)

QUICK_SIZE: Final = 3


def _table(subject: Subject, settings: Settings) -> str:
    with workers(settings) as asked:
        rows = [_row(settings, asked, line) for line in subject.lines]
    title = f"Growth: {subject.title} (medians of {settings.rounds} rounds; 10 is linear, 1 does not grow)"
    head = [
        "what there is ten times more of",
        "ours, at",
        "ours",
        "at ten times as many",
        "ten times ÷ ours",
        "larger's min to max round",
    ]
    return section(title, head, rows, map(_contestant, subject.lines))


def _row(settings: Settings, asked: Workers, line: Line) -> list[str]:
    small = min(line.size, QUICK_SIZE) if settings.quick else line.size
    ours = _contestant(line)  # one process for both sizes: what is compared is this code with itself
    sizes = {f"{line.what}, {size}": size for size in (small, small * TIMES)}
    homes = {size: _filled(settings, asked, line, ours, size) for size in sizes.values()} if line.fill else {}

    def ask(sized: Contestant) -> float:
        size = sizes[sized.label]
        home = {"home": homes[size]} if line.fill else {}
        return asked.ask(ours, Cost, size=size, **home).value

    turns = [msgspec.structs.replace(ours, label=label) for label in sizes]
    taken = take_turns(turns, settings.rounds, ask, warm=not settings.quick)
    asked.stop(ours.label)
    smaller, larger = (taken[label] for label in sizes)
    shown = [f"{median(values):,.2f} {line.unit}" for values in (smaller, larger)]
    return [line.what, f"{small:,}", *shown, ratio(median(larger), median(smaller)), spread(larger)]


def _filled(settings: Settings, asked: Workers, line: Line, ours: Contestant, size: int) -> str:
    home = settings.directory / f"{line.module}.{line.function}-{size}"
    home.mkdir(mode=0o700)
    return asked.ask(msgspec.structs.replace(ours, function=line.fill), Filled, home=str(home), size=size).flow


def _contestant(line: Line) -> Contestant:
    return Contestant(line.what, line.module, line.function, note=line.note)


tables: Final[tuple[Table, ...]] = tuple(partial(_table, subject) for subject in SUBJECTS)
"""One for each subject."""


if __name__ == "__main__":
    run_tables(tables)
