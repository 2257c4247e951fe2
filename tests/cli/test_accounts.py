"""Several accounts: `--account`, `auth list`, `auth switch`, and what a login and a logout leave alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import CommandLine
from tests.support.secret_service import SecretService

from .conftest import offered

LOGIN = ("login", "--port", "0", "--no-browser")
ADA, OTHER, BOB = "ada@sandbox.example", "grace@sandbox.example", "work"


def login_as(cli: CommandLine, account: str, *words: str) -> None:
    cli.play(*LOGIN, *words, browser=ScriptedBrowser(account=account)).ended(0)


def email_in(file: Path) -> str:
    return str(json.loads(file.read_text())["user_email"])


def both(cli: CommandLine) -> tuple[Path, Path]:
    """Log in with two accounts; the active one's file and the other's."""
    cli.login()
    login_as(cli, OTHER, "--account", BOB)
    return cli.directory / "credentials.json", cli.directory / "accounts" / BOB / "credentials.json"


def test_both_are_kept(cli: CommandLine) -> None:
    """A login with a name of its own is stored beside the active one, with the same modes; commands use either."""
    active, other = both(cli)
    assert (email_in(active), email_in(other)) == (ADA, OTHER)
    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert stat.S_IMODE(other.parent.stat().st_mode) == stat.S_IMODE(other.parent.parent.stat().st_mode) == 0o700
    assert cli("whoami", "--json").ended(0).lines[0]["account"] == ADA
    for ran in (cli("whoami", "--account", BOB, "--json"), cli("whoami", "--json", SYSTEMPROMPT_ACCOUNT=BOB)):
        (shown,) = ran.ended(0).lines
        assert (shown["account"], shown["user_email"]) == (BOB, OTHER)
    assert cli("whoami", "--check", "--account", BOB).ended(0).out.startswith(OTHER)
    assert email_in(active) == ADA


def test_list(cli: CommandLine) -> None:
    """The active account is marked; without any, the command that logs in is shown."""
    assert "No accounts found. To log in: systemprompt-cloud auth login" in cli("auth", "list").ended(0).err
    assert cli("auth", "list", "--json").ended(0).lines == []
    both(cli)
    _, first, second = cli("auth", "list").ended(0).out.splitlines()
    assert first.split()[:3] == ["*", ADA, ADA]
    assert second.split()[:2] == [BOB, OTHER]
    url = cli.environ["SYSTEMPROMPT_API_URL"]
    assert cli("auth", "list", "--json").ended(0).lines == [
        {"account": ADA, "active": True, "user_email": ADA, "api_url": url},
        {"account": BOB, "active": False, "user_email": OTHER, "api_url": url},
    ]


def test_switch(cli: CommandLine) -> None:
    """The files change places, there and back; the root's are always the active account's."""
    active, other = both(cli)
    before = active.read_bytes(), other.read_bytes()
    assert f"Switched to {BOB} ({OTHER} at http" in cli("auth", "switch").ended(0).err
    first = cli.directory / "accounts" / ADA / "credentials.json"
    assert (active.read_bytes(), first.read_bytes()) == before[::-1]
    assert not other.exists()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert cli("whoami", "--json").ended(0).lines[0]["account"] == BOB
    (shown,) = cli("auth", "switch", ADA, "--json").ended(0).lines
    assert (shown["account"], shown["before"], shown["user_email"]) == (ADA, BOB, ADA)
    assert (active.read_bytes(), other.read_bytes()) == before
    assert cli("auth", "switch", ADA).ended(0).err.startswith(f"Switched to {ADA}")


def test_switch_that_cannot_be(cli: CommandLine) -> None:
    """An account that is not there, and none named where it is not plain which: those there are."""
    assert "Which account? No accounts found." in cli("auth", "switch").ended(2).err
    both(cli)
    ran = cli("auth", "switch", "nobody").ended(2)
    assert f"no account 'nobody'. Accounts: {ADA}, {BOB}." in ran.err
    assert "systemprompt-cloud --account NAME login" in ran.err
    assert cli("auth", "switch", "nobody", "--json").ended(2).lines[0]["error"] == "UsageError"
    file = cli.directory / "accounts" / BOB / "credentials.json"
    file.write_text("{")
    assert str(file) in cli("auth", "switch", BOB).ended(4).err
    assert email_in(cli.directory / "credentials.json") == ADA


def test_logout_of_one(cli: CommandLine) -> None:
    """The other account's login stays, whichever it is."""
    active, other = both(cli)
    cli("logout", "--account", BOB).ended(0)
    assert (active.exists(), other.exists()) == (True, False)
    login_as(cli, OTHER, "--account", BOB)
    cli("logout").ended(0)
    assert (active.exists(), other.exists()) == (False, True)
    cli("auth", "switch", BOB).ended(0)
    assert email_in(active) == OTHER


def test_first_login_with_a_name(cli: CommandLine) -> None:
    """Where nobody is active it becomes the active account, under its name."""
    login_as(cli, OTHER, "--account", BOB)
    assert email_in(cli.directory / "credentials.json") == OTHER
    assert [each["account"] for each in cli("auth", "list", "--json").ended(0).lines] == [BOB]


def test_resumed_login_keeps_its_account(cli: CommandLine) -> None:
    """An interrupted login of another account is stored as that one, also by a command that does not name it."""
    cli.login()
    begun = cli.begin("--account", BOB, *LOGIN)
    begun.wait_invited()
    begun.interrupt()
    assert f"--account {BOB}" in begun.wait().ended(130).err
    cli.play("flows", "resume", "--no-browser", browser=ScriptedBrowser(account=OTHER)).ended(0)
    assert email_in(cli.directory / "credentials.json") == ADA
    assert email_in(cli.directory / "accounts" / BOB / "credentials.json") == OTHER


def test_not_logged_in(cli: CommandLine) -> None:
    """An account without a login is no other one's: the error names the file and the command."""
    cli.login()
    ran = cli("plans", "--account", BOB).ended(4)
    assert f"systemprompt-cloud --account {BOB} login" in ran.err
    ran = cli("whoami", "--account", BOB).ended(4)
    assert str(cli.directory / "accounts" / BOB / "credentials.json") in ran.err


def test_bad_names(cli: CommandLine) -> None:
    """No path and nothing that cannot be seen is a name; a token of the environment overrides every account."""
    for name in ("../x", "a/b", ".hidden", "", "a\x1bb", "x" * 65, "Ada"):
        assert "the name of the account" in cli("whoami", "--account", name).ended(2).err
    assert "SYSTEMPROMPT_ACCOUNT" in cli("whoami", SYSTEMPROMPT_ACCOUNT="../x").ended(2).err
    ran = cli("whoami", "--account", BOB, SYSTEMPROMPT_API_TOKEN="opaque").ended(2)
    assert "SYSTEMPROMPT_API_TOKEN is set and overrides every account. Unset it" in ran.err


def test_completion(cli: CommandLine) -> None:
    """The names of accounts, and of environments."""
    both(cli)
    assert offered(cli, "auth", "switch", "") == [ADA, BOB]
    assert offered(cli, "--account", "w") == [BOB]
    assert offered(cli, "--env", "pro") == ["production"]


def test_tokens_in_the_keyring_move_along(cli: CommandLine, keyring: SecretService) -> None:
    """Each account has its own token after a switch; a logout of both leaves nothing in the keyring."""
    cli.environ |= keyring.environ
    cli.play(*LOGIN, "--keyring").ended(0)
    login_as(cli, OTHER, "--account", BOB, "--keyring")
    own = {name: cli("--account", name, "auth", "token").ended(0).out for name in (ADA, BOB)}
    cli("auth", "switch", BOB).ended(0)
    assert {name: cli("--account", name, "auth", "token").ended(0).out for name in (ADA, BOB)} == own
    assert cli("auth", "token").ended(0).out == own[BOB]
    assert len(keyring.accounts()) == 2
    cli("logout").ended(0)
    cli("logout", "--account", ADA).ended(0)
    assert keyring.accounts() == []
