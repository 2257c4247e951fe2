"""`sessions`: as it is typed."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from systemprompt_cloud.cli.account.sessions import session_key
from systemprompt_cloud.io.local.session_store import SessionStore
from systemprompt_cloud.io.local.sessions import CliSession, SessionKey

from tests.support.command import CommandLine

from .conftest import offered

TOKEN = "session-token-of-somebody"


@pytest.fixture
def kept(cli: CommandLine) -> CommandLine:
    """A home with a local session, one of a tenant, and one that has ended; the local one is active."""
    now = datetime.now(UTC)
    with SessionStore.updating(cli.directory / "sessions/index.json") as store:
        store.upsert_session(SessionKey.local(), CliSession.new("dev", TOKEN, "s1", "c1"))
        new = CliSession.new("prod", TOKEN, "s2", "c2", tenant_key="t1", user_email="ada@example.com")
        store.upsert_session(SessionKey.tenant("t1"), new)
        old = CliSession.new("prod", TOKEN, "s3", "c3", tenant_key="t2", now=now - timedelta(days=2))
        store.upsert_session(SessionKey.tenant("t2"), old)
        store.set_active(SessionKey.local())
    return cli


def keys(cli: CommandLine) -> list[str]:
    """The storage keys of what is kept."""
    return [key for key, _ in SessionStore.load_or_create(cli.directory / "sessions/index.json").all_sessions()]


def test_list(kept: CommandLine) -> None:
    """Each session with its profile and its end, the active one marked, and no token."""
    ran = kept("sessions", "list").ended(0)
    assert [line.split()[0] for line in ran.out.splitlines()] == ["SESSION", "*", "tenant:t1", "tenant:t2"]
    assert "1 day ago" in ran.out
    lines = kept("sessions", "list", "--json").ended(0).lines
    assert [(line["key"], line["active"], line["expired"]) for line in lines] == [
        ("local", True, False),
        ("tenant_t1", False, False),
        ("tenant_t2", False, True),
    ]
    assert TOKEN not in ran.out + str(lines)


def test_nothing(cli: CommandLine) -> None:
    """Without sessions that is said, and pruning makes no file."""
    assert "No sessions found" in cli("sessions", "list").ended(0).err
    assert cli("sessions", "prune", "--json").ended(0).lines == [{"removed": 0}]
    assert not (cli.directory / "sessions").exists()
    assert "No session is active. No sessions found." in cli("sessions", "show").ended(2).err


def test_show(kept: CommandLine) -> None:
    """A session is named by its key in either form or by its tenant; without a name the active one is meant."""
    assert "key: local\n" in kept("sessions", "show").ended(0).out
    for name in ("tenant_t1", "tenant:t1", "t1"):
        assert session_key(SessionStore.new(), name) == SessionKey.tenant("t1")
    ran = kept("sessions", "show", "t1").ended(0)
    assert "user email: ada@example.com" in ran.out
    assert TOKEN not in ran.out
    assert "Sessions: local, tenant:t1, tenant:t2" in " ".join(kept("sessions", "show", "t9").ended(2).err.split())


def test_switch(kept: CommandLine) -> None:
    """The session that is switched to is the active one; that it has ended is said."""
    assert kept("sessions", "switch", "t1", "--json").ended(0).lines[0]["active"] is True
    assert "It has expired" in kept("sessions", "switch", "t2").ended(0).err
    kept("sessions", "switch", "t9").ended(2)
    assert SessionStore.load_or_create(kept.directory / "sessions/index.json").active_key == "tenant_t2"


def test_remove(kept: CommandLine) -> None:
    """A session is removed only on a yes; the others stay."""
    assert "--yes" in kept("sessions", "remove", "t1").ended(2).err
    assert kept("sessions", "remove", "t1", "--yes", "--json").ended(0).lines == [{"key": "tenant_t1", "removed": True}]
    assert keys(kept) == ["local", "tenant_t2"]


def test_prune(kept: CommandLine) -> None:
    """Only what has ended goes."""
    assert "Removed 1 that had ended." in kept("sessions", "prune").ended(0).err
    assert keys(kept) == ["local", "tenant_t1"]


def test_unreadable(kept: CommandLine) -> None:
    """A file that cannot be read, or that a newer version wrote, is an error that names it, and it stays."""
    path = kept.directory / "sessions/index.json"
    damaged, newer = "{", '{"version": 9}'
    for text, command, kind in (
        (damaged, "list", "SessionsCorrupted"),
        (newer, "list", "SessionVersionMismatch"),
        (newer, "prune", "SessionVersionMismatch"),
    ):
        path.write_text(text)
        ran = kept("sessions", command, "--json").ended(1)
        assert ran.lines[0]["error"] == kind
        assert str(path) in ran.lines[0]["message"]
        assert path.read_text() == text


def test_a_session_of_a_newer_version(kept: CommandLine) -> None:
    """The others are listed and it is told of, by `doctor` too; showing it is an error, removing it is not."""
    path = kept.directory / "sessions/index.json"
    whole = json.loads(path.read_bytes())
    whole["sessions"]["tenant_t1"]["version"] = 6
    path.write_text(json.dumps(whole))
    told = f"session tenant_t1 in {path} has version 6; read is version 3 or 4"
    listed = kept("sessions", "list", "--json").ended(0)
    assert [line["key"] for line in listed.lines] == ["local", "tenant_t2"]
    assert told in listed.err
    findings = kept("doctor", "--offline", "--json").lines
    assert [line["status"] for line in findings if line["message"] == told] == ["warning"]
    assert kept("sessions", "show", "t1", "--json").ended(1).lines[0]["error"] == "SessionVersionMismatch"
    assert json.loads(path.read_bytes()) == whole
    assert "Sessions: local, tenant:t2, tenant:t1" in " ".join(kept("sessions", "show", "t9").ended(2).err.split())
    assert offered(kept, "sessions", "remove", "tenant_") == ["tenant_t2", "tenant_t1"]
    assert kept("sessions", "remove", "t1", "--yes", "--json").ended(0).lines[0]["removed"] is True
    assert keys(kept) == ["local", "tenant_t2"]


def test_a_session_of_an_older_version_under_any_key(kept: CommandLine) -> None:
    """What the hint says removes it, whatever it is called; until then it can be named, not shown."""
    path = kept.directory / "sessions/index.json"
    whole = json.loads(path.read_bytes())
    whole["sessions"]["we ird"] = whole["sessions"].pop("tenant_t1") | {"version": 2}
    path.write_text(json.dumps(whole))
    shown = kept("sessions", "show", "we ird", "--json").ended(1).lines[0]
    assert shown["error"] == "SessionVersionMismatch"
    assert "Sessions: local, tenant:t2, we ird" in " ".join(kept("sessions", "switch", "t1").ended(2).err.split())
    _, *words = shlex.split(shown["hint"].partition(": ")[2])
    assert kept(*words, "--yes", "--json").ended(0).lines == [{"key": "we ird", "removed": True}]
    assert keys(kept) == ["local", "tenant_t2"]


def test_logout_keeps_the_local_session(kept: CommandLine) -> None:
    """Logging out ends the sessions of tenants and says so; the local one stays active."""
    kept.login()
    ran = kept("logout", "--json").ended(0)
    assert ran.lines[0]["sessions"] == ["tenant_t1", "tenant_t2"]
    assert keys(kept) == ["local"]
