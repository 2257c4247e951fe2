r"""Provisioning: from a tenant's id to a running tenant stored on this machine.

Theory
------
The server does the work; we watch. The event stream is the source while it lives (`streaming`). When it breaks, ends
or falls silent, the machine says so and polling answers at once (`polling`) while the stream is tried again beside it;
when the stream is back, polling stops. Neither source is trusted to be complete: `parts/watching.py` combines both
into one story.

When the time is up the server is asked one last time (`asking_once_more`): a laptop that was asleep through the
deadline must not declare a tenant dead that has been ready for an hour. And a tenant that is still being built is not
given up: it is paid for. The flow waits in `overdue` until a person resumes or cancels it.

A ready tenant has secrets. They are fetched into the vault, the database is opened to the outside if that was asked
for (a refusal is a warning, the tenant still runs), and the tenant is stored.

    streaming <-> polling -> fetching_secrets -> (opening_database) -> saving_tenant -> ready
         \          |
          asking_once_more -> overdue -> streaming          and the other ends: failed, cancelled
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
from .parts.vocabulary import StillWorking, cancelled, explained
from .parts.watching import (
    POLLING,
    STREAM,
    AccessRefused,
    StepObserved,
    StreamLost,
    StreamReturned,
    WaitResumed,
    WatchingContext,
    lose_stream,
    observe,
    refuse_access,
    regain_stream,
    wait_on,
)

READY: Final = "tenant_ready"
INFRASTRUCTURE: Final = "infrastructure_ready"
FAILED: Final = "provisioning_failed"


class ProvisioningContext(WatchingContext, frozen=True, kw_only=True):
    """What a provisioning knows. `secrets` is a reference to the vault."""

    api_url: str
    tenant_id: str
    until: Literal["tenant_ready", "infrastructure_ready"] = "tenant_ready"
    external_db: bool = False
    timeout: float = 600.0
    app_url: str = ""
    secrets: str = ""
    warning: str = ""
    tenant_name: str = ""
    tenants_path: str = ""


class TenantBecameReady(Event, frozen=True):
    """The tenant answers, or is as far as it can come before an image is deployed."""

    step: str
    message: str
    source: Literal["stream", "polling"]
    event_id: str = ""
    app_url: str = ""


class ProvisioningFailed(Event, frozen=True):
    """The server gave up on the tenant."""

    problem: str


class SecretsFetched(Event, frozen=True):
    """The tenant's secrets are in the vault; an empty reference means the server offers none.

    An address means that the tenant answers by now, even if only its infrastructure was waited for.
    """

    secrets: str
    app_url: str = ""


class DatabaseOpened(Event, frozen=True):
    """The database can be reached from outside."""


class DatabaseNotOpened(Event, frozen=True):
    """The database stays closed to the outside; the tenant runs all the same."""

    reason: str


class TenantSaved(Event, frozen=True):
    """The tenant is in tenants.json."""

    name: str
    path: str


def _ready(context: ProvisioningContext, event: TenantBecameReady) -> ProvisioningContext:
    seen = observe(context, StepObserved(event.step, event.message, event.source, event.event_id))
    return msgspec.structs.replace(seen, app_url=event.app_url or context.app_url)


def _gave_up(context: ProvisioningContext, event: StillWorking) -> ProvisioningContext:
    said = f"; the last word was: {event.message}" if event.message else ""
    return msgspec.structs.replace(context, problem=f"not ready within {context.timeout:g} s{said}")


def _fetched(context: ProvisioningContext, event: SecretsFetched) -> ProvisioningContext:
    return msgspec.structs.replace(context, secrets=event.secrets, app_url=event.app_url or context.app_url)


def _not_opened(context: ProvisioningContext, event: DatabaseNotOpened) -> ProvisioningContext:
    return msgspec.structs.replace(context, warning=event.reason, external_db=False)


def _stored(context: ProvisioningContext, event: TenantSaved) -> ProvisioningContext:
    return msgspec.structs.replace(context, tenant_name=event.name, tenants_path=event.path)


def database_is_wanted_outside(context: ProvisioningContext, _event: SecretsFetched) -> bool:
    """The database should be reachable from outside."""
    return context.external_db


def _result(context: ProvisioningContext) -> dict[str, object]:
    return {
        "tenant_id": context.tenant_id,
        "tenant_name": context.tenant_name,
        "app_url": context.app_url,
        "needs_deploy": context.until != READY and not context.app_url,
        "external_db_access": context.external_db,
        "warning": context.warning,
        "tenants": context.tenants_path,
    }


PROVISIONING: Final = Machine(
    "provisioning",
    version=1,
    known_as=["98c5d82f3e6bb6d8"],  # release 0.1.0
    initial="streaming",
    context=ProvisioningContext,
    result=_result,
    states=[
        State("streaming", "following the event stream", timeout="timeout", late="continue", tags=(STREAM,)),
        State(
            "polling",
            "asking for the status, the stream is away",
            timeout="timeout",
            late="continue",
            tags=(POLLING,),
        ),
        State("asking_once_more", "the time is up: asking one last time"),
        State("overdue", "not ready in time: resume to wait longer"),
        State("fetching_secrets", "fetching the tenant's secrets"),
        State(
            "opening_database",
            "opening the database to the outside",
            effect="turns external database access on",
            resume=ResumePolicy.RETRY,
        ),
        State("saving_tenant", "storing the tenant", effect="writes tenants.json", resume=ResumePolicy.RETRY),
        State("ready", "the tenant is ready and stored", verdict=Verdict.SUCCESS),
        State("failed", "the tenant could not be provisioned", verdict=Verdict.FAILURE),
        State("cancelled", "the wait was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        *(
            row
            for source in ("streaming", "polling")
            for row in (
                on(StepObserved, source, STAY, update=observe),
                on(TenantBecameReady, source, "fetching_secrets", update=_ready),
                on(ProvisioningFailed, source, "failed", update=explained),
                on(AccessRefused, source, "failed", update=refuse_access),
                on(DeadlinePassed, source, "asking_once_more"),
            )
        ),
        on(StreamLost, "streaming", "polling", update=lose_stream),
        on(StreamLost, "polling", STAY, update=lose_stream),
        on(StreamReturned, "polling", "streaming", update=regain_stream),
        on(TenantBecameReady, "asking_once_more", "fetching_secrets", update=_ready),
        on(ProvisioningFailed, "asking_once_more", "failed", update=explained),
        on(AccessRefused, "asking_once_more", "failed", update=refuse_access),
        on(StillWorking, "asking_once_more", "overdue", update=_gave_up),
        on(WaitResumed, "overdue", "streaming", update=wait_on),
        on(
            SecretsFetched,
            "fetching_secrets",
            "opening_database",
            when=database_is_wanted_outside,
            update=_fetched,
        ),
        on(SecretsFetched, "fetching_secrets", "saving_tenant", update=_fetched),
        on(AccessRefused, "fetching_secrets", "failed", update=refuse_access),
        on(DatabaseOpened, "opening_database", "saving_tenant"),
        on(DatabaseNotOpened, "opening_database", "saving_tenant", update=_not_opened),
        on(TenantSaved, "saving_tenant", "ready", update=_stored),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
