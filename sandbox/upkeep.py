"""Work on a tenant whose infrastructure exists: images, restarts, secrets, rotations, its domain.

Like provisioning, nothing here runs in the background: an effect is a record of what begins now and of the moment it
will be over, and a later view (`views.py`) computes it from the clock. Each function either changes the world whole
or refuses with a `WireError` and changes nothing. One piece of work at a time: what is deploying is not restarted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from ..io.cloud.wire import ProvisioningEventType as Event
from .answers import WireError
from .provisioning import deployed
from .requests import MOST_SECRETS
from .state import Deployment, Domain, SandboxTenant, Work
from .world import World

DEPLOYING: Final = ("Pulling the image", "Starting a machine with the image", "Leading requests to the new machine")
RESTARTING: Final = ("The machine is restarting",)
DEPLOY_FAILURE: Final = "The image did not start (a scripted sandbox failure)"
VERIFICATION_STEPS: Final = 3
"""How many of the world's steps it takes until a domain's DNS record is found."""


def check_at_rest(world: World, tenant: SandboxTenant) -> None:
    """Refuse when there is nothing to work on yet, or work under way."""
    if not world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant is not ready yet")
    if tenant.work is not None and world.now() < tenant.work.until:
        raise WireError(409, "busy", f"the tenant is {tenant.work.word}; wait until that is over")


def _begin(
    world: World, tenant: SandboxTenant, word: str, messages: tuple[str, ...], failure: str | None = None
) -> float:
    until = world.now() + len(messages) * world.step_seconds
    tenant.work = Work(word, world.now(), until, messages, failure)
    return until


def deploy(world: World, tenant: SandboxTenant, image: str, *, fails: bool) -> None:
    """Begin to run an image; the first one makes a tenant ready that stopped at `infrastructure_ready`."""
    check_at_rest(world, tenant)
    until = _begin(world, tenant, "deploying", DEPLOYING, DEPLOY_FAILURE if fails else None)
    if not fails and all(step.event_type is not Event.TENANT_READY for step in tenant.steps):
        tenant.steps = deployed(tenant.steps, tenant.started, until)
    world.ledger.deployments.append(Deployment(tenant.id, image, succeeds=not fails))
    world.wake()


def restart(world: World, tenant: SandboxTenant) -> None:
    """Begin a restart of what runs."""
    check_at_rest(world, tenant)
    if not world.has_reached(tenant, Event.TENANT_READY):
        raise WireError(409, "nothing_runs", "the tenant runs no image yet; deploy one")
    _begin(world, tenant, "restarting", RESTARTING)


def retry_provision(world: World, tenant: SandboxTenant) -> None:
    """Continue a provisioning that failed."""
    if not world.has_reached(tenant, Event.PROVISIONING_FAILED):
        raise WireError(409, "nothing_to_retry", "the tenant's provisioning has not failed")
    world.provision_again(tenant)


def set_secrets(tenant: SandboxTenant, secrets: Mapping[str, str]) -> None:
    """Set secrets; those that are not named stay."""
    together = tenant.secrets | dict(secrets)
    if len(together) > MOST_SECRETS:
        raise WireError(409, "too_many_secrets", f"a tenant has at most {MOST_SECRETS} secrets; remove some first")
    tenant.secrets = together


def unset_secret(tenant: SandboxTenant, key: str) -> None:
    """Remove one secret."""
    if tenant.secrets.pop(key, None) is None:
        raise WireError(404, "secret_not_found", "the tenant has no secret of this name")


def rotate_credentials(world: World, tenant: SandboxTenant) -> None:
    """Give the database another password."""
    if not world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant has no database yet")
    tenant.passwords += 1


def rotate_sync_token(world: World, tenant: SandboxTenant) -> None:
    """Give the tenant another sync token."""
    if not world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant is not ready yet")
    tenant.sync_tokens += 1


def set_domain(world: World, tenant: SandboxTenant, name: str) -> bool:
    """Give the tenant a domain, in place of any it had; False when it has this one already."""
    name = name.lower()
    if tenant.domain is not None and tenant.domain.name == name:
        return False
    if any(other.domain is not None and other.domain.name == name for other in world.tenants.values()):
        raise WireError(409, "domain_taken", "another tenant has this domain")
    takes = VERIFICATION_STEPS * world.step_seconds
    tenant.domain = Domain(name, world.now() + takes, _stamp(world.wall()), _stamp(world.wall() + takes))
    return True


def delete_domain(tenant: SandboxTenant) -> None:
    """Take the tenant's domain away."""
    if tenant.domain is None:
        raise WireError(404, "domain_not_found", "the tenant has no domain of its own")
    tenant.domain = None


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
