"""Lines that fit a terminal, down to 40 columns: wrapped behind a hanging indent, with what is copied kept whole."""

from __future__ import annotations

import io
import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.columns import measure
from systemprompt_cloud.cli.screen.columns import terminal_columns
from systemprompt_cloud.cli.screen.layout import laid_out, rows_in_columns

from tests.support.command import CommandLine

from .test_terminal import at_a_terminal

ADDRESS: Final = "https://api.example.com/a/very/long/address/that/needs/more/than/40/columns?state=abc"


def wrapped(*lines: str) -> str:
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Short: systemprompt-cloud plans.", "Short: systemprompt-cloud plans."),
        (
            "No tenants are stored yet, and there is nothing to choose from.",
            wrapped("No tenants are stored yet, and there is", "  nothing to choose from."),
        ),
        (
            "  driven by process 4711 on a computer that is named here",
            wrapped("  driven by process 4711 on a computer", "    that is named here"),
        ),
        (
            "Check, and pay: systemprompt-cloud flows resume 01ab. Give it up: systemprompt-cloud flows cancel 01ab",
            wrapped(
                "Check, and pay:",
                "  systemprompt-cloud flows resume 01ab",
                "  Give it up:",
                "  systemprompt-cloud flows cancel 01ab",
            ),
        ),
        (
            "Run `spc --dir '/tmp/a b. c' --env local flows resume 01ab` in a terminal.",
            wrapped("Run", "  spc --dir '/tmp/a b. c' --env local flows resume 01ab", "  in a terminal."),
        ),
        (
            "It is /opt/bin/systemprompt-cloud up --plan 'a; b' --region iad; then look again",
            wrapped("It is", "  /opt/bin/systemprompt-cloud up --plan 'a; b' --region iad", "  then look again"),
        ),
        (
            "systemprompt-cloud does not know the machine parcel of this flow",
            wrapped("systemprompt-cloud does not know the", "  machine parcel of this flow"),
        ),
        (f"  {ADDRESS}", f"  {ADDRESS}"),
        (f"Error: GET {ADDRESS}: not found here", wrapped("Error: GET", f"  {ADDRESS}", "  not found here")),
        ("状態 状態 状態 状態 状態 状態 状態 状態 ende", wrapped("状態 状態 状態 状態 状態 状態 状態 状態", "  ende")),
    ],
)
def test_long_lines_go_on_behind_a_hanging_indent(line: str, shown: str) -> None:
    """A command and an address are a line of their own, without the sentence's punctuation."""
    assert laid_out(line, 40) == shown
    assert laid_out(line, None) == line


def test_a_named_column_is_used_where_it_leaves_room() -> None:
    """Values continue under values, unless less than half of the terminal is left for them."""
    line = "State:    a state with a long text that goes on"
    assert laid_out(line, 30, 10) == wrapped("State:    a state with a long", " " * 10 + "text that goes on")
    assert laid_out(line, 18, 10).splitlines()[1].startswith("  ")
    assert not laid_out(line, 18, 10).splitlines()[1].startswith("   ")


@given(
    st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12), min_size=1), st.integers(32, 90)
)
def test_no_word_is_lost_and_no_line_is_too_long(words: list[str], columns: int) -> None:
    """Whatever the words are, and however wide."""
    lines = laid_out(" ".join(words), columns).splitlines()
    assert " ".join(lines).split() == " ".join(words).split()
    assert all(measure(line) <= columns for line in lines)


def test_columns_are_aligned_whatever_is_in_them() -> None:
    """Wide characters take two columns, combining ones none; no line ends in blanks."""
    rows = [("ID", "NAME", "REGION"), ("t1", "日本語", "iad"), ("t2", "e\u0301te\u0301", "fra"), ("t3", "👍", "-")]
    assert rows_in_columns(rows, None) == wrapped(
        "ID  NAME    REGION", "t1  日本語  iad", "t2  e\u0301te\u0301     fra", "t3  👍      -"
    )


def test_a_table_that_is_too_wide_is_a_block_for_each_row() -> None:
    """The name first, marked where it is chosen; what is unknown is left out."""
    rows = [("", "ID", "NAME", "REGION"), ("*", "tenant_4f2a", "shop", "iad"), ("", "tenant_5b", "日本", "-")]
    assert rows_in_columns(rows, 30) == rows_in_columns(rows, None)
    assert rows_in_columns(rows, 20) == wrapped(
        "* tenant_4f2a", "  Name: shop", "  Region: iad", "tenant_5b", "  Name: 日本"
    )


def test_only_terminals_have_columns() -> None:
    """What goes to a file or a program is never wrapped."""
    assert terminal_columns(io.StringIO(), {"COLUMNS": "40"}) is None


def shown_narrow(cli: CommandLine, *words: str, until: str = "", keys: bytes = b"", **environ: str) -> list[str]:
    """The lines of a command on a terminal of 40 columns, without colour."""
    narrow = {"COLUMNS": "40", "LINES": "20", "NO_COLOR": "1", **environ}
    _, shown = at_a_terminal(cli, *words, until=until, keys=keys, environ=narrow)
    return shown.replace("\r", "").splitlines()


def too_long(lines: list[str]) -> list[str]:
    """Lines that are too long and hold more than one word, command or address."""
    return [line for line in lines if len(line) > 40 and " " in line.strip() and "systemprompt-cloud " not in line]


def test_lists_and_single_things_fit_a_narrow_terminal(owner: tuple[CommandLine, str]) -> None:
    """Each row is a block; what is copied is on a line of its own."""
    cli, tenant = owner
    flows = shown_narrow(cli, "flows", "list")
    assert "  Machine: onboarding" in flows
    assert "  Status: success" in flows
    assert any(re.fullmatch(r"  Changed: (now|\d+ \w+ ago)", line) for line in flows)
    tenants = shown_narrow(cli, "tenants", "list")
    assert f"* {tenant}" in tenants or tenant in tenants
    assert "  Region: fra" in tenants
    plans = shown_narrow(cli, "plans")
    assert "plan_sandbox_starter" in plans
    assert any(line.startswith("  Memory: ") for line in plans)
    whoami, shown = shown_narrow(cli, "whoami"), shown_narrow(cli, "flows", "show")
    doctor, history = shown_narrow(cli, "doctor", "--offline"), shown_narrow(cli, "flows", "history", "--no-input")
    for lines in (flows, tenants, plans, whoami, shown, doctor, history):
        assert not too_long(lines)
    assert any(re.match(r"          \S", line) for line in shown)  # values continue under values


def test_errors_and_help_fit_a_narrow_terminal(cli: CommandLine) -> None:
    """The command that fixes it, and the example, can be copied."""
    error = shown_narrow(cli, "tenants", "status")
    assert not too_long(error)
    usage = shown_narrow(cli, "flows", "list", "--limit", "many")
    assert "  systemprompt-cloud flows list -h" in usage
    assert "Error: Invalid value for '--limit':" in usage
    assert not too_long(usage)
    unknown = shown_narrow(cli, "flows", "lst", "--json")
    assert not too_long([line for line in unknown if not line.startswith("{")])
    for words in (("--help",), ("flows", "list", "--help"), ("deploy", "--help")):
        assert not too_long(shown_narrow(cli, *words))
    about = shown_narrow(cli, "deploy", "--help")
    assert "    systemprompt-cloud deploy registry.example/team/app:1.2 --tenant tenant_4f2a" in about


@pytest.mark.parametrize("colour", ["", "1"], ids=["moving", "plain"])
def test_progress_fits_a_narrow_terminal(cli: CommandLine, colour: str) -> None:
    """The address stands alone; a line of progress continues under its words, without the machine's name."""
    lines = shown_narrow(
        cli, "login", "--port", "0", "--no-browser", until="/sandbox/consent/", keys=b"\x03", NO_COLOR=colour
    )
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in lines]
    assert any(re.fullmatch(r"  http://127\.0\.0\.1:\d+/sandbox/consent/\S+", line) for line in plain)
    first = next(at for at, line in enumerate(plain) if "0:00  waiting for the browser to come" in line)
    assert "        back (up to 5 min)" in plain[first + 1 : first + 3]
    assert not too_long([line for line in plain if "total" not in line and "login:" not in line])
    assert any(line.startswith("  systemprompt-cloud flows resume") for line in plain)
