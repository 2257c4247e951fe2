"""The sessions of all tenants in one file: changed under its lock, chosen by key, kept as other programs wrote them."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from systemprompt_cloud.base.errors import CloudError, Io, UnsafeFile
from systemprompt_cloud.errors import SessionsCorrupted, SessionVersionMismatch
from systemprompt_cloud.io.local.session_store import SessionStore
from systemprompt_cloud.io.local.sessions import CliSession, SessionKey

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LOCAL = SessionKey.local()
ONE, TWO = SessionKey.tenant("1"), SessionKey.tenant("2")


def session(profile: str = "dev", now: datetime | None = None) -> CliSession:
    """A session."""
    return CliSession.new(profile, "a-session-token", f"sess_{profile}", "ctx_1", now=now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the sessions are stored, in a directory that does not exist yet."""
    return tmp_path / ".systemprompt" / "sessions" / "index.json"


def mode(path: Path) -> int:
    """The permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# --- sessions ------------------------------------------------------------------------------------------


def test_sessions_are_put_found_and_removed_by_key() -> None:
    """One for each key; the newer one stands in the older one's place."""
    store = SessionStore.new()
    store.upsert_session(ONE, session("a"))
    store.upsert_session(LOCAL, session("b"))
    store.upsert_session(ONE, session("c"))
    found = [(key, each.profile_name) for key, each in store.all_sessions()]
    assert found == [("tenant_1", "c"), ("local", "b")]
    assert store.get_session(TWO) is None
    removed = store.remove_session(ONE)
    assert removed is not None
    assert removed.profile_name == "c"
    assert store.remove_session(ONE) is None
    assert [key for key, _ in store.all_sessions()] == ["local"]


def test_two_stores_share_nothing() -> None:
    """A default is not one dictionary for all."""
    one, other = SessionStore.new(), SessionStore.new()
    one.upsert_session(ONE, session())
    assert other.all_sessions() == []


def test_a_session_that_ended_or_has_no_token_is_not_valid() -> None:
    """`get_session` still shows it."""
    store = SessionStore.new()
    with freeze_time(NOW) as clock:
        store.upsert_session(ONE, session())
        store.upsert_session(TWO, CliSession.new("p", "", "s", "c"))
        store.set_active(ONE)
        assert store.get_valid_session(ONE) == store.active_session == store.get_session(ONE)
        assert store.get_valid_session(TWO) is None
        clock.tick(timedelta(hours=24))
        assert store.get_valid_session(ONE) is None
        assert store.active_session is None
        assert store.get_session(ONE) is not None


def test_pruning_takes_what_ended_and_leaves_the_choice() -> None:
    """A tenant stays chosen for its next session; the number is told."""
    store = SessionStore.new()
    store.upsert_session(ONE, session(now=NOW))
    store.upsert_session(TWO, session(now=NOW + timedelta(hours=1)))
    store.set_active(ONE)
    assert store.prune_expired(NOW + timedelta(hours=24)) == 1
    assert store.prune_expired(NOW + timedelta(hours=24)) == 0
    assert [key for key, _ in store.all_sessions()] == ["tenant_2"]
    assert store.active_session_key == ONE
    assert store.active_session is None


# --- the active one ------------------------------------------------------------------------------------


def test_choosing_a_key_takes_its_profile_along() -> None:
    """With a session its profile, without none; or the one that is named."""
    store = SessionStore.new()
    assert (store.active_session_key, store.active_session) == (None, None)
    store.upsert_session(ONE, session("cloud"))
    store.set_active(ONE)
    assert (store.active_key, store.active_profile_name, store.active_session_key) == ("tenant_1", "cloud", ONE)
    store.set_active(TWO)
    assert (store.active_key, store.active_profile_name, store.active_session) == ("tenant_2", None, None)
    store.set_active_with_profile(LOCAL, "dev")
    assert (store.active_session_key, store.active_profile_name) == (LOCAL, "dev")
    store.set_active_with_profile_path(ONE, "other", "/p/profile.yaml")
    assert (store.active_session_key, store.active_profile_name) == (ONE, "other")
    assert store.sessions["tenant_1"].profile_path == Path("/p/profile.yaml")
    store.set_active_with_profile_path(TWO, "other", Path("/p/profile.yaml"))
    assert store.get_session(TWO) is None


def test_removing_the_active_session_leaves_none_chosen() -> None:
    """Also when only the choice was there; another's removal changes nothing."""
    store = SessionStore.new()
    store.upsert_session(ONE, session())
    store.upsert_session(TWO, session())
    store.set_active(ONE)
    store.remove_session(TWO)
    assert store.active_session_key == ONE
    store.remove_session(ONE)
    assert (store.active_key, store.active_profile_name) == (None, None)
    store.set_active(TWO)
    store.remove_session(TWO)
    assert store.active_key is None


CHANGES: list[Callable[[SessionStore], object]] = [
    lambda store: store.upsert_session(ONE, session()),
    lambda store: store.remove_session(LOCAL),
    lambda store: store.set_active(ONE),
    lambda store: store.set_active_with_profile(ONE, "p"),
    lambda store: store.prune_expired(NOW + timedelta(hours=24)),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_a_change_is_dated(change: Callable[[SessionStore], object]) -> None:
    """And what changes nothing is not."""
    store = SessionStore.new()
    store.upsert_session(LOCAL, session(now=NOW))
    with freeze_time(NOW + timedelta(days=400)):
        before = store.updated_at
        store.remove_session(TWO)
        store.prune_expired(NOW)
        assert store.updated_at == before
        change(store)
        assert store.updated_at == NOW + timedelta(days=400)


# --- the file ------------------------------------------------------------------------------------------


def test_no_file_is_none_or_an_empty_store(path: Path) -> None:
    """And reading makes none."""
    assert SessionStore.load(path) is None
    assert SessionStore.load_or_create(path).all_sessions() == []
    assert not path.parent.parent.exists()


def test_an_update_is_written_whole_and_private(path: Path) -> None:
    """The directory above is the one with the credentials: private and ignored by git too."""
    with SessionStore.updating(path) as store:
        store.upsert_session(ONE, session())
        store.set_active(ONE)
    assert SessionStore.load(path) == store
    assert [mode(path), mode(path.parent), mode(path.parent.parent)] == [0o600, 0o700, 0o700]
    assert (path.parent / ".gitignore").read_text() == (path.parent.parent / ".gitignore").read_text() == "*\n"
    assert json.loads(path.read_bytes())["active_key"] == "tenant_1"


def test_an_update_that_raises_writes_nothing(path: Path) -> None:
    """The file is as it was, byte for byte, and the lock is free again."""
    with SessionStore.updating(path) as store:
        store.upsert_session(ONE, session())
    before = path.read_bytes()
    with contextlib.suppress(LookupError), SessionStore.updating(path) as store:
        store.remove_session(ONE)
        raise LookupError
    assert path.read_bytes() == before
    with SessionStore.updating(path) as store:
        store.remove_session(ONE)
    assert json.loads(path.read_bytes())["active_key"] is None


def test_saving_replaces_what_is_there(path: Path) -> None:
    """The original's way: whoever saves last is right."""
    mine, theirs = SessionStore.load_or_create(path), SessionStore.load_or_create(path)
    mine.upsert_session(ONE, session())
    theirs.upsert_session(TWO, session())
    mine.save(path)
    theirs.save(path)
    assert SessionStore.load(path) == theirs


def test_a_choice_of_a_newer_version_is_kept_and_not_guessed_at(path: Path) -> None:
    """A session under a key of another form is kept as well."""
    with SessionStore.updating(path) as store:
        store.sessions["project_7"] = session()
        store.active_key = "project_7"
    with SessionStore.updating(path) as store:
        assert (store.active_session_key, store.active_session) == (None, None)
        store.upsert_session(ONE, session())
    assert list(json.loads(path.read_bytes())["sessions"]) == ["project_7", "tenant_1"]
    assert json.loads(path.read_bytes())["active_key"] == "project_7"


def put(path: Path, **changes: Any) -> bytes:
    """Write a store with one session, with these fields changed."""
    with SessionStore.updating(path) as store:
        store.upsert_session(ONE, session())
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))
    return path.read_bytes()


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_is_refused_and_left_as_it_is(path: Path, version: int) -> None:
    """By reading, updating and saving."""
    before = put(path, version=version)
    for attempt in (SessionStore.load, SessionStore.load_or_create, SessionStore.new().save, update):
        with pytest.raises(SessionVersionMismatch, match=f"{path} has version {version}; read is version 1$") as it:
            attempt(path)
        assert (it.value.found, it.value.expected, it.value.path) == (version, (1,), str(path))
    assert path.read_bytes() == before


def put_beside(path: Path, version: int = 6) -> dict[str, Any]:
    """Write a store with a session of this version, chosen, beside a local one; what the file holds of it."""
    theirs = {"version": version, "session_token": "a-token-of-theirs", "scopes": [1, None, {"deep": 1e300}]}
    ours = json.loads(put(path))["sessions"]["tenant_1"]
    put(path, sessions={"tenant_1": theirs, "local": ours}, active_key="tenant_1", unread="a field of theirs")
    return theirs


@pytest.mark.parametrize(("version", "mend"), [(2, "Remove the session tenant_1"), (6, "Upgrade")])
def test_a_session_of_another_version_is_refused_by_its_key_and_kept(path: Path, version: int, mend: str) -> None:
    """The others can be used and changed; who asks for this one, or would replace it, is told version and file."""
    theirs = put_beside(path, version)
    with SessionStore.updating(path) as store:
        assert [key for key, _ in store.all_sessions()] == ["local"]
        store.upsert_session(LOCAL, session("changed"))
        store.upsert_session(TWO, session())
        for attempt in (
            lambda: store.get_session(ONE),
            lambda: store.get_valid_session(ONE),
            lambda: store.active_session,
            lambda: store.upsert_session(ONE, session()),
        ):
            with pytest.raises(
                SessionVersionMismatch,
                match=f"session tenant_1 in {path} has version {version}; read is version 3 or 4",
            ) as it:
                attempt()
            assert (it.value.found, it.value.expected, it.value.path) == (version, (3, 4), str(path))
            assert mend in it.value.recovery_hint
        assert store.prune_expired(NOW + timedelta(days=9999)) == 2
        store.set_active_with_profile_path(ONE, "p", "/p")
        assert "a-token-of-theirs" not in repr(store)
    assert json.loads(path.read_bytes())["sessions"] == {"tenant_1": theirs}
    SessionStore.load_or_create(path).save(path)
    assert json.loads(path.read_bytes())["sessions"] == {"tenant_1": theirs}
    assert json.loads(path.read_bytes())["unread"] == "a field of theirs"


def test_a_session_of_another_version_is_not_saved_over_and_may_be_removed(path: Path) -> None:
    """A store that does not have it cannot replace it unseen; removing it takes no reading."""
    put_beside(path)
    before = path.read_bytes()
    with pytest.raises(SessionVersionMismatch, match="session tenant_1"):
        SessionStore.new().save(path)
    assert path.read_bytes() == before
    with SessionStore.updating(path) as store:
        assert store.remove_session(ONE) is None
        assert store.active_key is None
    assert list(json.loads(path.read_bytes())["sessions"]) == ["local"]


def test_the_sessions_of_all_tenants_are_removed_with_those_of_other_versions(path: Path) -> None:
    """Their tokens go; the local one stays, and the choice too when it was local."""
    for chosen in ("tenant_1", "local"):
        put_beside(path)
        with SessionStore.updating(path) as store:
            store.upsert_session(TWO, session())
            store.active_key = chosen
            assert store.remove_tenant_sessions() == ["tenant_2", "tenant_1"]
        assert b"a-token-of-theirs" not in path.read_bytes()
        left = SessionStore.load_or_create(path)
        assert list(left.sessions) == ["local"]
        assert left.active_key == (None if chosen == "tenant_1" else "local")


@pytest.mark.parametrize("sessions", [{}, {"org_7": {"version": 9}}], ids=["none", "of a newer version"])
@pytest.mark.parametrize("chosen", ["tenant_1", "org_7"])
def test_without_the_sessions_of_tenants_no_tenant_is_chosen(path: Path, sessions: dict[str, Any], chosen: str) -> None:
    """Whether the chosen one had a session, and whether its key is understood here; and that is a change."""
    put(path, sessions=sessions, active_key=chosen, active_profile_name="p", updated_at="2026-01-01T00:00:00Z")
    with SessionStore.updating(path) as store:
        assert store.remove_tenant_sessions() == list(sessions)
    left = SessionStore.load_or_create(path)
    assert (left.sessions, left.unread, left.active_key, left.active_profile_name) == ({}, {}, None, None)
    assert left.updated_at > datetime(2026, 1, 1, tzinfo=UTC)


def update(path: Path) -> None:
    """Change something."""
    with SessionStore.updating(path) as store:
        store.set_active(ONE)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": None}, "version"),
        ({"sessions": None}, "sessions"),
        ({"sessions": []}, "sessions"),
        ({"sessions": {"local": 7}}, "sessions"),
        ({"sessions": {"local": {"version": 4}}}, "session local: .*profile_name"),
        ({"updated_at": "2030-01-02"}, "updated_at"),
        ({"updated_at": "2030-01-02T03:04:05"}, "updated_at"),
        ({"active_key": 7}, "active_key"),
    ],
)
def test_a_broken_field_is_named_and_an_update_sets_the_file_aside(
    path: Path, changes: dict[str, Any], named: str
) -> None:
    """The file and the field; the bytes are kept."""
    before = put(path, **changes)
    with pytest.raises(SessionsCorrupted, match=named) as caught:
        SessionStore.load_or_create(path)
    assert str(path) in caught.value.user_message
    update(path)
    assert SessionStore.load_or_create(path).active_session_key == ONE
    assert [each.read_bytes() for each in path.parent.glob("*.unreadable-*")] == [before]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"\xff", b'{"a":"\xff"}', b"[" * 200_000, b'{"a":' * 200_000], ids=range(7)
)
def test_what_is_not_json_is_named_and_a_save_sets_it_aside(path: Path, content: bytes) -> None:
    """It is not "no sessions"."""
    put(path)
    path.write_bytes(content)
    with pytest.raises(SessionsCorrupted, match=str(path)):
        SessionStore.load(path)
    SessionStore.new().save(path)
    assert SessionStore.load_or_create(path).all_sessions() == []
    assert [each.read_bytes() for each in path.parent.glob("*.unreadable-*")] == [content]


@pytest.mark.parametrize("place", ["file", "sessions", "above"])
def test_a_link_is_refused_wherever_it_stands(path: Path, tmp_path: Path, place: str) -> None:
    """In the file's place, the directory's, or that of the directory above."""
    link = {"file": path, "sessions": path.parent, "above": path.parent.parent}[place]
    link.parent.mkdir(0o700, parents=True, exist_ok=True)
    (tmp_path / "theirs").mkdir(0o700)
    link.symlink_to(tmp_path / "theirs")
    for attempt in (update, SessionStore.new().save):
        with pytest.raises(UnsafeFile, match=str(link)):
            attempt(path)
    assert list((tmp_path / "theirs").iterdir()) == []


def test_a_directory_in_its_place_is_an_error_of_its_own(path: Path) -> None:
    """Reading says so; an update sets it aside."""
    path.mkdir(0o700, parents=True)
    with pytest.raises(Io, match="is a directory") as caught:
        SessionStore.load(path)
    assert isinstance(caught.value, CloudError)
    update(path)
    assert SessionStore.load_or_create(path).active_session_key == ONE
