"""`config`: the settings a user keeps, and what goes before them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.command import CommandLine

from .conftest import offered


def file_of(cli: CommandLine) -> Path:
    return cli.home / ".config/systemprompt-cloud/config.json"


def test_set_get_list_unset(cli: CommandLine) -> None:
    """A value is kept in a private file, and shown."""
    assert (
        "env is not set. To set it: systemprompt-cloud config set env VALUE" in cli("config", "get", "env").ended(1).err
    )
    assert cli("config", "get", "env", "--json").ended(1).lines == [{"key": "env", "value": None}]
    assert cli("config", "set", "env", "sandbox").ended(0).err == "Set env to sandbox.\n"
    assert cli("config", "set", "no_input", "true", "--json").ended(0).lines == [{"key": "no_input", "value": True}]
    assert stat.S_IMODE(file_of(cli).stat().st_mode) == 0o600
    assert cli("config", "get", "env").ended(0).out == "sandbox\n"
    rows = [line.split()[:2] for line in cli("config", "list").ended(0).out.splitlines()]
    assert rows[1:] == [["account", "not"], ["api_url", "not"], ["env", "sandbox"], ["no_input", "true"]]
    shown = {line["key"]: line["value"] for line in cli("config", "list", "--json").ended(0).lines}
    assert shown == {"account": None, "api_url": None, "env": "sandbox", "no_input": True}
    cli("config", "unset", "env").ended(0)
    cli("config", "get", "env").ended(1)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("colour", "x", "no setting 'colour'. Settings: account, api_url, env, no_input"),
        ("env", "moon", "'moon' is not a valid value for env: it is one of production, sandbox, local"),
        ("no_input", "1", "'1' is not a valid value for no_input: it is true or false"),
        ("account", "../x", "'../x' is not a valid value for account"),
        ("api_url", "http://example.com", "api_url"),
    ],
)
def test_refused(cli: CommandLine, key: str, value: str, why: str) -> None:
    """Keys and values that are none are named, with those there are; nothing is written."""
    assert why in cli("config", "set", key, value).ended(2).err
    assert cli("config", "set", key, value, "--json").ended(2).lines[0]["error"] == "UsageError"
    assert not file_of(cli).exists()


def test_one_name_of_the_api(cli: CommandLine) -> None:
    """Its address or its name, not both."""
    cli("config", "set", "env", "sandbox").ended(0)
    ran = cli("config", "set", "api_url", "https://api.example.com").ended(2)
    assert "env is set, and only one of the two can be. Unset env first" in ran.err


def test_what_goes_before_it(cli: CommandLine) -> None:
    """An option, then the variable, then what is kept, then the default."""
    url = cli.environ["SYSTEMPROMPT_API_URL"]
    cli("config", "set", "api_url", "http://127.0.0.1:9").ended(0)
    cli.login()
    del cli.environ["SYSTEMPROMPT_API_URL"]
    assert "not for http://127.0.0.1:9" in cli("plans").ended(4).err
    cli("plans", SYSTEMPROMPT_API_URL=url).ended(0)
    cli("plans", "--api-url", url).ended(0)
    cli("config", "unset", "api_url").ended(0)
    cli("plans").ended(0)


def test_account(cli: CommandLine) -> None:
    """The account that is kept is used like one that is named."""
    cli.login()
    cli("config", "set", "account", "work").ended(0)
    assert "accounts/work" in cli("whoami").ended(4).err
    cli("whoami", "--account", "ada@sandbox.example").ended(0)
    cli.login()
    shown = [(each["account"], each["active"]) for each in cli("auth", "list", "--json").ended(0).lines]
    assert shown == [("ada@sandbox.example", True), ("work", False)]


@pytest.mark.parametrize("damage", ["{", '{"colour": "x"}', '{"env": "moon"}', '{"no_input": "x"}'])
def test_damaged(cli: CommandLine, damage: str) -> None:
    """The error names the file and how to fix it; the help is shown all the same."""
    file_of(cli).parent.mkdir(parents=True, mode=0o700)
    file_of(cli).write_text(damage)
    ran = cli("whoami").ended(1)
    assert f"{file_of(cli)} does not hold settings: " in ran.err
    assert f"Fix it, or remove it: rm {file_of(cli)}" in ran.err
    assert cli("config", "set", "env", "local", "--json").ended(1).lines[0]["error"] == "Io"
    assert "Usage: " in cli("--json", "whoami", "--help").ended(0).out
    assert file_of(cli).read_text() == damage


def test_completion(cli: CommandLine) -> None:
    """The names of the settings."""
    assert offered(cli, "config", "get", "a") == ["account", "api_url"]
