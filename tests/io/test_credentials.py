"""A login is saved whole and private, read strictly, and a file that cannot be read is never lost or called missing."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from starlette.responses import JSONResponse
from systemprompt_cloud.base.errors import Io, UnsafeFile
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.errors import CredentialsCorrupted, NotAuthenticated, TokenExpired
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.testing.scripted import make_token, serve_scripted

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def credentials(expires: datetime = NOW + timedelta(days=1)) -> CloudCredentials:
    """A login as flows make it."""
    return CloudCredentials(
        api_token=make_token(exp=expires),
        api_url="https://api.systemprompt.io",
        authenticated_at=NOW,
        user_email="ann@example.com",
    )


def plain(**changes: Any) -> dict[str, Any]:
    """The file's content with these fields changed; a value of None leaves the field out."""
    whole = {
        "api_token": make_token(exp=NOW + timedelta(days=1)),
        "api_url": "https://api.systemprompt.io",
        "authenticated_at": "2030-01-02T03:04:05Z",
        "user_email": "ann@example.com",
    }
    return {name: value for name, value in {**whole, **changes}.items() if value is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the login is stored, in a directory that does not exist yet."""
    return tmp_path / ".systemprompt" / "credentials.json"


@pytest.fixture
def put(path: Path) -> Any:
    """Writes the file as the Rust CLI, or an accident, would have left it."""

    def write(content: bytes | dict[str, Any]) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        path.chmod(0o600)

    return write


def test_what_is_saved_is_loaded(path: Path) -> None:
    """Byte for byte in meaning, private, in a directory that git ignores."""
    credentials().save_to_path(path)
    assert CloudCredentials.load_from_path(path) == credentials()
    assert json.loads(path.read_bytes()) == plain()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (path.parent / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2030-01-02T03:04:05Z", NOW),
        ("2030-01-02T03:04:05.123456789Z", NOW.replace(microsecond=123457)),
        ("2030-01-02T05:04:05+02:00", NOW),
        ("2030-01-02t03:04:05z", NOW),
    ],
)
def test_every_rfc_3339_moment_is_read_and_written_in_utc(path: Path, put: Any, written: str, moment: datetime) -> None:
    """The Rust CLI writes nanoseconds; others write offsets."""
    put(plain(authenticated_at=written))
    found = CloudCredentials.load_from_path(path)
    assert found.authenticated_at == moment
    found.save_to_path(path)
    assert json.loads(path.read_bytes())["authenticated_at"].endswith("Z")
    assert CloudCredentials.load_from_path(path).authenticated_at == moment


def test_a_local_time_zone_is_written_in_utc(path: Path) -> None:
    """Timestamps in the shared files are RFC 3339 UTC."""
    local = CloudCredentials(
        api_token="opaque-token",
        api_url="http://127.0.0.1:9",
        authenticated_at=NOW.astimezone(timezone(timedelta(hours=-7))),
        user_email="system@local.invalid",
    )
    local.save_to_path(path)
    assert json.loads(path.read_bytes())["authenticated_at"] == "2030-01-02T03:04:05Z"


def test_fields_of_a_newer_version_survive_a_read_and_a_write(path: Path, put: Any) -> None:
    """Also when they carry names of our own."""
    put(plain(refresh={"every": [1, 2.5, None]}, unknown_fields={"a": 1}))
    CloudCredentials.load_from_path(path).save_to_path(path)
    assert json.loads(path.read_bytes()) == plain(refresh={"every": [1, 2.5, None]}, unknown_fields={"a": 1})


def test_no_file_means_nobody_is_logged_in(path: Path) -> None:
    """The error names the path and says how to log in."""
    for load in (CloudCredentials.load_from_path, CloudCredentials.load_and_validate_from_path):
        with pytest.raises(NotAuthenticated, match=str(path)) as caught:
            load(path)
        assert caught.value.remedy == Remedy("log_in")
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"api_token": None}, "api_token"),
        ({"api_token": ""}, "api_token"),
        ({"api_token": "two words"}, "api_token"),
        ({"api_token": "line\nbreak"}, "api_token"),
        ({"api_token": 7}, "api_token"),
        ({"api_url": None}, "api_url"),
        ({"api_url": "api.systemprompt.io"}, "api_url"),
        ({"api_url": "ftp://x"}, "api_url"),
        ({"api_url": "https://"}, "api_url"),
        ({"api_url": "https://h:99999"}, "api_url"),
        ({"api_url": "https://[::1"}, "api_url"),
        ({"authenticated_at": None}, "authenticated_at"),
        ({"authenticated_at": "yesterday"}, "authenticated_at"),
        ({"authenticated_at": "2030-01-02T03:04:05"}, "authenticated_at"),
        ({"user_email": None}, "user_email"),
        ({"user_email": ""}, "user_email"),
        ({"user_email": "ann"}, "user_email"),
        ({"user_email": "ann@"}, "user_email"),
        ({"user_email": "ann@a b"}, "user_email"),
    ],
)
def test_a_broken_field_is_named_with_the_file(path: Path, put: Any, changes: dict[str, Any], named: str) -> None:
    """Corrupted means: this file, this field; never "not logged in"."""
    put(plain(**changes))
    with pytest.raises(CredentialsCorrupted, match=named) as caught:
        CloudCredentials.load_from_path(path)
    assert str(path) in caught.value.user_message
    assert caught.value.requires_login


BROKEN = [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"api_token": "abc', b'{"api_token": "\xff"}', b"[" * 200_000]
BROKEN.append(b'{"a":' * 200_000)


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_what_is_not_json_is_corrupted_and_saving_sets_it_aside(
    path: Path, put: Any, warned: list[str], content: bytes
) -> None:
    """The new login is saved, and the old bytes are still there under a name the warning tells."""
    put(content)
    with pytest.raises(CredentialsCorrupted, match=str(path)):
        CloudCredentials.load_from_path(path)
    credentials().save_to_path(path)
    assert CloudCredentials.load_from_path(path) == credentials()
    (aside,) = path.parent.glob("credentials.json.unreadable-*")
    assert aside.read_bytes() == content
    assert len(warned) == 1
    assert str(aside) in warned[0]


def test_a_directory_in_the_files_place_is_an_error_and_is_set_aside_by_a_save(path: Path) -> None:
    """What cannot be read is not "nobody is logged in"."""
    path.mkdir(parents=True)
    path.parent.chmod(0o700)
    (path / "inside").touch()
    with pytest.raises(Io, match="is a directory"):
        CloudCredentials.load_from_path(path)
    credentials().save_to_path(path)
    assert CloudCredentials.load_from_path(path) == credentials()
    assert len(list(path.parent.glob("credentials.json.unreadable-*/inside"))) == 1


def test_a_link_in_the_files_place_is_refused_by_everything(path: Path, put: Any) -> None:
    """Loading, saving and logging out touch neither the link nor what it points at."""
    put(b"")
    path.unlink()
    target = path.parent / "target"
    target.write_text("theirs")
    path.symlink_to(target)
    for attempt in (
        lambda: CloudCredentials.load_from_path(path),
        lambda: credentials().save_to_path(path),
        lambda: CloudCredentials.delete_from_path(path),
    ):
        with pytest.raises(UnsafeFile, match=str(path)):
            attempt()
    assert path.is_symlink()
    assert target.read_text() == "theirs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_somebody_elses_file_is_refused(path: Path) -> None:
    """Credentials we did not write are not used and not replaced."""
    credentials().save_to_path(path)
    before = path.read_bytes()
    os.chown(path, 12345, 12345)
    with pytest.raises(UnsafeFile):
        CloudCredentials.load_from_path(path)
    with pytest.raises(UnsafeFile):
        credentials(NOW + timedelta(days=9)).save_to_path(path)
    assert path.read_bytes() == before


def test_logging_out_removes_the_file_readable_or_not(path: Path, put: Any) -> None:
    """And says whether there was one, also when there is not even a directory."""
    assert CloudCredentials.delete_from_path(path) is False
    for broken in (b"broken", b'{"api_token": "\xff"}'):
        put(broken)
        assert CloudCredentials.delete_from_path(path) is True
    assert CloudCredentials.delete_from_path(path) is False
    assert not path.exists()


def test_an_expired_token_is_refused_when_validating_and_read_otherwise(path: Path) -> None:
    """The clock passes the token's end: `load_from_path` still reads, the validating one says when it expired."""
    credentials(NOW + timedelta(hours=3)).save_to_path(path)
    with freeze_time(NOW) as clock:
        assert CloudCredentials.load_and_validate_from_path(path).user_email == "ann@example.com"
        clock.tick(timedelta(hours=3, seconds=1))
        with pytest.raises(TokenExpired, match="expired at 2030-01-02 06:04:05 UTC") as caught:
            CloudCredentials.load_and_validate_from_path(path)
        assert str(path) in caught.value.user_message
        assert CloudCredentials.load_from_path(path).is_token_expired()


def test_a_token_that_is_no_jwt_is_used(path: Path, put: Any) -> None:
    """The API gave it, and the API says when it no longer counts."""
    put(plain(api_token="opaque-token"))
    assert CloudCredentials.load_and_validate_from_path(path, NOW).api_token == "opaque-token"
    assert not CloudCredentials.load_from_path(path).expires_within(timedelta(days=400), NOW)


@pytest.mark.parametrize(("minutes", "warns"), [(59, True), (61, False)])
def test_under_one_hour_left_is_a_warning_on_load(path: Path, warned: list[str], minutes: int, warns: bool) -> None:
    """The token still works; the person hears about it before it does not."""
    credentials(NOW + timedelta(minutes=minutes)).save_to_path(path)
    CloudCredentials.load_and_validate_from_path(path, NOW)
    assert ["less than an hour" in message for message in warned] == [True] * warns


def test_expires_within_looks_ahead(path: Path) -> None:
    """A token with one hour left expires within two and not within half of one."""
    with freeze_time(NOW):
        login = credentials(NOW + timedelta(hours=1))
        assert login.expires_within(timedelta(hours=2))
        assert not login.expires_within(timedelta(minutes=30))
        assert not login.is_token_expired()


def test_the_token_shows_in_no_representation(path: Path) -> None:
    """repr, an f-string and an error about the record are without it, and the redactor knows it."""
    login = CloudCredentials(
        api_token="opaque/credential-value", api_url="https://h", authenticated_at=NOW, user_email="a@b"
    )
    for shown in (repr(login), f"{login}", redact("it was opaque/credential-value")):
        assert "opaque/credential-value" not in shown


def test_a_login_that_breaks_a_rule_cannot_be_made() -> None:
    """What could not be read back is not written either."""
    with pytest.raises(ValueError, match="user_email"):
        CloudCredentials(api_token="t", api_url="https://h", authenticated_at=NOW, user_email="nobody")
    with pytest.raises(ValueError, match="time zone"):
        CloudCredentials(
            api_token="t", api_url="https://h", authenticated_at=NOW.replace(tzinfo=None), user_email="a@b"
        )


# --- what the API says ---------------------------------------------------------------------------------


async def test_only_the_api_can_say_whether_a_token_still_counts() -> None:
    """Taken is true, refused (401) is false; the token goes to the API it came from."""
    me = {"user": {"id": "u_1", "email": "ann@example.com"}}
    refusal = JSONResponse({"error": {"code": "unauthorized", "message": "no"}}, 401)
    async with serve_scripted() as server:
        server.plan(JSONResponse(me), refusal)
        login = CloudCredentials(
            api_token=make_token(exp=datetime.now(UTC) + timedelta(days=1)),
            api_url=server.url,
            authenticated_at=NOW,
            user_email="ann@example.com",
        )
        assert await login.validate_with_api() is True
        assert await login.validate_with_api() is False
    assert [request.url.path for request in server.requests] == ["/api/v1/auth/me"] * 2
    assert server.requests[0].headers["authorization"] == f"Bearer {login.api_token}"


async def test_a_local_clouds_token_is_not_even_sent_to_production() -> None:
    """It counts for nothing there, and asking would give it away."""
    login = CloudCredentials(
        api_token=make_token(exp=datetime.now(UTC) + timedelta(days=1), sandbox=True),
        api_url="https://api.systemprompt.io",
        authenticated_at=NOW,
        user_email="ann@example.com",
    )
    assert await login.validate_with_api() is False
