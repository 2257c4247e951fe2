"""A token of the environment that is no good, or not whose it seems: what is said, once, and what mends it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from systemprompt_cloud.testing.scripted import make_token

from tests.support.command import CommandLine

FRESH = "Set a fresh one, or unset SYSTEMPROMPT_API_TOKEN."


@pytest.fixture
def handed(cli: CommandLine) -> CommandLine:
    """The command line of a process that was handed a token the API has never seen."""
    token = make_token(exp=datetime.now(UTC) + timedelta(hours=9))
    cli.environ |= {"SYSTEMPROMPT_API_TOKEN": token, "SYSTEMPROMPT_USER_EMAIL": "ci@example.com"}
    return cli


def test_refused(handed: CommandLine) -> None:
    """No login mends it: the variable goes before what a login stores."""
    for words, code in ((("plans",), 4), (("whoami", "--check"), 4), (("doctor",), 1)):
        ran = handed(*words).ended(code)
        assert "the token was not accepted" in ran.out + ran.err
        assert FRESH in ran.out + ran.err
        assert "Log in" not in ran.out + ran.err
    assert handed("plans", "--json").ended(4).lines[-1]["hint"] == FRESH


@pytest.mark.parametrize("words", ["whoami", "plans"])
def test_unreadable(handed: CommandLine, words: str) -> None:
    """What was never a token has not expired; that it cannot be read is said once."""
    ran = handed(words, SYSTEMPROMPT_API_TOKEN="garbage").ended(4)
    assert ran.err.count("the token in SYSTEMPROMPT_API_TOKEN is not a readable token") == 1
    assert "expired" not in ran.out + ran.err
    assert FRESH in ran.err


def test_of_somebody_else(handed: CommandLine) -> None:
    """The API knows whose a token is; who said otherwise is told."""
    address = handed.environ.pop("SYSTEMPROMPT_USER_EMAIL")
    del handed.environ["SYSTEMPROMPT_API_TOKEN"]
    handed.login()
    token = json.loads((handed.directory / "credentials.json").read_text())["api_token"]
    assert "Warning" not in handed("whoami", "--check").ended(0).err
    handed.environ |= {"SYSTEMPROMPT_API_TOKEN": token, "SYSTEMPROMPT_USER_EMAIL": address}
    said = handed("whoami", "--check").ended(0).err
    assert "Warning: the API knows this token as ada@sandbox.example's, not as ci@example.com's." in said


def test_hint_stays_at_the_environment_that_was_named(cli: CommandLine) -> None:
    """Who asked a local cloud is not sent to log in at another API."""
    url = cli.environ.pop("SYSTEMPROMPT_API_URL")
    ran = cli("--env", "local", "plans", SYSTEMPROMPT_LOCAL_URL=url).ended(4)
    assert "Log in: systemprompt-cloud --env local login\n" in ran.err
