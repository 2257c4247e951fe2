"""The API of the local cloud: the calls of docs/reference/wire.md as one table.

The router (`app.py`) answers what stands here and nothing else, and the description at `/openapi.json` (`openapi.py`)
is made from the same rows. The handlers are in `account_calls.py` and `tenant_calls.py`.
"""

from __future__ import annotations

from typing import Final

from ..io.cloud.wire import (
    AuthorizeResponse,
    CheckoutEvent,
    CheckoutResponse,
    CustomDomainResponse,
    Data,
    DeployResponse,
    ExternalDbAccessResponse,
    ListSecretsResponse,
    Plan,
    ProvisioningEvent,
    RegistryToken,
    RotateCredentialsResponse,
    RotateSyncTokenResponse,
    StatusResponse,
    Tenant,
    TenantSecrets,
    TenantStatus,
    UserMeResponse,
)
from . import account_calls as account
from . import tenant_calls as tenant
from .call import ApiCall
from .redirects import LONGEST, REDIRECT_URI
from .requests import (
    ActivityRequest,
    CheckoutRequest,
    CustomDomainRequest,
    DeployRequest,
    ExternalDbAccessRequest,
    SetSecretsRequest,
)

_REDIRECT: Final[dict[str, object]] = {"type": "string", "pattern": REDIRECT_URI, "maxLength": LONGEST}
_TENANT: Final = "/api/v1/tenants/{id}"

API: Final = (
    ApiCall(
        "GET",
        "/api/v1/auth/oauth/{provider}",
        account.authorize,
        gives=AuthorizeResponse,
        query={"redirect_uri": _REDIRECT},
        token=False,
    ),
    ApiCall("GET", "/api/v1/auth/me", account.me, gives=UserMeResponse),
    ApiCall("GET", "/api/v1/tenants", account.tenants, gives=Data[list[Tenant]]),
    ApiCall("GET", "/api/v1/checkout/plans", account.plans, gives=list[Plan]),
    ApiCall("POST", "/api/v1/checkout", account.create_checkout, takes=CheckoutRequest, gives=CheckoutResponse),
    ApiCall("GET", "/api/v1/checkout/{id}/events", account.checkout_events, gives=CheckoutEvent, stream=True),
    ApiCall("POST", "/api/v1/activity", account.report_activity, takes=ActivityRequest),
    ApiCall("GET", f"{_TENANT}/events", tenant.tenant_events, gives=ProvisioningEvent, stream=True),
    ApiCall("GET", f"{_TENANT}/status", tenant.tenant_status, gives=Data[TenantStatus]),
    ApiCall("GET", f"{_TENANT}/provisioned-secrets", tenant.tenant_secrets, gives=TenantSecrets, conflicts=True),
    ApiCall("GET", f"{_TENANT}/registry-token", tenant.registry_token, gives=Data[RegistryToken], conflicts=True),
    ApiCall(
        "POST", f"{_TENANT}/deploy", tenant.deploy, takes=DeployRequest, gives=Data[DeployResponse], conflicts=True
    ),
    ApiCall("DELETE", _TENANT, tenant.delete_tenant),
    ApiCall("POST", f"{_TENANT}/restart", tenant.restart_tenant, gives=StatusResponse, conflicts=True),
    ApiCall("POST", f"{_TENANT}/retry-provision", tenant.retry_provision, gives=StatusResponse, conflicts=True),
    ApiCall("PUT", f"{_TENANT}/secrets", tenant.set_secrets, takes=SetSecretsRequest, conflicts=True),
    ApiCall("GET", f"{_TENANT}/secrets", tenant.list_secrets, gives=ListSecretsResponse),
    ApiCall("DELETE", f"{_TENANT}/secrets/{{key}}", tenant.unset_secret),
    ApiCall(
        "PUT",
        f"{_TENANT}/external-db-access",
        tenant.set_external_db_access,
        takes=ExternalDbAccessRequest,
        gives=Data[ExternalDbAccessResponse],
        conflicts=True,
    ),
    ApiCall(
        "POST",
        f"{_TENANT}/rotate-credentials",
        tenant.rotate_credentials,
        gives=RotateCredentialsResponse,
        conflicts=True,
    ),
    ApiCall(
        "POST",
        f"{_TENANT}/rotate-sync-token",
        tenant.rotate_sync_token,
        gives=Data[RotateSyncTokenResponse],
        conflicts=True,
    ),
    ApiCall(
        "POST",
        f"{_TENANT}/custom-domain",
        tenant.set_custom_domain,
        takes=CustomDomainRequest,
        gives=Data[CustomDomainResponse],
        conflicts=True,
    ),
    ApiCall("GET", f"{_TENANT}/custom-domain", tenant.custom_domain, gives=Data[CustomDomainResponse]),
    ApiCall("DELETE", f"{_TENANT}/custom-domain", tenant.delete_custom_domain),
    ApiCall("POST", f"{_TENANT}/subscription/cancel", tenant.cancel_subscription),
)
