"""A login that comes with the environment: its token goes before the stored one, and to no other API."""

from __future__ import annotations

import json

from tests.support.command import CommandLine


def test_token_in_the_environment(cli: CommandLine, cloud: str) -> None:
    """A token in the environment is a login for this command: it goes before the stored one, and nothing is stored."""
    cli.login()
    stored = cli.directory / "credentials.json"
    held = stored.read_bytes()
    token = json.loads(held)["api_token"]
    stored.unlink()
    cli.environ |= {"SYSTEMPROMPT_API_TOKEN": token, "SYSTEMPROMPT_USER_EMAIL": "ci@example.com"}
    assert cli("plans", "--json").ended(0).lines
    (who,) = cli("whoami", "--json").ended(0).lines
    assert (who["user_email"], who["source"]) == ("ci@example.com", "SYSTEMPROMPT_API_TOKEN")
    assert not stored.exists()
    stored.write_bytes(held)
    refused = cli("plans", SYSTEMPROMPT_API_TOKEN="not.the.token").ended(4)
    assert "not.the.token" not in refused.out + refused.err
    assert "SYSTEMPROMPT_API_TOKEN is set, and stays a login" in cli("logout").ended(0).err


def test_container_without_a_login(cli: CommandLine) -> None:
    """In the cloud's container no file is looked at: a stored login is nobody's; what to set is said."""
    cli.login()
    cli.environ["FLY_APP_NAME"] = "app"
    for words in (("whoami",), ("plans",)):
        ran = cli(*words).ended(4)
        assert "this container has no login" in ran.err
        assert "Set SYSTEMPROMPT_API_TOKEN in the container's environment." in ran.err


def test_address_that_is_none(cli: CommandLine) -> None:
    """An address beside the token that is no address is refused, by the variable's name."""
    ran = cli("plans", SYSTEMPROMPT_API_TOKEN="a.b.c", SYSTEMPROMPT_USER_EMAIL="ann").ended(4)
    assert "SYSTEMPROMPT_USER_EMAIL" in ran.err


def test_token_for_another_api(cli: CommandLine) -> None:
    """Without SYSTEMPROMPT_API_URL the token is production's; it is not sent to the API of the stored login."""
    cli.login()
    api = cli.environ.pop("SYSTEMPROMPT_API_URL")
    token = json.loads((cli.directory / "credentials.json").read_text())["api_token"]
    cli.environ |= {"SYSTEMPROMPT_API_TOKEN": token, "SYSTEMPROMPT_USER_EMAIL": "ci@example.com"}
    ran = cli("plans", "--api-url", api).ended(4)
    assert f"SYSTEMPROMPT_API_TOKEN is for https://api.systemprompt.io, not for {api}" in ran.err
