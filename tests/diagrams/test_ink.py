"""Lines fit the width, and nothing but printable text reaches a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.columns import measure
from systemprompt_cloud.base.redaction import printable
from systemprompt_cloud.diagrams._ink import Paper, Span, elapsed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.00 s"),
        (0.042, "0.04 s"),
        (9.996, "10.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1:00 min"),
        (245, "4:05 min"),
        (3599.6, "1:00:00 h"),
        (7384, "2:03:04 h"),
        (266400, "3 d 02:00 h"),
    ],
)
def test_durations_read_naturally(seconds: float, said: str) -> None:
    """Short ones in seconds, long ones in the units people use; a clock that was set back does not go below zero."""
    assert elapsed(seconds) == said


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A server's message cannot move the cursor, colour the screen, reverse the text or start a line."""
    assert printable("a\x1b[31mb\nc\u202ed\x9be\u2028f") == "a [31mb c d e f"


def test_wide_and_combining_characters_are_measured_in_columns() -> None:
    """East Asian wide characters and emoji take two columns, combining ones none."""
    assert (measure("状態"), measure("e\u0301"), measure("한글"), measure("ｱ")) == (4, 1, 4, 1)
    assert (measure("\u1112\u1161\u11ab"), measure("\U0001f44d"), measure("\u2764\ufe0f")) == (2, 2, 2)


def test_long_lines_go_on_below_and_end_with_an_ellipsis() -> None:
    """Words that do not fit are folded behind the hanging text; what is over the limit of lines is cut visibly."""
    paper = Paper(width=40, color=False, ascii_only=False)
    paper.write(Span("> " + "some words " * 20), hang="| ", most=2)
    first, second = paper.text().splitlines()
    assert first == "> some words some words some words some"
    assert second.startswith("| words some")
    assert second.endswith("…")


def test_styles_are_drawn_only_in_color() -> None:
    """Without colour there is no escape sequence; with it every style is closed."""
    plain, colored = (Paper(width=80, color=color, ascii_only=False) for color in (False, True))
    for paper in (plain, colored):
        paper.write(Span("done", "good"))
    assert plain.text() == "done\n"
    assert colored.text() == "\x1b[1;32mdone\x1b[0m\n"


@given(st.lists(st.text(), max_size=4), st.integers(0, 120), st.booleans(), st.text(" |", max_size=12))
def test_no_line_is_wider_than_the_paper(texts: list[str], width: int, ascii_only: bool, hang: str) -> None:
    """Whatever is written, every line fits, no line is more than asked for, and ASCII paper holds ASCII only."""
    paper = Paper(width=width, color=False, ascii_only=ascii_only)
    paper.write(*(Span(text) for text in texts), hang=hang, most=3)
    lines = paper.text().removesuffix("\n").split("\n")
    assert len(lines) <= 3
    assert all(measure(line) <= paper.width for line in lines)
    assert all(printable(line) == line for line in lines)
    assert not ascii_only or paper.text().isascii()


@given(st.text(max_size=60))
def test_folding_loses_no_word(text: str) -> None:
    """With room for enough lines everything but the spaces is still there, in order."""
    paper = Paper(width=40, color=False, ascii_only=False)
    paper.write(Span(text), hang="", most=1000)
    assert "".join(paper.text().split()) == "".join(printable(text).split())
