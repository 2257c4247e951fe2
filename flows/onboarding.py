"""What is done in each state of an onboarding: run the child flow, and say how it ended.

The table is `machines/onboarding.py`; `all_programs` is what an engine needs to run any machine of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Context, Event, Verdict
from ..engine.visit import Program, Visit
from ..errors import CredentialsCorrupted, NotAuthenticated, StillPending
from ..machines.checkout import CheckoutContext
from ..machines.login import DENIED, LOGIN, TIMED_OUT, LoginContext
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
from .checkout import checkout_program, find_plan
from .deployment import deployment_program
from .login import login_program
from .outside import Api, Person
from .provisioning import provisioning_program
from .services import Services
from .steps.doubt import order_in_doubt, tenant_failed
from .steps.effects import answer_hint, answer_remedy
from .steps.paid import paid_tenants

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
    doing = _Onboarding(services.cloud_api, services.person, login, checkout, provisioning)
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

    A new one continues with the tenant of this plan and region that the account has paid for, if there is one.
    """
    key = f"{context.api_url}|{context.plan}|{context.region}"
    return await engine.start(ONBOARDING, context, key=key)


class _Onboarding:
    def __init__(
        self,
        api: Api,
        person: Person,
        login: Program[LoginContext],
        checkout: Program[CheckoutContext],
        provisioning: Program[ProvisioningContext],
    ) -> None:
        self.api = api
        self.person = person
        self.login = login
        self.checkout = checkout
        self.provisioning = provisioning

    async def check_credentials(self, visit: OnboardingVisit) -> Event:
        try:
            api = await self.api.of(visit)
            me = await api.me()
        except (NotAuthenticated, CredentialsCorrupted) as exc:
            return CredentialsMissing(exc.user_message)
        return CredentialsFound(me.user.email, *await self._paid_tenant(visit, me.user.email))

    async def _paid_tenant(self, visit: OnboardingVisit, account: str) -> tuple[str, str, bool]:
        """The tenant to continue with, its name, and whether it waits for an image; no tenant when none is paid for."""
        api, wanted = await self.api.of(visit), visit.context.plan
        paid = await paid_tenants(visit, account)
        if not all(each.account for each in paid):  # by an older version: it counts when the API lists it
            listed = {tenant.id for tenant in (await api.me()).tenants}
            paid = [each for each in paid if each.account or each.tenant in listed]
        found = next((each for each in paid if each.plan == wanted), None)
        if found is None and any(each.price_id for each in paid):  # ordered under another name of the plan, perhaps
            plan = find_plan(await api.plans(), wanted)
            found = next((each for each in paid if plan is not None and each.price_id == plan.paddle_price_id), None)
        return ("", "", False) if found is None else (found.tenant, found.tenant_name, found.needs_deploy)

    async def log_in(self, visit: OnboardingVisit) -> Event:
        asked = visit.context
        context = LoginContext(
            api_url=asked.api_url,
            provider=asked.provider,
            port=asked.login_port,
            timeout=asked.login_timeout,
            bound=asked.bound,
        )
        event = await _run(visit, self.login, context, lambda found: LoginSucceeded(found["user_email"]))
        if not isinstance(event, LoginSucceeded):
            return event
        return LoginSucceeded(event.user_email, *await self._paid_tenant(visit, event.user_email))

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
        context = visit.context
        order = f"the order ({context.plan}, {context.region})"
        raise order_in_doubt(f"it is not known whether {order} is paid: {context.problem}", visit.flow)

    async def continue_with_tenant(self, visit: OnboardingVisit) -> Event:
        """Pause the flow whose tenant is not ready; provision it again when it is resumed.

        Raises:
            StillPending: On the first visit.
        """
        context = visit.context
        gone = context.problem_code.rpartition(".")[2] in _GONE
        if not visit.resumed:
            if gone:
                raise _tenant_gone(context, visit.flow)
            raise tenant_failed(context.problem, context.tenant_id, visit.flow)
        if gone and self.person.confirm is not None and await self.person.confirm(_buy_another(context)):
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


_ENDS: Final[Mapping[tuple[str, str], Callable[[str, str, str], Event]]] = {
    (LOGIN.name, DENIED): ChildRefused,
    (LOGIN.name, TIMED_OUT): ChildTimedOut,
}
"""The ends of a child that mean more to the parent than that it was cancelled or failed."""

_GONE: Final = frozenset({"tenant_not_found", "not_found", "gone"})
"""The API's codes for a tenant that is not there."""


def _buy_another(context: OnboardingContext) -> str:
    return f"The API no longer has the paid tenant {context.tenant_id}. Buy another one?"


def _tenant_gone(context: OnboardingContext, flow: str) -> StillPending:
    question = _buy_another(context)
    return StillPending(
        f"{context.problem}: the API does not have the tenant {context.tenant_id}, which is paid for",
        hint=answer_hint(question),
        remedy=answer_remedy(flow, question),
    )


async def _run(
    visit: OnboardingVisit, child: Program[C], context: C, succeeded: Callable[[Mapping[str, Any]], Event]
) -> Event:
    """Run a child to its end; `succeeded` makes the parent's event of what it handed out."""
    outcome = await visit.run_child(child, context)
    if outcome.succeeded:
        return succeeded(outcome.result)
    session = str(outcome.result.get("checkout_session_id") or "")
    if session and outcome.verdict != Verdict.CANCELLED:
        return OrderLeftOpen(f"{outcome.machine}: {outcome.problem}")
    other = ChildCancelled if outcome.verdict == Verdict.CANCELLED else ChildFailed
    end = _ENDS.get((outcome.machine, outcome.state), other)
    return end(outcome.machine, outcome.problem, outcome.code)
