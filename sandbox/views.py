"""The API's records (`io/cloud/wire.py`), made from the current state of the world.

These functions change nothing. Values that look like secrets are derived from the seed and grant nothing; hosts are
under names reserved for examples (RFC 2606), except the database's public name, which clients compute themselves and
which must be equal.
"""

from __future__ import annotations

from typing import Final

from ..io.cloud.wire import (
    CheckoutEvent,
    CustomDomainResponse,
    Customer,
    DnsInstructions,
    ExternalDbAccessResponse,
    ProvisioningEvent,
    RegistryToken,
    RotateCredentialsResponse,
    SubscriptionStatus,
    TenantInfo,
    TenantInfoStatus,
    TenantPlan,
    TenantSecrets,
    TenantStatus,
    UserInfo,
    UserMeResponse,
)
from ..io.cloud.wire import ProvisioningEventType as Event
from ..io.cloud.wire import Tenant as TenantRecord
from .answers import WireError
from .provisioning import BuildStep
from .state import Account, Checkout, SandboxTenant, Work
from .world import World

EXTERNAL_DB_HOST: Final = "db-sandbox.systemprompt.io"
REGISTRY: Final = "registry-sandbox.systemprompt.example"


def app_url(tenant: SandboxTenant) -> str:
    """Where the tenant's application would answer."""
    return f"https://{tenant.slug}.systemprompt.example"


def database_url(world: World, tenant: SandboxTenant, *, external: bool = False, masked: bool = False) -> str:
    """The tenant's database, from inside or outside the cloud, with or without the password."""
    password = "***" if masked else world.keys.derive(f"database:{tenant.id}:{tenant.passwords}", 24)
    host = EXTERNAL_DB_HOST if external else f"db-sandbox-{tenant.region}.internal"
    name = tenant.slug.replace("-", "_")
    return f"postgres://{name}:{password}@{host}:5432/{name}?sslmode={'require' if external else 'disable'}"


def sync_token(world: World, tenant: SandboxTenant) -> str:
    """The tenant's sync token after the rotations so far."""
    return f"sandbox_sync_{world.keys.derive(f'sync:{tenant.id}:{tenant.sync_tokens}', 32)}"


def _fly_app(tenant: SandboxTenant, *, started: bool) -> str | None:
    return f"sp-{tenant.slug}" if started else None


def me(world: World, account: Account) -> UserMeResponse:
    """`GET /api/v1/auth/me`. A customer exists once something was bought."""
    tenants = [tenant_info(world, tenant) for tenant in world.tenants_of(account)]
    customer = Customer(id=f"ctm_sandbox_{world.keys.derive('customer:' + account.id)}", status="active")
    return UserMeResponse(
        user=UserInfo(id=account.id, email=account.email, name=f"{account.name} (sandbox)"),
        customer=customer if tenants else None,
        tenants=tenants,
    )


def tenant_info(world: World, tenant: SandboxTenant) -> TenantInfo:
    """A tenant as `/auth/me` shows it: active once ready, its password masked."""
    ready = world.has_reached(tenant, Event.TENANT_READY)
    return TenantInfo(
        id=tenant.id,
        name=tenant.name,
        subscription_id=f"sub_sandbox_{world.keys.derive('subscription:' + tenant.id)}",
        subscription_status=SubscriptionStatus.ACTIVE if tenant.subscribed else SubscriptionStatus.CANCELED,
        app_id=_fly_app(tenant, started=world.has_reached(tenant, Event.VM_PROVISIONING_STARTED)),
        hostname=f"{tenant.slug}.systemprompt.example" if ready else None,
        region=tenant.region,
        status=TenantInfoStatus.ACTIVE if ready else TenantInfoStatus.PENDING,
        plan=TenantPlan(
            id=tenant.plan.id,
            name=tenant.plan.name,
            memory_mb=tenant.plan.memory_mb_default,
            volume_gb=tenant.plan.volume_gb,
        ),
        external_db_access=tenant.external_db_access,
        database_url=database_url(world, tenant, external=tenant.external_db_access, masked=True),
    )


def tenant_record(world: World, tenant: SandboxTenant) -> TenantRecord:
    """A tenant as `GET /api/v1/tenants` lists it."""
    info = tenant_info(world, tenant)
    return TenantRecord(
        id=tenant.id,
        name=tenant.name,
        fly_app_name=info.app_id,
        fly_hostname=f"{info.app_id}.fly.example" if info.app_id else None,
        hostname=info.hostname,
    )


def tenant_status(world: World, tenant: SandboxTenant) -> TenantStatus:
    """`GET /api/v1/tenants/{id}/status`, from the same timeline as the streams.

    A tenant that waits for its first deploy has the status "infrastructure_ready", with its secrets but without an
    address: neither ready nor failed, so a client that does not know the status keeps waiting. A deployment or restart
    in progress takes precedence over the status before it.
    """
    steps = world.steps_of(tenant)
    if not steps:
        return TenantStatus(status="provisioning", message="Payment received")
    runs = world.has_reached(tenant, Event.TENANT_READY)
    url = app_url(tenant) if runs else None
    secrets_url = f"/api/v1/tenants/{tenant.id}/provisioned-secrets" if world.has_infrastructure(tenant) else None
    work, last = tenant.work, steps[-1]
    if work is not None and world.now() < work.started:  # a replica that is behind
        work = None
    if work is not None and world.now() < work.until:
        return TenantStatus(status=work.word, message=_now_doing(world, work), app_url=url, secrets_url=secrets_url)
    if work is not None and work.failure is not None:
        return TenantStatus(status="failed", message=work.failure, app_url=url, secrets_url=secrets_url)
    if runs:
        return TenantStatus(status="ready", message=last.message, app_url=url, secrets_url=secrets_url)
    if last is tenant.steps[-1] and last.event_type is Event.INFRASTRUCTURE_READY:
        return TenantStatus(status="infrastructure_ready", message="Waiting for an image", secrets_url=secrets_url)
    return TenantStatus(status=last.status, message=last.message, secrets_url=secrets_url)


def _now_doing(world: World, work: Work) -> str:
    passed = (world.now() - work.started) / (work.until - work.started)
    return work.messages[min(int(passed * len(work.messages)), len(work.messages) - 1)]


def tenant_secrets(world: World, tenant: SandboxTenant) -> TenantSecrets:
    """What `secrets_url` gives. It can be read again, so that a client which died after reading can resume.

    Raises:
        WireError: 409 `not_ready` before the status names the URL.
    """
    if not world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant is not ready yet")
    inside = database_url(world, tenant)
    return TenantSecrets(
        jwt_secret=f"sandbox_jwt_{world.keys.derive('jwt:' + tenant.id, 32)}",
        database_url=inside,
        internal_database_url=inside,
        app_url=app_url(tenant),
        sync_token=sync_token(world, tenant),
        anthropic_api_key=f"sandbox_anthropic_{world.keys.derive('anthropic:' + tenant.id, 24)}",
    )


def external_db_access(world: World, tenant: SandboxTenant) -> ExternalDbAccessResponse:
    """Whether the database answers from outside, and its full URL there."""
    return ExternalDbAccessResponse(
        tenant_id=tenant.id,
        external_db_access=tenant.external_db_access,
        database_url=database_url(world, tenant, external=tenant.external_db_access),
    )


def registry_token(world: World, tenant: SandboxTenant) -> RegistryToken:
    """The right to push the tenant's next image, for a quarter of an hour."""
    repository = f"sandbox/{tenant.slug}"
    count = sum(deployment.tenant_id == tenant.id for deployment in world.ledger.deployments)
    return RegistryToken(
        registry=REGISTRY,
        username="sandbox",
        token=world.tokens.issue_registry(tenant.id, repository),
        repository=repository,
        tag=f"deploy-{count + 1}",
    )


def custom_domain(world: World, tenant: SandboxTenant) -> CustomDomainResponse:
    """The tenant's own domain and how far its verification is.

    Raises:
        WireError: 404 when it has none.
    """
    domain = tenant.domain
    if domain is None:
        raise WireError(404, "domain_not_found", "the tenant has no domain of its own")
    verified = domain.verified <= world.now()
    target = f"{tenant.slug}.systemprompt.example"
    return CustomDomainResponse(
        domain=domain.name,
        status="active" if verified else "pending",
        verified=verified,
        dns_target=target,
        dns_instructions=DnsInstructions(record_type="CNAME", host=domain.name, value=target, ttl=300),
        created_at=domain.created_at,
        verified_at=domain.verified_at if verified else None,
    )


def rotated_credentials(world: World, tenant: SandboxTenant) -> RotateCredentialsResponse:
    """The database URLs with the current password."""
    return RotateCredentialsResponse(
        status="rotated",
        message="The database has a new password; the old one stopped working (sandbox)",
        internal_database_url=database_url(world, tenant),
        external_database_url=database_url(world, tenant, external=True),
    )


def provisioning_event(tenant: SandboxTenant, step: BuildStep) -> ProvisioningEvent:
    """A step as an event of the tenant's stream."""
    return ProvisioningEvent(
        tenant_id=tenant.id,
        event_type=step.event_type,
        status=step.status,
        message=step.message,
        app_url=app_url(tenant) if step.event_type is Event.TENANT_READY else None,
        fly_app_name=_fly_app(tenant, started=_machine_by(tenant, step)),
    )


def checkout_event(checkout: Checkout, tenant: SandboxTenant, step: BuildStep) -> CheckoutEvent:
    """A step as an event of the checkout's stream."""
    event = provisioning_event(tenant, step)
    return CheckoutEvent(
        checkout_session_id=checkout.id,
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        event_type=event.event_type,
        status=event.status,
        message=event.message,
        app_url=event.app_url,
        fly_app_name=event.fly_app_name,
    )


def _machine_by(tenant: SandboxTenant, step: BuildStep) -> bool:
    """Whether the tenant had a machine at this step."""
    return any(
        earlier.event_type is Event.VM_PROVISIONING_STARTED and earlier.number <= step.number
        for earlier in tenant.steps
    )
