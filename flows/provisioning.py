"""What is done in each state of a provisioning.

In order: follow the event stream, or poll while it is away; fetch the tenant's secrets into the vault; open the
database to the outside if that was asked for; read the tenant once more and store it. The table is
`machines/provisioning.py`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import msgspec
import trio
from typing_extensions import override

from ..base.errors import CloudError
from ..base.redaction import redact
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import NotAuthenticated, TenantNotFound
from ..io.cloud.api import CloudApiClient
from ..io.cloud.wire import ProvisioningEvent, TenantSecrets, TenantStatus
from ..io.local.tenants import StoredTenant, external_database_url, store_tenant
from ..io.sse.decoder import EventStream, ServerSentEvent
from ..machines.parts.vocabulary import StillWorking
from ..machines.parts.watching import StepObserved, untold
from ..machines.provisioning import (
    FAILED,
    INFRASTRUCTURE,
    PROVISIONING,
    READY,
    DatabaseNotOpened,
    DatabaseOpened,
    ProvisioningContext,
    ProvisioningFailed,
    SecretsFetched,
    TenantBecameReady,
    TenantSaved,
)
from .outside import Api, Timing
from .services import Services
from .steps.following import Following, ended_by_refusal
from .steps.source import Source
from .steps.streaming import decode
from .steps.watching import stand_by

ProvisioningVisit = Visit[ProvisioningContext]
STREAM_EVENTS = frozenset({"provisioning", "message"})
SECRETS = "tenant_secrets"

SECRETS_SECONDS = 30.0
"""How long a tenant whose infrastructure is ready, and which still waits for an image, gets to name its secrets."""


def provisioning_program(services: Services) -> Program[ProvisioningContext]:
    """The provisioning machine with its activities."""
    doing = _Provisioning(services.cloud_api, services.timing, services.paths.tenants)
    return Program(
        PROVISIONING,
        {
            "streaming": [doing.watch_events],
            "polling": [doing.poll_status],
            "asking_once_more": [doing.ask_once_more],
            "overdue": [stand_by],
            "fetching_secrets": [doing.fetch_secrets],
            "opening_database": [doing.open_database],
            "saving_tenant": [doing.save_tenant],
        },
    )


async def start_provisioning(engine: Engine, context: ProvisioningContext) -> Flow:
    """Wait for a tenant, or resume the unfinished wait for the same one."""
    return await engine.start(PROVISIONING, context, key=f"{context.api_url}|{context.tenant_id}")


def meaning(
    context: ProvisioningContext,
    step: str,
    message: str,
    source: Literal["stream", "polling"],
    *,
    event_id: str = "",
    app_url: str = "",
) -> Event:
    """The event an observation of the server's work becomes, whoever made it."""
    message = redact(message)  # the server's words are journaled and shown; a secret in them is not
    if step == FAILED:
        return ProvisioningFailed(message or "the server gave no reason")
    if step == READY or (step == INFRASTRUCTURE and context.until == INFRASTRUCTURE):
        return TenantBecameReady(step, message, source, event_id, app_url)
    return StepObserved(step, message, source, event_id, context.tenant_id)


def status_meaning(context: ProvisioningContext, status: TenantStatus) -> Event:
    """The event a polled status becomes: it has words of its own for the two ends."""
    step = {"ready": READY, "failed": FAILED}.get(status.status, status.status)
    known = step in {READY, FAILED} or (step == INFRASTRUCTURE == context.until)
    return meaning(context, step if known else "", status.message or "", "polling", app_url=status.app_url or "")


class _TenantBeingBuilt(Source[ProvisioningContext]):
    def __init__(self, visit: ProvisioningVisit, timing: Timing, client: CloudApiClient) -> None:
        super().__init__(visit, timing)
        self._client = client

    @override
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        tenant, idle = self.context.tenant_id, self.timing.idle_seconds
        return self._client.tenant_events(tenant, last_event_id=after or None, idle_timeout=idle)

    @override
    def interpret(self, sse: ServerSentEvent) -> Event | None:
        if (event := decode(sse, STREAM_EVENTS, ProvisioningEvent)) is None:
            return None
        said, app_url = event.message or "", event.app_url or ""
        return meaning(self.context, event.event_type, said, "stream", event_id=sse.id, app_url=app_url)

    @override
    async def ask(self) -> Event:
        context = self.context
        return status_meaning(context, await self._client.tenant_status(context.tenant_id))


class _Provisioning(Following[ProvisioningContext]):
    def __init__(self, api: Api, timing: Timing, tenants: Path) -> None:
        self.api = api
        self.timing = timing
        self.tenants = tenants

    async def _client(self, visit: ProvisioningVisit) -> CloudApiClient:
        return await self.api.as_user(visit.context.api_url)

    @override
    async def source(self, visit: ProvisioningVisit) -> _TenantBeingBuilt:
        return _TenantBeingBuilt(visit, self.timing, await self._client(visit))

    @ended_by_refusal
    async def ask_once_more(self, visit: ProvisioningVisit) -> Event:
        event = await (await self.source(visit)).ask()
        return StillWorking(event.message) if isinstance(event, StepObserved) else untold(visit.context, event)

    @ended_by_refusal
    async def fetch_secrets(self, visit: ProvisioningVisit) -> Event:
        context = visit.context
        reference = f"vault:{SECRETS}"
        # Fetched before an interruption: the server may give them only once.
        fetched = visit.resumed and await visit.holds(reference)
        api = await self._client(visit)
        status = await self._status_with_secrets(api, context.tenant_id)
        app_url = status.app_url or ""
        if fetched:
            return SecretsFetched(reference, app_url)
        if status.secrets_url is None:
            return SecretsFetched("", app_url)
        secrets = await api.tenant_secrets(status.secrets_url)
        return SecretsFetched(await visit.keep(SECRETS, msgspec.json.encode(secrets).decode()), app_url)

    async def _status_with_secrets(self, api: CloudApiClient, tenant_id: str) -> TenantStatus:
        """The status that names the secrets; one that does not, once the tenant is ready or the time is up."""
        with trio.move_on_after(SECRETS_SECONDS):
            while True:
                status = await api.tenant_status(tenant_id)
                if status.secrets_url is not None or status.status == "ready":
                    return status
                await trio.sleep(self.timing.poll_seconds)
        return await api.tenant_status(tenant_id)

    async def open_database(self, visit: ProvisioningVisit) -> Event:
        api = await self._client(visit)
        intent = await visit.announce("open_database")
        try:
            await api.set_external_db_access(visit.context.tenant_id, True, idempotency_key=intent.key)
        except NotAuthenticated:
            raise
        except CloudError as exc:
            return DatabaseNotOpened(exc.user_message)
        return DatabaseOpened()

    async def save_tenant(self, visit: ProvisioningVisit) -> Event:
        context = visit.context
        api = await self._client(visit)
        me = await api.me()
        info = next((tenant for tenant in me.tenants if tenant.id == context.tenant_id), None)
        if info is None:
            raise TenantNotFound(f"{context.api_url} does not list the tenant {context.tenant_id} for {me.user.email}")
        tenant = StoredTenant.from_tenant_info(info)
        if context.secrets:
            secrets = msgspec.json.decode(await visit.reveal(context.secrets), type=TenantSecrets)
            tenant = with_secrets(tenant, secrets)
        await visit.announce("save_tenant")
        await visit.on_disk(store_tenant, self.tenants, tenant, visit.clock.now())
        return TenantSaved(tenant.name, str(self.tenants))


def with_secrets(tenant: StoredTenant, secrets: TenantSecrets) -> StoredTenant:
    """A tenant with its credentials; the outside database address only when the database is open to the outside."""
    outside = external_database_url(secrets.database_url, tenant.hostname) if tenant.external_db_access else None
    return msgspec.structs.replace(
        tenant,
        internal_database_url=secrets.internal_database_url,
        database_url=outside,
        sync_token=secrets.sync_token,
    )
