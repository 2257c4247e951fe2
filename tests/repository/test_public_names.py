"""The names the Rust crate offers its users are all here, under `import systemprompt_cloud`."""

from __future__ import annotations

import pytest
import systemprompt_cloud

NAMES = """
    CloudApiClient CloudCredentials CredentialsBootstrap CredentialsBootstrapError CloudContext ResolvedTenant
    CliSession SessionStore SessionKey LOCAL_SESSION_KEY
    TenantStore StoredTenant TenantType NewCloudTenantParams CloudError
    Environment OAuthProvider OAuthTemplates CheckoutTemplates CheckoutCallbackResult
    run_oauth_flow run_checkout_callback_flow wait_for_provisioning
    CloudPath CloudPaths ProjectPath ProfilePath ProjectContext DiscoveredProject UnifiedContext
    resolve_path expand_home get_cloud_paths PRODUCTION_URL SANDBOX_URL
    UserMeResponse UserInfo Tenant TenantInfo TenantStatus TenantSecrets Plan CheckoutResponse CheckoutEvent
    ProvisioningEvent ProvisioningEventType SubscriptionStatus DeployResponse RegistryToken StatusResponse
    ListSecretsResponse ExternalDbAccessResponse RotateCredentialsResponse CustomDomainResponse
"""

MEMBERS = {
    "CloudCredentials": "load_from_path load_and_validate_from_path save_to_path delete_from_path is_token_expired "
    "expires_within validate_with_api",
    "SessionStore": "load load_or_create save get_valid_session get_session upsert_session remove_session set_active "
    "set_active_with_profile set_active_with_profile_path active_session_key active_session prune_expired all_sessions",
    "SessionKey": "local tenant from_tenant_id as_storage_key tenant_id is_local",
    "CliSession": "builder is_expired is_valid_for_profile is_valid_for_tenant has_valid_credentials touch "
    "set_context_id session_key",
    "StoredTenant": "new new_local new_local_shared new_cloud from_tenant_info update_from_tenant_info "
    "uses_shared_container has_database_url get_local_database_url is_cloud is_local is_sync_token_missing "
    "is_database_url_masked has_missing_credentials",
    "TenantStore": "find_tenant is_stale load_from_path save_to_path from_tenant_infos",
    "CredentialsBootstrap": "init get require is_initialized try_init expires_within reload",
    "CloudContext": "new_authenticated tenant_id app_id tenant_name hostname has_tenant",
    "CloudPath": "resolve segments filename is_dir CREDENTIALS TENANTS CLI_SESSION SESSIONS_DIR",
    "ProjectPath": "resolve segments filename is_dir",
    "ProfilePath": "resolve segments filename is_dir is_docker_file",
    "CloudPaths": "from_config from_project_context resolve exists",
    "ProjectContext": "discover discover_from resolve exists systemprompt_dir profiles_dir profile_dir profile_path "
    "docker_dir storage_dir dockerfile sessions_dir has_profile",
    "DiscoveredProject": "discover discover_from from_root systemprompt_dir credentials_path tenants_path session_path "
    "profiles_dir profile_dir docker_dir storage_dir is_initialized has_credentials has_tenants has_session "
    "has_profile",
    "UnifiedContext": "discover discover_from with_profile_paths has_project project_root systemprompt_dir "
    "credentials_path tenants_path session_path profiles_dir profile_dir docker_dir storage_dir has_credentials "
    "has_tenants has_session has_profile project cloud_paths",
}


@pytest.mark.parametrize("name", NAMES.split())
def test_a_name_of_the_rust_crate_is_public(name: str) -> None:
    """In the list of public names, and it loads."""
    assert name in dir(systemprompt_cloud)
    assert getattr(systemprompt_cloud, name) is not None


@pytest.mark.parametrize("name", MEMBERS)
def test_its_members_keep_their_names(name: str) -> None:
    """A method, a property or a field, as Python has it; none is missing."""
    kind = getattr(systemprompt_cloud, name)
    assert [member for member in MEMBERS[name].split() if not hasattr(kind, member)] == []


def test_every_public_name_loads() -> None:
    """The list of names and what is behind them agree."""
    for name in dir(systemprompt_cloud):
        assert hasattr(systemprompt_cloud, name), name
