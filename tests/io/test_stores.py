"""The files shared with the Rust CLI: the golden ones are read and written back the same, and what we write is valid.

The golden files in `tests/golden/` were written by hand, in the ways the formats allow: every optional absent, null and
present, older versions, unknown fields, offsets, nanoseconds. Where reading and writing changes a file, to what the
format says is meant, the result stands beside it as `NAME.written.json`. The schemas there say what may be *written*,
which is less than what must be read.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.session_store import SessionStore
from systemprompt_cloud.io.local.sessions import CliSession, SessionKey, UserType
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore, TenantType
from systemprompt_cloud.io.local.unknown import Timestamp, plain_record, read_record

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = [
    path for path in sorted(GOLDEN.glob("*/*.json")) if path.parent.name != "schemas" and path.stem.count(".") == 0
]
RFC_3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def again_credentials(path: Path) -> None:
    """Read and write."""
    CloudCredentials.load_from_path(path).save_to_path(path)


def again_tenants(path: Path) -> None:
    """Read and write under one lock."""
    with TenantStore.updating(path):
        pass


def again_sessions(path: Path) -> None:
    """Read and write under one lock."""
    with SessionStore.updating(path):
        pass


def again_session(path: Path) -> None:
    """Read and write."""
    CliSession.load_from_path(path).save_to_path(path)


AGAIN: dict[str, Callable[[Path], None]] = {
    "credentials": again_credentials,
    "tenants": again_tenants,
    "sessions": again_sessions,
    "session": again_session,
}


def meaning(value: Any) -> Any:
    """A file's content with every moment in UTC as the second and its nanoseconds."""
    if isinstance(value, dict):
        return {name: meaning(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [meaning(each) for each in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, str) and (found := RFC_3339.fullmatch(value)):
        second = datetime.fromisoformat(found[1] + found[3]).astimezone(UTC)
        return ("moment", second, int((found[2] or "").ljust(9, "0")), found[3])
    return value


def valid(kind: str, content: bytes) -> list[str]:
    """What the schema has against this file."""
    schema = json.loads((GOLDEN / "schemas" / f"{kind}.json").read_bytes())
    validator = jsonschema_rs.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(json.loads(content))]


def test_there_is_a_golden_file_of_each_format() -> None:
    """None was forgotten, none is of a format nobody reads."""
    assert {path.parent.name for path in FILES} == set(AGAIN)
    assert {path.stem for path in (GOLDEN / "schemas").iterdir()} == set(AGAIN)


@pytest.mark.parametrize("golden", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_file_is_read_and_written_back_the_same(golden: Path, tmp_path: Path) -> None:
    """Every field and every nanosecond; what is written is what the format allows, private, and stays so."""
    path = tmp_path / ".systemprompt" / "file.json"
    path.parent.mkdir(0o700)
    path.write_bytes(golden.read_bytes())
    path.chmod(0o600)
    AGAIN[golden.parent.name](path)
    written = golden.with_suffix(".written.json")
    expected = written if written.exists() else golden
    assert meaning(json.loads(path.read_bytes())) == meaning(json.loads(expected.read_bytes()))
    assert valid(golden.parent.name, path.read_bytes()) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    once = path.read_bytes()
    AGAIN[golden.parent.name](path)
    assert path.read_bytes() == once
    assert not list(path.parent.glob("*.unreadable-*"))


# --- what we write is valid ----------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
FILLED = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
MAYBE = st.none() | TEXT
# In offsets and not in zones: a moment that a zone has twice, or never, equals none of another zone (PEP 495).
MOMENTS = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 - given below
    datetime(9998, 1, 1),  # noqa: DTZ001 - given below
    timezones=st.timezones(),
).map(lambda moment: moment.astimezone(timezone(moment.utcoffset() or timedelta())))
REST = st.dictionaries(TEXT.map(lambda name: f"x{name}"), st.none() | st.integers(0, 9) | TEXT, max_size=2)

CREDENTIALS = st.builds(
    CloudCredentials,
    api_token=VISIBLE,
    api_url=st.just("https://api.systemprompt.io"),
    authenticated_at=MOMENTS,
    user_email=st.just("ada@example.com"),
    unknown_fields=REST,
)
TENANTS = st.builds(
    StoredTenant,
    id=FILLED,
    name=FILLED,
    tenant_type=st.sampled_from(TenantType) | TEXT,
    unknown_fields=REST,
    external_db_access=st.booleans(),
    **dict.fromkeys(
        ("app_id", "hostname", "region", "database_url", "internal_database_url", "sync_token", "shared_container_db"),
        MAYBE,
    ),
)
SESSIONS = st.builds(
    CliSession.new,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    tenant_key=MAYBE,
    profile_path=st.none() | FILLED.map(Path),
    user_id=TEXT,
    user_email=TEXT,
    user_type=st.sampled_from(UserType) | TEXT,
    now=MOMENTS,
)


@given(CREDENTIALS)
def test_every_login_is_written_validly_and_read_back(login: CloudCredentials) -> None:
    """Whatever can be built can be stored, and is the same afterwards."""
    content = msgspec.json.encode(plain_record(login))
    assert valid("credentials", content) == []
    assert read_record(msgspec.json.decode(content), CloudCredentials) == login


@given(TENANTS)
def test_every_tenant_is_written_validly_and_read_back(tenant: StoredTenant) -> None:
    """Whatever can be built can be stored, and is the same afterwards."""
    content = msgspec.json.encode({"tenants": [plain_record(tenant)], "synced_at": "2026-11-23T10:00:00Z"})
    assert valid("tenants", content) == []
    assert read_record(msgspec.json.decode(content)["tenants"][0], StoredTenant) == tenant


@given(SESSIONS)
def test_every_session_is_written_validly_and_read_back(session: CliSession) -> None:
    """Whatever can be built can be stored, and is the same afterwards."""
    content = msgspec.json.encode(plain_record(session))
    assert valid("session", content) == []
    assert CliSession.from_plain(msgspec.json.decode(content), Path("session.json")) == session


def test_a_whole_index_of_ours_is_valid(tmp_path: Path) -> None:
    """Made with the calls people make."""
    path = tmp_path / "sessions" / "index.json"
    with SessionStore.updating(path) as store:
        assert valid("sessions", msgspec.json.encode({**plain_record(store), "sessions": {}, "active_key": None})) == []
        store.upsert_session(SessionKey.tenant("t"), CliSession.new("p", "token", "s", "c", tenant_key="t"))
        store.set_active_with_profile_path(SessionKey.tenant("t"), "p", "/p")
    assert valid("sessions", path.read_bytes()) == []


def test_the_schemas_refuse_what_the_formats_do_not_allow() -> None:
    """A schema that takes anything would prove nothing."""
    good = {path: json.loads(path.read_bytes()) for path in FILES if path.stem == "present"}
    for path, content in good.items():
        for name in content:
            if name not in {"tenant_key", "profile_path", "active_profile_name", "issuer"}:
                left = {other: value for other, value in content.items() if other != name}
                assert valid(path.parent.name, json.dumps(left).encode()), (path, name)
                assert valid(path.parent.name, json.dumps({**content, name: 7.5}).encode()), (path, name)


# --- what lies beneath ---------------------------------------------------------------------------------


class Stamped(msgspec.Struct, kw_only=True):
    """A record with a moment."""

    at: Timestamp
    unknown_fields: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-11-23T10:00:00.123456789Z", "2026-11-23T10:00:00.123456789Z"),
        ("2026-11-23T10:00:00.999999999Z", "2026-11-23T10:00:00.999999999Z"),
        ("2026-11-23T23:00:00.0000000015-02:00", "2026-11-24T01:00:00.0000000015Z"),
        ("2026-11-23t10:00:00.1234567z", "2026-11-23T10:00:00.1234567Z"),
        ("2026-11-23T10:00:00.123456000Z", "2026-11-23T10:00:00.123456Z"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
    ],
)
def test_a_moment_finer_than_ours_is_kept_until_it_changes(text: str, written: str) -> None:
    """The Rust CLI counts nanoseconds; a moment nobody changed is not rounded, a changed one is ours."""
    record = read_record({"at": text}, Stamped)
    assert msgspec.json.decode(msgspec.json.encode(plain_record(record))) == {"at": written}
    later = msgspec.structs.replace(record, at=record.at + timedelta(microseconds=1))
    assert plain_record(later) == {"at": later.at}


@pytest.mark.parametrize("edge", ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00.1234567+00:01"])
def test_a_moment_that_utc_has_no_date_for_is_a_broken_field(edge: str) -> None:
    """It could be read, and neither compared with a moment of ours nor written back."""
    with pytest.raises(msgspec.ValidationError, match="at is not a moment that UTC has a date for"):
        read_record({"at": edge}, Stamped)
