"""Durable transitions a second: `python -m benchmarks.durable`.

A transition counts when its small change of state is on disk. The measured time begins after all flows were
started and ends with the last transition of the last flow. Ours is measured under two loads, which differ in cost:

- *leaving*: every transition enters another state: the old state's nursery is closed and awaited, a new one opened;
- *staying*: every transition is progress sent from outside with `Flow.send`, and the state's activities go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from .measure import (
    SKIP_SECONDS,
    Contestant,
    ContestantFailed,
    Settings,
    Workers,
    median,
    present,
    ratio,
    run_tables,
    section,
    spread,
    take_turns,
    workers,
)
from .results import Run

SIZES: Final = (1, 100, 1_000, 10_000)
ROUND_SECONDS: Final = 0.7
FIRST_GUESS: Final = 40
MOST: Final = 50_000

LEAVING: Final = Contestant("ours, leaving", "benchmarks.driven_ours", "leaving")
STAYING: Final = Contestant("ours, staying", "benchmarks.driven_ours", "staying")
COLLECTED: Final = tuple(
    Contestant(
        f"{each.label}, collected rarely",
        each.module,
        each.function,
        arguments={"threshold": 100_000},
        note="with `gc.set_threshold(100_000)`: Python's garbage collector visits all live objects less often.",
    )
    for each in (LEAVING, STAYING)
)
RAW: Final = Contestant(
    "raw SQLite",
    "benchmarks.raw",
    "transitions",
    note="the two statements of our transitions, one commit each, WAL, synchronous=FULL, one thread.",
)
GROUPED: Final = Contestant(
    "raw SQLite, grouped",
    "benchmarks.raw",
    "grouped",
    note="the same, with one transition of every flow in one commit: the ceiling of any group commit.",
)
PEERS: Final = (
    Contestant(
        "DBOS",
        "benchmarks.peers.dbos",
        "transitions",
        needs=("dbos",),
        note="asynchronous workflow and steps, the file put into WAL mode, synchronous=FULL by default; all flows at "
        "once. The commit of a workflow's result counts as one of its transitions.",
    ),
    Contestant(
        "harel",
        "benchmarks.peers.harel",
        "transitions",
        needs=("harel",),
        note='`DurableRunner(SqliteStore, execution="inline")`, WAL, synchronous=FULL by default; one flow after the '
        "other, the others idle in the store.",
    ),
    Contestant(
        "LangGraph",
        "benchmarks.peers.langgraph",
        "transitions",
        needs=("langgraph",),
        note='`SqliteSaver`, `durability="sync"`, WAL, synchronous=FULL by default; one flow after the other. Every '
        "checkpoint counts as a transition, those for input and start too.",
    ),
    Contestant(
        "python-statemachine + JSON",
        "benchmarks.peers.statemachine",
        "transitions",
        needs=("statemachine",),
        arguments={"threads": 1},
        note="a model that writes its state to a JSON file (write, fsync, rename); one thread.",
    ),
    Contestant(
        "python-statemachine + JSON, 16 threads",
        "benchmarks.peers.statemachine",
        "transitions",
        needs=("statemachine",),
        arguments={"threads": 16},
        note="the same with 16 threads, so that their fsyncs overlap.",
    ),
)
EVERYBODY: Final = (LEAVING, STAYING, *COLLECTED, RAW, GROUPED, *PEERS)


FLOORS: Final = {**{each.label: 1 for each in (LEAVING, STAYING, *COLLECTED)}, "DBOS": 2, "LangGraph": 3}
"""The fewest transitions each flow makes in a round; the other peers need not touch every flow in their store."""

HEAD: Final = (
    "flows, peer",
    "ours leaving /s",
    "ours staying /s",
    "peer /s",
    "leaving ÷ peer",
    "staying ÷ peer",
    "peer's transitions per round",
    "peer's min to max round",
)


class Size:
    """One size of the table: the rounds of each contestant with this number of flows.

    Args:
        flows: How many flows.
        settings: How thorough the run is.
        asked: The contestants' processes.
        before: The last round of each contestant at the previous size, by label; empty for the first size.
    """

    def __init__(self, flows: int, settings: Settings, asked: Workers, before: Mapping[str, Run]) -> None:
        self.flows = flows
        self.skipped: dict[str, str] = {}
        self._asked = asked
        seconds = 0.05 if settings.quick else ROUND_SECONDS
        self._counts: dict[str, int] = {}
        taking_part = [each for each in present(EVERYBODY) if self._worth_it(each, before, seconds)]
        rounds = take_turns(taking_part, settings.rounds, self._run)
        self.runs = {label: [run for run in runs if run] for label, runs in rounds.items() if label not in self.skipped}

    def _worth_it(self, contestant: Contestant, before: Mapping[str, Run], seconds: float) -> bool:
        # The previous size predicts how long this one takes; then one round is discarded, to warm up and to find out
        # how many transitions fill the time.
        label = contestant.label
        if before and label not in before:
            self.skipped[label] = "skipped at a smaller size"
            return False
        count = FIRST_GUESS
        if before:
            last = before[label]
            least = self.flows * FLOORS.get(label, 0)
            expected = last.setup / last.flows * self.flows + max(seconds, least / last.rate)
            if expected > SKIP_SECONDS:
                self.skipped[label] = f"skipped: it would take about {expected:,.0f} s a round"
                return False
            count = round(last.rate * seconds)
        self._counts[label] = min(MOST, max(self.flows, count) if label in FLOORS else max(1, count))
        warm = self._run(contestant)
        if warm is None:
            return False
        self._counts[label] = max(10, min(MOST, round(warm.rate * seconds)))
        return True

    def _run(self, contestant: Contestant) -> Run | None:
        # A peer that fails is skipped, and the table says why; a failure of ours ends the run.
        label = contestant.label
        if label in self.skipped:
            return None
        try:
            return self._asked.ask(contestant, Run, flows=self.flows, transitions=self._counts[label])
        except ContestantFailed as exc:
            if contestant not in PEERS:
                raise
            self.skipped[label] = f"failed: {str(exc).strip().splitlines()[-1]}"
            return None

    def rate(self, label: str) -> float:
        """The median transitions per second of the rounds; 0 for a contestant that was skipped."""
        return median(run.rate for run in self.runs[label]) if label in self.runs else 0.0

    def last(self) -> dict[str, Run]:
        """The last round of each contestant."""
        return {label: runs[-1] for label, runs in self.runs.items()}

    def rows(self) -> Iterator[Sequence[str]]:
        """This size's part of the table."""
        leaving, staying = self.rate(LEAVING.label), self.rate(STAYING.label)
        for peer in present((RAW, GROUPED, *PEERS)):
            name = f"{self.flows:,}, {peer.label}"
            if peer.label in self.skipped:
                yield (name, f"{leaving:,.0f}", f"{staying:,.0f}", self.skipped[peer.label], *[""] * 4)
                continue
            runs, rate = self.runs[peer.label], self.rate(peer.label)
            yield (
                name,
                f"{leaving:,.0f}",
                f"{staying:,.0f}",
                f"{rate:,.0f}",
                ratio(leaving, rate),
                ratio(staying, rate),
                f"{runs[-1].transitions:,}",
                spread([run.rate for run in runs]),
            )

    def summary(self) -> str:
        """The summary: ours as a multiple of the raw commit rate and of the best durable peer."""
        leaving, staying, raw = (self.rate(each.label) for each in (LEAVING, STAYING, RAW))
        rarely = [self.rate(each.label) for each in COLLECTED]
        best = max(present(PEERS), key=lambda peer: self.rate(peer.label), default=None)
        against = ""
        if best is not None and (rate := self.rate(best.label)):
            against = f"; {ratio(leaving, rate)} and {ratio(staying, rate)} times the best peer, {best.label}"
        multiples = f"{ratio(leaving, raw)} (leaving) and {ratio(staying, raw)} (staying) of the raw commit rate"
        collected = f"{ratio(rarely[0], leaving)} and {ratio(rarely[1], staying)} times as many"
        made = f"{self._made(LEAVING)} and {self._made(STAYING)} transitions a round"
        return (
            f"- Flows: {self.flows:,}. {multiples}{against}. With `gc.set_threshold(100_000)` {collected}. "
            f"Ours made {made}."
        )

    def _made(self, contestant: Contestant) -> str:
        return f"{self.runs[contestant.label][-1].transitions:,}"


def table(settings: Settings) -> str:
    """The table of durable transitions a second, for every size."""
    rows: list[Sequence[str]] = []
    summaries: list[str] = []
    before: dict[str, Run] = {}
    with workers(settings) as asked:
        for flows in (1, 20) if settings.quick else SIZES:
            size = Size(flows, settings, asked, before)
            rows += size.rows()
            summaries.append(size.summary())
            before = size.last()
    title = f"Durable transitions a second (medians of {settings.rounds} rounds)"
    return section(title, HEAD, rows, EVERYBODY, said="\n".join(summaries))


if __name__ == "__main__":
    run_tables([table])
