"""What is done in each state of an onboarding: run the child flow, and say how it ended.

The table is `machines/onboarding.py`; `all_programs` is what an engine needs to run any machine of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Context, Event
from ..engine.visit import Program, Visit
from ..errors import CredentialsCorrupted, NotAuthenticated
from ..machines.checkout import CheckoutContext
from ..machines.login import LoginContext
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
from .login import login_program
from .outside import Api
from .provisioning import provisioning_program
from .services import Services

OnboardingVisit = Visit[OnboardingContext]
C = TypeVar("C", bound=Context)


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
    doing = _Onboarding(services.cloud_api, login, checkout, provisioning)
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
    """Start an onboarding, or resume the unfinished one for the same API, plan and region."""
    return await engine.start(ONBOARDING, context, key=f"{context.api_url}|{context.plan}|{context.region}")


class _Onboarding:
    def __init__(
        self,
        api: Api,
        login: Program[LoginContext],
        checkout: Program[CheckoutContext],
        provisioning: Program[ProvisioningContext],
    ) -> None:
        self.api = api
        self.login = login
        self.checkout = checkout
        self.provisioning = provisioning

    async def check_credentials(self, visit: OnboardingVisit) -> Event:
        try:
            api = await self.api.as_user(visit.context.api_url)
            me = await api.me()
        except (NotAuthenticated, CredentialsCorrupted) as exc:
            return CredentialsMissing(exc.user_message)
        return CredentialsFound(me.user.email)

    async def log_in(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = LoginContext(
            api_url=asked.api_url,
            provider=asked.provider,
            port=asked.login_port,
            timeout=asked.login_timeout,
            bound=asked.bound,
        )
        return await _run(visit, self.login, context, lambda found: LoginSucceeded(found["user_email"]))

    async def check_out(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = CheckoutContext(
            api_url=asked.api_url,
            plan=asked.plan,
            region=asked.region,
            port=asked.checkout_port,
            timeout=asked.payment_timeout,
            bound=asked.bound,
            tenant_timeout=asked.tenant_timeout,
        )
        return await _run(
            visit,
            self.checkout,
            context,
            lambda found: CheckoutSucceeded(found["tenant_id"], found["tenant_name"], found["needs_deploy"]),
        )

    async def provision(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = ProvisioningContext(
            api_url=asked.api_url,
            tenant_id=asked.tenant_id,
            tenant_name=asked.tenant_name,
            until=INFRASTRUCTURE if asked.needs_deploy else READY,
            external_db=asked.external_db,
            timeout=asked.tenant_timeout,
        )
        return await _run(
            visit,
            self.provisioning,
            context,
            lambda found: ProvisioningSucceeded(
                found["tenant_name"], found["app_url"], found["warning"], found["tenants"], found["needs_deploy"]
            ),
        )


_ENDS: Final[Mapping[str, Callable[[str, str], Event]]] = {
    "denied": ChildRefused,
    "declined": ChildRefused,
    "timed_out": ChildTimedOut,
    "cancelled": ChildCancelled,
}
"""What it means for the parent that its child did not reach what it was started for; any other end is a failure."""


async def _run(
    visit: OnboardingVisit, child: Program[C], context: C, succeeded: Callable[[Mapping[str, Any]], Event]
) -> Event:
    """Run a child to its end; `succeeded` makes the parent's event of what it handed out."""
    outcome = await visit.run_child(child, context)
    if outcome.succeeded:
        return succeeded(outcome.result)
    return _ENDS.get(outcome.state, ChildFailed)(outcome.machine, outcome.problem, outcome.code)
