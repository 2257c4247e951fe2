r"""Provisioning: from a tenant's id to a running tenant stored on this machine.

Theory
------
The server does the work; the flow follows it (`awaiting_tenant`) by the tenant's event stream and by asking for its
status, side by side (`parts/progress.py`). The stream tells progress. Whether the tenant is ready, failed, or not ours
is the status call's word alone: what the stream says about the end is recorded (`EndReported`) and asked about, and a
failure or refusal counts when it was answered several times in a row (`flows/steps/asking.py`).

One step is the stream's word: that a tenant which waits for its first image is as far as it can come without one
(`until="infrastructure_ready"`). A status may have no other word for that than "still working", so the report counts
when the status answers so several times in a row after it; "failed", a refusal and silence are no agreement. What hangs
on it is little: the tenant is stored as one that nothing was deployed to.

When the time is up the server is asked one last time (`asking_once_more`): a laptop that was asleep through the
deadline must not lose a tenant that has been ready for an hour. Whatever that leaves open is not given up, because it
is paid for: the flow waits in `overdue` until a person resumes or cancels it.

A ready tenant is stored. Its secrets are fetched into the vault first, and the database is opened to the outside if
that was asked for. Neither decides about the tenant: what fails there becomes a warning.

    awaiting_tenant -> fetching_secrets -> (opening_database) -> saving_tenant -> ready
       |       ^
       asking_once_more -> overdue                             and the other ends: failed, cancelled
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.migrations import Migration
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
from .parts.defaults import TENANT_SECONDS
from .parts.progress import (
    READY,
    AccessRefused,
    EndReported,
    ForeignEventDropped,
    ProgressContext,
    StatusNotAnswered,
    StepObserved,
    StreamLost,
    StreamReturned,
    WaitResumed,
    note_end,
    note_foreign,
    observe,
    refuse_access,
    resume_wait,
)
from .parts.vocabulary import StillWorking, cancelled, explained


class ProvisioningContext(ProgressContext, frozen=True, kw_only=True):
    """What a provisioning knows. `secrets` is a reference to the vault.

    Attributes:
        warning: What did not work although the tenant runs.
        secrets_missing: The tenant's secrets could not be fetched.
    """

    api_url: str
    tenant_id: str
    until: Literal["tenant_ready", "infrastructure_ready"] = "tenant_ready"
    external_db: bool = False
    timeout: float = TENANT_SECONDS
    app_url: str = ""
    secrets: str = ""
    warning: str = ""
    secrets_missing: bool = False
    tenant_name: str = ""
    tenants_path: str = ""


class TenantBecameReady(Event, frozen=True):
    """The API answers that the tenant runs, or is as far as it can come before an image is deployed."""

    step: str
    message: str
    source: Literal["stream", "polling"]
    app_url: str = ""


class ProvisioningFailed(Event, frozen=True):
    """The API answers that it gave up on the tenant."""

    problem: str


class SecretsFetched(Event, frozen=True):
    """The tenant's secrets are in the vault; an empty reference means the server offers none.

    An address means that the tenant answers by now, even if only its infrastructure was waited for.
    """

    secrets: str
    app_url: str = ""


class SecretsNotFetched(Event, frozen=True):
    """The tenant's secrets could not be had; the tenant runs all the same."""

    reason: str


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
    seen = observe(context, StepObserved(event.step, event.message, event.source))
    return msgspec.structs.replace(seen, app_url=event.app_url or context.app_url, problem="")


def _gave_up(context: ProvisioningContext, event: StillWorking) -> ProvisioningContext:
    last = f"; last message: {event.message}" if event.message else ""
    return msgspec.structs.replace(context, problem=f"not ready within {context.timeout:g} s{last}")


def _fetched(context: ProvisioningContext, event: SecretsFetched) -> ProvisioningContext:
    return msgspec.structs.replace(context, secrets=event.secrets, app_url=event.app_url or context.app_url)


def _warned(context: ProvisioningContext, warning: str) -> ProvisioningContext:
    both = f"{context.warning}; {warning}" if context.warning else warning
    return msgspec.structs.replace(context, warning=both)


def _not_fetched(context: ProvisioningContext, event: SecretsNotFetched) -> ProvisioningContext:
    missing = msgspec.structs.replace(context, secrets_missing=True)
    return _warned(missing, f"the tenant's secrets could not be fetched: {event.reason}")


def _not_opened(context: ProvisioningContext, event: DatabaseNotOpened) -> ProvisioningContext:
    closed = msgspec.structs.replace(context, external_db=False)
    return _warned(closed, f"the database is not open to the outside: {event.reason}")


def _stored(context: ProvisioningContext, event: TenantSaved) -> ProvisioningContext:
    return msgspec.structs.replace(context, tenant_name=event.name, tenants_path=event.path)


def database_is_wanted_outside(context: ProvisioningContext, _event: SecretsFetched | SecretsNotFetched) -> bool:
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
        "secrets_missing": context.secrets_missing,
        "tenants": context.tenants_path,
    }


PROVISIONING: Final = Machine(
    "provisioning",
    version=2,
    known_as=["e5eee7b1384fa7d5"],  # without the brief reasons of lost streams
    migrations=[Migration(1, states={"streaming": "awaiting_tenant", "polling": "awaiting_tenant"})],
    initial="awaiting_tenant",
    course=("awaiting_tenant", "fetching_secrets", "saving_tenant", "ready"),
    context=ProvisioningContext,
    result=_result,
    states=[
        State("awaiting_tenant", "waiting for the tenant", timeout="timeout", late="continue"),
        State("asking_once_more", "the time is up: checking one last time"),
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
        on(StepObserved, "awaiting_tenant", STAY, update=observe),
        on(EndReported, "awaiting_tenant", STAY, update=note_end),
        on(ForeignEventDropped, "awaiting_tenant", STAY, update=note_foreign),
        on(StreamLost, "awaiting_tenant", STAY),
        on(StreamReturned, "awaiting_tenant", STAY),
        on(StatusNotAnswered, "awaiting_tenant", STAY),
        on(TenantBecameReady, "awaiting_tenant", "fetching_secrets", update=_ready),
        on(ProvisioningFailed, "awaiting_tenant", "failed", update=explained),
        on(AccessRefused, "awaiting_tenant", "failed", update=refuse_access),
        on(DeadlinePassed, "awaiting_tenant", "asking_once_more"),
        on(TenantBecameReady, "asking_once_more", "fetching_secrets", update=_ready),
        on(StillWorking, "asking_once_more", "overdue", update=_gave_up),
        on(WaitResumed, "overdue", "awaiting_tenant", update=resume_wait),
        on(
            SecretsFetched,
            "fetching_secrets",
            "opening_database",
            when=database_is_wanted_outside,
            update=_fetched,
        ),
        on(SecretsFetched, "fetching_secrets", "saving_tenant", update=_fetched),
        on(
            SecretsNotFetched,
            "fetching_secrets",
            "opening_database",
            when=database_is_wanted_outside,
            update=_not_fetched,
        ),
        on(SecretsNotFetched, "fetching_secrets", "saving_tenant", update=_not_fetched),
        on(DatabaseOpened, "opening_database", "saving_tenant"),
        on(DatabaseNotOpened, "opening_database", "saving_tenant", update=_not_opened),
        on(TenantSaved, "saving_tenant", "ready", update=_stored),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
