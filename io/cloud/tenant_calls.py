"""The calls on a tenant that exists: images, secrets, credentials, its domain, deleting it.

`CloudApiClient` is made of these calls and of those in `api.py`; they are apart because nothing in a login, a purchase
or the wait for a tenant makes one of them.

Theory: a call is either one whose repetition leaves the tenant as the first try did (`delete_tenant`, `set_secrets`),
or one that acts each time it arrives (`restart_tenant`, `rotate_credentials`). The HTTP method says which (RFC 9110
section 9.2.2), and `http/transport.py` repeats accordingly. An `idempotency_key` makes the second kind repeatable too,
where the server honours it.

What a rotation or a token request answers is a secret and is known to the redactor before anybody sees it,
until the client is closed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...base.redaction import register_secret
from ..http.addresses import path_segment
from ..http.answers import keep_secret
from ..http.transport import Transport
from . import wire


class TenantCalls:
    """The calls under `/api/v1/tenants/{id}`. Errors are those every call raises (`api.py`)."""

    _transport: Transport
    _holder: str
    """Who holds the secrets that pass through the calls."""

    # --- images ----------------------------------------------------------------------------------------

    async def registry_token(self, tenant_id: str) -> wire.RegistryToken:
        """Ask for the right to push one image to the tenant's registry."""
        answer = await self._transport.call("GET", _path(tenant_id, "registry-token"))
        return keep_secret(answer.decode(wire.Data[wire.RegistryToken]).data, self._holder)

    async def deploy(self, tenant_id: str, image: str, *, idempotency_key: str | None = None) -> wire.DeployResponse:
        """Run an image on the tenant. The answer says that it was taken; `tenant_status` says when it runs.

        Args:
            tenant_id: The tenant.
            image: The image as the registry knows it, `registry/repository:tag`.
            idempotency_key: The same for every try at the same deployment; without one it is sent once.
        """
        body = wire.DeployRequest(image=image)
        answer = await self._transport.call("POST", _path(tenant_id, "deploy"), body=body, key=idempotency_key)
        return answer.decode(wire.Data[wire.DeployResponse]).data

    # --- running, and ending ---------------------------------------------------------------------------

    async def restart_tenant(self, tenant_id: str, *, idempotency_key: str | None = None) -> wire.StatusResponse:
        """Restart the tenant's machine; each arrival is a restart."""
        answer = await self._transport.call("POST", _path(tenant_id, "restart"), key=idempotency_key)
        return answer.decode(wire.StatusResponse)

    async def retry_provision(self, tenant_id: str, *, idempotency_key: str | None = None) -> wire.StatusResponse:
        """Let the cloud try again to build a tenant whose provisioning failed."""
        answer = await self._transport.call("POST", _path(tenant_id, "retry-provision"), key=idempotency_key)
        return answer.decode(wire.StatusResponse)

    async def delete_tenant(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        """Delete the tenant with its database and its data, for good."""
        await self._transport.call("DELETE", _path(tenant_id), key=idempotency_key)

    async def cancel_subscription(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        """End the tenant's subscription; what happens to the tenant then depends on the plan."""
        await self._transport.call("POST", _path(tenant_id, "subscription", "cancel"), key=idempotency_key)

    # --- its secrets and credentials -------------------------------------------------------------------

    async def list_secrets(self, tenant_id: str) -> list[str]:
        """List the names, never the values, of the tenant's secrets."""
        answer = await self._transport.call("GET", _path(tenant_id, "secrets"))
        return answer.decode(wire.ListSecretsResponse).keys

    async def set_secrets(
        self, tenant_id: str, secrets: Mapping[str, str], *, idempotency_key: str | None = None
    ) -> None:
        """Set secrets of the tenant; those not named stay as they are.

        Args:
            tenant_id: The tenant.
            secrets: Values by key.
            idempotency_key: The same for every try at the same change.
        """
        for value in secrets.values():
            register_secret(value, self._holder)
        body = wire.SetSecretsRequest(secrets=dict(secrets))
        await self._transport.call("PUT", _path(tenant_id, "secrets"), body=body, key=idempotency_key)

    async def unset_secret(self, tenant_id: str, key: str, *, idempotency_key: str | None = None) -> None:
        """Remove one secret of the tenant by its key."""
        await self._transport.call("DELETE", _path(tenant_id, "secrets", key), key=idempotency_key)

    async def rotate_credentials(
        self, tenant_id: str, *, idempotency_key: str | None = None
    ) -> wire.RotateCredentialsResponse:
        """Give the tenant's database a new password; the old database URLs stop working."""
        answer = await self._transport.call("POST", _path(tenant_id, "rotate-credentials"), key=idempotency_key)
        return keep_secret(answer.decode(wire.RotateCredentialsResponse), self._holder)

    async def rotate_sync_token(self, tenant_id: str, *, idempotency_key: str | None = None) -> str:
        """Give the tenant a new sync token and return it; the old one stops working."""
        answer = await self._transport.call("POST", _path(tenant_id, "rotate-sync-token"), key=idempotency_key)
        return keep_secret(answer.decode(wire.Data[wire.RotateSyncTokenResponse]).data, self._holder).sync_token

    # --- its domain ------------------------------------------------------------------------------------

    async def custom_domain(self, tenant_id: str) -> wire.CustomDomainResponse:
        """Ask for the tenant's own domain, and how far its verification is; a 404 when it has none."""
        answer = await self._transport.call("GET", _path(tenant_id, "custom-domain"))
        return answer.decode(wire.Data[wire.CustomDomainResponse]).data

    async def set_custom_domain(
        self, tenant_id: str, domain: str, *, idempotency_key: str | None = None
    ) -> wire.CustomDomainResponse:
        """Give the tenant a domain of the account's own; the answer says which DNS record to make.

        Args:
            tenant_id: The tenant.
            domain: The host name.
            idempotency_key: The same for every try at the same change; without one it is sent once.
        """
        body = wire.CustomDomainRequest(domain=domain)
        answer = await self._transport.call("POST", _path(tenant_id, "custom-domain"), body=body, key=idempotency_key)
        return answer.decode(wire.Data[wire.CustomDomainResponse]).data

    async def delete_custom_domain(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        """Take the tenant's own domain away; the cloud's stays."""
        await self._transport.call("DELETE", _path(tenant_id, "custom-domain"), key=idempotency_key)


def _path(tenant_id: str, *rest: str) -> str:
    return "/".join(["/api/v1/tenants", *map(path_segment, (tenant_id, *rest))])
