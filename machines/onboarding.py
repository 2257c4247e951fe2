r"""Onboarding: from nothing to a running tenant.

Theory
------
Onboarding does nothing itself: it runs login, checkout and provisioning one after the other as child flows and
remembers what each handed out. A child's id follows from its parent's, so a resumed onboarding finds the child it had
started instead of starting another. Login is skipped when the stored credentials are still accepted by the API.

Once a tenant is paid for, onboarding continues with that tenant, whatever fails: it never goes back to the checkout by
itself. A provisioning that ends badly pauses it (`tenant_unready`); resumed, it provisions the same tenant again. A new
onboarding continues with the newest tenant of the same plan and region that the account has paid for, whichever command
bought it. No file on this computer decides whether that tenant still exists: when the API answers several times in a
row that it does not, a person is asked, and only a person can decide to buy another one (`TenantGivenUp`).

A checkout of an older version may have ended without success after its payment page was shown. That pauses the
onboarding as well (`order_in_doubt`), and the next checkout looks at what became of it.

    checking_credentials -> (logging_in) -> checking_out -> provisioning -> ready
                                             |     ^          |     ^
                                          order_in_doubt     tenant_unready
    and the other ends: denied and timed_out (the login), failed, cancelled
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.migrations import Migration
from ..engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from .parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT, LOGIN_PORT, TENANT_SECONDS
from .parts.progress import WaitResumed
from .parts.vocabulary import cancelled


class OnboardingContext(Context, frozen=True, kw_only=True):
    """What an onboarding was asked for and what its children handed out.

    Attributes:
        known_tenants: Tenants that were there before.
        given_up: Tenants that were paid for and that a person gave up for another one.
        secrets_missing: The tenant is stored without its secrets.
    """

    api_url: str
    plan: str
    region: str
    provider: str = "github"
    login_port: int = LOGIN_PORT
    checkout_port: int = CHECKOUT_PORT
    bound: bool = True
    external_db: bool = False
    login_timeout: float = BROWSER_SECONDS
    payment_timeout: float = BROWSER_SECONDS
    look_timeout: float = 10.0
    tenant_timeout: float = TENANT_SECONDS
    user_email: str = ""
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False
    app_url: str = ""
    warning: str = ""
    secrets_missing: bool = False
    tenants_path: str = ""
    known_tenants: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()


class CredentialsFound(Event, frozen=True):
    """There are stored credentials and the API accepts them.

    `tenant_id` is the tenant that this account has paid for already, if there is one.
    """

    user_email: str
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False


class CredentialsMissing(Event, frozen=True):
    """There are no credentials for this API, or it does not accept them any more."""

    reason: str


class LoginSucceeded(Event, frozen=True):
    """The login ended well; the tenant as in `CredentialsFound`."""

    user_email: str
    tenant_id: str = ""
    tenant_name: str = ""
    needs_deploy: bool = False


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
    secrets_missing: bool = False


class OrderLeftOpen(Event, frozen=True):
    """The checkout ended without success after its payment page was shown: it may be paid all the same."""

    problem: str


class TenantGivenUp(Event, frozen=True):
    """A person wants another tenant in place of the one that was paid for."""


class ChildRefused(Event, frozen=True):
    """The child flow ended with a refusal: a login denied."""

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


def a_tenant_is_paid_for(_context: OnboardingContext, event: CredentialsFound | LoginSucceeded) -> bool:
    """The account has paid for a tenant of this plan and region already."""
    return event.tenant_id != ""


def _known(context: OnboardingContext, event: CredentialsFound | LoginSucceeded) -> OnboardingContext:
    return msgspec.structs.replace(
        context,
        user_email=event.user_email,
        tenant_id=event.tenant_id,
        tenant_name=event.tenant_name,
        needs_deploy=event.needs_deploy,
    )


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
        secrets_missing=event.secrets_missing,
        problem="",
        problem_code="",
    )


def _left_open(context: OnboardingContext, event: OrderLeftOpen) -> OnboardingContext:
    return msgspec.structs.replace(context, problem=event.problem)


def _given_up(context: OnboardingContext, _event: TenantGivenUp) -> OnboardingContext:
    return msgspec.structs.replace(
        context,
        known_tenants=tuple(sorted({*context.known_tenants, context.tenant_id})),
        given_up=tuple(sorted({*context.given_up, context.tenant_id})),
        tenant_id="",
        tenant_name="",
        needs_deploy=False,
        problem="",
        problem_code="",
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
        "secrets_missing": context.secrets_missing,
        "tenants": context.tenants_path,
    }


ONBOARDING: Final = Machine(
    "onboarding",
    version=2,
    migrations=[Migration(1)],
    initial="checking_credentials",
    course=("checking_credentials", "logging_in", "checking_out", "provisioning", "ready"),
    context=OnboardingContext,
    result=_result,
    states=[
        State("checking_credentials", "checking saved credentials"),
        State("logging_in", "logging in", child="login"),
        State("checking_out", "paying for the tenant", child="checkout"),
        State("order_in_doubt", "the checkout ended, and may be paid: resume to check"),
        State("provisioning", "waiting for the tenant", child="provisioning"),
        State("tenant_unready", "the paid tenant is not ready: resume to continue with it"),
        State("ready", "the tenant is running and stored", verdict=Verdict.SUCCESS),
        State("denied", "the login was denied", verdict=Verdict.FAILURE),
        State("timed_out", "the login took too long", verdict=Verdict.FAILURE),
        State("failed", "it failed", verdict=Verdict.FAILURE),
        State("cancelled", "it was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(CredentialsFound, "checking_credentials", "provisioning", when=a_tenant_is_paid_for, update=_known),
        on(CredentialsFound, "checking_credentials", "checking_out", update=_known),
        on(CredentialsMissing, "checking_credentials", "logging_in"),
        on(LoginSucceeded, "logging_in", "provisioning", when=a_tenant_is_paid_for, update=_known),
        on(LoginSucceeded, "logging_in", "checking_out", update=_known),
        on(ChildRefused, "logging_in", "denied", update=_explained),
        on(ChildTimedOut, "logging_in", "timed_out", update=_explained),
        on(ChildFailed, "logging_in", "failed", update=_explained),
        on(ChildCancelled, "logging_in", "cancelled", update=_explained),
        on(CheckoutSucceeded, "checking_out", "provisioning", update=_paid),
        on(OrderLeftOpen, "checking_out", "order_in_doubt", update=_left_open),
        on(ChildFailed, "checking_out", "failed", update=_explained),
        on(ChildCancelled, "checking_out", "cancelled", update=_explained),
        on(WaitResumed, "order_in_doubt", "checking_out"),
        on(ProvisioningSucceeded, "provisioning", "ready", update=_ready),
        # What is paid for is not given up, whatever became of the wait for it.
        on(ChildFailed, "provisioning", "tenant_unready", update=_explained),
        on(ChildCancelled, "provisioning", "tenant_unready", update=_explained),
        on(WaitResumed, "tenant_unready", "provisioning"),
        on(TenantGivenUp, "tenant_unready", "checking_out", update=_given_up),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
