"""A flow's history in a few lines: one for each state it was in, what went wrong there counted, and how it ended.

The left column is the time since the flow started. Progress is counted, not listed; what the caller calls trouble is
one line for each kind, with how often it happened, for how long, and its most frequent cause. Flows inside a state are
told by how they ended. `draw_tree` has every change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ..base.columns import measure, padded
from ..base.texts import with_cause
from ..engine.history import Change
from ..engine.ids import child_parts, parent_part
from ..engine.machine.machine import Machine
from ..engine.machine.parts import State, Verdict
from ._ink import Paper, Span, Style, elapsed
from ._path import Stay, children_by_visit, moment, visits

NO_TROUBLES: Final[Mapping[str, str]] = MappingProxyType({})
_ENDED: Final = {"success": "succeeded", "failure": "failed", "cancelled": "was cancelled"}
_OPEN: Final = {"paused": "is paused", "abandoned": "was abandoned"}
"""What a flow is that is in no final state, by its last change."""
_STYLES: Final[dict[str, Style]] = {"success": "good", "failure": "bad", "cancelled": "warn"}
_KINDS: Final = {"paused": "paused", "retried": "{} failed, tried again", "refused": "{} refused"}
"""Kinds of changes that are trouble whatever the machine."""
_TIME: Final = 9
_LONGEST_NAME: Final = 44
"""Columns of a state's meaning, at the most; a longer one makes its own line longer."""


class _Line(NamedTuple):
    """A state as it is shown.

    Attributes:
        at: When it was entered.
        name: What it is, for people.
        took: How long the flow was in it, in seconds; None for an end.
        verdict: How it, or the flow inside it, ended; empty when that is open.
        said: What came of it.
        troubles: What went wrong in it.
    """

    at: datetime
    name: str
    took: float | None
    verdict: str
    said: str
    troubles: list[str]


def draw_summary(
    machines: Iterable[Machine[Any]],
    histories: Iterable[Sequence[Change]],
    *,
    troubles: Mapping[str, str] = NO_TROUBLES,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw what a flow went through, a line for each state it was in.

    Args:
        machines: The tables of the flow and of its children; more do no harm. A history of another machine is drawn by
            the names its records have.
        histories: The flow's history first, then its children's in any order.
        troubles: The names of events that tell of something that went wrong, and what to call each.
        width, color, ascii_only: As for `draw_tree`.

    Returns:
        The drawing, ending with a newline.
    """
    paper = Paper(width=width, color=color, ascii_only=ascii_only)
    first, *others = [list(history) for history in histories] or [[]]
    if not first:
        paper.write(Span("nothing has happened yet", "dim"))
        return paper.text()
    tables = {name: machine for machine in machines for name in machine.names}
    children = sorted((each for each in others if each), key=lambda history: moment(history[0]))
    _Summary(paper, tables, troubles).draw(first, children)
    return paper.text()


class _Summary:
    def __init__(self, paper: Paper, tables: Mapping[str, Machine[Any]], troubles: Mapping[str, str]) -> None:
        self._paper = paper
        self._tables = tables
        self._troubles = troubles

    def draw(self, changes: Sequence[Change], children: Sequence[Sequence[Change]]) -> None:
        """Draw one flow."""
        began, last = moment(changes[0]), changes[-1]
        lines = list(self._lines(changes, children))
        column = min(max(measure(line.name) for line in lines), _LONGEST_NAME)
        glyphs = self._paper.glyphs
        marks = {"success": glyphs.success, "failure": glyphs.failure, "cancelled": glyphs.cancelled}
        ended, known = lines[-1].took is None, changes[0].machine in self._tables
        open_here = known or last.kind == "paused"  # which states are ends, only the table knows
        took = elapsed((moment(last) - began).total_seconds())
        if ended:
            ending = f" {_ENDED[lines[-1].verdict]} in {took}"
        else:
            ending = f" {_OPEN.get(last.kind, 'has not ended')} after {took}" if open_here else f", {took}"
        self._paper.write(
            Span(changes[0].machine, "strong"),
            Span(f" {changes[0].flow}{ending}"),
            Span(f", from {began:%Y-%m-%d %H:%M:%S} UTC", "dim"),
        )
        for line in lines:
            since = elapsed((line.at - began).total_seconds())
            spent = "" if line.took is None else elapsed(line.took)
            here = line is lines[-1] and open_here
            mark = marks.get(line.verdict, glyphs.here if here else glyphs.state)
            style = _STYLES.get(line.verdict, "warn" if here else "plain")
            self._paper.write(
                Span(f"{since:>{_TIME}}  ", "dim"),
                Span(f"{mark} {padded(line.name, column)}", style),
                Span(f"  {spent:>{_TIME}}" if spent or line.said else "", "dim"),
                Span(f"  {line.said}" if line.said else ""),
                hang=" " * (_TIME + 4),
            )
            for trouble in line.troubles:
                self._paper.write(Span(" " * (_TIME + 2)), Span(f"! {trouble}", "warn"), hang=" " * (_TIME + 4))

    def _lines(self, changes: Sequence[Change], children: Sequence[Sequence[Change]]) -> Iterator[_Line]:
        machine = self._tables.get(changes[0].machine)
        path = visits(machine, changes)
        inside_of = children_by_visit(machine, path, _children_of(changes, children))
        for number, visit in enumerate(path):
            state = None if machine is None else machine.states.get(visit.state)
            name = state.meaning if state is not None and state.meaning else visit.state
            at = moment(visit.entry)
            if state is not None and state.final:
                yield _Line(at, name, None, str(state.verdict), "", self._wrong(visit.within))
                continue
            until = moment(changes[-1] if visit.exit is None else visit.exit)
            inside = inside_of.get(number, [])
            deeper = [change for child in inside for each in _family(child, children) for change in each]
            within = sorted([*visit.within, *deeper], key=moment)
            verdict, said = self._result(visit, inside)
            yield _Line(at, name, (until - at).total_seconds(), verdict, said, self._wrong(within))

    def _result(self, visit: Stay, inside: Sequence[Sequence[Change]]) -> tuple[str, str]:
        """What came of a visit: of the last flow inside it, or of the event that led away."""
        progress = {change.message for change in visit.within if change.message and not self._is_trouble(change)}
        for child in inside:
            progress |= {
                change.message
                for change in child
                if change.kind == "event" and change.message and not self._is_trouble(change)
            }
        said = [f"{len(progress)} updates"] if len(progress) > 1 else []
        verdict = ""
        if inside and (end := self._end_of(inside[-1])) is not None:
            verdict, meaning = str(end.verdict), end.meaning
            said.insert(0, meaning)
        if visit.exit is not None and visit.exit.message and (not said or verdict != Verdict.SUCCESS):
            said.insert(0, visit.exit.message)
        return verdict, self._paper.glyphs.dot.join(dict.fromkeys(said))

    def _end_of(self, child: Sequence[Change]) -> State | None:
        """The final state a child flow has come to; None before that, and where its table is not known."""
        machine = self._tables.get(child[0].machine)
        state = None if machine is None else machine.states.get(child[-1].to_state)
        return state if state is not None and state.final else None

    def _is_trouble(self, change: Change) -> bool:
        return change.kind in _KINDS or (change.kind == "event" and change.event in self._troubles)

    def _wrong(self, within: Iterable[Change]) -> list[str]:
        """A line for each kind of trouble: how often, for how long, and the most frequent cause."""
        found: dict[str, list[Change]] = {}
        for change in within:
            if self._is_trouble(change):
                what = (
                    _KINDS[change.kind].format(change.event) if change.kind in _KINDS else self._troubles[change.event]
                )
                found.setdefault(what, []).append(change)
        return [_counted(what, changes) for what, changes in found.items()]


def _children_of(changes: Sequence[Change], flows: Sequence[Sequence[Change]]) -> list[Sequence[Change]]:
    parts = child_parts(changes[0].flow)
    return [each for each in flows if parent_part(each[0].flow, each[0].machine) in parts]


def _family(changes: Sequence[Change], flows: Sequence[Sequence[Change]]) -> Iterator[Sequence[Change]]:
    """A flow and every flow inside it."""
    yield changes
    for child in _children_of(changes, flows):
        yield from _family(child, flows)


def _counted(what: str, changes: Sequence[Change]) -> str:
    causes = Counter(change.brief or change.message for change in changes)
    cause, _ = causes.most_common(1)[0]
    if len(changes) == 1:
        return with_cause(what, cause)
    if len(causes) > 1:
        cause += f", and {len(causes) - 1} other {'cause' if len(causes) == 2 else 'causes'}"
    seconds = (moment(changes[-1]) - moment(changes[0])).total_seconds()
    return with_cause(f"{what} {len(changes)} times in {elapsed(seconds)}", cause)
