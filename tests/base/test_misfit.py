"""What does not fit a record is named by its field, in plain words; a validator's sentence is never shown."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.misfit import malformed, misfit, misfit_of_json

FOREIGN = re.compile(r"Expected `|Object missing|Invalid |at `\$|`\w+`")
"""How msgspec says it."""


class Colour(Enum):
    """Three are enough."""

    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct):
    """A record inside another."""

    name: str
    many: Annotated[int, msgspec.Meta(ge=1)] = 1


class Whole(msgspec.Struct):
    """A record of every kind of field."""

    id: str
    at: datetime | None = None
    colour: Colour = Colour.RED
    kind: Literal["a", "b"] = "a"
    part: Part | None = None
    parts: list[Part] = msgspec.field(default_factory=list[Part])
    named: dict[str, float] = msgspec.field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        if self.id == "never":
            raise ValueError("id must not be never")


CASES: list[tuple[Any, str]] = [
    ([], "it is not an object"),
    ({}, "id is missing"),
    ({"id": 1}, "id is not text"),
    ({"id": "never"}, "id must not be never"),
    ({"id": "x", "at": "yesterday"}, "at is not a moment, as 2026-01-31T12:00:00Z"),
    ({"id": "x", "colour": "green"}, "colour is not one of red, blue"),
    ({"id": "x", "kind": "c"}, "kind is not one of a, b"),
    ({"id": "x", "part": {"many": 2}}, "part.name is missing"),
    ({"id": "x", "part": []}, "part is not an object"),
    ({"id": "x", "parts": {}}, "parts is not a list"),
    ({"id": "x", "parts": [{"name": "y"}, {"name": None}]}, "parts[1].name is not text"),
    ({"id": "x", "parts": [{"name": "y", "many": "2"}]}, "parts[0].many is not a whole number"),
    ({"id": "x", "named": {"y": True}}, "named.y is not a number"),
]


@pytest.mark.parametrize(("value", "words"), CASES)
def test_the_field_is_named(value: Any, words: str) -> None:
    """And what it should be."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Whole)
    assert misfit(value, Whole, caught.value) == words
    assert misfit_of_json(msgspec.json.encode(value), Whole, caught.value) == words


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "it is malformed at line 1, column 2"),
        (b'{"a": 1,\n "b": }', "it is malformed at line 2, column 7"),
        (b'{"a": "\xff"}', "it is not UTF-8"),
        (b'{"a":' * 200_000, "it is nested too deeply"),
        (b"NaN", "it is malformed"),
    ],
)
def test_what_is_no_json_is_named_by_its_place(data: bytes, words: str) -> None:
    """As an editor counts it."""
    assert malformed(data) == words


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "at", "part", "parts", "named", "name", "many", "kind"]), inside)
    ),
    max_leaves=8,
)


@given(values)
def test_anything_that_does_not_fit_is_named_in_words_of_ours(value: Any) -> None:
    """Whatever it is, and nothing is raised."""
    try:
        msgspec.convert(value, Whole)
    except msgspec.ValidationError as exc:
        words = misfit(value, Whole, exc)
    else:
        return
    assert words
    assert not FOREIGN.search(words)
