"""Numbers that are typed: their bounds are shown in words, never in a validator's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.cli.app import app
from systemprompt_cloud.cli.shared.bounds import MOST, any_whole_number, number, whole_number

from tests.support.command import CommandLine

COUNT = "is not a whole number from {} to 1000000000"
PORT = "is not a whole number from 0 to 65535"
SECONDS = "is not a number from 1 to 86400"
FOREIGN = re.compile(r"<=|valid (integer|float|int)|range")
"""What click says."""


@pytest.mark.parametrize(
    ("words", "option", "message"),
    [
        (("login", "--port", "65536"), "--port", f"'65536' {PORT}"),
        (("login", "--port", "-1"), "--port", f"'-1' {PORT}"),
        (("login", "--port", "8_765"), "--port", f"'8_765' {PORT}"),
        (("login", "--port", "http"), "--port", f"'http' {PORT}"),
        (("login", "--port", "9" * 5000), "--port", f"'{'9' * 40}' {PORT}"),
        (("login", "--timeout", "0"), "--timeout", f"'0' {SECONDS}"),
        (("login", "--timeout", "nan"), "--timeout", f"'nan' {SECONDS}"),
        (("login", "--timeout", "1e9"), "--timeout", f"'1e9' {SECONDS}"),
        (("up", "--plan", "x", "--checkout-port", "70000"), "--checkout-port", f"'70000' {PORT}"),
        (("flows", "list", "--limit", "0"), "--limit", f"'0' {COUNT.format(1)}"),
        (
            ("flows", "prune", "--older-than", "1d", "--keep", "x"),
            "--keep",
            f"'x' {COUNT.format(0)}",
        ),
        (("sandbox", "--port", "70000"), "--port", f"'70000' {PORT}"),
        (("sandbox", "--seed", "x"), "--seed", "'x' is not a whole number"),
        (("sandbox", "--step", "4000"), "--step", "'4000' is not a number from 0 to 3600"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bound_is_shown_in_words(cli: CommandLine, words: tuple[str, ...], option: str, message: str) -> None:
    """With the option's name, for people and for programs."""
    ran = cli(*words, "--json").ended(2)
    (line,) = ran.lines
    assert (line["error"], line["exit_code"]) == ("UsageError", 2)
    for text in (line["message"], ran.err):
        assert f"'{option}': {message}" in text
        assert not FOREIGN.search(text)


@given(st.integers(-(10**6), 10**6), st.integers(0, 10), st.integers(10, 10**5))
def test_what_is_within_is_taken(value: int, low: int, high: int) -> None:
    """And nothing else; also where it comes as a default."""
    parse = whole_number(low, high)
    for typed in (value, str(value), f" {value} "):
        if low <= value <= high:
            assert parse(typed) == value
        else:
            with pytest.raises(click.BadParameter):
                parse(typed)
    assert any_whole_number(str(value)) == value


@given(st.text() | st.from_regex(r"[+-]?[0-9]*(\.[0-9]*)?", fullmatch=True))
def test_whatever_is_typed_is_a_number_or_refused(typed: str) -> None:
    """Nothing else is ever raised."""
    for parse in (whole_number(0, 9), whole_number(0, MOST), any_whole_number, number(0, 9)):
        with suppress(click.BadParameter):
            assert isinstance(parse(typed), int | float)


def each_option(command: click.Command, parent: click.Context | None = None) -> Iterator[click.Parameter]:
    """Every option and argument of a command and of those inside it."""
    with command.make_context(str(command.name), ["-"], parent=parent, resilient_parsing=True) as context:
        yield from command.params
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inside = command.get_command(context, name)
                assert inside is not None
                yield from each_option(inside, context)


def test_no_option_has_a_number_of_clicks_own() -> None:
    """Its messages name Python's types; ours name the bounds."""
    options = [option for option in each_option(app) if not getattr(option, "count", False)]
    assert len(options) > 50
    foreign = (click.types.IntParamType, click.types.FloatParamType)
    assert [option.name for option in options if isinstance(option.type, foreign)] == []
