"""What happened in a history, in order: what was written, what ran, what failed, and what calls returned.

An entry's number is its place in the log, so that "before" and "during a call" are comparisons of numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final, NamedTuple, TypeAlias

from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.engine.ids import ALPHABET

from .plan import Operation

NO_TROUBLE: Final = frozenset({"began", "Cancelled", "FlowParked"})
"""Ways of an activity that pause nothing by themselves: what has paused the child flow also pauses its parent."""

_ID: Final = re.compile(rf"\b[{ALPHABET}]{{18}}\b")


class Wrote(NamedTuple):
    """A record was committed; `at` is the scheduler's time."""

    process: int
    flow: str
    seq: int
    kind: str
    name: str
    state: str
    incarnation: int
    at: float


class Changed(NamedTuple):
    """A flow's row was committed."""

    process: int
    flow: str
    machine: str
    parent: str | None
    status: str
    verdict: str | None
    owner: str | None
    state: str
    incarnation: int


class Posted(NamedTuple):
    """A signal was committed to an inbox."""

    process: int
    flow: str
    signal: int
    body: str


class Dropped(NamedTuple):
    """A signal was committed to have left its inbox."""

    process: int
    signal: int


class Failed(NamedTuple):
    """A write failed, as the plan wants it; of which flows, where that is known."""

    process: int
    flows: frozenset[str]
    what: str


class Worked(NamedTuple):
    """An activity began or ended; `how` is `began`, `returned`, or the name of what it raised."""

    process: int
    flow: str
    state: str
    incarnation: int
    how: str


class Noted(NamedTuple):
    """Something else: a process was opened, closed or killed; a call began or returned."""

    process: int
    text: str


Entry: TypeAlias = Wrote | Changed | Posted | Dropped | Failed | Worked | Noted


class Call:
    """An operation on an engine, and what it returned or raised.

    Attributes:
        process: The number of the process that made it.
        operation: What was called.
        flow: The flow it is about; for a start, the one it returned.
        number: The number of the event or of the start.
        begin: The log's length when it began.
        end: The log's length when it returned.
        pending: Whether it has not returned yet.
        answer: What it returned; None where that is something else than true or false.
        outcome: What a `wait` returned.
        error: What it raised.
        cancelled: Whether its host cancelled it.
        died: Whether its process was killed before it returned.
    """

    def __init__(self, process: int, operation: Operation, flow: str, number: int, begin: int) -> None:
        self.process = process
        self.operation = operation
        self.flow = flow
        self.number = number
        self.begin = begin
        self.end = begin
        self.pending = True
        self.answer: bool | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.cancelled = False
        self.died = False

    @property
    def text(self) -> str:
        """What it returned or raised, as text."""
        if self.cancelled:
            return "cancelled"
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        return str(self.answer if self.outcome is None else self.outcome.verdict)

    def __str__(self) -> str:
        what = f" {self.operation.what} {self.number}" if self.operation.what else ""
        return f"{self.operation.kind}{what} of {self.flow or '?'} by process {self.process}: {self.text}"


class Log:
    """Every entry in order, and by flow what is asked for often.

    Attributes:
        entries: They.
        begun: The flows in the order they began.
        rows: By flow, every row it had, with its number.
        records: By flow, every record, with its number.
        troubles: By flow, the numbers of what may pause it.
        work: By flow, when its activities began and ended.
        posted: By the id of a signal, the number of its entry, and the signal.
        dropped: By the id of a signal that has left its inbox, the kind of the record that was written with that.
        failures: The writes that failed as the plan wants it, with their numbers.
        calls: Every call that was made.
        acknowledged: By flow and number, the events whose delivery was acknowledged to an activity.
        owners: The number of each process, by its name as an owner of flows.
        others: What else is different each time, and what stands for it in texts.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.begun: list[str] = []
        self.rows: defaultdict[str, list[tuple[int, Changed]]] = defaultdict(list)
        self.records: defaultdict[str, list[tuple[int, Wrote]]] = defaultdict(list)
        self.troubles: defaultdict[str, list[int]] = defaultdict(list)
        self.work: defaultdict[str, list[tuple[int, Worked]]] = defaultdict(list)
        self.posted: dict[int, tuple[int, Posted]] = {}
        self.dropped: dict[int, str] = {}
        self.failures: list[tuple[int, Failed]] = []
        self.calls: list[Call] = []
        self.acknowledged: list[tuple[str, int]] = []
        self.owners: dict[str, int] = {}
        self.others: dict[str, str] = {}

    @property
    def now(self) -> int:
        """The number of the next entry."""
        return len(self.entries)

    def add(self, entry: Entry) -> None:
        """One more entry."""
        number = self.now
        self.entries.append(entry)
        match entry:
            case Changed():
                if entry.flow not in self.rows:
                    self.begun.append(entry.flow)
                self.rows[entry.flow].append((number, entry))
            case Wrote():
                self.records[entry.flow].append((number, entry))
            case Posted():
                self.posted[entry.signal] = (number, entry)
            case Failed():
                self.failures.append((number, entry))
                for flow in entry.flows:
                    self.troubles[flow].append(number)
            case Worked():
                self.work[entry.flow].append((number, entry))
                if entry.how not in NO_TROUBLE:
                    self.troubles[entry.flow].append(number)
            case Dropped():
                before = self.entries[number - 1]
                self.dropped[entry.signal] = before.kind if isinstance(before, Wrote) else ""
            case Noted():
                pass

    # --- looking ------------------------------------------------------------------------------------------------------

    def row(self, flow: str, at: int) -> Changed | None:
        """A flow as it was before entry number `at`; None when it had not begun."""
        found = None
        for number, row in self.rows.get(flow, ()):
            if number >= at:
                break
            found = row
        return found

    def during(self, flow: str, begin: int, end: int) -> list[Changed]:
        """Every row a flow had at some moment from `begin` to `end`."""
        first = self.row(flow, begin)
        later = [row for number, row in self.rows.get(flow, ()) if begin <= number < end]
        return later if first is None else [first, *later]

    def wrote(self, flow: str, begin: int, end: int, *kinds: str) -> list[tuple[int, Wrote]]:
        """The records of these kinds a flow got from `begin` to `end`, with their numbers."""
        return [
            (number, record)
            for number, record in self.records.get(flow, ())
            if begin <= number < end and record.kind in kinds
        ]

    def root(self, flow: str, at: int) -> str:
        """The outermost flow around a flow that had not ended before entry number `at`; where that is none, itself."""
        row = self.row(flow, at)
        while row is not None and row.parent is not None:
            parent = self.row(row.parent, at)
            if parent is None or parent.status == "ended":
                break
            flow, row = row.parent, parent
        return flow

    def last_trouble(self, flow: str, before: int) -> int:
        """The number of the last failure of a flow or of one that runs inside it; -1 when there was none."""
        family = (numbers for each, numbers in self.troubles.items() if each == flow or each.startswith(f"{flow}."))
        return max((number for numbers in family for number in numbers if number < before), default=-1)

    def lines(self) -> list[str]:
        """The log for people; flows are numbered in the order they began."""
        text = "\n".join(f"{number:5} {_line(entry)}" for number, entry in enumerate(self.entries))
        return self.short(text).splitlines()

    def short(self, text: str) -> str:
        """A text without what is different each time: flows and processes are numbered."""
        roots = [flow for flow in self.begun if "." not in flow]
        for number, flow in enumerate(roots):
            text = text.replace(flow, f"flow-{number}")
        for owner, number in self.owners.items():
            text = text.replace(owner, f"process-{number}")
        for varies, text_for_it in self.others.items():
            text = text.replace(varies, text_for_it)
        return _ID.sub("a flow that did not begin", text)


def _line(entry: Entry) -> str:
    values = [
        f"{name}={','.join(sorted(value)) if isinstance(value, frozenset) else value}"
        for name, value in zip(entry._fields, entry, strict=True)
        if name != "process"
    ]
    return f"[{entry.process}] {type(entry).__name__:8} {' '.join(values)}"
