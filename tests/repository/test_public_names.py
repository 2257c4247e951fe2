"""The names the Rust crate offers its users are all under `import systemprompt_cloud`; so is every name we offered.

`public_names.txt` lists what was public. Names may be added to it and none taken away. To write it again:

    python tests/repository/test_public_names.py > tests/repository/public_names.txt
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

LISTED = Path(__file__).with_name("public_names.txt")


def public_names() -> list[str]:
    """Every public name with what it is, and every public member of each class, one a line."""
    lines: list[str] = []
    for name in dir(systemprompt_cloud):
        value = getattr(systemprompt_cloud, name)
        if inspect.isclass(value):
            lines.append(f"{name} class")
            lines += {f"{name}.{member} {kind}" for member, kind in _members(value)}
        else:
            lines.append(f"{name} {'function' if inspect.isroutine(value) else 'constant'}")
    return sorted(lines)


def _members(kind: type[Any]) -> Iterator[tuple[str, str]]:
    """What users of a class see of it and of those it inherits from, as far as these are ours."""
    for each in reversed(kind.__mro__):
        if not each.__module__.startswith(systemprompt_cloud.__name__):
            continue
        for name in {*each.__annotations__, *_set_at_birth(each), *vars(each)}:
            if not name.startswith("_"):
                # What the class itself makes of a name it inherits, so that each name is listed once.
                yield name, _kind(next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None))


def _kind(value: object) -> str:
    if isinstance(value, property | functools.cached_property):
        return "attribute"
    if isinstance(value, classmethod):
        return "classmethod"
    if isinstance(value, staticmethod):
        return "staticmethod"
    if isinstance(value, enum.Enum):
        return "member"
    return "method" if inspect.isfunction(value) else "attribute"


def _set_at_birth(kind: type[Any]) -> Iterator[str]:
    """The attributes that `__init__` sets: they are not in the class, and users read them all the same."""
    init = vars(kind).get("__init__")
    if inspect.isfunction(init) and init.__module__ == kind.__module__:
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            ):
                yield node.attr


def test_the_stub_and_the_table_list_the_same() -> None:
    """What type checkers are told is public is what can be imported, from the same modules."""
    stub = ast.parse(Path(systemprompt_cloud.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told = [
        (node.module, alias.asname) for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    public: dict[str, str] = vars(systemprompt_cloud)["_PUBLIC"]
    assert told == [(module, name) for module, names in public.items() for name in names.split()]
    assert dir(systemprompt_cloud) == sorted(str(name) for _, name in told)


def test_no_public_name_has_vanished() -> None:
    """Every name and every member that was listed is still there, and still the same kind of thing."""
    assert sorted(set(LISTED.read_text().splitlines()) - set(public_names())) == []


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


if __name__ == "__main__":
    sys.stdout.write("\n".join(public_names()) + "\n")
