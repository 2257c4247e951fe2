"""What is done in each state of an onboarding: run the child flow, and say how it ended.

The table is `machines/onboarding.py`; `all_programs` is what an engine needs to run any machine of the house.
"""

from __future__ import annotations

from typing import Any

from ..errors import CredentialsCorrupted, NotAuthenticated
from ..machines.checkout import CheckoutContext
from ..machines.login import LoginContext
from ..machines.machine import Event
from ..machines.onboarding import (
    ONBOARDING,
    CheckoutSucceeded,
    ChildCancelled,
    ChildFailed,
    ChildRefused,
    ChildTimedOut,
    CredentialsFound,
    CredentialsMissing,
    LoginSucceeded,
    OnboardingContext,
    ProvisioningSucceeded,
)
from ..machines.provisioning import INFRASTRUCTURE, READY, ProvisioningContext
from .checkout import checkout_program
from .deployment import deployment_program
from .engine import Engine
from .flow import Flow, Outcome
from .login import login_program
from .provisioning import provisioning_program
from .services import Services
from .visit import Program, Visit

OnboardingVisit = Visit[OnboardingContext]


def all_programs(services: Services) -> tuple[Program[Any], ...]:
    """Login, checkout, provisioning, deployment and onboarding, ready for `open_engine`."""
    children = (login_program(services), checkout_program(services), provisioning_program(services))
    return (*children, deployment_program(services), onboarding_program(services, *children))


def onboarding_program(
    services: Services,
    login: Program[LoginContext],
    checkout: Program[CheckoutContext],
    provisioning: Program[ProvisioningContext],
) -> Program[OnboardingContext]:
    """The onboarding machine with its activities."""
    doing = _Onboarding(services, login, checkout, provisioning)
    return Program(
        ONBOARDING,
        {
            "checking_credentials": [doing.check_credentials],
            "logging_in": [doing.log_in],
            "checking_out": [doing.check_out],
            "provisioning": [doing.provision],
        },
    )


async def start_onboarding(engine: Engine, context: OnboardingContext) -> Flow:
    """Start an onboarding, or go on with the unfinished one for the same API, plan and region."""
    return await engine.start(ONBOARDING, context, key=f"{context.api_url}|{context.plan}|{context.region}")


class _Onboarding:
    def __init__(
        self,
        services: Services,
        login: Program[LoginContext],
        checkout: Program[CheckoutContext],
        provisioning: Program[ProvisioningContext],
    ) -> None:
        self.services = services
        self.login = login
        self.checkout = checkout
        self.provisioning = provisioning

    async def check_credentials(self, visit: OnboardingVisit) -> Event:
        try:
            api = await self.services.api(visit.context.api_url)
            me = await api.me()
        except (NotAuthenticated, CredentialsCorrupted) as exc:
            return CredentialsMissing(exc.user_message)
        return CredentialsFound(me.user.email)

    async def log_in(self, visit: OnboardingVisit) -> Event:
        context = visit.context
        outcome = await visit.run_child(
            self.login,
            LoginContext(
                api_url=context.api_url,
                provider=context.provider,
                port=context.login_port,
                timeout=context.login_timeout,
                bound=context.bound,
            ),
        )
        return _ended(outcome) or LoginSucceeded(str(outcome.result["user_email"]))

    async def check_out(self, visit: OnboardingVisit) -> Event:
        context = visit.context
        outcome = await visit.run_child(
            self.checkout,
            CheckoutContext(
                api_url=context.api_url,
                plan=context.plan,
                region=context.region,
                port=context.checkout_port,
                timeout=context.payment_timeout,
                bound=context.bound,
                tenant_timeout=context.tenant_timeout,
            ),
        )
        result = outcome.result
        return _ended(outcome) or CheckoutSucceeded(
            str(result["tenant_id"]), str(result["tenant_name"]), bool(result["needs_deploy"])
        )

    async def provision(self, visit: OnboardingVisit) -> Event:
        context = visit.context
        outcome = await visit.run_child(
            self.provisioning,
            ProvisioningContext(
                api_url=context.api_url,
                tenant_id=context.tenant_id,
                tenant_name=context.tenant_name,
                until=INFRASTRUCTURE if context.needs_deploy else READY,
                external_db=context.external_db,
                timeout=context.tenant_timeout,
            ),
        )
        result = outcome.result
        return _ended(outcome) or ProvisioningSucceeded(
            str(result["tenant_name"]),
            str(result["app_url"]),
            str(result["warning"]),
            str(result["tenants"]),
            bool(result["needs_deploy"]),
        )


def _ended(outcome: Outcome) -> Event | None:
    """The parent's event for a child that did not reach what it was started for."""
    if outcome.succeeded:
        return None
    kinds: dict[str, type[ChildRefused | ChildTimedOut | ChildFailed | ChildCancelled]] = {
        "denied": ChildRefused,
        "declined": ChildRefused,
        "timed_out": ChildTimedOut,
        "cancelled": ChildCancelled,
    }
    return kinds.get(outcome.state, ChildFailed)(outcome.machine, outcome.problem)
