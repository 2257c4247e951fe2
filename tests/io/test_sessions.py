"""A session is immutable, ends after a day, belongs to one tenant and profile, and its token shows nowhere."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from systemprompt_cloud.base.errors import UnsafeFile
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.errors import NotAuthenticated, SessionsCorrupted, SessionVersionMismatch
from systemprompt_cloud.io.local.sessions import LOCAL_SESSION_KEY, CliSession, SessionKey, UserType

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(hours=24)


def session(**changes: Any) -> CliSession:
    """A session of a tenant."""
    return CliSession.new("cloud", "a-session-token", "sess_1", "ctx_1", now=NOW, **{"tenant_key": "t_1", **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a session is stored, in a directory that does not exist yet."""
    return tmp_path / ".systemprompt" / "session.json"


# --- keys ----------------------------------------------------------------------------------------------


def test_a_key_is_local_or_a_tenants() -> None:
    """Stored as `local` or `tenant_<id>`, shown as `local` or `tenant:<id>`."""
    local, tenant = SessionKey.local(), SessionKey.tenant("t_1")
    assert (local.is_local, local.tenant_id, local.as_storage_key(), str(local)) == (True, None, "local", "local")
    assert (tenant.is_local, tenant.tenant_id, tenant.as_storage_key()) == (False, "t_1", "tenant_t_1")
    assert f"{tenant}" == "tenant:t_1"
    assert local.as_storage_key() == LOCAL_SESSION_KEY
    assert len({local, tenant, SessionKey.tenant("t_1")}) == 2
    with pytest.raises(ValueError, match="empty"):
        SessionKey.tenant("")


@pytest.mark.parametrize(
    ("tenant_id", "key"),
    [
        (None, SessionKey.local()),
        ("", SessionKey.local()),
        ("local", SessionKey.local()),
        ("t", SessionKey.tenant("t")),
    ],
)
def test_a_key_follows_from_the_tenant(tenant_id: str | None, key: SessionKey) -> None:
    """No tenant is local, and so is the word."""
    assert SessionKey.from_tenant_id(tenant_id) == key


@pytest.mark.parametrize("key", [SessionKey.local(), SessionKey.tenant("t"), SessionKey.tenant("tenant_")])
def test_a_storage_key_is_read_back(key: SessionKey) -> None:
    """What is no such key is None, not a guess."""
    assert SessionKey.from_storage_key(key.as_storage_key()) == key
    for other in ("", "tenant_", "project_1", "Local", "tenant:t"):
        assert SessionKey.from_storage_key(other) is None


# --- the record ----------------------------------------------------------------------------------------


def test_a_new_session_is_the_system_users_and_lasts_a_day() -> None:
    """Where nothing else is said."""
    made = CliSession.new("dev", "a-session-token", "sess_1", "ctx_1", now=NOW)
    assert (made.version, made.tenant_key, made.profile_path, made.user_type) == (4, None, None, UserType.ADMIN)
    assert (made.user_id, made.user_email) == ("system", "system@local.invalid")
    assert (made.created_at, made.expires_at, made.last_used) == (NOW, NOW + DAY, NOW)
    with freeze_time(NOW):
        assert CliSession.new("dev", "a-session-token", "sess_1", "ctx_1") == made


def test_the_builder_and_the_keywords_make_the_same() -> None:
    """The original's way beside ours."""
    built = (
        CliSession.builder("cloud", "a-session-token", "sess_1", "ctx_1")
        .with_tenant_key("t_1")
        .with_profile_path("/p/profile.yaml")
        .with_user("u_1", "ada@example.com")
        .with_user_type(UserType.USER)
        .build(NOW)
    )
    assert built == session(
        profile_path=Path("/p/profile.yaml"), user_id="u_1", user_email="ada@example.com", user_type=UserType.USER
    )
    plain = CliSession.builder("cloud", "a-session-token", "sess_1", "ctx_1")
    assert plain.with_session_key(SessionKey.tenant("t_1")).build(NOW) == session()
    assert plain.with_session_key(SessionKey.local()).build(NOW).session_key == SessionKey.local()


def test_a_session_ends_when_its_day_is_over() -> None:
    """Valid until then, for its own profile and tenant only."""
    made, tenant, local = session(), SessionKey.tenant("t_1"), SessionKey.local()
    with freeze_time(NOW) as clock:
        clock.tick(DAY - timedelta(seconds=1))
        assert not made.is_expired()
        assert made.is_valid_for_profile("cloud")
        assert not made.is_valid_for_profile("dev")
        assert made.is_valid_for_tenant(tenant)
        assert not made.is_valid_for_tenant(local)
        assert not made.is_valid_for_tenant(SessionKey.tenant("t_2"))
        clock.tick(timedelta(seconds=1))
        assert made.is_expired()
        assert not made.is_valid_for_profile("cloud")
        assert not made.is_valid_for_tenant(tenant)
    assert not made.is_expired(NOW)


@pytest.mark.parametrize("tenant_key", [None, "local"])
def test_a_session_without_a_tenant_is_local(tenant_key: str | None) -> None:
    """Absent or the word."""
    made = session(tenant_key=tenant_key)
    assert made.session_key == SessionKey.local()
    assert made.is_valid_for_tenant(SessionKey.local(), NOW)
    assert not made.is_valid_for_tenant(SessionKey.tenant("t_1"), NOW)


def test_touching_makes_another_session() -> None:
    """The old one stays as it is; when it ends does not change."""
    made, later = session(), NOW + timedelta(hours=1)
    touched = made.touch(later)
    assert (made.last_used, touched.last_used, touched.expires_at) == (NOW, later, made.expires_at)
    moved = made.set_context_id("ctx_2", later)
    assert (made.context_id, moved.context_id, moved.last_used) == ("ctx_1", "ctx_2", later)
    with pytest.raises(AttributeError):
        made.context_id = "ctx_3"  # pyright: ignore[reportAttributeAccessIssue] - that it is refused is the test


def test_a_session_without_a_token_has_nothing_to_send() -> None:
    """It may stand in a file all the same."""
    assert session().has_valid_credentials
    assert not CliSession.new("cloud", "", "sess_1", "ctx_1").has_valid_credentials


def test_the_token_shows_in_no_representation() -> None:
    """repr and an f-string are without it, and the redactor knows it."""
    made = session()
    for shown in (repr(made), f"{made}", repr([made]), redact("it was a-session-token")):
        assert "a-session-token" not in shown
    assert "tenant:t_1" in repr(made)


def test_a_moment_without_a_time_zone_is_refused() -> None:
    """What could not be read back is not built either."""
    with pytest.raises(ValueError, match="time zone"):
        CliSession.new("p", "t", "s", "c", now=NOW.replace(tzinfo=None))


# --- session.json --------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(path: Path) -> None:
    """Private, in a directory git ignores; deleting says whether there was one."""
    made = session(profile_path="/p/profile.yaml")
    made.save_to_path(path)
    assert CliSession.load_from_path(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert CliSession.delete_from_path(path) is True
    assert CliSession.delete_from_path(path) is False
    assert CliSession.delete_from_path(path.parent / "nowhere" / "session.json") is False
    with pytest.raises(NotAuthenticated, match=str(path)):
        CliSession.load_from_path(path)


def changed(path: Path, **changes: Any) -> None:
    """Write the file with these fields changed."""
    session().save_to_path(path)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def test_the_version_before_is_read_as_todays(path: Path) -> None:
    """3 becomes 4, in the record and in the file."""
    changed(path, version=3)
    assert CliSession.load_from_path(path) == session()
    CliSession.load_from_path(path).save_to_path(path)
    assert json.loads(path.read_bytes())["version"] == 4


@pytest.mark.parametrize(
    ("version", "mend"), [(0, "Remove the file"), (2, "Remove the file"), (5, "Upgrade"), (10**12, "Upgrade")]
)
def test_another_version_is_refused_and_left_as_it_is(path: Path, version: int, mend: str) -> None:
    """The error says which was found, which are read and where; saving refuses too and touches nothing."""
    changed(path, version=version)
    before = path.read_bytes()
    for attempt in (lambda: CliSession.load_from_path(path), lambda: session().save_to_path(path)):
        with pytest.raises(SessionVersionMismatch, match=f"{path} has version {version}; read is version 3 or 4") as it:
            attempt()
        assert (it.value.found, it.value.expected, it.value.path) == (version, (3, 4), str(path))
        assert mend in it.value.recovery_hint
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.unreadable-*"))


BROKEN: list[tuple[bytes, str]] = [
    (b"", "it is empty"),
    (b"{", "malformed at line 1, column 2"),
    (b"[]", "object"),
    (b"\xff", "UTF-8|malformed"),
    (b'{"version": 4, "profile_name": "\xff"}', "UTF-8"),
    (b"{}", "version"),
    (b'{"version": "4"}', "version"),
    (b'{"version": 4}', "profile_name"),
    (b'{"a":' * 200_000, "nested too deeply"),
]


@pytest.mark.parametrize(("content", "named"), BROKEN, ids=range(len(BROKEN)))
def test_what_cannot_be_read_is_named_and_set_aside_by_a_save(path: Path, content: bytes, named: str) -> None:
    """A broken file is not "no session", and its bytes are not lost."""
    path.parent.mkdir(0o700)
    path.write_bytes(content)
    with pytest.raises(SessionsCorrupted, match=f"(?i){named}") as caught:
        CliSession.load_from_path(path)
    assert str(path) in caught.value.user_message
    session().save_to_path(path)
    assert CliSession.load_from_path(path) == session()
    assert [each.read_bytes() for each in path.parent.glob("*.unreadable-*")] == [content]


@pytest.mark.parametrize("name", ["session_token", "created_at", "profile_path", "user_type"])
def test_a_broken_field_is_named(path: Path, name: str) -> None:
    """With the file."""
    changed(path, **{name: 7.5})
    with pytest.raises(SessionsCorrupted, match=f"(?s){path}.*{name}"):
        CliSession.load_from_path(path)


def test_a_link_is_refused_by_everything(path: Path) -> None:
    """Somebody else would choose what is read or written."""
    path.parent.mkdir(0o700)
    path.symlink_to("elsewhere")
    for attempt in (
        lambda: CliSession.load_from_path(path),
        lambda: session().save_to_path(path),
        lambda: CliSession.delete_from_path(path),
    ):
        with pytest.raises(UnsafeFile, match=str(path)):
            attempt()
    assert path.is_symlink()
