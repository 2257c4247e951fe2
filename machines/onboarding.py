"""Onboarding: from nothing to a running tenant.

Theory
------
Onboarding does nothing itself: it runs login, checkout and provisioning one after the other as child flows and
remembers what each handed out. A child's id follows from its parent's, so a resumed onboarding finds the child it had
started instead of starting another. Login is skipped when the stored credentials are still accepted by the API.

    checking_credentials -> (logging_in) -> checking_out -> provisioning -> ready
    and the other ends, each as the child it comes from ended: denied, timed_out, failed, cancelled
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from .parts.vocabulary import cancelled


class OnboardingContext(Context, frozen=True, kw_only=True):
    """What an onboarding was asked for and what its children handed out."""

    api_url: str
    plan: str
    region: str
    provider: str = "github"
    login_port: int = 8765
    checkout_port: int = 8766
    bound: bool = True
    external_db: bool = False
    login_timeout: float = 300.0
    payment_timeout: float = 300.0
    tenant_timeout: float = 600.0
    user_email: str = ""
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False
    app_url: str = ""
    warning: str = ""
    tenants_path: str = ""


class CredentialsFound(Event, frozen=True):
    """There are stored credentials and the API accepts them."""

    user_email: str


class CredentialsMissing(Event, frozen=True):
    """There are no credentials for this API, or it does not accept them any more."""

    reason: str


class LoginSucceeded(Event, frozen=True):
    """The login ended well."""

    user_email: str


class CheckoutSucceeded(Event, frozen=True):
    """The checkout ended well."""

    tenant_id: str
    tenant_name: str
    needs_deploy: bool


class ProvisioningSucceeded(Event, frozen=True):
    """The tenant is ready and stored."""

    tenant_name: str
    app_url: str
    warning: str
    tenants_path: str
    needs_deploy: bool


class ChildRefused(Event, frozen=True):
    """The child flow ended with a refusal: a login denied, a payment declined."""

    machine: str
    problem: str
    code: str = ""


class ChildTimedOut(Event, frozen=True):
    """The child flow ran out of time."""

    machine: str
    problem: str
    code: str = ""


class ChildFailed(Event, frozen=True):
    """The child flow failed."""

    machine: str
    problem: str
    code: str = ""


class ChildCancelled(Event, frozen=True):
    """The child flow was cancelled."""

    machine: str
    problem: str
    code: str = ""


def _known(context: OnboardingContext, event: CredentialsFound | LoginSucceeded) -> OnboardingContext:
    return msgspec.structs.replace(context, user_email=event.user_email)


def _paid(context: OnboardingContext, event: CheckoutSucceeded) -> OnboardingContext:
    return msgspec.structs.replace(
        context, tenant_id=event.tenant_id, tenant_name=event.tenant_name, needs_deploy=event.needs_deploy
    )


def _ready(context: OnboardingContext, event: ProvisioningSucceeded) -> OnboardingContext:
    return msgspec.structs.replace(
        context,
        tenant_name=event.tenant_name,
        app_url=event.app_url,
        warning=event.warning,
        tenants_path=event.tenants_path,
        needs_deploy=event.needs_deploy,
    )


def _explained(
    context: OnboardingContext, event: ChildRefused | ChildTimedOut | ChildFailed | ChildCancelled
) -> OnboardingContext:
    code = f"{event.machine}.{event.code}" if event.code else ""
    return msgspec.structs.replace(context, problem=f"{event.machine}: {event.problem}", problem_code=code)


def _result(context: OnboardingContext) -> dict[str, object]:
    return {
        "user_email": context.user_email,
        "tenant_id": context.tenant_id,
        "tenant_name": context.tenant_name,
        "app_url": context.app_url,
        "needs_deploy": context.needs_deploy,
        "warning": context.warning,
        "tenants": context.tenants_path,
    }


ONBOARDING: Final = Machine(
    "onboarding",
    version=1,
    known_as=["4b90cb6f8d0ff435"],  # release 0.1.0
    initial="checking_credentials",
    context=OnboardingContext,
    result=_result,
    states=[
        State("checking_credentials", "looking for credentials that still stand"),
        State("logging_in", "logging in", child="login"),
        State("checking_out", "paying for the tenant", child="checkout"),
        State("provisioning", "waiting for the tenant", child="provisioning"),
        State("ready", "the tenant is running and stored", verdict=Verdict.SUCCESS),
        State("denied", "the login was denied or the payment declined", verdict=Verdict.FAILURE),
        State("timed_out", "it took too long", verdict=Verdict.FAILURE),
        State("failed", "it failed", verdict=Verdict.FAILURE),
        State("cancelled", "it was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(CredentialsFound, "checking_credentials", "checking_out", update=_known),
        on(CredentialsMissing, "checking_credentials", "logging_in"),
        on(LoginSucceeded, "logging_in", "checking_out", update=_known),
        on(CheckoutSucceeded, "checking_out", "provisioning", update=_paid),
        on(ProvisioningSucceeded, "provisioning", "ready", update=_ready),
        *(
            row
            for source in ("logging_in", "checking_out", "provisioning")
            for row in (
                on(ChildRefused, source, "denied", update=_explained),
                on(ChildFailed, source, "failed", update=_explained),
                on(ChildCancelled, source, "cancelled", update=_explained),
            )
        ),
        # Provisioning never runs out of time for good: what is paid for is waited for.
        on(ChildTimedOut, "logging_in", "timed_out", update=_explained),
        on(ChildTimedOut, "checking_out", "timed_out", update=_explained),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
