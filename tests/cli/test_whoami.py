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
def test_no_token(handed: CommandLine, words: str) -> None:
    """What cannot be a token is not sent; what is wrong with it is said once."""
    ran = handed(words, SYSTEMPROMPT_API_TOKEN="two words").ended(4)
    assert ran.err.count("the token in SYSTEMPROMPT_API_TOKEN holds a space or a line end") == 1
    assert "expired" not in ran.out + ran.err
    assert FRESH in ran.err


def test_opaque(handed: CommandLine) -> None:
    """A token of any form is shown, and the API judges it."""
    ran = handed("whoami", SYSTEMPROMPT_API_TOKEN="opaque").ended(0)
    assert "Token: does not show when it expires\n" in ran.out
    (shown,) = handed("whoami", "--json", SYSTEMPROMPT_API_TOKEN="opaque").ended(0).lines
    assert (shown["expires_at"], shown["expired"]) == (None, False)
    assert "the token was not accepted" in handed("plans", SYSTEMPROMPT_API_TOKEN="opaque").ended(4).err


def test_token_alone(handed: CommandLine) -> None:
    """Without an address beside the token, whose it is comes from the API; a line end is no part of it."""
    del handed.environ["SYSTEMPROMPT_USER_EMAIL"], handed.environ["SYSTEMPROMPT_API_TOKEN"]
    handed.login()
    credentials = handed.directory / "credentials.json"
    handed.environ["SYSTEMPROMPT_API_TOKEN"] = json.loads(credentials.read_text())["api_token"] + "\r\n"
    credentials.unlink()
    assert handed("whoami").ended(0).out.startswith("ada@sandbox.example at http://127.0.0.1:")
    (shown,) = handed("whoami", "--check", "--json").ended(0).lines
    assert (shown["user_email"], shown["checked"]) == ("ada@sandbox.example", True)
    handed("plans").ended(0)
    assert "a login at http" in handed("doctor").out


def test_token_alone_without_an_api(handed: CommandLine) -> None:
    """An API that cannot be asked whose token it is does not stand in the way, unless that was the question."""
    del handed.environ["SYSTEMPROMPT_USER_EMAIL"]
    handed.environ["SYSTEMPROMPT_API_URL"] = "http://127.0.0.1:9"
    ran = handed("whoami").ended(0)
    assert ran.out.startswith("Unknown account at http://127.0.0.1:9, by SYSTEMPROMPT_API_TOKEN\n")
    assert ran.err.startswith("Warning: ")
    (shown,) = handed("whoami", "--json").ended(0).lines
    assert shown["user_email"] is None
    handed("whoami", "--check").ended(1)


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


def test_unfinished_flows_are_one_line(cli: CommandLine) -> None:
    """After the answer: the one flow with its command, or how many there are."""
    cli.login()
    for number in (1, 2):
        cli("login", "--port", "0", "--no-browser", "--api-url", f"http://127.0.0.1:{number}").ended(8)
        ran = cli("whoami").ended(0)
        assert ran.out.startswith("ada@sandbox.example at ")
        (line,) = (each for each in ran.err.splitlines() if each.startswith("Unfinished: "))
        if number == 1:
            assert " is in requesting_authorization. " in line
            assert "systemprompt-cloud flows resume" in line
        else:
            assert line == "Unfinished: 2 flows. To list them: systemprompt-cloud flows list"
