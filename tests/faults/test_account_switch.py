"""`auth switch` killed before each rename and each removal: both accounts stay whole, and the next command ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.io.local import account_switch
from systemprompt_cloud.io.local.account_paths import account_paths, active_name
from systemprompt_cloud.io.local.account_switch import FILES, complete_switch, save_login, switch_account
from systemprompt_cloud.io.local.accounts import note_login, note_sync
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths, switch_path
from systemprompt_cloud.io.local.tenants import TenantStore

CHILD = """
import os, signal, sys
from pathlib import Path
from systemprompt_cloud.io.local.account_switch import switch_account
from systemprompt_cloud.io.local.paths import CloudPaths, switch_path

for number, directory in enumerate(map(Path, sys.argv[1:])):
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        continue
    left = [number]

    def count(event, arguments):
        if event in {"os.rename", "os.remove"} and str(directory) in str(arguments[0]):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(count)
    switch_account(CloudPaths(directory=directory, state_directory=directory, origin="explicit"), "work")
    os._exit(0)
"""
"""Switches in each directory, in a process of its own that is killed at the first, second, … change of a name."""

POINTS = 24


def paths_in(directory: Path) -> CloudPaths:
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


def log_in(paths: CloudPaths, email: str, name: str) -> None:
    """Store a login with tenants of its own, as `login --account` and `tenants sync` do."""
    credentials = CloudCredentials(
        api_token=f"token-of-{name}",
        api_url="https://api.example.com",
        authenticated_at=datetime(2026, 1, 1, tzinfo=UTC),
        user_email=email,
    )
    own = account_paths(paths, name)
    note_login(own, credentials, name)
    credentials.save_to_path(own.credentials, keyring=False)
    TenantStore(tenants=(), synced_at=datetime(2026, 1, {"home": 1, "work": 2}[name], tzinfo=UTC)).save_to_path(
        own.tenants
    )
    note_sync(own, [], [f"gone-from-{name}"])


def state_of(paths: CloudPaths) -> dict[str, tuple[str, str, list[str]]]:
    """Of each account: whose its login is, when its tenants were read, which tenant was not listed."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for name in ("home", "work"):
        own = account_paths(paths, name)
        login, tenants = (json.loads(path.read_bytes()) for path in (own.credentials, own.tenants))
        known = json.loads((own.tenants.parent / "accounts.json").read_bytes())
        found[name] = (login["api_token"], tenants["synced_at"], known["unlisted"])
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int]]:
    """A directory for each point, and how the process ended that was killed there."""
    directories = [tmp_path_factory.mktemp("killed") / ".systemprompt" for _ in range(POINTS)]
    for directory in directories:
        log_in(paths_in(directory), "ada@example.com", "home")
        log_in(paths_in(directory), "bob@example.com", "work")
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, directories)], capture_output=True, text=True, check=True
    )
    return list(zip(directories, map(int, ran.stdout.split()), strict=True))


def test_every_point_was_met(killed: list[tuple[Path, int]]) -> None:
    """The points begin with the first change, and end where the switch was through."""
    codes = [code for _, code in killed]
    last = codes.index(0)
    assert last > 8
    assert codes == [-signal.SIGKILL] * last + [0] * (POINTS - last)


def test_both_accounts_are_whole(killed: list[tuple[Path, int]]) -> None:
    """Wherever it was killed, each account has its own login, tenants and notes, and one of them is active."""
    actives: list[str | None] = []
    for directory, code in killed:
        paths = paths_in(directory)
        for file in directory.rglob("*.json"):
            json.loads(file.read_bytes())
            assert file.stat().st_mode & 0o777 == 0o600
        if code == 0:
            assert not switch_path(paths).exists()
        complete_switch(paths)
        assert not os.path.lexists(switch_path(paths))
        assert state_of(paths) == {
            "home": ("token-of-home", "2026-01-01T00:00:00Z", ["gone-from-home"]),
            "work": ("token-of-work", "2026-01-02T00:00:00Z", ["gone-from-work"]),
        }
        actives.append(active_name(paths))
    changed = actives.index("work")
    assert changed
    assert actives == ["home"] * changed + ["work"] * (POINTS - changed)


def test_what_another_program_wrote_meanwhile_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The Rust CLI has logged in between the kill and the next command: its login stays."""
    paths = paths_in(tmp_path / ".systemprompt")
    log_in(paths, "ada@example.com", "home")
    log_in(paths, "bob@example.com", "work")
    plan = [{"file": "credentials.json", "before": b"not this", "after": b"{}"}]
    switch_path(paths).write_bytes(msgspec.json.encode(plan))
    complete_switch(paths)
    assert state_of(paths)["home"][0] == "token-of-home"
    assert "was changed by another program" in caplog.text
    switch_path(paths).write_text("{")
    complete_switch(paths)
    assert len(list(switch_path(paths).parent.glob("switch.json.unreadable-*"))) == 1
    switch_account(paths, "work")
    assert active_name(paths) == "work"


def two_accounts(tmp_path: Path) -> CloudPaths:
    """A directory in which home is active, and work is logged in besides."""
    paths = paths_in(tmp_path / ".systemprompt")
    log_in(paths, "ada@example.com", "home")
    log_in(paths, "bob@example.com", "work")
    return paths


def be_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process switches to work just before this one is alone with the files."""
    deciding = account_switch._deciding  # pyright: ignore[reportPrivateUsage]

    @contextmanager
    def later(wanted: CloudPaths) -> Generator[None]:
        monkeypatch.setattr(account_switch, "_deciding", deciding)
        switch_account(wanted, "work")
        with deciding(wanted):
            yield

    monkeypatch.setattr(account_switch, "_deciding", later)


def test_a_switch_that_another_process_was_quicker_with_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both want the same account; the second finds it active once it is alone."""
    paths = two_accounts(tmp_path)
    before = state_of(paths)
    be_overtaken(monkeypatch)
    assert switch_account(paths, "work").api_token == "token-of-work"
    assert (active_name(paths), state_of(paths)) == ("work", before)


@pytest.mark.parametrize("replaced", [0, 1, 2])
def test_a_login_that_another_program_stores_in_between_undoes_the_switch(tmp_path: Path, replaced: int) -> None:
    """After the plan was written, and after so many files at the root were replaced: no login is lost."""
    paths = two_accounts(tmp_path)
    kept = {path: path.read_bytes() for path in paths.directory.rglob("*.json")}
    switch_account(paths, "work")
    plan = [
        {"file": str(path.relative_to(paths.directory)), "before": before, "after": path.read_bytes()}
        for path, before in kept.items()
        if path.parent == paths.directory
    ]
    work = {f"accounts/work/{name}": kept[paths.directory / "accounts/work" / name] for name in FILES}
    plan += [{"file": file, "before": before, "after": None} for file, before in work.items()]
    plan.sort(key=lambda each: (str(each["file"]).startswith("accounts/"), FILES.index(Path(str(each["file"])).name)))
    for file, data in work.items():
        (paths.directory / file).write_bytes(data)
    for number, name in enumerate(FILES):
        if number >= replaced:
            (paths.directory / name).write_bytes(kept[paths.directory / name])
    other = kept[paths.credentials].replace(b"token-of-home", b"token-of-rust")
    paths.credentials.write_bytes(other)
    switch_path(paths).write_bytes(msgspec.json.encode(plan))
    complete_switch(paths)
    assert not switch_path(paths).exists()
    assert paths.credentials.read_bytes() == other
    for name in FILES[:-1]:
        assert (paths.directory / name).read_bytes() == kept[paths.directory / name]
    logins = {json.loads(path.read_bytes())["api_token"] for path in paths.directory.rglob("credentials.json")}
    assert logins == {"token-of-rust", "token-of-home", "token-of-work"}
    assert state_of(paths)["work"][0] == "token-of-work"


def test_a_login_is_stored_where_its_account_is_by_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that ends while a login is about to be stored decides where."""
    paths = two_accounts(tmp_path)
    be_overtaken(monkeypatch)
    fresh = CloudCredentials(
        api_token="fresh",
        api_url="https://api.example.com",
        authenticated_at=datetime(2026, 2, 1, tzinfo=UTC),
        user_email="bob@example.com",
    )
    assert save_login(paths, "work", fresh, keyring=False) == paths.credentials
    assert state_of(paths)["work"][0] == "fresh"
    assert state_of(paths)["home"][0] == "token-of-home"
