"""Tenants that are stored here belong to the account whose login stored them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from systemprompt_cloud.io.local.accounts import (
    accounts_path,
    current_account,
    load_accounts,
    note_login,
    note_sync,
    strangers,
)
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore
from systemprompt_cloud.testing.scripted import make_token

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def login(name: str, url: str = "https://api.systemprompt.io") -> CloudCredentials:
    """A login of somebody."""
    token = make_token(sub=name, exp=NOW + timedelta(days=1))
    return CloudCredentials(api_token=token, api_url=url, authenticated_at=NOW, user_email=f"{name}@example.com")


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """A directory with a login of ann's, a tenant in the cloud and a local one."""
    home = tmp_path / ".systemprompt"
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")
    login("ann").save_to_path(paths.credentials)
    with TenantStore.updating(paths.tenants, NOW) as store:
        store.upsert_tenant(StoredTenant(id="tnt_ann", name="Ann's", tenant_type="cloud"))
        store.upsert_tenant(StoredTenant.new("here", "Here"))
    return paths


def switch(paths: CloudPaths, credentials: CloudCredentials) -> str | None:
    """Log in, as the flow does; the account that is logged in then."""
    note_login(paths, credentials)
    credentials.save_to_path(paths.credentials)
    return current_account(paths)


def test_the_same_account_again_changes_nothing(paths: CloudPaths) -> None:
    """A new token, or an e-mail spelled otherwise, is no other account."""
    ann = login("ann")
    again = CloudCredentials(
        api_token=ann.api_token, api_url=f"{ann.api_url}/", authenticated_at=NOW, user_email="ANN@example.com"
    )
    assert strangers(paths, switch(paths, again)) == {}
    assert not accounts_path(paths).exists()


@pytest.mark.parametrize("other", [login("bob"), login("ann", "https://sandbox.example")], ids=["person", "api"])
def test_another_account_has_none_of_the_tenants(paths: CloudPaths, other: CloudCredentials) -> None:
    """They are the first one's, until the API lists one for the other; a tenant on this computer is nobody's."""
    account = switch(paths, other)
    assert strangers(paths, account) == {"tnt_ann": "ann@example.com at https://api.systemprompt.io"}
    assert strangers(paths, None) == {}
    note_sync(paths, ["tnt_ann"], [])
    assert strangers(paths, account) == {}


def test_each_keeps_its_own_when_they_take_turns(paths: CloudPaths) -> None:
    """What is stored between two logins is the account's that was logged in."""
    bob = switch(paths, login("bob"))
    with TenantStore.updating(paths.tenants) as store:
        store.upsert_tenant(StoredTenant(id="tnt_bob", name="Bob's", tenant_type="cloud"))
    assert set(strangers(paths, bob)) == {"tnt_ann"}
    ann = switch(paths, login("ann"))
    assert set(strangers(paths, ann)) == {"tnt_bob"}
    assert set(strangers(paths, switch(paths, login("eve")))) == {"tnt_ann", "tnt_bob"}


def test_a_login_of_the_environment_is_another_account(paths: CloudPaths) -> None:
    """The tenants are those of the login that is stored."""
    assert set(strangers(paths, "eve@example.com at https://api.systemprompt.io")) == {"tnt_ann"}


def test_what_was_not_listed_is_known(paths: CloudPaths) -> None:
    """Until the next synchronization lists it."""
    note_sync(paths, [], ["tnt_ann"])
    assert load_accounts(paths).unlisted == ("tnt_ann",)
    note_sync(paths, ["tnt_ann"], [])
    assert load_accounts(paths).unlisted == ()


@pytest.mark.parametrize("content", [b"", b"{", b'{"owners": 1}', b"\xff\xfe"])
def test_a_file_that_cannot_be_understood_is_set_aside(paths: CloudPaths, content: bytes) -> None:
    """It stops no login; it is kept under another name."""
    accounts_path(paths).write_bytes(content)
    accounts_path(paths).chmod(0o600)
    assert load_accounts(paths).owners == {}
    assert set(strangers(paths, switch(paths, login("bob")))) == {"tnt_ann"}
    (aside,) = accounts_path(paths).parent.glob("accounts.json.unreadable-*")
    assert aside.read_bytes() == content


def test_without_a_login_nothing_is_written(tmp_path: Path) -> None:
    """The first login on a computer leaves no such file."""
    home = tmp_path / "new"
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")
    note_login(paths, login("ann"))
    assert current_account(paths) is None
    assert not home.exists()
