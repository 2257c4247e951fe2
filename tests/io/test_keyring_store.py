"""The system's keyring holds what it is given, and nothing about it, neither absence nor silence, holds us up."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.errors import KeyringUnavailable
from systemprompt_cloud.io.local import keyring_store
from systemprompt_cloud.io.local.keyring_store import KeyringStore

from tests.support.secret_service import SecretService, open_bus, open_silent_bus

TOKEN = "eyJ-something-long-and-secret"

needs_bus = pytest.mark.usefixtures("dbus")


def test_it_keeps_gives_back_and_forgets(keyring: SecretService) -> None:
    """An entry is what was put into it last; forgetting one that is not there is no error."""
    store = KeyringStore()
    store.probe("ann")
    assert store.get("ann") is None
    for secret in (TOKEN, "x" * 20_000, 'ünïcode "and" quotes\n'):
        store.set("ann", secret)
        assert store.get("ann") == secret
    assert keyring.accounts() == ["ann"]
    store.forget(["ann", "never there"])
    assert keyring.accounts() == []


def test_another_service_is_another_keyring(keyring: SecretService) -> None:
    """Entries of the same name under another service are not ours."""
    KeyringStore().set("ann", TOKEN)
    assert KeyringStore("somebody-else").get("ann") is None
    KeyringStore("somebody-else").forget(["ann"])
    assert KeyringStore().get("ann") == TOKEN


def test_a_locked_keyring_says_so_at_once(keyring: SecretService) -> None:
    """Nothing waits for a window that nobody sees; the hint says what to do."""
    store = KeyringStore()
    store.set("ann", TOKEN)
    keyring.lock()
    for ask in (lambda: store.probe("ann"), lambda: store.get("ann"), lambda: store.set("ann", "other")):
        with pytest.raises(KeyringUnavailable, match="locked") as caught:
            ask()
        assert "Unlock the keyring" in caught.value.recovery_hint


@needs_bus
def test_nobody_who_keeps_secrets_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server has a D-Bus and no keyring on it."""
    with open_bus() as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(KeyringUnavailable, match="offers no keyring"):
            KeyringStore().probe("ann")


def test_no_bus_at_all_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container has not even a D-Bus: that is the answer, and not that the time is up."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(KeyringUnavailable, match="offers no keyring"):
        KeyringStore(probe_seconds=60).probe("ann")


@needs_bus
def test_one_who_never_answers_is_left_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks, changes and reads are each bounded by their own time."""
    with open_silent_bus() as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        store = KeyringStore(probe_seconds=0.2, read_seconds=0.3)
        with pytest.raises(KeyringUnavailable, match=r"did not answer within 0\.2 s"):
            store.probe("ann")
        with pytest.raises(KeyringUnavailable, match=r"did not answer within 0\.2 s"):
            store.set("ann", TOKEN)
        with pytest.raises(KeyringUnavailable, match=r"did not answer within 0\.3 s"):
            store.get("ann")
    assert (keyring_store.PROBE_SECONDS, keyring_store.READ_SECONDS) == (3.0, 20.0)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hint is the command that installs it."""
    stub = tmp_path / "keyring"
    stub.mkdir()
    (stub / "__init__.py").write_text("raise ImportError('no such package here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KeyringUnavailable, match="package keyring") as caught:
        KeyringStore().probe("ann")
    assert "pip install 'systemprompt-cloud[keyring]'" in caught.value.recovery_hint


WEAK = """
from keyring.backend import KeyringBackend

class Plain(KeyringBackend):
    priority = 0.5
    def get_password(self, service, username): return None
    def set_password(self, service, username, password): open("{leak}", "w").write(password)
    def delete_password(self, service, username): pass

class Loud(Plain):
    priority = 9
    def get_password(self, service, username):
        print("here is noise"); raise OSError("the token is Bearer abcdefghijklmnop")
"""


@pytest.mark.parametrize("backend", ["keyring.backends.null.Keyring", "weak.Plain"])
def test_what_only_looks_like_a_keyring_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backend: str
) -> None:
    """Also when somebody configured it: a file in plain text is not what was asked for."""
    (tmp_path / "weak.py").write_text(WEAK.format(leak=tmp_path / "leak"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", backend)
    for ask in (lambda: KeyringStore().probe("ann"), lambda: KeyringStore().set("ann", TOKEN)):
        with pytest.raises(KeyringUnavailable, match="not a safe place") as caught:
            ask()
        assert backend in caught.value.user_message
    assert not (tmp_path / "leak").exists()


def test_a_backend_that_fails_in_its_own_way_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its noise does not spoil the answer, and its message passes the redactor."""
    (tmp_path / "weak.py").write_text(WEAK.format(leak=tmp_path / "leak"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "weak.Loud")
    with pytest.raises(KeyringUnavailable, match="OSError: the token is") as caught:
        KeyringStore().get("ann")
    assert "abcdefghijklmnop" not in caught.value.user_message


def test_no_secret_stands_in_arguments_or_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other programs can read both, so the child that asks is given it in neither."""
    stub, seen = tmp_path / "keyring", tmp_path / "seen"
    stub.mkdir()
    (stub / "__init__.py").write_text(f"import os, sys; open({str(seen)!r}, 'w').write(f'{{sys.argv}} {{os.environ}}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(KeyringUnavailable):
        KeyringStore().set("ann", TOKEN)
    assert "keyring_child.py" in seen.read_text()
    assert TOKEN not in seen.read_text()
