"""A machine as an SVG, drawn from its table alone; a flow's path is drawn on top.

The course of a flow that succeeds is a line down the middle. What stays in a state, and what ends in a failure or a
cancellation, is a line inside the state; ends that are reached only so are on a shelf below. On a run the path is
highlighted, each state tells how often and how long the flow was in it, and the current one has a halo.

The text of an SVG is read by screen readers: its title names the machine, its description tells the path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from ..engine.history import Change
from ..engine.machine.machine import Machine
from ._colors import Theme, style_sheet
from ._path import moment, steps_of_rows, visits
from .geometry import Curve, Geometry, Point, Position, geometry
from .metrics import drawable, width
from .sketch import (
    ANYWHERE,
    BETWEEN,
    EXIT_STEP,
    FACT_STEP,
    GAP,
    HEAD,
    ICON,
    LABEL_STEP,
    MEANING_STEP,
    PADDING,
    START,
    Arrow,
    Box,
    Glyph,
    Label,
    Sketch,
    after,
    before,
    shown_name,
    sketch,
)

_GLYPHS: Final[dict[Glyph, str]] = {
    "clock": '<circle r="5"/><path d="M0-3V0L2.4 1.6"/>',
    "effect": '<path d="M1-6-4 1H0L-1 6 4-1H0Z"/>',
    "resume": '<path d="M4.2-2.6A5 5 0 1 0 5 .6M4.6-5.2V-2.2H1.6"/>',
    "child": '<rect x="-5" y="-5" width="7" height="7" rx="1.5"/><path d="M-2 2V5H5V-2H2"/>',
    "success": '<path d="M-4 0-1 3 4-3.5"/>',
    "failure": '<path d="M-3.4-3.4 3.4 3.4M3.4-3.4-3.4 3.4"/>',
    "cancelled": '<circle r="4.4"/><path d="M-3-3 3 3"/>',
    "stays": '<path d="M3.4-2A4 4 0 1 0 4 .6M3.8-4.4V-1.8H1.2"/>',
    "anywhere": '<path d="M0-4.5V4.5M-3.9-2.2 3.9 2.2M3.9-2.2-3.9 2.2"/>',
}


class _Stays(NamedTuple):
    """How often a flow was in a state, and how long; `open` where it is there still."""

    times: int
    seconds: float
    open: bool


class _Run(NamedTuple):
    """What is drawn of a flow: where it was, where it is, and which rows it took."""

    stays: Mapping[str, _Stays]
    current: str | None
    steps: Mapping[int, list[int]]


def svg(
    machine: Machine[Any],
    *,
    changes: Sequence[Change] = (),
    current: str | None = None,
    theme: Theme = "auto",
    full: bool = False,
) -> str:
    """Draw a machine, and on it where a flow was and where it is.

    Args:
        machine: The table to draw.
        changes: The flow's history, in order; none draws the machine alone.
        current: The state the flow is in; where the changes end, when not given.
        theme: The colors: for a light or a dark page, or as the reader's system has it.
        full: Draw every row that leads on as an arrow.

    Returns:
        The SVG, one text for one table and history.

    Raises:
        ValueError: `current` is no state of the machine, or the changes are another machine's.
        LayoutMissing: The machine is not one of this package, and the extra `diagrams` is not installed.
    """
    if changes and changes[0].machine not in machine.names:
        raise ValueError(f"these changes are of {changes[0].machine}, not of {machine.name}")
    if current is not None and current not in machine.states:
        raise ValueError(f"{machine.name} has no state {current}")
    drawn = sketch(machine, full=full)
    run = _run(machine, changes, current)
    return "\n".join(_document(machine, drawn, geometry(drawn), run, theme)) + "\n"


def _run(machine: Machine[Any], changes: Sequence[Change], current: str | None) -> _Run | None:
    if not changes and current is None:
        return None
    stays: dict[str, _Stays] = {}
    for visit in visits(machine, changes):
        times, seconds, _ = stays.get(visit.state, _Stays(0, 0.0, open=False))
        until = visit.exit or changes[-1]
        spent = (moment(until) - moment(visit.entry)).total_seconds()
        stays[visit.state] = _Stays(times + 1, seconds + max(0.0, spent), open=visit.exit is None)
    here = current or changes[-1].to_state
    return _Run(stays, here, steps_of_rows(machine, changes))


def _document(machine: Machine[Any], drawn: Sketch, places: Geometry, run: _Run | None, theme: Theme) -> Iterator[str]:
    wide, high = f"{places.width:g}", f"{places.height:g}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" '
        'role="img" aria-labelledby="title description">'
    )
    yield f'<title id="title">{_text(f"{machine.name}, version {machine.version}")}</title>'
    yield f'<desc id="description">{_text(_description(machine, run))}</desc>'
    yield f"<style>{style_sheet(theme)}</style>"
    yield f'<rect class="paper" width="{wide}" height="{high}"/>'
    yield '<g class="run">' if run is not None else "<g>"
    for arrow, curve in zip(drawn.arrows, places.curves, strict=True):
        yield from _arrow(arrow, curve, run)
    for box in drawn.boxes:
        yield from _box(box, places.boxes[box.id], run)
    for arrow, curve in zip(drawn.arrows, places.curves, strict=True):
        yield from _labels(arrow, curve, run)
    yield "</g>"
    yield "</svg>"


def _description(machine: Machine[Any], run: _Run | None) -> str:
    if run is None:
        ways = [f"{row.event.__name__}: {row.source} to {row.to or row.source}" for row in machine.rows]
        return f"Starts in {machine.initial}. " + "; ".join(ways) + "."
    been = [f"{state} {_stays_text(stays)}" for state, stays in run.stays.items()]
    is_over = run.current in machine.states and machine.states[run.current or ""].final
    where = f"{'Ended' if is_over else 'Now'} in {run.current}."
    return f"Was in {', '.join(been)}. {where}" if been else where


# --- arrows -----------------------------------------------------------------------------------------------------------


def _classes(arrow: Arrow, run: _Run | None) -> str:
    return arrow.look + (" taken" if _taken(arrow, run) else "")


def _taken(arrow: Arrow, run: _Run | None) -> list[int]:
    """The steps that took the arrow."""
    if run is None:
        return []
    if arrow.source == START:
        return [0] if run.stays else []
    return sorted(step for label in arrow.labels for step in run.steps.get(label.row, []))


def _arrow(arrow: Arrow, curve: Curve, run: _Run | None) -> Iterator[str]:
    (x, y), *rest = curve.points
    parts = "".join(
        f"C{a[0]:g} {a[1]:g} {b[0]:g} {b[1]:g} {c[0]:g} {c[1]:g}"
        for a, b, c in zip(rest[0::3], rest[1::3], rest[2::3], strict=True)
    )
    classes = _classes(arrow, run)
    yield f'<path class="arrow {classes}" d="M{x:g} {y:g}{parts}"/>'
    yield f'<path class="head {classes}" d="{_head(rest[-2], rest[-1])}"/>'


def _head(control: Point, tip: Point) -> str:
    angle = math.atan2(tip[1] - control[1], tip[0] - control[0])
    corners = [
        (tip[0] - length * math.cos(angle + turn), tip[1] - length * math.sin(angle + turn))
        for length, turn in ((8.5, 0.42), (6.0, 0.0), (8.5, -0.42))
    ]
    return f"M{tip[0]:g} {tip[1]:g}" + "".join(f"L{x:.1f} {y:.1f}" for x, y in corners) + "Z"


def _labels(arrow: Arrow, curve: Curve, run: _Run | None) -> Iterator[str]:
    if curve.label is None:
        return
    x, middle = curve.label
    y = middle - len(arrow.labels) * LABEL_STEP / 2 + 10.5
    for number, label in enumerate(arrow.labels):
        taken = " taken" if run is not None and run.steps.get(label.row) else ""
        yield (
            f'<text class="label {arrow.look}{taken}" text-anchor="middle" x="{x:g}" y="{y + number * LABEL_STEP:g}">'
            f"{_label(label)}</text>"
        )
    steps = [str(step) for step in _taken(arrow, run) if step]
    if steps:
        numbers = ",".join(steps[:4]) + ("…" if len(steps) > 4 else "")
        wide = max(15.0, width(numbers, "sans", 9.5) + 9)
        yield from _pill(x - arrow.width / 2 - wide, y - 10.5, wide, numbers)


def _label(label: Label) -> str:
    guard = f' <tspan class="guard">{_text(label.guard)}</tspan>' if label.guard else ""
    return f"{_text(label.event)}{guard}"


def _pill(x: float, y: float, wide: float, text: str) -> Iterator[str]:
    yield f'<rect class="pill" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="14" rx="7"/>'
    yield f'<text class="pill-text" text-anchor="middle" x="{x + wide / 2:.1f}" y="{y + 10.4:.1f}">{_text(text)}</text>'


# --- boxes ------------------------------------------------------------------------------------------------------------


def _box(box: Box, place: Position, run: _Run | None) -> Iterator[str]:
    stays = None if run is None else run.stays.get(box.id)
    been = stays is not None or (run is not None and box.id in {START, run.current} and bool(run.stays))
    now = run is not None and run.current == box.id and box.verdict is None
    classes = ["box", box.verdict or "", "been" if been or now else "", "now" if now else ""]
    classes += ["apart"] if box.id == ANYWHERE else []
    yield f'<g class="{" ".join(filter(None, classes))}" transform="translate({place.x:g} {place.y:g})">'
    if box.id == START:
        middle = f"{box.width / 2:g}"
        yield f'<circle class="start" cx="{middle}" cy="{middle}" r="7"/>'
        yield f'<circle class="ring" cx="{middle}" cy="{middle}" r="10.5"/>'
    else:
        yield from _card(box, now=now)
        yield from _texts(box, run)
        if stays is not None:
            text = _stays_text(stays)
            wide = width(text, "sans", 9.5) + 14
            yield from _pill(box.width - wide - 8, -7, wide, text)
    yield "</g>"


def _card(box: Box, *, now: bool) -> Iterator[str]:
    size = f'width="{box.width:g}" height="{box.height:g}"'
    if now:
        yield f'<rect class="halo" x="-4" y="-4" width="{box.width + 8:g}" height="{box.height + 8:g}" rx="14"/>'
    yield f'<rect class="card" {size} rx="{14 if box.verdict else 10}"/>'
    if box.verdict:
        yield f'<rect class="second" x="3.5" y="3.5" width="{box.width - 7:g}" height="{box.height - 7:g}" rx="10.5"/>'


def _texts(box: Box, run: _Run | None) -> Iterator[str]:
    y = 24.0
    aside = 0
    if box.verdict:
        yield _glyph(box.verdict.value, PADDING + 5, y - 4.5)
        aside = ICON
    yield f'<text class="name" x="{PADDING + aside}" y="{y:g}">{_text(shown_name(box.id))}</text>'
    y = HEAD + 8.0
    for line in box.meaning:
        yield f'<text class="meaning" x="{PADDING}" y="{y:g}">{_text(line)}</text>'
        y += MEANING_STEP
    if box.facts:
        y += GAP - 2
    for fact in box.facts:
        yield _glyph(fact.glyph, PADDING + 5, y - 4)
        yield f'<text class="fact" x="{PADDING + ICON}" y="{y:g}">{_text(fact.text)}</text>'
        y += FACT_STEP
    if box.lines:
        rule = f"{y - 6:g}"
        yield f'<line class="rule" x1="{PADDING}" y1="{rule}" x2="{box.width - PADDING:g}" y2="{rule}"/>'
        y += GAP
    for line in box.lines:
        yield _glyph(line.glyph, PADDING + 4, y - 3.5)
        rows = BETWEEN.join(_row(row, line.glyph, run) for row in line.rows)
        quiet = "" if run is None or any(run.steps.get(row.row) for row in line.rows) else " quiet"
        yield (
            f'<text class="row {line.glyph}{quiet}" x="{PADDING + ICON - 2}" y="{y:g}" xml:space="preserve">'
            f"{_text(before(line))}{rows}{_text(after(line))}</text>"
        )
        y += EXIT_STEP


def _row(row: Label, glyph: Glyph, run: _Run | None) -> str:
    if run is not None and run.steps.get(row.row):
        return f'<tspan class="row {glyph} taken">{_label(row)}</tspan>'
    return _label(row)


def _glyph(kind: str, x: float, y: float) -> str:
    return f'<g class="glyph {kind}" transform="translate({x:g} {y:g})">{_GLYPHS[kind]}</g>'  # pyright: ignore


def _stays_text(stays: _Stays) -> str:
    if stays.open:
        return "now" if stays.times == 1 else f"visit {stays.times}, now"
    often = f"{stays.times} \N{MULTIPLICATION SIGN} " if stays.times > 1 else ""
    return f"{often}{_duration(stays.seconds)}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _text(text: str) -> str:
    return escape(drawable(text), quote=True)
