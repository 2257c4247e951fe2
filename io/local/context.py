"""What a command works on: a user's cloud and tenant, and a project and its files.

`CloudContext` is what a command that talks to the cloud needs: the credentials, the API as their user, and the tenant
it is about, if it is about one. `UnifiedContext` is what a command that works on files needs: the project it is in, and
the cloud's files, from the profile's configuration when it was given one, else the project's, else the user's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ...errors import AppNotConfigured, NotAuthenticated, TenantNotConfigured, TenantNotFound
from ..cloud.api import CloudApiClient
from .bootstrap import find_credentials
from .credentials import CloudCredentials
from .environment import API_TOKEN
from .paths import CloudPaths, get_cloud_paths, resolve_cloud_paths
from .project import CloudPath, DiscoveredProject, current_directory
from .tenants import StoredTenant, TenantStore


class ResolvedTenant(msgspec.Struct, frozen=True):
    """What a command needs to know of a tenant, and none of its secrets.

    Attributes:
        id: Its id.
        name: Its name.
        app_id: Its application, once there is one.
        hostname: Where it answers, once it does.
        region: One of `REGIONS`.
    """

    id: str
    name: str
    app_id: str | None = None
    hostname: str | None = None
    region: str | None = None

    @classmethod
    def of(cls, tenant: StoredTenant) -> Self:
        """From the store's record of it."""
        return cls(tenant.id, tenant.name, tenant.app_id, tenant.hostname, tenant.region)


class CloudContext:
    """The cloud as one user: an asynchronous context manager, which holds the API's connection pool.

        async with CloudContext.new_authenticated() as cloud:
            me = await cloud.api_client.me()

    Args:
        credentials: Who works.
        tenant: The tenant it is about.
        paths: Where tenants are looked up; found as the command line finds them by default.

    Attributes:
        credentials: Who works.
        tenant: The tenant it is about, or None.
        api_client: The API as them; open inside the `async with`.

    Raises:
        UnsafeUrl: The credentials name an API no token may be sent to.
        NotAuthenticated: Their token is a local cloud's and must not leave this computer.
    """

    def __init__(
        self,
        credentials: CloudCredentials,
        tenant: ResolvedTenant | None = None,
        *,
        paths: CloudPaths | None = None,
    ) -> None:
        self.credentials = credentials
        self.tenant = tenant
        self.api_client = CloudApiClient(credentials.api_url, credentials.api_token)
        self._paths = paths

    @classmethod
    def new_authenticated(cls, paths: CloudPaths | None = None) -> Self:
        """As the user who is logged in on this computer.

        Args:
            paths: Where the files are; found as the command line finds them by default.

        Raises:
            NotAuthenticated: Nobody is logged in. Log in.
            TokenExpired: The login's time is over. Log in again.
            CredentialsCorrupted: The file does not hold what it must.
            Io: It is there and cannot be read.
        """
        found = get_cloud_paths() if paths is None else paths
        return cls(CloudCredentials.load_and_validate_from_path(found.credentials), paths=found)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, paths: CloudPaths | None = None) -> Self:
        """As the user this process should work as: the environment's, else the one who is logged in.

        Args:
            environ: The environment; the process's own by default.
            paths: Where the files are; found as the command line finds them by default.

        Raises:
            NotAuthenticated: There is no login anywhere. The others are those of `find_credentials`.
        """
        env = os.environ if environ is None else environ
        where = resolve_cloud_paths(None, env, current_directory()) if paths is None else paths
        found = find_credentials(env, where)
        if found is None:
            raise NotAuthenticated(
                f"the container's environment holds no login: {API_TOKEN} is not set", hint=f"Set {API_TOKEN}."
            )
        return cls(found, paths=where)

    def with_tenant(self, tenant_id: str) -> Self:
        """The same, about a tenant that is known here. Call it before the `async with`.

        Args:
            tenant_id: A tenant of tenants.json.

        Raises:
            TenantsNotSynced: There is no tenants.json.
            TenantNotFound: It does not list this tenant.
            TenantsStoreCorrupted: It cannot be read.
            TenantsStoreInvalid: It breaks a rule of its format.
        """
        path = (get_cloud_paths() if self._paths is None else self._paths).tenants
        tenant = TenantStore.load_from_path(path).find_tenant(tenant_id)
        if tenant is None:
            raise TenantNotFound(f"{path} lists no tenant {tenant_id}")
        return type(self)(self.credentials, ResolvedTenant.of(tenant), paths=self._paths)

    async def __aenter__(self) -> Self:
        await self.api_client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.api_client.__aexit__(kind, exc, traceback)

    @property
    def has_tenant(self) -> bool:
        """Whether it is about a tenant."""
        return self.tenant is not None

    @property
    def tenant_id(self) -> str:
        """The tenant's id. Raises `TenantNotConfigured` when it is about none."""
        if self.tenant is None:
            raise TenantNotConfigured("no tenant was named")
        return self.tenant.id

    @property
    def app_id(self) -> str:
        """The tenant's application. Raises `AppNotConfigured` when it has none, or there is no tenant."""
        if self.tenant is None or self.tenant.app_id is None:
            name = "no tenant was named, so there is" if self.tenant is None else f"the tenant {self.tenant.id} has"
            raise AppNotConfigured(f"{name} no application")
        return self.tenant.app_id

    @property
    def tenant_name(self) -> str:
        """The tenant's name, for people; `unknown` without one."""
        return "unknown" if self.tenant is None else self.tenant.name

    @property
    def hostname(self) -> str | None:
        """Where the tenant answers, when that is known."""
        return None if self.tenant is None else self.tenant.hostname


class UnifiedContext(msgspec.Struct, frozen=True, kw_only=True):
    """The current project, and the cloud's files that are used.

    Attributes:
        project: The project, or None outside any.
        cloud_paths: The files a profile's configuration names, when it was given (`with_profile_paths`).
        paths: The files that are used.
    """

    project: DiscoveredProject | None
    paths: CloudPaths
    cloud_paths: CloudPaths | None = None

    @classmethod
    def discover(cls, environ: Mapping[str, str] | None = None) -> Self:
        """From the current directory. Raises `Io` when that was removed."""
        return cls.discover_from(current_directory(), environ)

    @classmethod
    def discover_from(cls, start: Path, environ: Mapping[str, str] | None = None) -> Self:
        """From a directory.

        Args:
            start: The directory.
            environ: Where SYSTEMPROMPT_DIR and the user's directories are looked up; the process's by default.
        """
        env = os.environ if environ is None else environ
        here = start.absolute()
        return cls(project=DiscoveredProject.discover_from(here), paths=resolve_cloud_paths(None, env, here))

    def with_profile_paths(
        self,
        profile_dir: Path,
        credentials_path: str | Path = "",
        tenants_path: str | Path = "",
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """The same, with the files a profile's configuration names; the arguments are `CloudPaths.from_config`'s."""
        found = CloudPaths.from_config(profile_dir, credentials_path, tenants_path, environ)
        return msgspec.structs.replace(self, paths=found, cloud_paths=found)

    @property
    def has_project(self) -> bool:
        """Whether it is in a project."""
        return self.project is not None

    @property
    def project_root(self) -> Path | None:
        """The project's root."""
        return None if self.project is None else self.project.root

    @property
    def systemprompt_dir(self) -> Path | None:
        """The project's `.systemprompt/`."""
        return None if self.project is None else self.project.systemprompt_dir

    @property
    def profiles_dir(self) -> Path | None:
        """The project's directory of profiles."""
        return None if self.project is None else self.project.profiles_dir

    @property
    def docker_dir(self) -> Path | None:
        """What the project's images are built from."""
        return None if self.project is None else self.project.docker_dir

    @property
    def storage_dir(self) -> Path | None:
        """The project's files."""
        return None if self.project is None else self.project.storage_dir

    def profile_dir(self, name: str) -> Path | None:
        """The directory of a profile of the project's. Raises `ProfileRequired` when that is no name."""
        return None if self.project is None else self.project.profile_dir(name)

    def has_profile(self, name: str) -> bool:
        """Whether the project has this profile. Raises `ProfileRequired` when that is no name."""
        return self.project is not None and self.project.has_profile(name)

    @property
    def credentials_path(self) -> Path:
        """Who is logged in."""
        return self.paths.credentials

    @property
    def tenants_path(self) -> Path:
        """The tenants known here."""
        return self.paths.tenants

    @property
    def session_path(self) -> Path:
        """The current session."""
        return self.paths.session

    @property
    def has_credentials(self) -> bool:
        """Whether there is a file of credentials, of any content."""
        return self.paths.exists(CloudPath.CREDENTIALS)

    @property
    def has_tenants(self) -> bool:
        """Whether there is a file of tenants, of any content."""
        return self.paths.exists(CloudPath.TENANTS)

    @property
    def has_session(self) -> bool:
        """Whether there is a session file, of any content."""
        return self.paths.exists(CloudPath.CLI_SESSION)
