"""`auth`: the long names of the login commands, and what only they have."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from systemprompt_cloud.testing.scripted import make_token

from tests.support.command import CommandLine

from .conftest import at_terminal


def test_the_same_commands(cli: CommandLine) -> None:
    """`auth login`, `auth status` and `auth logout` are `login`, `whoami` and `logout`."""
    assert "Log in: systemprompt-cloud login" in cli("auth", "status").ended(4).err
    cli.play("auth", "login", "--port", "0", "--no-browser").ended(0)
    assert cli("auth", "status").ended(0).out == cli("whoami").ended(0).out
    (shown,) = cli("auth", "status", "--json").ended(0).lines
    assert shown["user_email"] == "ada@sandbox.example"
    assert cli("auth", "logout", "--json").ended(0).lines[0]["reported"] is True
    assert "Not logged in" in cli("auth", "logout").ended(0).err


def test_token(cli: CommandLine) -> None:
    """One line on stdout and nothing on stderr; an object for programs; an error without a login."""
    assert "Log in: systemprompt-cloud login" in cli("auth", "token").ended(4).err
    assert cli("auth", "token", "--json").ended(4).lines[0]["error"] == "NotAuthenticated"
    cli.login()
    stored = json.loads((cli.directory / "credentials.json").read_text())
    ran = cli("auth", "token").ended(0)
    assert (ran.out, ran.err) == (f"{stored['api_token']}\n", "")
    (shown,) = cli("auth", "token", "--json").ended(0).lines
    assert shown.keys() == {"token", "api_url", "expires_at"}
    assert (shown["token"], shown["api_url"]) == (stored["api_token"], stored["api_url"])


def test_token_of_the_environment(cli: CommandLine) -> None:
    """The token that commands use; an expired one is not printed."""
    assert cli("auth", "token", SYSTEMPROMPT_API_TOKEN="opaque").ended(0).out == "opaque\n"
    spent = make_token(exp=datetime.now(UTC) - timedelta(days=1))
    ran = cli("auth", "token", SYSTEMPROMPT_API_TOKEN=spent).ended(4)
    assert ran.out == ""
    assert "the token in SYSTEMPROMPT_API_TOKEN has expired" in ran.err
    assert spent not in ran.err


def test_already_logged_in(cli: CommandLine) -> None:
    """At a terminal it is a question, which `--yes` answers; a script reads a line, and its login goes on."""
    cli.login()
    words = ("login", "--port", "0", "--no-browser")
    ran = at_terminal(cli, *words, typed=b"n\n").ended(1)
    assert "Already logged in as ada@sandbox.example at http://127.0.0.1:" in ran.err
    assert "Log in again? [y/n]" in ran.err
    assert "Open this" not in ran.err
    for more in (("--yes",), ("--no-input",), ("--json",)):
        ran = cli.play(*words, *more).ended(0)
        assert "A new login replaces it. To keep both: systemprompt-cloud --account NAME login" in ran.err
    cli.begin("login", "--token-stdin", listening=True).say(cli("auth", "token").out)
    assert cli.running[-1].wait().ended(0).err.startswith("Already logged in")


def test_superseded(cli: CommandLine) -> None:
    """A login ends the unfinished ones before it to the same API and account; others stay, and so does a later one."""
    other = cli("login", "--port", "0", "--no-browser", "--api-url", "http://127.0.0.1:9").ended(8)
    for more in (("--account", "work"), ("--provider", "google")):
        running = cli.begin("login", "--port", "0", "--no-browser", *more)
        running.wait_invited()
        running.interrupt()
        running.wait().ended(130)
    assert len(cli("whoami", "--json").ended(4).lines) == 1
    ran = cli.play("login", "--port", "0", "--no-browser").ended(0)
    assert ran.err.count("Ended an earlier login that was not finished: ") == 1
    states = {row["flow"]: row["state"] for row in cli("flows", "list", "--json").ended(0).lines}
    assert sorted(states.values()) == ["authenticated", "awaiting_callback", "cancelled", "requesting_authorization"]
    assert other.err
    (shown,) = cli("whoami", "--json").ended(0).lines
    assert [flow["state"] for flow in shown["pending"]] == ["awaiting_callback", "requesting_authorization"]


def test_what_the_login_cannot_do(cli: CommandLine) -> None:
    """Refresh and the device login are refused by name, with what to do instead."""
    ran = cli("auth", "refresh").ended(2)
    assert "The SystemPrompt login has no refresh token. To get a new token: systemprompt-cloud auth login" in ran.err
    assert cli("auth", "refresh", "--json").ended(2).lines[0]["error"] == "UsageError"
    ran = cli("login", "--device").ended(2)
    assert "The SystemPrompt login has no device login" in ran.err
    assert "systemprompt-cloud login --paste" in ran.err
    assert not cli.journal.exists()
