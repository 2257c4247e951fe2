"""The SVG holds the whole table, each row once, nothing is on top of anything else, and a run is drawn on it."""

from __future__ import annotations

import re
import sys
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from systemprompt_cloud.diagrams.geometry import Geometry, LayoutMissing, geometry, lay_out
from systemprompt_cloud.diagrams.metrics import width, wrap
from systemprompt_cloud.diagrams.sketch import START, Box, Sketch, label_text, line_text, shown_name, sketch
from systemprompt_cloud.diagrams.svg import svg
from systemprompt_cloud.engine.errors import MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import Context, Event, State, Verdict, on
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN

from tests.support.any_machine import machines
from tests.support.histories import tell

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
whole = pytest.mark.parametrize("full", [False, True])

PATH = tell(
    LOGIN,
    ("awaiting_callback", "AuthorizationOffered"),
    ("awaiting_callback", "BrowserOpened"),
    ("verifying_token", "CallbackReceived"),
    ("saving_credentials", "TokenAccepted"),
)


class Went(Event, frozen=True):
    """It went on."""


def machine_of(meaning: str) -> Machine[Any]:
    """One working state with this meaning, and an end."""
    states = [State("waiting", meaning), State("done", "it is done", verdict=Verdict.SUCCESS)]
    return Machine(
        "other", version=1, initial="waiting", context=Context, states=states, rows=[on(Went, "waiting", "done")]
    )


def rows_of(drawn: Sketch) -> list[int]:
    """The numbers of the rows that are drawn."""
    on_arrows = [label.row for arrow in drawn.arrows for label in arrow.labels]
    return sorted(on_arrows + [row.row for box in drawn.boxes for line in box.lines for row in line.rows])


def texts(drawing: str) -> list[str]:
    """Every text, whole."""
    found = ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 our own
    return ["".join(each.itertext()) for each in found]


def boxes_that_touch(drawn: Sketch, places: Geometry) -> list[tuple[str, str]]:
    """Pairs of boxes that share a point."""

    def apart(a: Box, b: Box) -> bool:
        first, second = places.boxes[a.id], places.boxes[b.id]
        return (
            first.x + a.width <= second.x
            or second.x + b.width <= first.x
            or first.y + a.height <= second.y
            or second.y + b.height <= first.y
        )

    return [(a.id, b.id) for a, b in combinations(drawn.boxes, 2) if not apart(a, b)]


def labels_on_boxes(drawn: Sketch, places: Geometry) -> list[tuple[str, str]]:
    """Labels of arrows that a box hides in part."""
    found: list[tuple[str, str]] = []
    for arrow, curve in zip(drawn.arrows, places.curves, strict=True):
        if curve.label is None:
            continue
        x, y = curve.label
        for box in drawn.boxes:
            place = places.boxes[box.id]
            inside_x = place.x < x + arrow.width / 2 - 4 and x - arrow.width / 2 + 4 < place.x + box.width
            inside_y = place.y < y + arrow.height / 2 - 2 and y - arrow.height / 2 + 2 < place.y + box.height
            if inside_x and inside_y:
                found.append((label_text(arrow.labels[0]), box.id))
    return found


def texts_that_do_not_fit(drawn: Sketch) -> list[str]:
    """Texts that are wider than their box."""
    wide: list[str] = []
    for box in drawn.boxes:
        inside = box.width - 2 * 14
        measured = [(shown_name(box.id), "mono", 13.0), *((text, "sans", 11.5) for text in box.meaning)]
        measured += [(fact.text, "sans", 11.0) for fact in box.facts]
        measured += [(line_text(line), "mono", 10.0) for line in box.lines]
        wide += [text for text, face, size in measured if box.id != START and width(text, face, size) > inside + 0.5]  # pyright: ignore[reportArgumentType]
    return wide


@whole
@each_machine
def test_every_row_of_a_built_in_machine_is_drawn_once(machine: Machine[Any], full: bool) -> None:
    """On an arrow, or inside a state."""
    assert rows_of(sketch(machine, full=full)) == list(range(len(machine.rows)))


@whole
@each_machine
def test_nothing_of_a_built_in_machine_is_on_top_of_anything_else(machine: Machine[Any], full: bool) -> None:
    """No two boxes touch, no label is under a box, and every text fits its box."""
    drawn = sketch(machine, full=full)
    places = geometry(drawn)
    assert (boxes_that_touch(drawn, places), labels_on_boxes(drawn, places)) == ([], [])
    assert texts_that_do_not_fit(drawn) == []


@settings(max_examples=40, deadline=None)
@given(machines())
def test_so_it_is_with_any_machine(machine: Machine[Any]) -> None:
    """The table decides what is drawn; Graphviz where."""
    for full in (False, True):
        drawn = sketch(machine, full=full)
        assert rows_of(drawn) == list(range(len(machine.rows)))
        places = lay_out(drawn)
        assert boxes_that_touch(drawn, places) == []
        assert labels_on_boxes(drawn, places) == []
        assert texts_that_do_not_fit(drawn) == []
        assert lay_out(drawn) == places
        assert texts(svg(machine, full=full))


@each_machine
def test_a_drawing_says_what_the_table_says(machine: Machine[Any]) -> None:
    """Names, meanings and events are texts of it."""
    found = " ".join(texts(svg(machine)))
    for state in machine.states.values():
        assert state.name in found
        assert all(word in found for word in state.meaning.split())
    assert all(row.event.__name__ in found for row in machine.rows)


def test_the_course_of_the_login_is_one_line_down_the_middle() -> None:
    """Its states have one middle, one below the other."""
    drawn = sketch(LOGIN)
    places, sizes = geometry(drawn), {box.id: box.width for box in drawn.boxes}
    middles = {round(places.boxes[state].x + sizes[state] / 2) for state in LOGIN.course}
    assert max(middles) - min(middles) <= 1
    heights = [places.boxes[state].y for state in LOGIN.course]
    assert heights == sorted(heights)


def test_what_ends_badly_is_a_line_and_no_arrow_unless_all_is_drawn() -> None:
    """The login's end `denied` is on the shelf, with no arrow to it."""
    targets = {arrow.target for arrow in sketch(LOGIN).arrows}
    assert "denied" not in targets
    assert "AuthorizationDenied → denied" in texts(svg(LOGIN))
    assert "denied" in {arrow.target for arrow in sketch(LOGIN, full=True).arrows}


def test_a_run_is_drawn_on_top() -> None:
    """Where it was, how often and how long, which rows it took and where it is."""
    drawing = svg(LOGIN, changes=PATH)
    assert re.findall(r'<g class="box been now"[^>]*>', drawing)
    found = texts(drawing)
    assert found.count("1.0 s") == 2  # a line of this history takes a second
    assert "now" in found
    assert {"1", "2", "3"} <= set(found)
    taken = re.findall(r'class="label course taken"[^>]*>([A-Za-z]+)', drawing)
    assert taken == ["AuthorizationOffered", "CallbackReceived", "TokenAccepted"]
    assert 'class="row stays taken">BrowserOpened' in drawing
    assert "Was in requesting_authorization 1.0 s, awaiting_callback 2.0 s" in drawing
    assert "Now in saving_credentials." in drawing


def test_a_state_alone_may_be_marked() -> None:
    """Without a history."""
    assert "Now in awaiting_callback." in svg(LOGIN, current="awaiting_callback")


def test_a_theme_has_its_colors_and_auto_has_both() -> None:
    """A fixed theme asks the reader's system nothing."""
    light, dark, auto = (svg(LOGIN, theme=theme) for theme in ("light", "dark", "auto"))
    assert "#fbfbfd" in light
    assert "#12131a" not in light
    assert "#12131a" in dark
    assert "prefers-color-scheme" not in light + dark
    assert {"#fbfbfd", "#12131a"} <= set(re.findall(r"--paper:(#\w+)", auto))


def test_hostile_texts_are_texts() -> None:
    """Markup, entities, control characters and half a character are drawn, and the file is XML all the same."""
    meaning = '<script>alert(1)</script> & "quotes" ]]> \x00\x1b[31m \ud800'
    drawing = svg(machine_of(meaning))
    drawing.encode()
    found = texts(drawing)
    assert "<script>alert(1)</script> &" in " ".join(found)
    assert "<script" not in drawing
    assert not re.search(r"[\x00-\x08\x1b]", drawing)


def test_a_long_word_and_wide_characters_fit() -> None:
    """A word is not broken; East Asian characters take more room, accents that combine none."""
    drawn = sketch(machine_of("x" * 80 + " 日本語のテキスト e\u0301"))
    assert texts_that_do_not_fit(drawn) == []
    assert width("日本", "sans", 10) == 20
    assert width("e\u0301", "sans", 10) == width("e", "sans", 10)
    assert wrap("", "sans", 10, 50) == []


def test_without_graphviz_the_built_in_machines_are_drawn_and_others_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their places come with the package."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    for machine in MACHINES:
        assert svg(machine)
        assert svg(machine, full=True)
    with pytest.raises(LayoutMissing) as caught:
        svg(machine_of("waiting"))
    assert 'pip install "systemprompt-cloud[diagrams]"' in caught.value.recovery_hint


def test_what_is_drawn_belongs_together() -> None:
    """Another machine's history, and a state that is none, are errors."""
    with pytest.raises(ValueError, match="of login, not of checkout"):
        svg(CHECKOUT, changes=PATH)
    with pytest.raises(ValueError, match="has no state somewhere"):
        svg(LOGIN, current="somewhere")


@pytest.mark.parametrize(
    ("course", "why"),
    [
        (["done"], "begins in done"),
        (["waiting", "waiting"], "no row leads from waiting to waiting"),
        (["waiting", "gone"], "no row leads from waiting to gone"),
        ("waiting", "is a list"),
    ],
)
def test_a_course_is_a_way_through_the_table(course: Any, why: str) -> None:
    """It begins where a flow begins, and a row leads from each state to the next."""
    table = machine_of("waiting")
    with pytest.raises(MachineInvalid, match=why):
        Machine(
            "other",
            version=1,
            initial="waiting",
            context=Context,
            states=list(table.states.values()),
            rows=table.rows,
            course=course,
        )


def test_a_course_changes_no_fingerprint() -> None:
    """It is about drawings only: flows that were stored before continue."""
    table = machine_of("waiting")
    states = list(table.states.values())
    with_course = Machine(
        "other",
        version=1,
        initial="waiting",
        context=Context,
        states=states,
        rows=table.rows,
        course=["waiting", "done"],
    )
    assert with_course.fingerprint == table.fingerprint
    assert msgspec.json.encode(sketch(with_course)) != msgspec.json.encode(sketch(table))
