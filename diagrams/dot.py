"""A machine as a Graphviz file (https://graphviz.org/doc/info/lang.html), for whoever lays it out in their own way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..engine.machine.machine import Machine
from .sketch import START, Arrow, Box, label_text, line_text, shown_name, sketch


def dot(machine: Machine[Any], *, full: bool = False) -> str:
    """The same boxes and arrows as in the SVG, as text for `dot`, ending with a newline.

    Args:
        machine: The table to draw.
        full: Draw every row that leads on as an arrow.
    """
    drawn = sketch(machine, full=full)
    lines = [f"digraph {_quoted(machine.name)} {{", '  node [shape=box, style=rounded, fontname="Helvetica"]']
    lines += [f"  {line}" for box in drawn.boxes for line in _box(box)]
    lines += [f"  {_arrow(arrow)}" for arrow in drawn.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _box(box: Box) -> Iterator[str]:
    if box.id == START:
        yield f'{_quoted(START)} [shape=circle, style=filled, fillcolor=black, width=0.2, label=""]'
        return
    texts = [shown_name(box.id), *box.meaning, *(fact.text for fact in box.facts), *map(line_text, box.lines)]
    look = ", peripheries=2" if box.verdict else ""
    yield f"{_quoted(box.id)} [label={_quoted(*texts)}{look}]"


def _arrow(arrow: Arrow) -> str:
    look = {"course": ", penwidth=2, weight=30", "deadline": ", style=dashed", "plain": ""}[arrow.look]
    return f"{_quoted(arrow.source)} -> {_quoted(arrow.target)} [label={_quoted(*map(label_text, arrow.labels))}{look}]"


def _quoted(*lines: str) -> str:
    escaped = (" ".join(line.split()).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
