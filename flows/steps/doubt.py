"""An order that may or may not be paid, and a tenant that nothing links to it: what a person is asked, and when.

Nothing is decided here without a person; without one the flow is paused, or waits on. What they said no to is recorded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...base.remedies import Remedy
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import OrderInDoubt, StillPending
from ...io.cloud.api import CloudApiClient
from ...io.http.texts import word
from ...io.loopback.callback import new_nonce
from ...machines.checkout import CheckoutContext, OrderConfirmed, PaymentAwaited, TenantChosen, TenantsDenied
from ...machines.parts.order import DECLINED, CandidatesSeen
from ...machines.parts.order_updates import named_tenants
from ...machines.parts.progress import WaitResumed
from ..outside import Person
from .order import candidates_of, undecided

_CheckoutVisit = Visit[CheckoutContext]


async def settle_doubt(visit: _CheckoutVisit, person: Person, client: Callable[[], Awaitable[CloudApiClient]]) -> Event:
    """Look again, let a person decide about what was found, and show the same payment page again.

    Args:
        visit: The visit to an order in doubt.
        person: Who can be asked.
        client: Opens the API.

    Raises:
        OrderInDoubt: On the first visit; nobody, or no person, could say that the order is paid.
    """
    listed = frozenset[str]()
    if visit.resumed:
        tenants = (await (await client()).me()).tenants
        listed = frozenset(word(each.id) for each in tenants)
        appeared = candidates_of(visit.context, tenants)
        if not {*appeared} <= {*visit.context.candidates}:
            await visit.send(CandidatesSeen(appeared))
    if (chosen := await choose(visit, person, again=True)) is not None:
        return chosen
    context = visit.context
    if not visit.resumed:
        raise order_in_doubt(_doubt(context), visit.flow)
    if person.confirm is not None and context.problem_code == DECLINED:
        question = f"{_doubt(context).capitalize()}. Create a new order?"
        if await person.confirm(question):
            known = tuple(sorted({*context.known_tenants, *context.candidates, *listed}))
            nonce = await visit.keep(f"nonce_{visit.incarnation}", new_nonce())
            return OrderConfirmed(known, nonce)
    return PaymentAwaited()


async def settle_tenant(visit: _CheckoutVisit, person: Person) -> Event:
    """Let a person decide which tenant was paid for; wait on where that is still open and nothing contradicts.

    Raises:
        OrderInDoubt: Several tenants are named as the order's, and nobody has decided.
    """
    if (chosen := await choose(visit, person, again=visit.resumed)) is not None:
        return chosen
    if len(named_tenants(visit.context)) > 1:
        raise order_in_doubt(visit.context.problem, visit.flow)
    return WaitResumed()


async def choose(visit: _CheckoutVisit, person: Person, *, again: bool) -> TenantChosen | None:
    """Ask a person about each tenant that may be the order's; what they said no to is recorded.

    Args:
        visit: The visit to an order.
        person: Who can be asked.
        again: Ask about those, too, that the person said no to before.
    """
    if person.confirm is None:
        return None
    asked = undecided(visit.context, again=again)
    for tenant in asked:
        if await person.confirm(
            f"The tenant {tenant} appeared after this order was placed. Did you buy it with this order?"
        ):
            return TenantChosen(tenant)
    if not {*asked} <= {*visit.context.denied}:
        await visit.send(TenantsDenied(asked))
    return None


def order_in_doubt(problem: str, flow: str) -> OrderInDoubt:
    """The error that pauses a flow whose order may or may not be paid; the outermost flow is the one to resume."""
    return OrderInDoubt(
        problem, hint=OrderInDoubt.default_hint, remedy=Remedy("pay_or_cancel", {"flow": flow.partition(".")[0]})
    )


def tenant_failed(problem: str, tenant: str) -> StillPending:
    """The error that pauses a flow whose paid tenant failed."""
    return StillPending(
        problem,
        hint="Retry its provisioning, then resume the flow: it goes on with this tenant.",
        remedy=Remedy("retry_tenant", {"tenant": tenant}),
    )


def _doubt(context: CheckoutContext) -> str:
    """Why it is not known whether the order is paid."""
    if context.problem_code == DECLINED:
        why = f"the browser reported {context.problem}" if context.problem else "the browser reported no payment"
    else:
        why = context.problem or "no payment was reported"
    if context.candidates:
        named = ", ".join(context.candidates)
        return f"{why}; since the order {named} appeared, and nothing links it to the order"
    return f"{why}, and the API knows of no payment"
