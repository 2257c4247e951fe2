"""The plan and the region of an order are chosen from a list on a terminal, where no option names them."""

from __future__ import annotations

import pytest

from tests.cli.conftest import at_terminal
from tests.cli.test_opening import PROMPT, on_terminal
from tests.support.command import CommandLine

AWAY = "http://127.0.0.1:9"
PLANS = "Plans: plan_sandbox_starter, plan_sandbox_team, plan_sandbox_scale."


@pytest.mark.parametrize("command", ["checkout", "up"])
def test_plan_and_region_are_chosen_by_number(cli: CommandLine, command: str) -> None:
    """A number that is none is asked for again."""
    cli.login()
    port = "--port" if command == "checkout" else "--checkout-port"
    with on_terminal(cli, command, port, "0") as terminal:
        shown = terminal.wait_for("Which plan? [1-3]")
        assert "1  plan_sandbox_starter  Sandbox Starter, 512 MB, 1 GB" in shown
        terminal.press(b"4\n2\n")
        shown = terminal.wait_for("Which region? [1-8, Enter for iad]")
        assert "3  fra  Europe (Frankfurt)" in shown
        assert shown.count("Which plan?") == 2
        terminal.press(b"fra\n")
        terminal.wait_for(PROMPT)
        terminal.press(b"\x03")
        terminal.ended(130)
    (order,) = cli("flows", "list", "--json", "--machine", "checkout" if command == "checkout" else "onboarding").lines
    assert "plan_sandbox_team|fra" in order["key"]


def test_enter_means_the_default_region(cli: CommandLine) -> None:
    """The same that it is off a terminal."""
    cli.login()
    with on_terminal(cli, "checkout", "--plan", "plan_sandbox_team", "--port", "0") as terminal:
        terminal.wait_for("Which region?")
        terminal.press(b"\n")
        terminal.wait_for(PROMPT)
        assert "Which plan?" not in terminal.shown
        terminal.press(b"\x03")
        terminal.ended(130)
    assert "iad" in cli("flows", "list", "--json", "--machine", "checkout").lines[0]["key"]


@pytest.mark.parametrize("words", [("checkout",), ("up", "--json")])
def test_without_a_person_the_message_lists_the_plans(cli: CommandLine, words: tuple[str, ...]) -> None:
    """It shows the command, too; for programs it is an object."""
    cli.login()
    ran = cli(*words).ended(2)
    assert f"Error: Missing option '--plan'. {PLANS}" in ran.err
    assert f"Run: systemprompt-cloud {words[0]} --plan plan_sandbox_starter\n" in ran.err
    if "--json" in words:
        assert PLANS in ran.lines[0]["message"]


def test_no_input_and_the_end_of_the_input_choose_nothing(cli: CommandLine) -> None:
    """Nothing is bought by accident."""
    cli.login()
    assert PLANS in at_terminal(cli, "checkout", "--no-input").ended(2).err
    with on_terminal(cli, "checkout") as terminal:
        terminal.wait_for("Which plan?")
        terminal.press(b"\x04")
        terminal.wait_for(PLANS)
        terminal.ended(2)


def test_plans_are_listed_after_a_login(cli: CommandLine) -> None:
    """`up` of somebody who is not logged in shows the two commands that are needed."""
    ran = cli("up").ended(2)
    assert "Missing option '--plan'. Plans are listed after a login.\nRun: systemprompt-cloud login" in ran.err


def test_plans_that_cannot_be_listed(cli: CommandLine) -> None:
    """The API is away: the mistake in the usage is still what is shown."""
    cli.login()
    stored = cli.directory / "credentials.json"
    stored.write_text(stored.read_text().replace(cli.environ["SYSTEMPROMPT_API_URL"], AWAY))
    assert "To list the plans, run: systemprompt-cloud" in cli("up", "--api-url", AWAY).ended(2).err
    asked = at_terminal(cli, "up", "--api-url", AWAY)
    assert AWAY in asked.ended(1).err
