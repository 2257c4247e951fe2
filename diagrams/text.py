"""Pictures for the terminal: the path a flow took, a parent's path with its children's in it, and a machine's table.

A path reads from the top down. The left column is the time since the flow started; a dot is a state, with its meaning;
the arrow below it carries the event that led on. Between them stands what happened without leaving the state: progress
(folded when it repeats), effects announced to the journal, pausing and resuming. Everything is taken from the table and
the history, so the same history always gives the same picture.

Nothing here knows what a secret is: the history holds none. A caller who redacts once more does so with the messages,
before they are drawn: here long words are broken at the edge of the page, where a pattern would miss them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from ..base.columns import measure, padded
from ..engine.history import Change
from ..engine.ids import child_parts, parent_part
from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, Row, State
from ._facts import ANY_STATE, exceptions_to, facts, rows_from
from ._ink import Glyphs, Paper, Span, Style, elapsed
from ._path import Stay, children_by_visit, event_label, moment, visits

_TIME: Final = 11
"""Columns of the time: `2:03:04 h` and what separates it from the path."""

_VERDICT_STYLE: Final[dict[str, Style]] = {"success": "good", "failure": "bad", "cancelled": "warn"}


def draw_path(
    machine: Machine[Any],
    changes: Sequence[Change],
    *,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
) -> str:
    """Draw the states a flow went through, from the top down.

    Args:
        machine: The flow's table.
        changes: Its history, in order.
        width, color, ascii_only: As for `draw_tree`.

    Returns:
        The drawing, ending with a newline.

    Raises:
        ValueError: The changes are another machine's.
    """
    return draw_tree([machine], [changes], width=width, color=color, ascii_only=ascii_only)


def draw_tree(
    machines: Iterable[Machine[Any]],
    histories: Iterable[Sequence[Change]],
    *,
    width: int = 100,
    color: bool = False,
    ascii_only: bool = False,
    tableless: bool = False,
) -> str:
    """Draw a flow's path with the paths of its child flows inside the states that ran them.

    Args:
        machines: The tables of the flow and of its children; more do no harm.
        histories: The flow's history first, then its children's in any order (and theirs: any depth), recognised by
            their ids. Histories of other flows, and of machines that are not given, are left out.
        width: Columns there are; longer lines are folded, and only very long ones cut.
        color: Whether to style with ANSI sequences; off for anything that is not a terminal.
        ascii_only: Whether to draw without any character outside ASCII.
        tableless: Whether to draw histories of machines that are not given, too: by the names their records have.

    Returns:
        The drawing, ending with a newline.

    Raises:
        ValueError: The first history is of none of the machines, and not to be drawn without.
    """
    paper = Paper(width=width, color=color, ascii_only=ascii_only)
    tables = {name: machine for machine in machines for name in machine.names}
    first, *others = [list(history) for history in histories] or [[]]
    if not first:
        paper.write(Span("nothing has happened yet", "dim"))
        return paper.text()
    if first[0].machine not in tables and not tableless:
        raise ValueError(f"these changes are of {first[0].machine}, not of {' or '.join(tables)}")
    children = [history for history in others if history and (tableless or history[0].machine in tables)]
    _Drawing(paper, tables, children, moment(first[0])).flow(first, depth=0)
    return paper.text()


def draw_table(machine: Machine[Any], *, width: int = 100, color: bool = False, ascii_only: bool = False) -> str:
    """Draw a machine's table: every state with its meaning and facts, and below it what each event means there.

    Args:
        machine: The table.
        width, color, ascii_only: As for `draw_tree`.

    Returns:
        The table, ending with a newline.
    """
    paper = Paper(width=width, color=color, ascii_only=ascii_only)
    glyphs = paper.glyphs
    working = [state for state in machine.states.values() if not state.final]
    ends = [state for state in machine.states.values() if state.final]
    column = max(measure(row.label) for row in machine.rows) + 2
    paper.write(Span(machine.name, "strong"), Span(f"  version {machine.version}, begins in {machine.initial}", "dim"))
    for state in working:
        paper.write()
        paper.write(Span(f"{glyphs.state} {state.name}", "strong"), Span(f"  {state.meaning}"), hang=" " * 4)
        for fact in facts(state):
            paper.write(Span(f"    {fact}", "dim"), hang=" " * 6)
        _table_rows(paper, machine, rows_from(machine, state.name), column)
    if anywhere := rows_from(machine, ANY):
        paper.write()
        paper.write(Span(ANY_STATE, "strong"))
        _table_rows(paper, machine, anywhere, column)
    paper.write()
    names = max(measure(state.name) for state in ends)
    for state in ends:
        paper.write(
            Span(f"{_mark(glyphs, state)} {padded(state.name, names)}", _state_style(state)),
            Span(f"  {state.meaning}"),
            Span(f"  ({state.verdict})", "dim"),
            hang=" " * 4,
        )
    return paper.text()


def _table_rows(paper: Paper, machine: Machine[Any], rows: Sequence[Row], column: int) -> None:
    # A guard with a long name must not push the destination off the page.
    column = min(column, paper.width * 3 // 5)
    for row in rows:
        to = f"{paper.glyphs.to} {row.to}" if row.to is not None else "stays"
        but = exceptions_to(machine, row)
        spans = [Span("    "), Span(padded(row.label, column), "event"), Span(f" {to}")]
        if but:
            spans.append(Span(f"  (not in {', '.join(but)})", "dim"))
        paper.write(*spans, hang=" " * 8)


class _Drawing:
    """One drawing in the making: a flow, and the flows inside it."""

    def __init__(
        self,
        paper: Paper,
        machines: Mapping[str, Machine[Any]],
        children: Sequence[Sequence[Change]],
        began: datetime,
    ) -> None:
        self._paper = paper
        self._glyphs = paper.glyphs
        self._machines = machines
        self._children: dict[str, list[Sequence[Change]]] = {}
        for child in sorted(children, key=lambda history: moment(history[0])):
            self._children.setdefault(parent_part(child[0].flow, child[0].machine), []).append(child)
        self._began = began

    def flow(self, changes: Sequence[Change], depth: int) -> None:
        """Draw one flow and its children, `depth` levels in."""
        machine = self._machines.get(changes[0].machine)
        path = visits(machine, changes)
        self._head(changes, depth)
        inside = self._children_by_visit(changes[0].flow, path)
        for number, visit in enumerate(path):
            self._state(machine, visit, depth, last=changes[-1])
            for kind, happened in groupby(visit.within, key=lambda change: (change.kind, change.event)):
                self._within(kind[0], list(happened), depth)
            for child in inside.get(number, ()):
                self.flow(child, depth + 1)
            if visit.exit is not None:
                self._arrow(event_label(machine, visit.exit), visit.exit.message, depth)

    def _head(self, changes: Sequence[Change], depth: int) -> None:
        took = elapsed((moment(changes[-1]) - moment(changes[0])).total_seconds())
        opening = f"{self._glyphs.branch} " if depth else ""
        when = "" if depth else f", from {moment(changes[0]):%Y-%m-%d %H:%M:%S} UTC"
        if changes[0].machine not in self._machines:
            when += ", drawn without its table"
        self._line(
            None,
            depth,
            Span(opening, "dim"),
            Span(changes[0].machine, "strong"),
            Span(f"  {changes[0].flow}, {took}{when}", "dim"),
            rail=False,
        )

    def _state(self, machine: Machine[Any] | None, visit: Stay, depth: int, *, last: Change) -> None:
        if machine is None:
            # Which states are ends, only the table knows; a flow that is paused has not come to one.
            state, here = State(visit.state, ""), last.kind == "paused"
        else:
            state = machine.states.get(visit.state) or State(visit.state, "not in this version of the machine")
            here = not state.final and last.kind != "abandoned"
        here = here and visit.exit is None
        mark = self._glyphs.here if here else _mark(self._glyphs, state)
        spans = [Span(f"{mark} {state.name}", "warn" if here else _state_style(state))]
        if state.meaning:
            spans.append(Span(f"  {state.meaning}"))
        if here:
            until = f", until {_text_moment(last.deadline)}" if last.deadline else ""
            word = "paused" if last.kind == "paused" else "queued" if last.event == "queued" else "is"
            spans.append(Span(f"  ({word} here{until})", "warn"))
        if state.verdict:
            spans.append(Span(f"  ({state.verdict})", "dim"))
        self._line(visit.entry, depth, *spans, rail=visit.exit is not None)

    def _within(self, kind: str, happened: Sequence[Change], depth: int) -> None:
        glyphs, last = self._glyphs, happened[-1]
        rail = Span(f"{glyphs.line} ", "dim")
        count = f"{len(happened)} {glyphs.times} " if len(happened) > 1 else ""
        if kind == "intent":
            # The key is `flow:visit:effect`; flow and visit are on the page already.
            effects = ", ".join(change.event.split(":", 2)[-1] for change in happened)
            self._line(None, depth, rail, Span(f"{glyphs.intent} announced {effects}", "dim"))
        elif kind == "paused":
            suffix = f": {last.message}" if last.message else ""
            self._line(last, depth, rail, Span(f"{glyphs.parked} paused, {last.event}{suffix}", "warn"))
        elif kind == "resumed":
            self._line(last, depth, rail, Span(f"{glyphs.resumed} {count}resumed", "warn"))
        elif kind == "refused":
            suffix = f": {last.message}" if last.message else ""
            self._line(last, depth, rail, Span(f"{count}{last.event} refused{suffix}", "warn"))
        elif kind == "retried":
            suffix = f": {last.message}" if last.message else ""
            self._line(last, depth, rail, Span(f"{count}{last.event} failed, to be tried again{suffix}", "warn"))
        else:
            messages = list(dict.fromkeys(change.message for change in happened if change.message))
            suffix = ": " + glyphs.dot.join(messages) if messages else ""
            self._line(last, depth, rail, Span(f"{count}{last.event}", "event"), Span(suffix))

    def _arrow(self, label: str, message: str, depth: int) -> None:
        suffix = f": {message}" if message else ""
        self._line(None, depth, Span(f"{self._glyphs.arrow} ", "dim"), Span(label, "event"), Span(suffix), rail=False)

    def _line(self, at: Change | None, depth: int, *spans: Span, rail: bool = True) -> None:
        time = "" if at is None else elapsed((moment(at) - self._began).total_seconds())
        line = self._glyphs.line
        rails = f"{line}   " * depth
        hang = " " * _TIME + rails + (f"{line}     " if rail else "      ")
        self._paper.write(Span(f"{time:>{_TIME - 2}}  ", "dim"), Span(rails, "dim"), *spans, hang=hang)

    def _children_by_visit(self, flow: str, path: Sequence[Stay]) -> dict[int, list[Sequence[Change]]]:
        """The children of one flow by the number of the visit that ran them: the last one begun before they were."""
        children = [child for part in child_parts(flow) for child in self._children.get(part, ())]
        return children_by_visit(self._machines.get(path[0].entry.machine), path, children)


def _mark(glyphs: Glyphs, state: State) -> str:
    marks = {"success": glyphs.success, "failure": glyphs.failure, "cancelled": glyphs.cancelled}
    return marks[state.verdict] if state.verdict else glyphs.state


def _state_style(state: State) -> Style:
    return _VERDICT_STYLE[state.verdict] if state.verdict else "strong"


def _text_moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%H:%M:%S} UTC"
