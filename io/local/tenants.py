"""The tenants known here: `tenants.json`, shared with the Rust CLI.

The file is `{tenants, synced_at}`. It is a cache of the API with one part that is not: secrets. The database URL and
the sync token of a cloud tenant are given out once, after provisioning; later answers mask the password. So the rule
of this file is that *an absent or masked credential never replaces a stored one*. Fields we do not know belong to a
newer version and survive a read and a write. What cannot be read is set aside, never overwritten.

To change what is stored: `with TenantStore.updating(path) as store: store.upsert_tenant(tenant)`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

from ...base.redaction import register_held
from ...errors import TenantsNotSynced, TenantsStoreCorrupted, TenantsStoreInvalid
from ..cloud.wire import TenantInfo
from .stores import held, part, read_shared, write_plain
from .unknown import Timestamp, plain_record, read_record

MASKS: Final = (":***@", ":********@")
DATABASE_HOST: Final = "db.systemprompt.io"
SANDBOX_DATABASE_HOST: Final = "db-sandbox.systemprompt.io"

_SECRETS: Final = frozenset({"database_url", "internal_database_url", "sync_token"})

Filled = Annotated[str, msgspec.Meta(min_length=1)]


class TenantType(StrEnum):
    """The known values of `StoredTenant.tenant_type`: where a tenant runs."""

    LOCAL = "local"
    CLOUD = "cloud"


class NewCloudTenantParams(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a cloud tenant when it has just been provisioned. See `StoredTenant`."""

    id: str
    name: str
    internal_database_url: str
    app_id: str | None = None
    hostname: str | None = None
    region: str | None = None
    database_url: str | None = None
    external_db_access: bool = False
    sync_token: str | None = None

    @override
    def __repr__(self) -> str:
        return f"NewCloudTenantParams(id={self.id!r}, name={self.name!r})"


def is_masked(url: str | None) -> bool:
    """Whether the API hid the password of a database URL."""
    return url is not None and any(mask in url for mask in MASKS)


class StoredTenant(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """One tenant as it is stored.

    Attributes:
        id: The API's id, or a local one; not empty.
        name: For people; not empty.
        app_id: The application it runs.
        hostname: Where it answers.
        region: One of `wire.REGIONS`.
        database_url: Reachable from here: the local database, or the cloud's when external access is on.
        internal_database_url: Reachable from within the cloud.
        tenant_type: A `TenantType`, or the word of a newer version; a tenant of that is neither local nor cloud.
        external_db_access: Whether the cloud database accepts connections from outside.
        sync_token: Lets `sync` push and pull.
        shared_container_db: The shared container a local tenant's database is in.
        unknown_fields: What a newer version wrote beside these; written back as it was.
    """

    id: Filled
    name: Filled
    app_id: str | None = None
    hostname: str | None = None
    region: str | None = None
    database_url: str | None = None
    internal_database_url: str | None = None
    tenant_type: str = TenantType.LOCAL
    external_db_access: bool = False
    sync_token: str | None = None
    shared_container_db: str | None = None
    unknown_fields: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Built in code as well as read from a file: msgspec checks lengths only while decoding.
        if not self.id or not self.name:
            raise ValueError("a tenant's id and name must not be empty")
        if secrets := [secret for name in _SECRETS if (secret := getattr(self, name))]:
            register_held(self, secrets)

    @override
    def __repr__(self) -> str:
        return f"StoredTenant(id={self.id!r}, name={self.name!r}, tenant_type={str(self.tenant_type)!r})"

    @classmethod
    def new(cls, id: str, name: str) -> Self:  # noqa: A002 - the original's name
        """A local tenant of which nothing else is known."""
        return cls(id=id, name=name)

    @classmethod
    def new_local(cls, id: str, name: str, database_url: str) -> Self:  # noqa: A002 - the original's name
        """A local tenant with a database of its own."""
        return cls(id=id, name=name, database_url=database_url)

    @classmethod
    def new_local_shared(cls, id: str, name: str, database_url: str, shared_container_db: str) -> Self:  # noqa: A002
        """A local tenant whose database is in the shared container of that name."""
        return cls(id=id, name=name, database_url=database_url, shared_container_db=shared_container_db)

    @classmethod
    def new_cloud(cls, params: NewCloudTenantParams) -> Self:
        """A tenant that has just been provisioned."""
        return cls(tenant_type=TenantType.CLOUD, **msgspec.structs.asdict(params))

    @classmethod
    def from_tenant_info(cls, info: TenantInfo) -> Self:
        """A cloud tenant as `/auth/me` shows it: its database URL may be masked and it has no sync token.

        One that has no name is called by its id.
        """
        return cls(
            id=info.id,
            name=info.name or info.id,
            app_id=info.app_id,
            hostname=info.hostname,
            region=info.region,
            internal_database_url=info.database_url or None,
            tenant_type=TenantType.CLOUD,
            external_db_access=info.external_db_access,
        )

    def update_from_tenant_info(self, info: TenantInfo) -> Self:
        """This tenant with what `/auth/me` says now; a stored database URL outlives a masked or empty one.

        Returns:
            A new record: name, app_id, hostname, region and external_db_access are the API's, the rest is kept.
        """
        masked = not info.database_url or is_masked(info.database_url)
        return msgspec.structs.replace(
            self,
            name=info.name or self.name,
            app_id=info.app_id,
            hostname=info.hostname,
            region=info.region,
            external_db_access=info.external_db_access,
            internal_database_url=self.internal_database_url if masked else info.database_url,
        )

    @property
    def is_cloud(self) -> bool:
        """Whether it runs in the cloud."""
        return self.tenant_type == TenantType.CLOUD

    @property
    def is_local(self) -> bool:
        """Whether it runs on this computer."""
        return self.tenant_type == TenantType.LOCAL

    @property
    def uses_shared_container(self) -> bool:
        """Whether its database is in the shared container."""
        return self.shared_container_db is not None

    @property
    def has_database_url(self) -> bool:
        """Whether there is a database URL: the internal one of a cloud tenant, the plain one of a local tenant."""
        return bool(self.internal_database_url if self.is_cloud else self.database_url)

    @property
    def local_database_url(self) -> str | None:
        """The database URL that can be reached from here."""
        return self.database_url

    def get_local_database_url(self) -> str | None:
        """The original's name of `local_database_url`."""
        return self.local_database_url

    @property
    def is_sync_token_missing(self) -> bool:
        """Whether a cloud tenant has no sync token; a local one needs none."""
        return self.is_cloud and not self.sync_token

    @property
    def is_database_url_masked(self) -> bool:
        """Whether the API hid the password of the database URL `has_database_url` looks at."""
        return is_masked(self.internal_database_url if self.is_cloud else self.database_url)

    @property
    def has_missing_credentials(self) -> bool:
        """Whether a cloud tenant lacks its sync token or its database password."""
        return self.is_cloud and (self.is_sync_token_missing or self.is_database_url_masked)


class TenantStore(msgspec.Struct, kw_only=True):
    """The content of `tenants.json`; the tenants in it are immutable, the list is not.

    Attributes:
        tenants: In the order of the file.
        synced_at: When the list was last read from the API as a whole, with a time zone.
        unknown_fields: What a newer version wrote beside these; written back as it was.
    """

    tenants: tuple[StoredTenant, ...] = ()
    synced_at: Timestamp
    unknown_fields: dict[str, Any] = {}

    @classmethod
    def from_tenant_infos(cls, infos: Iterable[TenantInfo], now: datetime | None = None) -> Self:
        """A store of what `/auth/me` listed, synced now (the clock's time by default)."""
        moment = datetime.now(UTC) if now is None else now
        return cls(tenants=tuple(map(StoredTenant.from_tenant_info, infos)), synced_at=moment)

    def find_tenant(self, id: str) -> StoredTenant | None:  # noqa: A002 - the original's name
        """The tenant with this id, or None."""
        return next((tenant for tenant in self.tenants if tenant.id == id), None)

    def is_stale(self, max_age: timedelta, now: datetime | None = None) -> bool:
        """Whether the last sync is longer ago than `max_age` (now: the clock's time by default)."""
        return (datetime.now(UTC) if now is None else now) - self.synced_at > max_age

    def upsert_tenant(self, tenant: StoredTenant) -> StoredTenant:
        """Put a tenant into the store, in the place of the one with its id, else at the end.

        Returns:
            What is stored now: a credential the new record lacks, or has masked, is taken over from the old one.
        """
        return self.upsert_tenants([tenant])[0]

    def upsert_tenants(self, tenants: Iterable[StoredTenant]) -> list[StoredTenant]:
        """Put tenants into the store, as `upsert_tenant` does one after the other."""
        held = list(self.tenants)
        places = self._places()
        stored: list[StoredTenant] = []
        for tenant in tenants:
            place = places.setdefault(tenant.id, len(held))
            if place == len(held):
                held.append(tenant)
            else:
                held[place] = _merged(held[place], tenant)
            stored.append(held[place])
        self.tenants = tuple(held)
        return stored

    def _places(self) -> dict[str, int]:
        """Where the tenant of each id is: the first, as for `find_tenant`."""
        places: dict[str, int] = {}
        for place, tenant in enumerate(self.tenants):
            places.setdefault(tenant.id, place)
        return places

    def remove_tenant(self, id: str) -> StoredTenant | None:  # noqa: A002 - as in `find_tenant`
        """Take the tenant with this id out of the store; None when there is none."""
        found = self.find_tenant(id)
        self.tenants = tuple(each for each in self.tenants if each is not found)
        return found

    def sync(self, infos: Iterable[TenantInfo], now: datetime | None = None) -> list[StoredTenant]:
        """Make the cloud tenants those that `/auth/me` listed, with the credentials that are stored.

        Args:
            infos: All of them. What is not among them is gone; local tenants stay.
            now: The new `synced_at`; the clock's time by default.

        Returns:
            The cloud tenants that are gone.
        """
        listed = {info.id: info for info in infos}
        gone = [each for each in self.tenants if each.is_cloud and each.id not in listed]
        self.tenants = tuple(each for each in self.tenants if not (each.is_cloud and each.id not in listed))
        places = self._places()
        known = {name: self.tenants[place] for name, place in places.items() if name in listed}
        self.upsert_tenants(
            known[name].update_from_tenant_info(info) if name in known else StoredTenant.from_tenant_info(info)
            for name, info in listed.items()
        )
        self.synced_at = datetime.now(UTC) if now is None else now
        return gone

    @classmethod
    def load_from_path(cls, path: Path) -> Self:
        """Read the store.

        Raises:
            TenantsNotSynced: There is no such file.
            TenantsStoreCorrupted: It is not JSON.
            TenantsStoreInvalid: A field is missing or breaks its rule; the message names it.
            UnsafeFile: It is a symbolic link or belongs to somebody else.
            Io: It is there and cannot be read.
        """
        found = cls._load(path)
        if found is None:
            raise TenantsNotSynced(f"no tenants are known yet: there is no {path}")
        return found

    @classmethod
    def _load(cls, path: Path) -> Self | None:
        return read_shared(path, "tenants", cls._from_plain, TenantsStoreInvalid, no_json=TenantsStoreCorrupted)

    @classmethod
    def _from_plain(cls, raw: dict[str, Any]) -> Self:
        listed = msgspec.convert(raw, _Listed).tenants
        store = read_record({**raw, "tenants": []}, cls)
        tenants: list[StoredTenant] = []
        for number, each in enumerate(listed, 1):
            with part(f"tenant {number}"):
                tenants.append(read_record(each, StoredTenant))
        store.tenants = tuple(tenants)
        return store

    @classmethod
    @contextmanager
    def updating(cls, path: Path, now: datetime | None = None) -> Generator[Self]:
        """Change what is stored, next to whatever another process changes: `with TenantStore.updating(path) as store`.

        The store is read under its lock and written when the block ends; a block that raises writes nothing.

        Args:
            path: `tenants.json`; its directory is created when missing. A file that cannot be read is set aside.
            now: The `synced_at` of a new file; the clock's time by default. An existing file keeps its own.

        Raises:
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written, or its lock cannot be had; what was there before is unchanged.
        """
        with held(path, cls._load) as found:
            store = cls(synced_at=datetime.now(UTC) if now is None else now) if found is None else found
            yield store
            store._write(path)

    def save_to_path(self, path: Path) -> None:
        """Replace the whole stored list by this one, whatever is there; `updating` changes a part of it.

        Raises:
            UnsafeFile: The file or its directory is a symbolic link or belongs to somebody else.
            Io: It cannot be written; what was there before is unchanged.
        """
        with held(path, self._load):
            self._write(path)

    def _write(self, path: Path) -> None:
        write_plain(path, {**plain_record(self), "tenants": [plain_record(tenant) for tenant in self.tenants]})


def _merged(old: StoredTenant, new: StoredTenant) -> StoredTenant:
    """A tenant that is stored, as it is from now on: a credential the new record lacks, or has masked, stays."""
    masked = not new.internal_database_url or is_masked(new.internal_database_url)
    return msgspec.structs.replace(
        new,
        internal_database_url=(old.internal_database_url if masked else None) or new.internal_database_url,
        database_url=new.database_url or old.database_url,
        sync_token=new.sync_token or old.sync_token,
        unknown_fields={**old.unknown_fields, **new.unknown_fields},
    )


class _Listed(msgspec.Struct):
    tenants: list[dict[str, Any]]


def external_database_url(url: str, hostname: str | None = None) -> str:
    """The address of a tenant's database from outside the cloud, once external access is on.

    The host becomes `db.systemprompt.io`, or the sandbox's when a host says "sandbox", and `sslmode=disable` becomes
    `sslmode=require`; user, password, port, database and other parameters stay.

    Args:
        url: The database URL the API gave. One that is no URL is returned as it is.
        hostname: The tenant's own host name, when known: it says "sandbox" too where the database's host does not.
    """
    try:
        parts = urlsplit(url)
        inside = parts.hostname
    except ValueError:
        return url
    if not inside:
        return url
    user, at, place = parts.netloc.rpartition("@")
    port = place.rpartition("]")[2].partition(":")[2]
    sandbox = "sandbox" in inside or "sandbox" in (hostname or "").lower()
    host = SANDBOX_DATABASE_HOST if sandbox else DATABASE_HOST
    query = "&".join("sslmode=require" if pair == "sslmode=disable" else pair for pair in parts.query.split("&"))
    return parts._replace(netloc=f"{user}{at}{host}{':' + port if port else ''}", query=query).geturl()
