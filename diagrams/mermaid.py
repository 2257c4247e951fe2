"""A machine as a Mermaid state diagram, drawn from its table alone; a flow's path is marked on the same drawing.

Every row of the table stands on exactly one arrow, and nothing else does, so the picture cannot drift from the machine.
Rows between the same two states share an arrow; rows that stay are one loop per state; rows that hold everywhere are
drawn once, from a dashed box that stands for every state that is not final. An end says its verdict and has its colour.

Mermaid's state diagrams cannot style a link, so a taken arrow is marked in its text: a tick and the numbers of the
steps that took it. Visited states and the current one are marked with classes. No message and no value of a flow gets
into the drawing: only names out of the table.

The syntax is that of https://mermaid.js.org/syntax/stateDiagram.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap as wrapped
from typing import Any, Final

from ..engine.history import Change
from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, Row, State
from ._facts import ANY_STATE, exceptions_to, facts, rows_from
from ._path import steps_of_rows

_STYLES: Final = {
    "working": "fill:#eef4ff,stroke:#5b7bb4,color:#10223f",
    "anywhere": "fill:#f4f4f4,stroke:#8a8a8a,color:#333333,stroke-dasharray:4 4",
    "success": "fill:#e3f6e5,stroke:#2f8f46,color:#0e3b19",
    "failure": "fill:#fde8e6,stroke:#c0483d,color:#4d1410",
    "cancelled_end": "fill:#f1eef4,stroke:#85769b,color:#322944",
    "visited": "stroke-width:4px",
    "current": "fill:#ffe9a8,stroke:#b07a00,color:#3d2a00,stroke-width:4px",
}
"""Every colour is given, text included, so that the drawing reads the same on a light page and on a dark one."""

LONGEST: Final = 50_000
"""Characters of a text that Mermaid draws, unless a page says otherwise (`maxTextSize`)."""
WIDEST: Final = 60
"""Characters on a line of a meaning."""

_END_CLASS: Final = {"success": "success", "failure": "failure", "cancelled": "cancelled_end"}

# An underscore inside a word is text; at the edge of one it is emphasis.
_SYNTAX: Final = re.compile(r"""[#;:<>"`%&{}$\\*~\x00-\x1f\x7f]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])""")
# Mermaid reads a whole line that holds one of these as a direction, wherever in the line it stands.
_DIRECTION: Final = re.compile(r"d(?=irection\s+(?:TB|BT|LR|RL))", re.IGNORECASE)


def mermaid(machine: Machine[Any], *, changes: Sequence[Change] = (), current: str | None = None) -> str:
    """Draw a machine, and mark on it where a flow has been and where it stands.

    Args:
        machine: The table to draw.
        changes: The flow's history, in order; none draws the machine alone.
        current: The state the flow stands in; where the changes end, when not given.

    Returns:
        The diagram as Mermaid text, ending with a newline; the same for the same table and history.

    Raises:
        ValueError: `current` is no state of the machine, or the changes are another machine's.
    """
    if changes and changes[0].machine not in machine.names:
        raise ValueError(f"these changes are of {changes[0].machine}, not of {machine.name}")
    if current is not None and current not in machine.states:
        raise ValueError(f"{machine.name} has no state {current}")
    ids = _ids(machine)
    steps = steps_of_rows(machine, changes)
    numbers = {id(row): number for number, row in enumerate(machine.rows)}
    visited = {change.from_state for change in changes} | {change.to_state for change in changes}
    if current is None and changes:
        current = changes[-1].to_state
    lines = [
        "stateDiagram-v2",
        f"    %% {escape(machine.name)}, version {machine.version}: drawn from its table",
        "    direction TB",
        *(f"    classDef {name} {style}" for name, style in _STYLES.items()),
    ]
    for name, state in machine.states.items():
        lines += [f"    {ids[name]} : {text}" for text in _state_lines(state, here=name == current)]
    if rows_from(machine, ANY):
        lines.append(f"    {ids[ANY]} : {ANY_STATE}")
    lines.append(f"    [*] --> {ids[machine.initial]}")
    for source in (*machine.states, ANY):
        lines += [
            f"    {arrow}" for arrow in _arrows(machine, source, ids, lambda row: steps.get(numbers[id(row)], []))
        ]
    lines += [f"    class {ids[name]} {style}" for name, style in _classes(machine, visited, current)]
    text = "\n".join(lines) + "\n"
    if len(text) > LONGEST:
        lines.insert(1, f"    %% {len(text):,} characters: Mermaid draws at most {LONGEST:,}; draw an SVG instead")
        text = "\n".join(lines) + "\n"
    return text


def escape(text: str) -> str:
    """Text as it may stand in a label: whatever Mermaid would read as syntax is written as a character entity."""
    flat = " ".join(text.split())
    safe = _SYNTAX.sub(lambda found: f"#{ord(found[0])};", flat)
    return _DIRECTION.sub(lambda found: f"#{ord(found[0])};", safe)


def _ids(machine: Machine[Any]) -> dict[str, str]:
    """An identifier for every state, its name with a prefix wherever Mermaid can read that, and one for `ANY`.

    With the prefix none is a keyword of Mermaid's, nor a name that its JavaScript has a use for.
    """
    ids: dict[str, str] = {}
    for number, name in enumerate(machine.states, 1):
        ids[name] = f"s_{name}" if re.fullmatch(r"[A-Za-z0-9_]+", name) else f"n_{number}"
    return {**ids, ANY: "any_state"}


def _state_lines(state: State, *, here: bool) -> Iterator[str]:
    yield escape(state.name)
    yield from map(escape, wrapped(state.meaning, WIDEST, break_long_words=False, break_on_hyphens=False))
    for fact in facts(state):
        yield escape(fact)
    if here:
        yield "the flow ended here" if state.final else "the flow is here"


def _arrows(
    machine: Machine[Any], source: str, ids: dict[str, str], steps: Callable[[Row], list[int]]
) -> Iterator[str]:
    rows = rows_from(machine, source)
    for to in dict.fromkeys(row.to for row in rows):
        labels = [_row_label(machine, row, steps(row)) for row in rows if row.to == to]
        if to is None:
            yield f"{ids[source]} --> {ids[source]} : stays#58; {'<br/>'.join(labels)}"
        else:
            yield f"{ids[source]} --> {ids[to]} : {'<br/>'.join(labels)}"


def _row_label(machine: Machine[Any], row: Row, taken: list[int]) -> str:
    mark = ""
    if any(taken):
        mark = f"✔ {','.join(str(number) for number in taken)} "
    elif taken:
        mark = f"✔ {len(taken)} \N{MULTIPLICATION SIGN} "
    but = exceptions_to(machine, row)
    apart = f" (not {', '.join(but)})" if but else ""
    return mark + escape(row.label + apart)


def _classes(machine: Machine[Any], visited: set[str], current: str | None) -> Iterator[tuple[str, str]]:
    for name, state in machine.states.items():
        yield name, _END_CLASS[state.verdict] if state.verdict else "working"
    if rows_from(machine, ANY):
        yield ANY, "anywhere"
    for name, state in machine.states.items():
        # An end keeps the colour of its verdict.
        if name == current and not state.final:
            yield name, "current"
        elif name == current or name in visited:
            yield name, "visited"
