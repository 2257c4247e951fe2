"""What is done in each state of an onboarding: run the child flow, and say how it ended.

The table is `machines/onboarding.py`; `all_programs` is what an engine needs to run any machine of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

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
    OrderLeftOpen,
    ProvisioningSucceeded,
    TenantGivenUp,
)
from ..machines.parts.progress import INFRASTRUCTURE, READY, WaitResumed
from ..machines.provisioning import ProvisioningContext
from .checkout import checkout_program, order_in_doubt, tenant_failed
from .deployment import deployment_program
from .login import login_program
from .outside import Api, Person
from .provisioning import provisioning_program
from .services import Services
from .steps.earlier import earlier_order, journaled_tenants, paid_tenant, stored_tenants

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
    doing = _Onboarding(services.cloud_api, services.person, services.paths.tenants, login, checkout, provisioning)
    return Program(
        ONBOARDING,
        {
            "checking_credentials": [doing.check_credentials],
            "logging_in": [doing.log_in],
            "checking_out": [doing.check_out],
            "order_in_doubt": [doing.look_again],
            "provisioning": [doing.provision],
            "tenant_unready": [doing.continue_with_tenant],
        },
    )


async def start_onboarding(engine: Engine, context: OnboardingContext) -> Flow:
    """Start an onboarding, or resume the unfinished one for the same API, plan and region.

    A new one continues with the tenant that the last one has paid for, unless that tenant was removed since.
    """
    key = f"{context.api_url}|{context.plan}|{context.region}"
    return await engine.start(ONBOARDING, _with_history(engine, context), key=key)


def _with_history(engine: Engine, context: OnboardingContext) -> OnboardingContext:
    order = context.api_url, context.plan, context.region
    known = tuple(sorted({*context.known_tenants, *journaled_tenants(engine, context.api_url)}))
    changed = msgspec.structs.replace(context, known_tenants=known)
    if (paid := paid_tenant(engine, *order)) is not None:
        changed = msgspec.structs.replace(
            changed,
            tenant_id=paid.tenant,
            tenant_name=paid.tenant_name,
            tenant_was_ready=paid.was_ready,
            tenant_owner=paid.owner,
            needs_deploy=paid.needs_deploy,
        )
    if (earlier := earlier_order(engine, *order)) is None:
        return changed
    return msgspec.structs.replace(
        changed, earlier_flow=earlier.flow, earlier_session=earlier.session, earlier_tenants=earlier.tenants
    )


class _Onboarding:
    def __init__(
        self,
        api: Api,
        person: Person,
        tenants: Path,
        login: Program[LoginContext],
        checkout: Program[CheckoutContext],
        provisioning: Program[ProvisioningContext],
    ) -> None:
        self.api = api
        self.person = person
        self.tenants = tenants
        self.login = login
        self.checkout = checkout
        self.provisioning = provisioning

    async def check_credentials(self, visit: OnboardingVisit) -> Event:
        try:
            api = await self.api.as_user(visit.context.api_url)
            me = await api.me()
        except (NotAuthenticated, CredentialsCorrupted) as exc:
            return CredentialsMissing(exc.user_message)
        return CredentialsFound(me.user.email, self._is_stored(visit))

    def _is_stored(self, visit: OnboardingVisit) -> bool:
        return visit.context.tenant_id in stored_tenants(self.tenants)

    async def log_in(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = LoginContext(
            api_url=asked.api_url,
            provider=asked.provider,
            port=asked.login_port,
            timeout=asked.login_timeout,
            bound=asked.bound,
        )
        return await _run(
            visit, self.login, context, lambda found: LoginSucceeded(found["user_email"], self._is_stored(visit))
        )

    async def check_out(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = CheckoutContext(
            api_url=asked.api_url,
            plan=asked.plan,
            region=asked.region,
            port=asked.checkout_port,
            timeout=asked.payment_timeout,
            look_timeout=asked.look_timeout,
            bound=asked.bound,
            tenant_timeout=asked.tenant_timeout,
            known_tenants=asked.known_tenants,
            earlier_flow=asked.earlier_flow,
            earlier_session=asked.earlier_session,
            earlier_tenants=asked.earlier_tenants,
        )
        return await _run(
            visit,
            self.checkout,
            context,
            lambda found: CheckoutSucceeded(found["tenant_id"], found["tenant_name"], found["needs_deploy"]),
        )

    async def look_again(self, visit: OnboardingVisit) -> Event:
        """Pause the flow whose order is in doubt; look again when it is resumed.

        Raises:
            OrderInDoubt: On the first visit.
        """
        if visit.resumed:
            return WaitResumed()
        raise order_in_doubt(visit.context.problem, visit.flow)

    async def continue_with_tenant(self, visit: OnboardingVisit) -> Event:
        """Pause the flow whose tenant is not ready; provision it again when it is resumed.

        Raises:
            StillPending: On the first visit.
        """
        context = visit.context
        if not visit.resumed:
            raise tenant_failed(context.problem, context.tenant_id)
        gone = context.problem_code.rpartition(".")[2] in _GONE
        if gone and self.person.confirm is not None:
            question = f"The API no longer has the paid tenant {context.tenant_id}. Buy another one?"
            if await self.person.confirm(question):
                return TenantGivenUp()
        return WaitResumed()

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
                found["tenant_name"],
                found["app_url"],
                found["warning"],
                found["tenants"],
                found["needs_deploy"],
                found["secrets_missing"],
            ),
        )


_ENDS: Final[Mapping[str, Callable[[str, str], Event]]] = {
    "denied": ChildRefused,
    "timed_out": ChildTimedOut,
    "cancelled": ChildCancelled,
}
"""What it means for the parent that its child did not reach what it was started for; any other end is a failure."""

_GONE: Final = frozenset({"tenant_not_found", "not_found", "gone"})
"""The API's codes for a tenant that is not there."""


async def _run(
    visit: OnboardingVisit, child: Program[C], context: C, succeeded: Callable[[Mapping[str, Any]], Event]
) -> Event:
    """Run a child to its end; `succeeded` makes the parent's event of what it handed out."""
    outcome = await visit.run_child(child, context)
    if outcome.succeeded:
        return succeeded(outcome.result)
    session = str(outcome.result.get("checkout_session_id") or "")
    if session and outcome.verdict != "cancelled":
        tenants = msgspec.convert(outcome.result.get("known_tenants", ()), tuple[str, ...])
        return OrderLeftOpen(f"{outcome.machine}: {outcome.problem}", outcome.flow, session, tenants)
    return _ENDS.get(outcome.state, ChildFailed)(outcome.machine, outcome.problem, outcome.code)
