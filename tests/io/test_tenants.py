"""Stored tenants keep their secrets, keep what newer versions wrote, and lose no other process's change."""

from __future__ import annotations

import contextlib
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from systemprompt_cloud.base.errors import CloudError, Io, UnsafeFile
from systemprompt_cloud.errors import TenantsNotSynced, TenantsStoreCorrupted, TenantsStoreInvalid
from systemprompt_cloud.io.cloud.wire import TenantInfo
from systemprompt_cloud.io.local.tenants import (
    NewCloudTenantParams,
    StoredTenant,
    TenantStore,
    TenantType,
)
from systemprompt_cloud.io.local.tenants_waiting import store_tenant

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "postgres://app:pw@db.internal:5432/t1"
MASKED = "postgres://app:***@db.internal:5432/t1"

# Written by hand from the format: everything present, and nothing but what must be.
GOLDEN = """
{
  "tenants": [
    {
      "id": "t_full",
      "name": "Full",
      "app_id": "app-1",
      "hostname": "full.example",
      "region": "iad",
      "database_url": "postgres://app:pw@db.systemprompt.io:5432/t1?sslmode=require",
      "internal_database_url": "postgres://app:pw@db.internal:5432/t1",
      "tenant_type": "cloud",
      "external_db_access": true,
      "sync_token": "sync-token-value",
      "shared_container_db": "shared"
    },
    {
      "id": "t_least",
      "name": "Least",
      "tenant_type": "local",
      "external_db_access": false
    }
  ],
  "synced_at": "2030-01-02T03:04:05Z"
}
"""


def info(**changes: Any) -> TenantInfo:
    """A tenant as `/auth/me` shows it."""
    whole: dict[str, Any] = {"id": "t1", "name": "New", "region": "lhr", "database_url": MASKED, **changes}
    return TenantInfo(**whole)


def cloud(**changes: Any) -> StoredTenant:
    """A tenant with all its secrets."""
    whole: dict[str, Any] = {
        "id": "t1",
        "name": "One",
        "internal_database_url": URL,
        "sync_token": "sync-token-value",
        **changes,
    }
    return StoredTenant.new_cloud(NewCloudTenantParams(**whole))


def stored(path: Path, tenant: StoredTenant, now: datetime = NOW) -> TenantStore:
    """Store one tenant; what is on disk then."""
    store_tenant(path, tenant, now)
    return TenantStore.load_from_path(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tenants are stored, in a directory that does not exist yet."""
    return tmp_path / ".systemprompt" / "tenants.json"


@pytest.fixture
def put(path: Path) -> Any:
    """Writes the file as the Rust CLI, or an accident, would have left it."""

    def write(content: bytes) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)

    return write


# --- the record ----------------------------------------------------------------------------------------


def test_each_way_to_make_a_tenant_sets_what_it_says() -> None:
    """Local by default; cloud when it was provisioned or listed."""
    assert StoredTenant.new("i", "n") == StoredTenant(id="i", name="n", tenant_type=TenantType.LOCAL)
    own = StoredTenant.new_local("i", "n", URL)
    assert (own.is_local, own.is_cloud, own.get_local_database_url(), own.uses_shared_container) == (
        True,
        False,
        URL,
        False,
    )
    shared = StoredTenant.new_local_shared("i", "n", URL, "shared-db")
    assert (shared.uses_shared_container, shared.shared_container_db, shared.database_url) == (True, "shared-db", URL)
    made = cloud(region="iad")
    assert (made.is_cloud, made.region, made.internal_database_url, made.database_url) == (True, "iad", URL, None)
    listed = StoredTenant.from_tenant_info(info(app_id="a", external_db_access=True))
    assert (listed.is_cloud, listed.app_id, listed.external_db_access, listed.sync_token) == (True, "a", True, None)


def test_a_tenant_the_api_gives_no_name_is_stored_all_the_same() -> None:
    """The format wants a name: the one it had here, else its id."""
    nameless = info(name="")
    assert StoredTenant.from_tenant_info(nameless).name == nameless.id
    assert cloud().update_from_tenant_info(nameless).name == cloud().name


@pytest.mark.parametrize(("id", "name"), [("", "n"), ("i", "")])
def test_a_tenant_without_id_or_name_cannot_be_made(id: str, name: str) -> None:  # noqa: A002
    """Both must not be empty."""
    with pytest.raises(ValueError, match="must not be empty"):
        StoredTenant.new(id, name)


@pytest.mark.parametrize(
    ("tenant", "has_url", "masked", "no_sync", "missing"),
    [
        (cloud(), True, False, False, False),
        (cloud(sync_token=None), True, False, True, True),
        (cloud(sync_token=""), True, False, True, True),
        (cloud(internal_database_url=MASKED), True, True, False, True),
        (cloud(internal_database_url="postgres://a:********@h/d"), True, True, False, True),
        (cloud(internal_database_url="", database_url=URL), False, False, False, False),
        (StoredTenant.new_local("i", "n", URL), True, False, False, False),
        (StoredTenant.new_local("i", "n", MASKED), True, True, False, False),
        (StoredTenant(id="i", name="n", internal_database_url=URL), False, False, False, False),
    ],
)
def test_which_credentials_a_tenant_has(
    tenant: StoredTenant, has_url: bool, masked: bool, no_sync: bool, missing: bool
) -> None:
    """A cloud tenant is asked for its internal URL and sync token, a local one for its own URL only."""
    assert tenant.has_database_url is has_url
    assert tenant.is_database_url_masked is masked
    assert tenant.is_sync_token_missing is no_sync
    assert tenant.has_missing_credentials is missing


def test_an_update_takes_what_the_api_says_and_keeps_the_password() -> None:
    """Name, app, host, region and access are replaced, even by nothing; a masked or empty URL is not."""
    old = cloud(app_id="a", hostname="h", region="iad", external_db_access=True, database_url="postgres://x")
    new = old.update_from_tenant_info(info())
    assert (new.name, new.app_id, new.hostname, new.region, new.external_db_access) == ("New", None, None, "lhr", False)
    assert new.internal_database_url == URL
    assert (new.sync_token, new.database_url) == (old.sync_token, "postgres://x")
    assert old.update_from_tenant_info(info(database_url="")).internal_database_url == URL
    assert old.update_from_tenant_info(info(database_url="postgres://a:b@c/d")).internal_database_url == (
        "postgres://a:b@c/d"
    )


def test_secrets_show_in_no_representation() -> None:
    """repr names the tenant and no credential."""
    shown = repr(cloud()) + repr(TenantStore(tenants=(cloud(),), synced_at=NOW))
    assert "t1" in shown
    assert "pw" not in shown
    assert "sync-token-value" not in shown


# --- the file ------------------------------------------------------------------------------------------


def test_the_golden_file_is_read_and_written_back_the_same(path: Path, put: Any) -> None:
    """Byte for byte in meaning, 0600."""
    put(GOLDEN.encode())
    store = TenantStore.load_from_path(path)
    full, least = store.tenants
    assert (full.tenant_type, full.sync_token, full.external_db_access) == (TenantType.CLOUD, "sync-token-value", True)
    assert least == StoredTenant.new("t_least", "Least")
    assert store.synced_at == NOW
    store.save_to_path(path)
    assert json.loads(path.read_bytes()) == json.loads(GOLDEN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_absent_and_null_optionals_are_the_same_and_left_out_when_written(path: Path, put: Any) -> None:
    """tenant_type defaults to local and external_db_access to false; both are always written."""
    put(
        b'{"tenants":[{"id":"a","name":"b","app_id":null,"sync_token":null}],"synced_at":"2030-01-02T03:04:05.5+01:00"}'
    )
    TenantStore.load_from_path(path).save_to_path(path)
    assert json.loads(path.read_bytes()) == {
        "tenants": [{"id": "a", "name": "b", "tenant_type": "local", "external_db_access": False}],
        "synced_at": "2030-01-02T02:04:05.500000Z",
    }


def test_fields_of_a_newer_version_survive(path: Path, put: Any) -> None:
    """Beside the list and in a tenant; through a read and write, and through storing that very tenant again."""
    newer = json.loads(GOLDEN)
    newer["schema"] = {"v": 9}
    newer["tenants"][0]["labels"] = ["a", None, {"b": 1.5}]
    newer["tenants"][0]["unknown_fields"] = 1
    put(json.dumps(newer).encode())
    TenantStore.load_from_path(path).save_to_path(path)
    assert json.loads(path.read_bytes()) == newer
    store_tenant(path, cloud(id="t_full", name="Renamed"), NOW)
    stored = json.loads(path.read_bytes())
    assert stored["schema"] == {"v": 9}
    assert stored["tenants"][0]["labels"] == ["a", None, {"b": 1.5}]
    assert stored["tenants"][0]["name"] == "Renamed"
    assert stored["tenants"][1] == newer["tenants"][1]


def test_no_file_means_not_synced(path: Path) -> None:
    """The error names the path."""
    with pytest.raises(TenantsNotSynced, match=str(path)) as caught:
        TenantStore.load_from_path(path)
    assert caught.value.requires_setup


SYNCED = b'"synced_at":"2030-01-02T03:04:05Z"}'
UNREADABLE: list[tuple[bytes, type[CloudError], str]] = [
    (b"", TenantsStoreCorrupted, "not JSON"),
    (b'{"tenants": [', TenantsStoreCorrupted, "not JSON"),
    (b"\xff", TenantsStoreCorrupted, "not JSON"),
    (b'{"tenants":[],"x":"\xff",' + SYNCED, TenantsStoreCorrupted, "not JSON"),
    (b"[" * 200_000, TenantsStoreCorrupted, "not JSON"),
    (b"[]", TenantsStoreInvalid, "object"),
    (b"{" + SYNCED, TenantsStoreInvalid, "tenants"),
    (b'{"tenants":[]}', TenantsStoreInvalid, "synced_at"),
    (b'{"tenants":[],"synced_at":"2030-01-02"}', TenantsStoreInvalid, "synced_at"),
    (b'{"tenants":[{"id":"a","name":"b"},{"id":"","name":"b"}],' + SYNCED, TenantsStoreInvalid, "tenant 2: .*id"),
    (b'{"tenants":[{"id":"a","name":"b","tenant_type":7}],' + SYNCED, TenantsStoreInvalid, "tenant_type"),
    (b'{"tenants":[{"id":"a","name":"b","sync_token":7}],' + SYNCED, TenantsStoreInvalid, "sync_token"),
]


@pytest.mark.parametrize(("content", "kind", "named"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_is_named_and_set_aside_by_a_store(
    path: Path, put: Any, warned: list[str], content: bytes, kind: type[CloudError], named: str
) -> None:
    """Reading says which file and field; storing keeps the old bytes beside the new file and says where."""
    put(content)
    with pytest.raises(kind, match=named) as caught:
        TenantStore.load_from_path(path)
    assert str(path) in caught.value.user_message
    assert stored(path, cloud()).tenants == (cloud(),)
    (aside,) = path.parent.glob("tenants.json.unreadable-*")
    assert aside.read_bytes() == content
    assert len(warned) == 1
    assert str(aside) in warned[0]


def test_saving_over_an_unreadable_file_sets_it_aside_too(path: Path, put: Any) -> None:
    """A sync does not destroy it either."""
    put(b"broken")
    TenantStore.from_tenant_infos([info()], NOW).save_to_path(path)
    assert TenantStore.load_from_path(path).tenants == (StoredTenant.from_tenant_info(info()),)
    assert [each.read_bytes() for each in path.parent.glob("*.unreadable-*")] == [b"broken"]


def test_a_directory_in_the_files_place_is_an_error_and_a_link_is_refused(path: Path) -> None:
    """Neither is "not synced"; the directory is set aside by a store, the link stays and nothing is written."""
    path.mkdir(parents=True)
    path.parent.chmod(0o700)
    with pytest.raises(Io, match="is a directory"):
        TenantStore.load_from_path(path)
    store_tenant(path, cloud(), NOW)
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(UnsafeFile):
        TenantStore.load_from_path(path)
    with pytest.raises(UnsafeFile):
        store_tenant(path, cloud(), NOW)
    assert path.is_symlink()
    assert not (path.parent / "elsewhere").exists()


# --- storing -------------------------------------------------------------------------------------------


def test_storing_replaces_by_id_in_place_and_adds_at_the_end(path: Path) -> None:
    """A new file is synced now; an existing one keeps its time, because one tenant is not the whole list."""
    for name in ("a", "b", "c"):
        store_tenant(path, cloud(id=name, name=name), NOW)
    store = stored(path, cloud(id="b", name="B"), NOW + timedelta(days=1))
    assert [(tenant.id, tenant.name) for tenant in store.tenants] == [("a", "a"), ("b", "B"), ("c", "c")]
    assert store.synced_at == NOW
    assert store.find_tenant("c") == cloud(id="c", name="c")
    assert store.find_tenant("d") is None


@pytest.mark.parametrize("poorer", [{"internal_database_url": MASKED}, {"internal_database_url": ""}])
def test_an_absent_or_masked_credential_never_replaces_a_stored_one(path: Path, poorer: dict[str, Any]) -> None:
    """The password and the sync token are given out once; a later answer without them must not cost them."""
    store_tenant(path, cloud(database_url="postgres://x"), NOW)
    (tenant,) = stored(path, cloud(sync_token=None, name="Later", **poorer)).tenants
    assert (tenant.name, tenant.internal_database_url, tenant.sync_token, tenant.database_url) == (
        "Later",
        URL,
        "sync-token-value",
        "postgres://x",
    )
    rotated = stored(path, cloud(sync_token="rotated", internal_database_url="postgres://n:e@w/1"))
    assert (rotated.tenants[0].sync_token, rotated.tenants[0].internal_database_url) == (
        "rotated",
        "postgres://n:e@w/1",
    )


def test_an_update_writes_all_of_it_or_nothing(path: Path) -> None:
    """A block that raises leaves the file as it was, byte for byte; the lock is free again."""
    store_tenant(path, cloud(), NOW)
    before = path.read_bytes()
    with contextlib.suppress(LookupError), TenantStore.updating(path) as store:
        store.remove_tenant("t1")
        raise LookupError
    assert path.read_bytes() == before
    with TenantStore.updating(path) as store:
        assert store.remove_tenant("t1") == cloud()
        assert store.remove_tenant("t1") is None
    assert TenantStore.load_from_path(path).tenants == ()


def test_a_sync_takes_the_list_and_keeps_the_credentials(path: Path) -> None:
    """What the API no longer lists is gone and returned; what it lists is new or updated; local tenants stay."""
    local = StoredTenant.new_local("l", "Local", URL)
    for tenant in (cloud(), cloud(id="t2"), local):
        store_tenant(path, tenant, NOW)
    with TenantStore.updating(path) as store:
        gone = store.sync([info(), info(id="t3", name="Three")], NOW + timedelta(days=1))
    found = TenantStore.load_from_path(path)
    assert gone == [cloud(id="t2")]
    assert [tenant.id for tenant in found.tenants] == ["t1", "l", "t3"]
    assert found.find_tenant("t1") == cloud(name="New", region="lhr")
    assert found.find_tenant("l") == local
    assert found.synced_at == NOW + timedelta(days=1)


def test_a_type_of_a_newer_version_stays_as_it_is(path: Path, put: Any) -> None:
    """Such a tenant is neither local nor cloud, and is written back with the word it came with."""
    put(b'{"tenants":[{"id":"a","name":"b","tenant_type":"mars","database_url":"postgres://x"}],' + SYNCED)
    with TenantStore.updating(path) as store:
        (tenant,) = store.tenants
    assert (tenant.is_local, tenant.is_cloud, tenant.has_database_url) == (False, False, True)
    assert "mars" in repr(tenant)
    assert json.loads(path.read_bytes())["tenants"][0]["tenant_type"] == "mars"


def test_a_store_grows_stale_with_the_clock() -> None:
    """Stale is older than max_age, not as old."""
    with freeze_time(NOW) as clock:
        store = TenantStore.from_tenant_infos([])
        clock.tick(timedelta(hours=1))
        assert not store.is_stale(timedelta(hours=1))
        clock.tick(timedelta(seconds=1))
        assert store.is_stale(timedelta(hours=1))
