"""Global options may stand anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.cli.shared.arguments import FLAGS, VALUED, hoist

GLOBALS = st.one_of(
    st.sampled_from(sorted(FLAGS)).map(lambda name: [name]),
    st.sampled_from(["-v", "-vv"]).map(lambda name: [name]),
    st.tuples(st.sampled_from(sorted(VALUED)), st.sampled_from(["x", "--json", "up"])).map(list),
    st.sampled_from(sorted(VALUED)).map(lambda name: [f"{name}=x"]),
)
OTHERS = st.sampled_from(["up", "login", "--plan", "p", "--port=0", "-o", "file", "-", "-x"]).map(lambda word: [word])


@given(st.lists(st.one_of(GLOBALS, OTHERS)), st.lists(st.sampled_from(["--json", "--dir", "x"])))
def test_globals_come_first_and_nothing_else_moves(parts: list[list[str]], literal: list[str]) -> None:
    """Global options go to the front in their order; the rest, and all after `--`, keep theirs."""
    words = [word for part in parts for word in part]
    front = [word for part in parts if is_global(part) for word in part]
    rest = [word for part in parts if not is_global(part) for word in part]
    assert hoist([*words, "--", *literal]) == [*front, *rest, "--", *literal]


def is_global(part: list[str]) -> bool:
    name = part[0].partition("=")[0]
    return name in FLAGS or name in VALUED or name in {"-v", "-vv"}


def test_missing_value_is_left_for_the_parser_to_report() -> None:
    """`up --dir` does not take the command's name for the directory."""
    assert hoist(["up", "--dir"]) == ["--dir"]


@pytest.mark.parametrize("word", ["-", "-x", "-vx", "v", "--jsonl", "--directory=x"])
def test_other_words_stay(word: str) -> None:
    """What only looks like a global option stays with its command."""
    assert hoist(["up", word, "--json"]) == ["--json", "up", word]
