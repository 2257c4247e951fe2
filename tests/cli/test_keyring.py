"""`login --keyring`: the token in the system's keyring, the command line otherwise as it was."""

from __future__ import annotations

import json

import pytest

from tests.support.command import CommandLine
from tests.support.secret_service import SecretService

LOGIN = ("login", "--port", "0", "--no-browser")
NO_BUS = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent/bus"}


@pytest.fixture
def desk(cli: CommandLine, keyring: SecretService) -> CommandLine:
    """The command line on a desktop with a keyring."""
    cli.environ |= keyring.environ
    return cli


def test_from_login_to_logout(desk: CommandLine, keyring: SecretService) -> None:
    """Log in, work, be told where the token is, log out: nothing of it is ever in a file, and nothing is left."""
    ran = desk.play(*LOGIN, "--keyring").ended(0)
    assert "WARNING" not in ran.err
    credentials = desk.directory / "credentials.json"
    assert json.loads(credentials.read_bytes())["api_token"].startswith("keyring:")
    (account,) = keyring.accounts()
    assert str(credentials) in account
    assert desk("plans", "--json").ended(0).lines
    assert "in the system's keyring" in desk("whoami").ended(0).out
    found = [line for line in desk("doctor", "--offline", "--json").ended(0).lines if line["check"] == "keyring"]
    assert [line["status"] for line in found] == ["ok"]
    (said,) = desk("logout", "--json").ended(0).lines
    assert said["removed"][:2] == [str(credentials), "the token in the system's keyring"]
    assert said["reported"] is True
    assert keyring.accounts() == []
    assert [path for path in desk.home.rglob("*") if path.is_file() and b"eyJ" in path.read_bytes()] == []


def test_a_keyring_that_cannot_be_used(desk: CommandLine, keyring: SecretService) -> None:
    """Told with what to do, never as "not logged in"; a new login goes into the file, with a warning."""
    desk.play(*LOGIN, "--keyring").ended(0)
    keyring.lock()
    ran = desk("plans").ended(1)
    assert "locked" in ran.err
    assert "Unlock the keyring" in ran.err
    desk.environ |= NO_BUS
    (failed,) = desk("whoami", "--json").ended(1).lines
    assert failed["error"] == "KeyringUnavailable"
    assert "login --no-keyring" in failed["hint"]
    assert "the token goes into the file" in desk.play(*LOGIN).ended(0).err
    assert '"keyring":false' in desk("whoami", "--json").ended(0).out
    left = desk("logout", "--json").ended(0)
    assert left.lines[0]["kept"] == ["the token in the system's keyring"]


def test_without_a_keyring(cli: CommandLine) -> None:
    """`--keyring` on a server: a warning, and the login is in the file; the way on stays the same."""
    cli.environ |= NO_BUS
    ran = cli.play(*LOGIN, "--keyring").ended(0)
    assert "offers no keyring; the token goes into the file" in ran.err
    assert cli("whoami").ended(0).out.count("keyring") == 0


def test_an_interrupted_login_keeps_the_choice(desk: CommandLine) -> None:
    """It was made when the login was started; resuming needs no option."""
    running = desk.begin(*LOGIN, "--keyring")
    running.wait_invited()
    running.interrupt()
    running.wait()
    desk.play("flows", "resume", "--no-browser").ended(0)
    assert '"keyring":true' in desk("whoami", "--json").ended(0).out
