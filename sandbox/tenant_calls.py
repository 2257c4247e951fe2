"""The calls about one tenant of the caller: what it is, and what is done to it (`upkeep.py`)."""

from __future__ import annotations

from starlette.responses import Response

from ..io.cloud.wire import Data, DeployResponse, ListSecretsResponse, RotateSyncTokenResponse, StatusResponse
from . import upkeep, views
from .answers import WireError, json_answer, no_content
from .call import Call
from .requests import CustomDomainRequest, DeployRequest, ExternalDbAccessRequest, SetSecretsRequest
from .streams import StreamAnswer, last_event_id, tenant_feed


def _done(call: Call, name: str) -> None:
    call.world.ledger.changes[name] += 1


def tenant_events(call: Call) -> Response:
    """What happens to a tenant, as it happens."""
    feed = tenant_feed(call.path, call.tenant)
    return StreamAnswer(call.world, feed, last_event_id(call.headers.get("last-event-id")))


def tenant_status(call: Call) -> Response:
    """How far a tenant is."""
    return json_answer(Data(data=views.tenant_status(call.world, call.tenant)))


def tenant_secrets(call: Call) -> Response:
    """The secrets a tenant was provisioned with."""
    if call.world.faults.active("secrets-once") is not None and call.tenant.id in call.world.secrets_given:
        raise WireError(410, "gone", "the secrets were given out already (a scripted sandbox fault)")
    answer = json_answer(views.tenant_secrets(call.world, call.tenant))
    call.world.secrets_given.add(call.tenant.id)
    return answer


def registry_token(call: Call) -> Response:
    """The right to push one image to the tenant's repository."""
    tenant = call.tenant
    if not call.world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant has no repository yet")
    return json_answer(Data(data=views.registry_token(call.world, tenant)))


def deploy(call: Call) -> Response:
    """Run an image."""
    wanted, tenant, world = call.read(DeployRequest), call.tenant, call.world
    upkeep.check_at_rest(world, tenant)
    upkeep.deploy(world, tenant, wanted.image, fails=world.faults.strike("deploy-failure", call.path) is not None)
    _done(call, "deploy")
    return json_answer(
        Data(data=DeployResponse(status="deploying", app_url=views.tenant_status(world, tenant).app_url))
    )


def delete_tenant(call: Call) -> Response:
    """Delete a tenant with all its data."""
    call.world.delete(call.tenant)
    _done(call, "delete_tenant")
    return no_content()


def restart_tenant(call: Call) -> Response:
    """Restart a tenant's machine."""
    upkeep.restart(call.world, call.tenant)
    _done(call, "restart_tenant")
    return json_answer(StatusResponse(status="restarting"))


def retry_provision(call: Call) -> Response:
    """Try a failed provisioning again."""
    upkeep.retry_provision(call.world, call.tenant)
    _done(call, "retry_provision")
    return json_answer(StatusResponse(status="provisioning"))


def set_secrets(call: Call) -> Response:
    """Set secrets; those not named stay as they are."""
    wanted = call.read(SetSecretsRequest)
    upkeep.set_secrets(call.tenant, wanted.secrets)
    _done(call, "set_secrets")
    return no_content()


def list_secrets(call: Call) -> Response:
    """The names, never the values, of a tenant's secrets."""
    return json_answer(ListSecretsResponse(keys=sorted(call.tenant.secrets)))


def unset_secret(call: Call) -> Response:
    """Remove one secret."""
    upkeep.unset_secret(call.tenant, call.ids["key"])
    _done(call, "unset_secret")
    return no_content()


def set_external_db_access(call: Call) -> Response:
    """Open or close a tenant's database to the outside."""
    wanted, tenant = call.read(ExternalDbAccessRequest), call.tenant
    if not call.world.has_infrastructure(tenant):
        raise WireError(409, "not_ready", "the tenant has no database yet")
    tenant.external_db_access = wanted.enabled
    _done(call, "set_external_db_access")
    return json_answer(Data(data=views.external_db_access(call.world, tenant)))


def rotate_credentials(call: Call) -> Response:
    """Give a tenant's database a new password."""
    tenant = call.tenant
    upkeep.rotate_credentials(call.world, tenant)
    _done(call, "rotate_credentials")
    return json_answer(views.rotated_credentials(call.world, tenant))


def rotate_sync_token(call: Call) -> Response:
    """Give a tenant a new sync token."""
    tenant = call.tenant
    upkeep.rotate_sync_token(call.world, tenant)
    _done(call, "rotate_sync_token")
    return json_answer(Data(data=RotateSyncTokenResponse(sync_token=views.sync_token(call.world, tenant))))


def set_custom_domain(call: Call) -> Response:
    """Give a tenant a domain of its own."""
    wanted, tenant = call.read(CustomDomainRequest), call.tenant
    if upkeep.set_domain(call.world, tenant, wanted.domain):
        _done(call, "set_custom_domain")
    return json_answer(Data(data=views.custom_domain(call.world, tenant)))


def custom_domain(call: Call) -> Response:
    """A tenant's own domain, and how far its verification is."""
    return json_answer(Data(data=views.custom_domain(call.world, call.tenant)))


def delete_custom_domain(call: Call) -> Response:
    """Take a tenant's own domain away."""
    upkeep.delete_domain(call.tenant)
    _done(call, "delete_custom_domain")
    return no_content()


def cancel_subscription(call: Call) -> Response:
    """End a tenant's subscription; the tenant itself stays until it is deleted."""
    tenant = call.tenant
    if tenant.subscribed:  # cancelling what is cancelled is what was asked for
        tenant.subscribed = False
        _done(call, "cancel_subscription")
    return no_content()
