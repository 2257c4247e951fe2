"""Where everything of a drawing is: Graphviz decides it, and the built-in machines' places are kept in a file.

Graphviz (https://graphviz.org) lays out what is connected; ends that no arrow leads to are put on a shelf below. It
comes with the extra `diagrams`. The places of the machines of this package were computed before (`places.json`), so
they are drawn without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from ..base.errors import CloudError
from .sketch import Arrow, Box, Sketch

MARGIN: Final = 22.0
SHELF_GAP: Final = 18.0
NARROWEST_SHELF: Final = 420.0

Point = tuple[float, float]


class LayoutMissing(
    CloudError, hint='Install the layout engine: pip install "systemprompt-cloud[diagrams]". Mermaid needs none.'
):
    """A drawing needs Graphviz, which is not installed."""


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a box is: its upper left corner, in pixels from that of the drawing."""

    x: float
    y: float


class Curve(msgspec.Struct, frozen=True, array_like=True):
    """Where an arrow is.

    Attributes:
        points: A start and, for each cubic curve, two control points and its end.
        label: The middle of its labels; None where it has none.
    """

    points: tuple[Point, ...]
    label: Point | None


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is.

    Attributes:
        width: Of the drawing, in pixels, as is the height.
        boxes: By id.
        curves: In the order of the sketch's arrows.
    """

    width: float
    height: float
    boxes: dict[str, Position]
    curves: tuple[Curve, ...]


def geometry(drawn: Sketch) -> Geometry:
    """Where everything of a sketch is.

    Raises:
        LayoutMissing: It is not a machine of this package, and Graphviz is not installed.
    """
    return _kept().get(digest(drawn)) or lay_out(drawn)


def digest(drawn: Sketch) -> str:
    """What a sketch's places are kept under: it changes with every text and size."""
    return hashlib.sha256(msgspec.json.encode(drawn)).hexdigest()[:16]


@cache
def _kept() -> dict[str, Geometry]:
    text = Path(__file__).with_name("places.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Geometry])


def lay_out(drawn: Sketch) -> Geometry:
    """The same, always by Graphviz. Raises `LayoutMissing`."""
    joined = {end for arrow in drawn.arrows for end in (arrow.source, arrow.target)}
    laid = _by_graphviz([box for box in drawn.boxes if box.id in joined], drawn.arrows)
    return _with_shelf(laid, [box for box in drawn.boxes if box.id not in joined])


def _by_graphviz(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Geometry:
    try:
        import pygraphviz
    except ImportError as exc:
        raise LayoutMissing("this machine cannot be laid out: Graphviz is not installed here") from exc
    graph: Any = pygraphviz.AGraph(directed=True, strict=False)
    graph.graph_attr.update(
        rankdir="TB", nodesep="0.42", ranksep="0.5", newrank="true", searchsize="200", mclimit="6", remincross="true"
    )
    on_course = {end for arrow in arrows if arrow.look == "course" for end in (arrow.source, arrow.target)}
    names = {box.id: f"n{number}" for number, box in enumerate(boxes)}
    order = {box.id: number for number, box in enumerate(boxes)}
    for box in boxes:
        graph.add_node(
            names[box.id],
            shape="box",
            fixedsize="true",
            label="",
            width=box.width / 72,
            height=box.height / 72,
            **({"group": "course"} if box.id in on_course else {}),
        )
    for number, arrow in enumerate(arrows):
        weight = 30 if arrow.look == "course" else 1 if order[arrow.target] < order[arrow.source] else 2
        label = _empty_label(arrow) if arrow.labels else ""
        graph.add_edge(
            names[arrow.source],
            names[arrow.target],
            key=f"e{number}",
            id=f"e{number}",
            weight=str(weight),
            arrowhead="none",
            label=label,
        )
    return _read(msgspec.json.decode(graph.draw(format="json", prog="dot")), boxes, arrows, names)


def _empty_label(arrow: Arrow) -> str:
    size = f'fixedsize="true" width="{arrow.width:g}" height="{arrow.height:g}"'
    return f'<<table border="0" cellborder="0" cellspacing="0" {size}><tr><td></td></tr></table>>'


def _read(found: dict[str, Any], boxes: Sequence[Box], arrows: Sequence[Arrow], names: dict[str, str]) -> Geometry:
    """Graphviz has y upwards, and the middle of boxes."""
    _, _, width, height = map(float, found["bb"].split(","))

    def point(text: str) -> Point:
        x, y = map(float, text.split(","))
        return round(x + MARGIN, 1), round(height - y + MARGIN, 1)

    middles = {each["name"]: point(each["pos"]) for each in found["objects"]}
    edges = {each["id"]: each for each in found["edges"]}
    places = {
        box.id: Position(round(x - box.width / 2, 1), round(y - box.height / 2, 1))
        for box in boxes
        for x, y in (middles[names[box.id]],)
    }
    curves: list[Curve] = []
    for number, _ in enumerate(arrows):
        edge = edges[f"e{number}"]
        points = [part for part in edge["pos"].split() if not part.startswith(("e,", "s,"))]
        label = point(edge["lp"]) if "lp" in edge else None
        curves.append(Curve(tuple(map(point, points)), label))
    return Geometry(
        width=round(width + 2 * MARGIN, 1), height=round(height + 2 * MARGIN, 1), boxes=places, curves=tuple(curves)
    )


class _Shelf(NamedTuple):
    boxes: list[Box]

    @property
    def width(self) -> float:
        return sum(box.width for box in self.boxes) + SHELF_GAP * (len(self.boxes) - 1)

    @property
    def height(self) -> float:
        return max(box.height for box in self.boxes)


def _with_shelf(laid: Geometry, boxes: Iterable[Box]) -> Geometry:
    """The ends that no arrow leads to, side by side below the rest."""
    widest = max(laid.width - 2 * MARGIN, NARROWEST_SHELF)
    shelves: list[_Shelf] = []
    for box in boxes:
        if shelves and shelves[-1].width + SHELF_GAP + box.width <= widest:
            shelves[-1].boxes.append(box)
        else:
            shelves.append(_Shelf([box]))
    if not shelves:
        return laid
    width = max(laid.width, *(shelf.width + 2 * MARGIN for shelf in shelves))
    aside = round((width - laid.width) / 2, 1)
    places = {name: Position(round(place.x + aside, 1), place.y) for name, place in laid.boxes.items()}
    curves = tuple(
        Curve(
            tuple((round(x + aside, 1), y) for x, y in curve.points),
            None if curve.label is None else (round(curve.label[0] + aside, 1), curve.label[1]),
        )
        for curve in laid.curves
    )
    y = laid.height
    for shelf in shelves:
        x = (width - shelf.width) / 2
        for box in shelf.boxes:
            places[box.id] = Position(round(x, 1), round(y, 1))
            x += box.width + SHELF_GAP
        y += shelf.height + SHELF_GAP
    return Geometry(width=round(width, 1), height=round(y + MARGIN - SHELF_GAP, 1), boxes=places, curves=curves)
