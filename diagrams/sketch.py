"""What is drawn of a machine: boxes and arrows with the size of their texts, before anything has a place.

Every row of the table is in exactly one of three places: on an arrow; as a line inside the state that it leaves, where
it stays there or leads to a failure or a cancellation; or, where it holds in any state, as a line inside its end. So
the arrows that are left show how a flow succeeds. With `full` every row that leads on is an arrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, DeadlinePassed, ResumePolicy, Row, State, Verdict
from ._facts import exceptions_to, rows_from
from .metrics import Face, drawable, width, wrap

Glyph = Literal["clock", "effect", "resume", "child", "stays", "success", "failure", "cancelled", "anywhere", "leads"]
Look = Literal["course", "plain", "deadline"]

START: Final = "(start)"
ANYWHERE: Final = "(any state)"
"""Ids of what is drawn and is no state; parentheses are in no state's name."""

NAME, MEANING, FACT, EXIT, LABEL = 13.0, 11.5, 11.0, 10.0, 10.5
"""Sizes of the texts, in pixels."""
PADDING, HEAD, MEANING_STEP, FACT_STEP, EXIT_STEP, LABEL_STEP = 14, 32, 15, 17, 15, 14
GAP: Final = 9
"""Above the facts, and above the lines of a box, in pixels."""
ICON: Final = 18
WRAP: Final = 190.0
START_SIZE: Final = 22.0

_ON_RESUME: Final = {
    ResumePolicy.RETRY: "done again on resume",
    ResumePolicy.RECONCILE: "server asked on resume",
    ResumePolicy.ASK: "you are asked on resume",
}


class Fact(msgspec.Struct, frozen=True):
    """A line about a state: its timeout, its effect, its child machines."""

    glyph: Glyph
    text: str


class Label(msgspec.Struct, frozen=True):
    """A row of the table, as it is drawn: its event, its guard (or empty), and its number in the table."""

    event: str
    guard: str
    row: int


class RowsInside(msgspec.Struct, frozen=True):
    """Rows of the table as a line inside a box.

    Attributes:
        glyph: What they do: they stay, they end the flow, they hold in any state.
        rows: The rows: several where they stay.
        to: Where they lead; empty where that is clear from its place.
    """

    glyph: Glyph
    rows: tuple[Label, ...]
    to: str = ""


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A state, the start, or what holds in any state.

    Attributes:
        id: The state's name; `START`, `ANYWHERE`.
        verdict: Of an end.
        meaning: In lines.
        facts: Below the meaning.
        lines: Below the facts.
        width: In pixels, as is the height.
    """

    id: str
    verdict: Verdict | None = None
    meaning: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    lines: tuple[RowsInside, ...] = ()
    width: float
    height: float


class Arrow(msgspec.Struct, frozen=True, kw_only=True):
    """The rows between two states.

    Attributes:
        source: The box it leaves.
        target: The box it leads to.
        labels: Its rows, in the order they are tried; none on the arrow from the start.
        look: On the machine's course, a deadline, or plain.
        width: Of its labels, in pixels, as is the height.
    """

    source: str
    target: str
    labels: tuple[Label, ...] = ()
    look: Look = "plain"
    width: float = 0.0
    height: float = 0.0


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """All that is drawn of a machine."""

    name: str
    version: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def sketch(machine: Machine[Any], *, full: bool = False) -> Sketch:
    """What is drawn of a machine.

    Args:
        machine: Its table is all that is looked at.
        full: Draw every row that leads on as an arrow, also to failures and cancellations, and from any state.
    """
    numbers = {id(row): number for number, row in enumerate(machine.rows)}
    boxes = [Box(id=START, width=START_SIZE, height=START_SIZE)]
    boxes += [_box(machine, state, numbers, full=full) for state in machine.states.values()]
    anywhere = [row for row in rows_from(machine, ANY) if full or _is_apart(machine, row)]
    if anywhere:
        staying = _staying(_label(machine, row, numbers) for row in anywhere if row.to is None)
        boxes.append(_sized(ANYWHERE, None, ("any state that is not final",), (), tuple(staying)))
    arrows = [Arrow(source=START, target=machine.initial, look="course" if machine.course else "plain")]
    for source in (*machine.states, ANY):
        arrows += _arrows(machine, source, numbers, full=full)
    return Sketch(name=machine.name, version=machine.version, boxes=tuple(boxes), arrows=tuple(arrows))


def _box(machine: Machine[Any], state: State, numbers: dict[int, int], *, full: bool) -> Box:
    own = rows_from(machine, state.name)
    lines = _staying(_label(machine, row, numbers) for row in own if row.to is None)
    if not full:
        ends = [row for row in own if _ends_badly(machine, row)]
        lines += [RowsInside(_glyph(machine, row), (_label(machine, row, numbers),), row.to or "") for row in ends]
        anywhere = [row for row in rows_from(machine, ANY) if row.to == state.name and not _is_apart(machine, row)]
        lines += [RowsInside("anywhere", (_label(machine, row, numbers),)) for row in anywhere]
    meaning = tuple(wrap(drawable(state.meaning), "sans", MEANING, WRAP))
    return _sized(state.name, state.verdict, meaning, tuple(_facts(state)), tuple(lines))


def _staying(rows: Iterable[Label]) -> list[RowsInside]:
    """The rows that stay: as many on a line as it holds."""
    lines: list[RowsInside] = []
    for row in rows:
        longer = RowsInside("stays", (*(lines[-1].rows if lines else ()), row))
        if lines and width(line_text(longer), "mono", EXIT) <= WRAP:
            lines[-1] = longer
        else:
            lines.append(RowsInside("stays", (row,)))
    return lines


def _sized(
    name: str, verdict: Verdict | None, meaning: tuple[str, ...], facts: tuple[Fact, ...], lines: tuple[RowsInside, ...]
) -> Box:
    widths = [width(shown_name(name), "mono", NAME) + (ICON if verdict else 0)]
    widths += [width(text, "sans", MEANING) for text in meaning]
    widths += [width(fact.text, "sans", FACT) + ICON for fact in facts]
    widths += [width(line_text(line), "mono", EXIT) + ICON for line in lines]
    height = HEAD + len(meaning) * MEANING_STEP + 10
    height += GAP + len(facts) * FACT_STEP if facts else 0
    height += GAP + len(lines) * EXIT_STEP if lines else 0
    return Box(
        id=name,
        verdict=verdict,
        meaning=meaning,
        facts=facts,
        lines=lines,
        width=float(round(max(widths) + 2 * PADDING)),
        height=float(height),
    )


def shown_name(name: str) -> str:
    """The name of a box as it is drawn."""
    return "any state" if name == ANYWHERE else name


def line_text(line: RowsInside) -> str:
    """A line of a box, whole."""
    return before(line) + BETWEEN.join(map(label_text, line.rows)) + after(line)


BETWEEN: Final = " · "


def before(line: RowsInside) -> str:
    """What a line says before its events."""
    return "any state: " if line.glyph == "anywhere" else ""


def after(line: RowsInside) -> str:
    """What a line says after its events."""
    return f" → {line.to}" if line.to else ""


def _facts(state: State) -> Iterator[Fact]:
    if state.timeout is not None:
        kept = "" if state.late == "restart" else ", kept on resume"
        yield Fact("clock", f"{_timeout(state.timeout)}{kept}")
    if state.effect is not None:
        yield Fact("effect", drawable(state.effect))
    if state.resume is not None:
        yield Fact("resume", _ON_RESUME[state.resume])
    if state.children:
        yield Fact("child", f"runs {', '.join(state.children)}")


def _timeout(timeout: float | str) -> str:
    if isinstance(timeout, str):
        return timeout.replace("_", " ")
    for unit, seconds in (("days", 86400), ("h", 3600), ("min", 60)):
        if timeout >= 2 * seconds and timeout % seconds == 0:
            return f"{timeout / seconds:g} {unit}"
    return f"{timeout:g} s"


def _arrows(machine: Machine[Any], source: str, numbers: dict[int, int], *, full: bool) -> Iterable[Arrow]:
    rows = [row for row in rows_from(machine, source) if row.to is not None]
    if not full:
        rows = [row for row in rows if not (_ends(machine, row) if source == ANY else _ends_badly(machine, row))]
    course = set(pairwise(machine.course))
    for to in dict.fromkeys(row.to for row in rows):
        between = [row for row in rows if row.to == to]
        labels = tuple(_label(machine, row, numbers) for row in between)
        look: Look = "plain"
        if (source, to) in course:
            look = "course"
        elif all(row.event is DeadlinePassed for row in between):
            look = "deadline"
        yield Arrow(
            source=ANYWHERE if source == ANY else source,
            target=to or "",
            labels=labels,
            look=look,
            width=float(round(max(map(label_width, labels)) + 10)),
            height=float(len(labels) * LABEL_STEP + 2),
        )


def label_text(label: Label) -> str:
    """A label, whole."""
    return f"{label.event} {label.guard}" if label.guard else label.event


def label_width(label: Label) -> float:
    """How wide a label is, in pixels."""
    return width(label_text(label), FACE_OF_LABELS, LABEL)


FACE_OF_LABELS: Final[Face] = "sans"


def _label(machine: Machine[Any], row: Row, numbers: dict[int, int]) -> Label:
    event, but = row.event.__name__, exceptions_to(machine, row)
    guard = row.label.removeprefix(event).strip()
    apart = f"(not {', '.join(but)})" if but else ""
    return Label(event, f"{guard} {apart}".strip(), numbers[id(row)])


def _ends_badly(machine: Machine[Any], row: Row) -> bool:
    return row.to is not None and machine.states[row.to].verdict in {Verdict.FAILURE, Verdict.CANCELLED}


def _is_apart(machine: Machine[Any], row: Row) -> bool:
    """Whether a row that holds in any state has no end to be drawn in."""
    return row.to is None or not _ends(machine, row)


def _ends(machine: Machine[Any], row: Row) -> bool:
    return row.to is not None and machine.states[row.to].final


def _glyph(machine: Machine[Any], row: Row) -> Glyph:
    if row.to is None:
        return "stays"
    return "cancelled" if machine.states[row.to].verdict is Verdict.CANCELLED else "failure"
