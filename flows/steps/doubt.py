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
from .effects import answer_hint, answer_remedy
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
    # A no holds until the flow is resumed by a person, who may know better by then.
    if (chosen := await choose(visit, person, again=visit.resumed)) is not None:
        return chosen
    context = visit.context
    if not visit.resumed:
        raise order_in_doubt(_doubt(context), visit.flow, _first_question(context))
    if person.confirm is not None and context.problem_code == DECLINED and await person.confirm(_order_again(context)):
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
    context = visit.context
    if len(named_tenants(context)) > 1:
        doubt = f"it is not known which tenant {order_of(context)} bought: {context.problem}"
        raise order_in_doubt(doubt, visit.flow, _first_question(context))
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
        if await person.confirm(_bought(tenant)):
            return TenantChosen(tenant)
    if not {*asked} <= {*visit.context.denied}:
        await visit.send(TenantsDenied(asked))
    return None


def order_in_doubt(problem: str, flow: str, question: str = "") -> OrderInDoubt:
    """The error that pauses a flow whose order may or may not be paid.

    Args:
        problem: Which order it is, and what is not known.
        flow: The flow; the outermost one is the one to resume.
        question: What a person is asked when it is resumed; empty when the order is only looked at again.
    """
    if question:
        return OrderInDoubt(problem, hint=answer_hint(question), remedy=answer_remedy(flow, question))
    return OrderInDoubt(
        problem, hint=OrderInDoubt.default_hint, remedy=Remedy("pay_or_cancel", {"flow": flow.partition(".")[0]})
    )


def still_pending(context: CheckoutContext, flow: str) -> StillPending:
    """The error that pauses a flow whose order is reported as paid and whose tenant is not there yet."""
    problem = f"{order_of(context)}: {context.problem}"
    if question := _first_question(context):
        return StillPending(problem, hint=answer_hint(question), remedy=answer_remedy(flow, question))
    return StillPending(problem)


def tenant_failed(problem: str, tenant: str, flow: str) -> StillPending:
    """The error that pauses a flow whose paid tenant failed."""
    return StillPending(
        problem,
        hint="Retry its provisioning, then resume the flow: it continues with this tenant.",
        remedy=Remedy("retry_tenant", {"tenant": tenant, "flow": flow.partition(".")[0]}),
    )


def order_of(context: CheckoutContext) -> str:
    """An order, for people: its number where it has one, and what is bought."""
    number = word(context.transaction_id) if context.checkout_session_id else ""
    what = ", ".join(each for each in (context.plan_name or context.plan, context.region) if each)
    return f"the order{f' {number}' if number else ''}{f' ({what})' if what else ''}"


def _bought(tenant: str) -> str:
    return f"The tenant {tenant} appeared after this order was placed. Did you buy it with this order?"


def _order_again(context: CheckoutContext) -> str:
    doubt = _doubt(context)
    return f"{doubt[0].upper()}{doubt[1:]}. Create a new order?"


def _first_question(context: CheckoutContext) -> str:
    """What a person is asked first when the flow is resumed; empty for nothing."""
    if asked := undecided(context, again=False):
        return _bought(asked[0])
    return _order_again(context) if context.problem_code == DECLINED else ""


def _doubt(context: CheckoutContext) -> str:
    """Which order it is, that it is not known whether it is paid, and why."""
    if context.problem_code == DECLINED:
        why = f"the browser reported {context.problem}" if context.problem else "the browser reported no payment"
    else:
        why = context.problem or "no payment was reported"
    open_still = [each for each in context.candidates if each not in context.denied]
    if open_still:
        why += f"; since the order {', '.join(open_still)} appeared, and nothing links it to the order"
    elif context.candidates:
        why += f"; {', '.join(context.candidates)}, which appeared since, you did not buy with it"
    else:
        why += ", and the API knows of no payment"
    return f"it is not known whether {order_of(context)} is paid: {why}"
