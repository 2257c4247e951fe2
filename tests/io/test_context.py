"""What belongs together is found together: somebody's cloud with a tenant, a project with its files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.errors import (
    AppNotConfigured,
    NotAuthenticated,
    TenantNotConfigured,
    TenantNotFound,
    TenantsNotSynced,
)
from systemprompt_cloud.io.local.context import CloudContext, ResolvedTenant, UnifiedContext
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.tenants import NewCloudTenantParams, StoredTenant
from systemprompt_cloud.io.local.tenants_waiting import store_tenant

from tests.support.rehearsal import open_rehearsal

TENANT = StoredTenant.new_cloud(
    NewCloudTenantParams(
        id="t1",
        name="One",
        app_id="app-1",
        hostname="one.example",
        region="fra",
        database_url="postgres://u:secret@db/one",
        internal_database_url="postgres://u:secret@in/one",
        external_db_access=False,
        sync_token="sync-secret",
    )
)


def paths_in(directory: Path) -> CloudPaths:
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


# --- CloudContext --------------------------------------------------------------------------------------------------


async def test_a_logged_in_user_speaks_to_their_api(tmp_path: Path) -> None:
    """The client of the context is open inside the block, and is theirs."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in(1)
        async with CloudContext.new_authenticated(rehearsal.paths) as cloud:
            assert (await cloud.api_client.me()).user.email == cloud.credentials.user_email
            assert not cloud.has_tenant


async def test_from_the_environment(tmp_path: Path) -> None:
    """A login there goes before the file; in the container there is nothing else."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in(0)
        other = rehearsal.cloud.accounts[1]
        environ = {
            "SYSTEMPROMPT_API_TOKEN": rehearsal.cloud.tokens.issue(other.id, other.email),
            "SYSTEMPROMPT_USER_EMAIL": other.email,
            "SYSTEMPROMPT_API_URL": rehearsal.url,
        }
        async with CloudContext.from_environment(environ, rehearsal.paths) as cloud:
            assert (await cloud.api_client.me()).user.email == other.email
        assert CloudContext.from_environment({}, rehearsal.paths).credentials.user_email != other.email
        with pytest.raises(NotAuthenticated, match="SYSTEMPROMPT_API_TOKEN"):
            CloudContext.from_environment({"FLY_APP_NAME": "app"}, rehearsal.paths)


def test_nobody_is_logged_in(tmp_path: Path) -> None:
    """It says so at once, not with the first call."""
    with pytest.raises(NotAuthenticated, match=str(tmp_path)):
        CloudContext.new_authenticated(paths_in(tmp_path))


async def test_about_a_tenant_of_the_store(tmp_path: Path) -> None:
    """What the commands need of it, and none of its secrets."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        cloud = CloudContext.new_authenticated(rehearsal.paths)
        with pytest.raises(TenantsNotSynced):
            cloud.with_tenant("t1")
        store_tenant(rehearsal.paths.tenants, TENANT, datetime.now(UTC))
        with pytest.raises(TenantNotFound, match=r"tenants\.json lists no tenant t2"):
            cloud.with_tenant("t2")
        about = cloud.with_tenant("t1")
        assert (about.tenant_id, about.app_id, about.tenant_name, about.hostname) == (
            "t1",
            "app-1",
            "One",
            "one.example",
        )
        assert about.has_tenant
        assert "secret" not in repr(about.tenant)
        assert b"secret" not in msgspec.json.encode(about.tenant)


async def test_a_context_without_a_tenant_or_an_application(tmp_path: Path) -> None:
    """Each missing part has an error of its own; the name for people is never missing."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        rehearsal.log_in()
        bare = CloudContext.new_authenticated(rehearsal.paths)
        assert (bare.tenant_name, bare.hostname) == ("unknown", None)
        with pytest.raises(TenantNotConfigured):
            _ = bare.tenant_id
        with pytest.raises(AppNotConfigured, match="no tenant was named"):
            _ = bare.app_id
        without_app = CloudContext(bare.credentials, ResolvedTenant("t9", "Nine"))
        with pytest.raises(AppNotConfigured, match="tenant t9 has no application"):
            _ = without_app.app_id


# --- UnifiedContext ------------------------------------------------------------------------------------------------


def test_inside_a_project(tmp_path: Path) -> None:
    """The project's directories and its files."""
    home = tmp_path / ".systemprompt"
    (home / "profiles" / "dev").mkdir(parents=True)
    (tmp_path / "src").mkdir()
    (home / "session.json").touch()
    unified = UnifiedContext.discover_from(tmp_path / "src", {})
    assert unified.has_project
    assert unified.project_root == tmp_path
    assert unified.systemprompt_dir == home
    assert unified.profiles_dir == home / "profiles"
    assert unified.profile_dir("dev") == home / "profiles" / "dev"
    assert unified.docker_dir == home / "docker"
    assert unified.storage_dir == tmp_path / "storage"
    assert unified.credentials_path == home / "credentials.json"
    assert unified.tenants_path == home / "tenants.json"
    assert unified.session_path == home / "session.json"
    assert (unified.has_credentials, unified.has_tenants, unified.has_session) == (False, False, True)
    assert (unified.has_profile("dev"), unified.has_profile("prod")) == (True, False)


def test_outside_any_project(tmp_path: Path) -> None:
    """No project's directories; the files are the user's own, and `paths.origin` says so."""
    unified = UnifiedContext.discover_from(tmp_path, {"XDG_DATA_HOME": str(tmp_path / "data")})
    assert not unified.has_project
    assert (
        unified.project_root is unified.systemprompt_dir is unified.profiles_dir is unified.profile_dir("dev") is None
    )
    assert unified.docker_dir is unified.storage_dir is None
    assert not unified.has_profile("dev")
    assert unified.paths.origin == "user"
    assert unified.credentials_path == tmp_path / "data" / "systemprompt-cloud" / "credentials.json"


def test_a_profiles_configuration_goes_before_the_project(tmp_path: Path) -> None:
    """Only where the cloud's files are changes; the project stays the one somebody stands in."""
    (tmp_path / ".systemprompt").mkdir()
    profile = tmp_path / "elsewhere" / "profiles" / "dev"
    unified = UnifiedContext.discover_from(tmp_path, {}).with_profile_paths(profile, "../../login.json")
    assert unified.credentials_path == profile / ".." / ".." / "login.json"
    assert unified.tenants_path == profile / ".." / ".." / "tenants.json"
    assert unified.cloud_paths == unified.paths
    assert unified.project_root == tmp_path
    at_home = unified.with_profile_paths(profile, "~/login.json", environ={"HOME": "/home/ada"})
    assert at_home.credentials_path == Path("/home/ada/login.json")


def test_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`discover` is `discover_from` here."""
    (tmp_path / ".systemprompt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert UnifiedContext.discover({}) == UnifiedContext.discover_from(tmp_path, {})
