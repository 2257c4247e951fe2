"""What is done in each state of a provisioning.

In order: follow the event stream and ask for the status beside it; fetch the tenant's secrets into the vault; open the
database to the outside if that was asked for; read the tenant once more and store it. The table is
`machines/provisioning.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Literal

import msgspec
import trio
from typing_extensions import override

from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.texts import path_text
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import NotAuthenticated, UnsafeUrl
from ..io.cloud.api import CloudApiClient
from ..io.cloud.wire import ProvisioningEvent, TenantInfo, TenantSecrets, TenantStatus
from ..io.http.texts import shown, word
from ..io.local.tenants import StoredTenant, TenantType, external_database_url
from ..io.local.tenants_waiting import waiting_to_be_stored
from ..io.sse.decoder import EventStream, ServerSentEvent
from ..machines.parts.progress import (
    FAILED,
    INFRASTRUCTURE,
    READY,
    EndReported,
    ForeignEventDropped,
    StepObserved,
    untold,
)
from ..machines.parts.vocabulary import StillWorking
from ..machines.provisioning import (
    PROVISIONING,
    DatabaseNotOpened,
    DatabaseOpened,
    ProvisioningContext,
    ProvisioningFailed,
    SecretsFetched,
    SecretsNotFetched,
    TenantBecameReady,
    TenantSaved,
)
from .outside import Api, Timing
from .services import Services
from .steps.asking import API_FAILURES, Needed, pause_until_resumed, refusal, words_of
from .steps.counting import IN_A_ROW
from .steps.following import follow
from .steps.source import Agreed, Source, decode, id_of

logger = get_logger(__name__)

ProvisioningVisit = Visit[ProvisioningContext]
STREAM_EVENTS = frozenset({"provisioning", "message"})
SECRETS = "tenant_secrets"
NEEDED: Final[Needed] = {ProvisioningFailed: IN_A_ROW}
"""A failure counts when it was answered so often in a row: a replica may still tell of an earlier attempt."""

READY_STATUS = "ready"

LONGEST_ADDRESS = 2000
"""Characters of an address a server gives that are kept."""

SECRETS_SECONDS = 30.0
"""How long a tenant that is ready gets to name its secrets, and to hand them out."""

LISTED_SECONDS = 10.0
"""How long the API gets to list a tenant that is ready."""


def provisioning_program(services: Services) -> Program[ProvisioningContext]:
    """The provisioning machine with its activities."""
    doing = _Provisioning(services.cloud_api, services.timing, services.paths.tenants)
    return Program(
        PROVISIONING,
        {
            "awaiting_tenant": [doing.follow_tenant],
            "asking_once_more": [doing.ask_once_more],
            "overdue": [pause_until_resumed],
            "fetching_secrets": [doing.fetch_secrets],
            "opening_database": [doing.open_database],
            "saving_tenant": [doing.save_tenant],
        },
    )


async def start_provisioning(engine: Engine, context: ProvisioningContext) -> Flow:
    """Wait for a tenant, or resume the unfinished wait for the same one."""
    return await engine.start(PROVISIONING, context, key=f"{context.api_url}|{context.tenant_id}")


def reported(
    context: ProvisioningContext, step: str, message: str, source: Literal["stream", "polling"], event_id: str = ""
) -> Event:
    """What a stream's report of a step means: progress, or an end that the API has to be asked about."""
    step, message = word(step), shown(message)
    if step in {READY, FAILED} or step == INFRASTRUCTURE == context.until:
        return EndReported(step, message, event_id)
    return StepObserved(step, message, source, event_id)


def status_meaning(context: ProvisioningContext, status: TenantStatus) -> Event:
    """The event a status becomes: it has words of its own for the two ends."""
    step = {"ready": READY, "failed": FAILED}.get(status.status, status.status)
    message = shown(status.message)
    if step == FAILED:
        return ProvisioningFailed(message or "the server gave no reason")
    if step == READY or step == INFRASTRUCTURE == context.until:
        return TenantBecameReady(step, message, "polling", address(status.app_url))
    return StepObserved("", message, "polling")


def address(url: str | None) -> str:
    """An address a server gave, if it is no longer than addresses are."""
    return url if url is not None and len(url) <= LONGEST_ADDRESS else ""


class _TenantBeingBuilt(Source[ProvisioningContext]):
    def __init__(self, visit: ProvisioningVisit, timing: Timing, client: CloudApiClient) -> None:
        super().__init__(visit, timing)
        self._client = client
        self._agreed = Agreed()

    @override
    def open(self, after: str) -> AbstractAsyncContextManager[EventStream]:
        tenant, idle = self.context.tenant_id, self.timing.idle_seconds
        return self._client.tenant_events(tenant, last_event_id=after or None, idle_timeout=idle)

    @override
    def interpret(self, sse: ServerSentEvent) -> Sequence[Event] | None:
        if (event := decode(sse, STREAM_EVENTS, ProvisioningEvent)) is None:
            return None
        if event.tenant_id not in {"", self.context.tenant_id}:
            named = word(event.tenant_id)
            return [ForeignEventDropped(named, f"an event of the stream names the tenant {named}; it was dropped")]
        return [reported(self.context, event.event_type, event.message or "", "stream", id_of(sse))]

    @override
    async def ask(self) -> Event:
        context = self.context
        event = status_meaning(context, await self._client.tenant_status(context.tenant_id))
        working = isinstance(event, StepObserved)
        if self._agreed.takes(working and context.reported == INFRASTRUCTURE == context.until):
            return TenantBecameReady(INFRASTRUCTURE, "", "polling")
        return event


class _Provisioning:
    def __init__(self, api: Api, timing: Timing, tenants: Path) -> None:
        self.api = api
        self.timing = timing
        self.tenants = tenants

    async def _source(self, visit: ProvisioningVisit) -> _TenantBeingBuilt:
        return _TenantBeingBuilt(visit, self.timing, await self.api.of(visit))

    async def follow_tenant(self, visit: ProvisioningVisit) -> Event:
        return await follow(await self._source(visit), NEEDED)

    async def ask_once_more(self, visit: ProvisioningVisit) -> Event:
        try:
            event = await (await self._source(visit)).ask()
        except API_FAILURES as exc:
            return StillWorking(exc.user_message)
        if isinstance(event, TenantBecameReady):
            return untold(visit.context, event)
        return StillWorking(words_of(event))

    async def fetch_secrets(self, visit: ProvisioningVisit) -> Event:
        context = visit.context
        reference = f"vault:{SECRETS}"
        # Fetched before an interruption: the server may give them only once.
        fetched = visit.resumed and await visit.holds(reference)
        api = await self.api.of(visit)
        reason, refused, named = f"{context.api_url} did not answer within {SECRETS_SECONDS:g} s", 0, False
        with trio.move_on_after(SECRETS_SECONDS):
            while True:
                try:
                    status = await api.tenant_status(context.tenant_id)
                    app_url = address(status.app_url)
                    if fetched:
                        return SecretsFetched(reference, app_url)
                    named = named or status.secrets_url is not None
                    if status.secrets_url is not None:
                        secrets = await api.tenant_secrets(status.secrets_url)
                        kept = await visit.keep(SECRETS, msgspec.json.encode(secrets).decode())
                        return SecretsFetched(kept, app_url)
                    if status.status == READY_STATUS:
                        return SecretsFetched("", app_url)
                    reason = "the status names no address for them"
                except UnsafeUrl as exc:
                    return SecretsNotFetched(exc.user_message)
                except API_FAILURES as exc:
                    reason = exc.user_message
                    # Each time with the address the status names then: the one before may have expired.
                    refused += refusal(exc) is not None
                    if refused >= IN_A_ROW:
                        return SecretsNotFetched(reason)
                await trio.sleep(self.timing.poll_seconds)
        # A tenant that waits for its first image may have none; one that was named and not had is missing.
        none_yet = context.until != READY and not named
        return SecretsFetched("", context.app_url) if none_yet else SecretsNotFetched(reason)

    async def open_database(self, visit: ProvisioningVisit) -> Event:
        api = await self.api.of(visit)
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
        info = await self._listed(visit)
        if info is not None:
            tenant = StoredTenant.from_tenant_info(info)
        else:
            name = context.tenant_name or context.tenant_id
            tenant = StoredTenant(id=context.tenant_id, name=name, tenant_type=TenantType.CLOUD)
        if context.secrets:
            secrets = msgspec.json.decode(await visit.reveal(context.secrets), type=TenantSecrets)
            tenant = with_secrets(tenant, secrets)
        await visit.announce("save_tenant")
        with waiting_to_be_stored(self.tenants, tenant, visit.clock.now()) as store:
            await visit.on_disk(store)
        return TenantSaved(tenant.name, path_text(self.tenants))

    async def _listed(self, visit: ProvisioningVisit) -> TenantInfo | None:
        """What the API lists about the tenant; None when it runs and is not listed."""
        api, tenant_id = await self.api.of(visit), visit.context.tenant_id
        with trio.move_on_after(LISTED_SECONDS):
            while True:
                try:
                    tenants = (await api.me()).tenants
                    if (info := next((each for each in tenants if each.id == tenant_id), None)) is not None:
                        return info
                except API_FAILURES as exc:
                    logger.info("the tenant could not be read: %s", exc)
                await trio.sleep(self.timing.poll_seconds)
        logger.warning("%s does not list the tenant %s, which runs", visit.context.api_url, tenant_id)
        return None


def with_secrets(tenant: StoredTenant, secrets: TenantSecrets) -> StoredTenant:
    """A tenant with its credentials; the outside database address only when the database is open to the outside."""
    outside = external_database_url(secrets.database_url, tenant.hostname) if tenant.external_db_access else None
    return msgspec.structs.replace(
        tenant,
        internal_database_url=secrets.internal_database_url,
        database_url=outside,
        sync_token=secrets.sync_token,
    )
