"""What the SystemPrompt Cloud API says: one frozen record for every body that crosses the wire.

Theory: the server and this package are released apart, so a reader must be strict about what it needs and lenient
about the rest. A missing or wrongly typed required field is an error that names the field; an unknown field is
ignored; an optional one may be absent or null; and a value of an enumeration that is newer than this package stays
the raw string it is. That is why the status and event-type fields are typed `str`: members of the `StrEnum`s below
compare equal to them, and a word nobody knows yet cannot stop a flow.

Records that carry a secret hide it from `repr`, because a traceback or a log line is where a secret is lost first.
Encoding them with `msgspec.json.encode` gives the full value.

Nothing here does I/O.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final, Generic, TypeVar

import msgspec

from ..http.messages import Message

PRODUCTION_URL: Final = "https://api.systemprompt.io"
SANDBOX_URL: Final = "https://api-sandbox.systemprompt.io"

REGIONS: Final[dict[str, str]] = {
    "iad": "US East (Virginia)",
    "lhr": "Europe (London)",
    "fra": "Europe (Frankfurt)",
    "ams": "Europe (Amsterdam)",
    "sin": "Asia (Singapore)",
    "nrt": "Asia (Tokyo)",
    "syd": "Australia (Sydney)",
    "gru": "South America (São Paulo)",
}
"""Where a tenant can live: the code the API takes, and the name people read."""

DEFAULT_REGION: Final = "iad"


class Environment(StrEnum):
    """The two public clouds."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"

    @property
    def api_url(self) -> str:
        """The base URL of this environment's API."""
        return PRODUCTION_URL if self is Environment.PRODUCTION else SANDBOX_URL


class OAuthProvider(StrEnum):
    """The identity providers a person can log in with."""

    GITHUB = "github"
    GOOGLE = "google"


class SubscriptionStatus(StrEnum):
    """The known values of `TenantInfo.subscription_status`."""

    ACTIVE = "active"
    TRIALING = "trialing"
    PAST_DUE = "past_due"
    PAUSED = "paused"
    CANCELED = "canceled"


class TenantInfoStatus(StrEnum):
    """The known values of `TenantInfo.status`."""

    PENDING = "pending"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class ProvisioningEventType(StrEnum):
    """The known steps from a paid subscription to a running tenant, in the order they happen."""

    SUBSCRIPTION_CREATED = "subscription_created"
    TENANT_CREATED = "tenant_created"
    DATABASE_CREATED = "database_created"
    SECRETS_STORED = "secrets_stored"
    VM_PROVISIONING_STARTED = "vm_provisioning_started"
    VM_PROVISIONING_PROGRESS = "vm_provisioning_progress"
    VM_PROVISIONED = "vm_provisioned"
    SECRETS_CONFIGURED = "secrets_configured"
    INFRASTRUCTURE_READY = "infrastructure_ready"
    TENANT_READY = "tenant_ready"
    PROVISIONING_FAILED = "provisioning_failed"


class ActivityEvent(StrEnum):
    """What a client may report to `POST /api/v1/activity`."""

    LOGIN = "cloud_login"
    LOGOUT = "cloud_logout"


T = TypeVar("T")


class Data(Message, Generic[T], frozen=True, kw_only=True):
    """The envelope `{"data": …}` some answers come in."""

    data: T


class AuthorizeResponse(Message, frozen=True, kw_only=True):
    """`GET /api/v1/auth/oauth/{provider}`: the page to open in the person's browser."""

    authorize_url: str


class UserInfo(Message, frozen=True, kw_only=True):
    """The person the token belongs to."""

    id: str
    email: str
    name: str | None = None


class Customer(Message, frozen=True, kw_only=True):
    """The person's billing identity, once there is one."""

    id: str
    status: str | None = None


class TenantPlan(Message, frozen=True, kw_only=True):
    """The plan a tenant runs on, as `/auth/me` shows it; sizes in MB and GB."""

    id: str | None = None
    name: str
    memory_mb: int
    volume_gb: int


class TenantInfo(Message, frozen=True, kw_only=True):
    """A tenant as `/auth/me` shows it. See `SubscriptionStatus` and `TenantInfoStatus` for the known words."""

    hidden: ClassVar[frozenset[str]] = frozenset({"database_url"})

    id: str
    name: str
    subscription_id: str | None = None
    subscription_status: str | None = None
    app_id: str | None = None
    hostname: str | None = None
    region: str | None = None
    status: str | None = None
    plan: TenantPlan | None = None
    external_db_access: bool = False
    database_url: str


class UserMeResponse(Message, frozen=True, kw_only=True):
    """`GET /api/v1/auth/me`: who the token belongs to and what is theirs."""

    user: UserInfo
    customer: Customer | None = None
    tenants: list[TenantInfo] = msgspec.field(default=[])


class ActivityData(Message, frozen=True, kw_only=True):
    """Whose activity is reported."""

    user_id: str


class ActivityRequest(Message, frozen=True, kw_only=True):
    """`POST /api/v1/activity`; `timestamp` is RFC 3339, in UTC."""

    event: str
    timestamp: str
    data: ActivityData


class Plan(Message, frozen=True, kw_only=True):
    """One entry of `GET /api/v1/checkout/plans`; `paddle_price_id` is what `CheckoutRequest.price_id` wants."""

    id: str
    name: str
    paddle_price_id: str
    memory_mb_default: int = 0
    volume_gb: int = 0
    max_tenants: int | None = None


class CheckoutRequest(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`POST /api/v1/checkout`: what is bought, where it runs, where the browser goes afterwards."""

    price_id: str
    region: str
    redirect_uri: str | None = None


class CheckoutResponse(Message, frozen=True, kw_only=True):
    """The payment page to open, and the names under which the purchase can be followed."""

    checkout_url: str
    transaction_id: str
    checkout_session_id: str


class CheckoutEvent(Message, frozen=True, kw_only=True):
    """The data of one event of the checkout stream; `event_type` is a `ProvisioningEventType` or a newer word."""

    checkout_session_id: str
    tenant_id: str
    tenant_name: str
    event_type: str
    status: str
    message: str | None = None
    app_url: str | None = None
    fly_app_name: str | None = None


class Tenant(Message, frozen=True, kw_only=True):
    """A tenant as `GET /api/v1/tenants` lists it."""

    id: str
    name: str
    fly_app_name: str | None = None
    fly_hostname: str | None = None
    hostname: str | None = None


class ProvisioningEvent(Message, frozen=True, kw_only=True):
    """The data of one event of a tenant's stream; `event_type` is a `ProvisioningEventType` or a newer word."""

    tenant_id: str
    event_type: str
    status: str
    message: str | None = None
    app_url: str | None = None
    fly_app_name: str | None = None


class TenantStatus(Message, frozen=True, kw_only=True):
    """How far a tenant is: status "ready" or "failed" is the end, anything else is still work in progress."""

    status: str
    message: str | None = None
    app_url: str | None = None
    secrets_url: str | None = None


class TenantSecrets(Message, frozen=True, kw_only=True):
    """What `TenantStatus.secrets_url` gives once a tenant is ready. Every value but `app_url` is a secret."""

    hidden: ClassVar[frozenset[str]] = frozenset(
        {"jwt_secret", "sync_token", "database_url", "internal_database_url"}
        | {"anthropic_api_key", "openai_api_key", "gemini_api_key"}
    )

    jwt_secret: str
    database_url: str
    internal_database_url: str
    app_url: str
    sync_token: str | None = None
    anthropic_api_key: str | None = None
    openai_api_key: str | None = None
    gemini_api_key: str | None = None


class RegistryToken(Message, frozen=True, kw_only=True):
    """The right to push one image to the tenant's registry."""

    hidden: ClassVar[frozenset[str]] = frozenset({"token"})

    registry: str
    username: str
    token: str
    repository: str
    tag: str


class DeployRequest(Message, frozen=True, kw_only=True):
    """`POST /api/v1/tenants/{id}/deploy`: the image to run."""

    image: str


class DeployResponse(Message, frozen=True, kw_only=True):
    """What became of a deployment."""

    status: str
    app_url: str | None = None


class StatusResponse(Message, frozen=True, kw_only=True):
    """The answer to a restart or to another attempt at provisioning."""

    status: str


class SetSecretsRequest(Message, frozen=True, kw_only=True):
    """`PUT /api/v1/tenants/{id}/secrets`: the values to set, by key."""

    hidden: ClassVar[frozenset[str]] = frozenset({"secrets"})

    secrets: dict[str, str]


class ListSecretsResponse(Message, frozen=True, kw_only=True):
    """The names, never the values, of a tenant's secrets."""

    keys: list[str]


class ExternalDbAccessRequest(Message, frozen=True, kw_only=True):
    """`PUT /api/v1/tenants/{id}/external-db-access`."""

    enabled: bool


class ExternalDbAccessResponse(Message, frozen=True, kw_only=True):
    """Whether the tenant's database now answers from outside, and under which URL."""

    hidden: ClassVar[frozenset[str]] = frozenset({"database_url"})

    tenant_id: str
    external_db_access: bool
    database_url: str


class RotateCredentialsResponse(Message, frozen=True, kw_only=True):
    """The new database URLs after a rotation; the old ones stop working."""

    hidden: ClassVar[frozenset[str]] = frozenset({"internal_database_url", "external_database_url"})

    status: str
    message: str
    internal_database_url: str
    external_database_url: str


class RotateSyncTokenResponse(Message, frozen=True, kw_only=True):
    """The new sync token after a rotation; the old one stops working."""

    hidden: ClassVar[frozenset[str]] = frozenset({"sync_token"})

    sync_token: str


class CustomDomainRequest(Message, frozen=True, kw_only=True):
    """`POST /api/v1/tenants/{id}/custom-domain`."""

    domain: str


class DnsInstructions(Message, frozen=True, kw_only=True):
    """The DNS record that proves and points a domain; `ttl` in seconds."""

    record_type: str
    host: str
    value: str
    ttl: int


class CustomDomainResponse(Message, frozen=True, kw_only=True):
    """A tenant's own domain and how far its verification is; times are RFC 3339."""

    domain: str
    status: str
    verified: bool
    dns_target: str
    dns_instructions: DnsInstructions
    created_at: str | None = None
    verified_at: str | None = None
