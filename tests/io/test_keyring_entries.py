"""A login in the system's keyring: the file decides, a crash leaves one whole login, nothing is left behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.errors import CredentialsCorrupted, KeyringUnavailable, NotAuthenticated
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.keyring_entries import note_of
from systemprompt_cloud.io.local.keyring_store import KeyringStore
from systemprompt_cloud.testing.scripted import make_token

from tests.support.secret_service import SecretService, open_silent_bus

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
ADDRESS = "DBUS_SESSION_BUS_ADDRESS"
NOBODY = "unix:path=/nonexistent/bus"


def login(name: str = "ann", count: int = 0, url: str = "https://api.systemprompt.io") -> CloudCredentials:
    """Somebody's login; each is another."""
    return CloudCredentials(
        api_token=make_token(sub=name, exp=NOW + timedelta(days=1), count=count),
        api_url=url,
        authenticated_at=NOW + timedelta(seconds=count),
        user_email=f"{name}@example.com",
    )


def stored(path: Path) -> CloudCredentials:
    """What a process that has read nothing before reads."""
    return CloudCredentials.load_from_path(path, store=KeyringStore())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the login is stored, in a directory that does not exist yet."""
    return tmp_path / ".systemprompt" / "credentials.json"


def test_the_file_is_the_default(path: Path, keyring: SecretService) -> None:
    """The Rust CLI reads it; a keyring that is there is not used unasked."""
    login().save_to_path(path)
    assert json.loads(path.read_bytes())["api_token"] == login().api_token
    assert keyring.accounts() == []
    assert not note_of(path).exists()


def test_the_token_goes_into_the_keyring_and_nowhere_else(path: Path, keyring: SecretService) -> None:
    """The file keeps its form, with a marker in the token's place; no file of the directory holds the token."""
    login().save_to_path(path, keyring=True)
    held = json.loads(path.read_bytes())
    assert held == {
        "api_token": "keyring:systemprompt-cloud/a",
        "api_url": "https://api.systemprompt.io",
        "authenticated_at": "2030-01-02T03:04:05Z",
        "user_email": "ann@example.com",
    }
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert login().api_token.encode() not in file.read_bytes()
    assert keyring.accounts() == [f"{path} (a)"]
    assert stored(path) == login()
    assert login().api_token not in redact(f"it was {stored(path).api_token}")


def test_a_peek_leaves_the_keyring_alone(path: Path, keyring: SecretService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only wants the API or the address needs no keyring; and what was peeked at cannot be saved."""
    login().save_to_path(path, keyring=True)
    monkeypatch.setenv(ADDRESS, NOBODY)
    peeked = CloudCredentials.peek_at_path(path)
    assert (peeked.in_keyring, peeked.user_email) == (True, "ann@example.com")
    with pytest.raises(ValueError, match="marker"):
        peeked.save_to_path(path)


def test_the_next_login_is_kept_where_the_last_one_was(path: Path, keyring: SecretService) -> None:
    """Nobody who chose the keyring finds a token in a file later; who asks for the file gets it, and only it."""
    login().save_to_path(path, keyring=True)
    login(count=1).save_to_path(path)
    assert CloudCredentials.peek_at_path(path).in_keyring
    assert stored(path) == login(count=1)
    assert keyring.accounts() == [f"{path} (b)"]
    login(count=2).save_to_path(path, keyring=False)
    assert json.loads(path.read_bytes())["api_token"] == login(count=2).api_token
    assert keyring.accounts() == []
    assert not note_of(path).exists()


def test_the_variable_asks_for_it(path: Path, keyring: SecretService, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYSTEMPROMPT_KEYRING=1 is the keyring, 0 the file, empty is unset, and what the caller says goes before it."""
    for said, in_keyring in (("1", True), ("", True), ("off", False), ("", False)):
        monkeypatch.setenv("SYSTEMPROMPT_KEYRING", said)
        login().save_to_path(path)
        assert CloudCredentials.peek_at_path(path).in_keyring is in_keyring
    monkeypatch.setenv("SYSTEMPROMPT_KEYRING", "1")
    login().save_to_path(path, keyring=False)
    assert not CloudCredentials.peek_at_path(path).in_keyring


def test_logging_out_removes_it(path: Path, keyring: SecretService) -> None:
    """Entry, file and note; also when the Rust CLI has replaced the file meanwhile, or somebody removed the note."""
    login().save_to_path(path, keyring=True)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"api_token": "theirs"}))
    assert CloudCredentials.delete_from_path(path) is True
    assert (keyring.accounts(), path.exists(), note_of(path).exists()) == ([], False, False)
    login().save_to_path(path, keyring=True)
    note_of(path).unlink()
    assert CloudCredentials.delete_from_path(path) is True
    assert keyring.accounts() == []


def test_a_keyring_that_is_gone_at_logout_is_emptied_the_next_time(
    path: Path, keyring: SecretService, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    """The file is removed all the same, a warning says what is left, and nothing is forgotten."""
    login().save_to_path(path, keyring=True)
    address = os.environ[ADDRESS]
    monkeypatch.setenv(ADDRESS, NOBODY)
    assert CloudCredentials.delete_from_path(path) is True
    assert "may be left in it" in warned[0]
    assert not path.exists()
    assert note_of(path).exists()
    monkeypatch.setenv(ADDRESS, address)
    assert keyring.accounts() == [f"{path} (a)"]
    assert CloudCredentials.delete_from_path(path) is False
    assert (keyring.accounts(), note_of(path).exists()) == ([], False)


# --- a keyring that cannot be used ---------------------------------------------------------------------


def test_without_a_keyring_the_file_is_taken_with_a_warning(
    path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    """Within the time of a look; the login itself is never lost."""
    monkeypatch.setenv(ADDRESS, NOBODY)
    login().save_to_path(path, keyring=True)
    assert stored(path) == login()
    assert len(warned) == 1
    assert "offers no keyring; the token goes into the file" in warned[0]
    assert not note_of(path).exists()


@pytest.mark.usefixtures("dbus")
def test_a_silent_keyring_costs_the_time_of_one_look(
    path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    """Then the token goes into the file; it is not asked again."""
    with open_silent_bus() as environ:
        monkeypatch.setenv(ADDRESS, environ[ADDRESS])
        login().save_to_path(path, keyring=True, store=KeyringStore(probe_seconds=0.2))
    assert json.loads(path.read_bytes())["api_token"] == login().api_token
    (said,) = warned
    assert "did not answer within 0.2 s" in said


def test_a_locked_keyring_is_an_error_that_says_so(path: Path, keyring: SecretService, warned: list[str]) -> None:
    """Never "not logged in"; and a new login still works, into the file."""
    login().save_to_path(path, keyring=True)
    keyring.lock()
    with pytest.raises(KeyringUnavailable, match="locked") as caught:
        stored(path)
    assert str(path) in caught.value.user_message
    assert "Unlock" in caught.value.recovery_hint
    login(count=1).save_to_path(path)
    assert stored(path) == login(count=1)
    assert ["goes into the file" in message for message in warned] == [True, False]
    assert note_of(path).exists()  # there is still an entry to be removed


def test_an_entry_that_is_gone_is_an_error_that_says_so(path: Path, keyring: SecretService) -> None:
    """Somebody removed it in the desktop's own program: log in again."""
    login().save_to_path(path, keyring=True)
    KeyringStore().forget([f"{path} (a)"])
    with pytest.raises(CredentialsCorrupted, match="no matching token") as caught:
        stored(path)
    assert str(path) in caught.value.user_message
    assert caught.value.remedy == Remedy("log_in")


@pytest.mark.parametrize("field", [{"api_url": "https://evil.example"}, {"user_email": "eve@example.com"}])
def test_a_changed_file_gets_no_token(path: Path, keyring: SecretService, field: dict[str, str]) -> None:
    """A file cannot send the token of one API to another (SECURITY 7)."""
    login().save_to_path(path, keyring=True)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | field))
    with pytest.raises(CredentialsCorrupted, match="no matching token"):
        stored(path)


def test_a_marker_reaches_no_entry_of_another_directory(path: Path, tmp_path: Path, keyring: SecretService) -> None:
    """A project that brings a file along cannot borrow the login of another."""
    login().save_to_path(path, keyring=True)
    other = tmp_path / "clone" / "credentials.json"
    other.parent.mkdir(mode=0o700)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CredentialsCorrupted):
        stored(other)


def test_a_token_is_asked_for_once(path: Path, keyring: SecretService) -> None:
    """A process that has read it goes on when the keyring is locked later; a logout is seen at once."""
    login().save_to_path(path, keyring=True)
    store = KeyringStore()
    assert CloudCredentials.load_from_path(path, store=store) == login()
    login(count=1).save_to_path(path)
    login(count=2).save_to_path(path)
    assert CloudCredentials.load_from_path(path, store=store) == login(count=2)
    keyring.lock()
    assert CloudCredentials.load_from_path(path, store=store) == login(count=2)
    path.unlink()
    with pytest.raises(NotAuthenticated):
        CloudCredentials.load_from_path(path, store=store)


def test_what_was_read_is_forgotten_with_the_entry(path: Path, keyring: SecretService) -> None:
    """A store remembers a token until the entry changes, and no longer than it lives."""
    login().save_to_path(path, keyring=True)
    store = KeyringStore()
    assert CloudCredentials.load_from_path(path, store=store) == login()
    assert CloudCredentials.delete_from_path(path, store=store)
    assert not store._remembered  # pyright: ignore[reportPrivateUsage]


# --- crashes and crowds --------------------------------------------------------------------------------

DYING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_keyring_entries import login
from systemprompt_cloud.io.local.keyring_store import KeyringStore

class Dying(KeyringStore):
    def set(self, account, secret):
        if sys.argv[3] == "before set": os._exit(9)
        super().set(account, secret)
        if sys.argv[3] == "after set": os._exit(9)
    def forget(self, accounts):
        if sys.argv[3] == "before forget": os._exit(9)
        super().forget(accounts)
        os._exit(9)

login("bob").save_to_path(Path(sys.argv[2]), keyring=True, store=Dying())
"""


@pytest.mark.parametrize(
    ("moment", "whose"),
    [("before set", "ann"), ("after set", "ann"), ("before forget", "bob"), ("after forget", "bob")],
)
def test_killed_between_keyring_and_file_one_whole_login_stands(
    path: Path, keyring: SecretService, moment: str, whose: str
) -> None:
    """The old one or the new one; the next logout leaves nothing in the keyring."""
    login().save_to_path(path, keyring=True)
    command = [sys.executable, "-c", DYING, str(Path(__file__).parent), str(path), moment]
    assert subprocess.run(command, timeout=30, check=False).returncode == 9
    assert stored(path) == login(whose)
    CloudCredentials.delete_from_path(path)
    assert keyring.accounts() == []


MANY = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_keyring_entries import login, stored
path, name = Path(sys.argv[2]), sys.argv[3]
for count in range(2):
    login(name, count).save_to_path(path, keyring=True)
    found = stored(path)
    assert found == login(found.user_email.partition("@")[0], found.authenticated_at.second - 5), found
"""


def test_two_processes_that_log_in_at_once_take_turns(path: Path, keyring: SecretService) -> None:
    """Whatever is read between is one whole login, and in the end there is one, with one entry."""
    started = [
        subprocess.Popen([sys.executable, "-c", MANY, str(Path(__file__).parent), str(path), name])
        for name in ("ann", "bob")
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    assert stored(path) in [login("ann", 1), login("bob", 1)]
    assert len(keyring.accounts()) == 1
