"""Earlier orders that a new one must not overlook: what the journal knows of them, and what the API answers now.

An order counts from the moment its payment page could be shown, whichever command placed it, until it has ended in a
tenant: an order that was given up may be paid all the same, and one that has not ended may be paid at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import trio

from ...base.errors import CloudError
from ...base.log import get_logger
from ...base.remedies import Remedy
from ...base.texts import text_of
from ...engine.errors import JournalCorrupted
from ...engine.journal.records import FlowRow
from ...engine.machine.parts import Event
from ...engine.visit import Visit
from ...errors import OrderInDoubt, TenantsNotSynced
from ...io.cloud.api import CloudApiClient
from ...io.cloud.wire import CheckoutEvent
from ...io.http.texts import is_word
from ...io.local.tenants import TenantStore
from ...io.loopback.callback import new_nonce
from ...machines.checkout import (
    CandidatesSeen,
    CheckoutContext,
    EarlierOrdersChecked,
    OrderConfirmed,
    TenantChosen,
)
from ...machines.parts.earlier import EarlierOrder
from ...machines.parts.progress import WaitResumed
from ..outside import Person, Timing
from .asking import API_FAILURES
from .effects import answer_hint, answer_remedy
from .order import CANDIDATES, STREAM_EVENTS, fitting
from .source import Pauses, decode

logger = get_logger(__name__)

Stored = Mapping[str, Any]
"""A flow's context as it was written, by whichever version."""

MACHINES: Final = ("checkout", "provisioning", "onboarding", "deployment")
"""The machines whose flows have to do with tenants."""

LOOKED_AT: Final = 5
"""Earlier orders that are asked about, at most: those that have not ended, then the newest."""

NAMED: Final = ("session_tenant", "failed_tenant", "also_named", "candidates", "tenant_id")
"""The fields of a checkout that name tenants it may have bought; a browser's counts when it named the order, too."""


def stored_tenants(path: Path) -> frozenset[str]:
    """The tenants in tenants.json; none when there is no such file.

    Raises:
        CloudError: It is there and cannot be read: what it holds is not known, so it is not taken for empty.
    """
    try:
        return frozenset(tenant.id for tenant in TenantStore.load_from_path(path).tenants)
    except TenantsNotSynced:
        return frozenset()


async def contexts(visit: Visit[Any], machine: str) -> list[tuple[FlowRow, Stored]]:
    """The other flows of a machine for the API of a visit's flow, the newest first, with what they know.

    Raises:
        JournalCorrupted: What one of them knows cannot be read; it may be an order that is paid.
    """
    rows = [(row, _known(row)) for row in await visit.other_flows(machine)]
    return [each for each in rows if each[1].get("api_url") == visit.context.api_url]


def _known(row: FlowRow) -> Stored:
    try:
        return msgspec.json.decode(row.context, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise JournalCorrupted(
            f"what the flow {row.id} knows of its order cannot be read: {text_of(exc)}",
            hint="`flows check` names every such record; a copy of the journal from before may have it whole.",
        ) from exc


async def journaled_tenants(visit: Visit[Any]) -> frozenset[str]:
    """The tenants that the other flows of this API have had to do with."""
    found = {str(known.get("tenant_id") or "") for each in MACHINES for _, known in await contexts(visit, each)}
    return frozenset(found - {""})


async def earlier_orders(visit: Visit[CheckoutContext], price_id: str, account: str) -> tuple[EarlierOrder, ...]:
    """The orders of the same price, region and account that may be paid and are not known to have ended in a tenant.

    Those that have not ended, and those that ended otherwise since the last one that ended in a tenant. An order that
    this flow had in doubt counts also when it has ended in a tenant meanwhile: that one may be what is wanted.

    Args:
        visit: The new order's.
        price_id: The price that was found for its plan.
        account: Who orders.
    """
    context, found, settled = visit.context, list[EarlierOrder](), False
    every = await contexts(visit, "checkout")
    bought = {str(known.get("tenant_id") or "") for row, known in every if row.verdict == "success"} - {""}
    doubted = {each.flow for each in context.earlier}
    for row, known in every:
        if not _is_same(context, known, price_id, account):
            continue
        succeeded = row.verdict == "success"
        if row.status != "ended" or row.id in doubted or not (succeeded or settled):
            tenants = [str(known.get("tenant_id"))] if succeeded else _named(known, bought)
            found.append(
                EarlierOrder(
                    flow=row.id,
                    session=str(known["checkout_session_id"]),
                    unfinished=row.status != "ended",
                    reported=not succeeded and bool(known.get("paid") or known.get("browser_tenant") or tenants),
                    tenants=tuple(tenants),
                    known=tuple(sorted({*_words(known.get("known_tenants")), *bought})),
                )
            )
        settled = settled or succeeded
    return tuple(sorted(found, key=lambda each: not each.unfinished)[:LOOKED_AT])


def _is_same(context: CheckoutContext, known: Stored, price_id: str, account: str) -> bool:
    prices = {str(known.get("price_id") or ""), price_id}
    same_plan = len(prices) == 1 if "" not in prices else known.get("plan") == context.plan
    placed = bool(known.get("checkout_session_id"))
    # Versions before this one did not record who ordered.
    return placed and same_plan and known.get("region") == context.region and known.get("account", "") in {"", account}


def _named(known: Stored, bought: set[str]) -> list[str]:
    named = {each for field in NAMED for each in _words(known.get(field))}
    if known.get("browser_linked"):
        named |= _words(known.get("browser_tenant"))
    # One that a person denied is asked about again: that order was not placed a second time, and this one would be.
    return sorted(named - bought - _words(known.get("known_tenants")))


def _words(value: Any) -> set[str]:
    """The ids in a field: one, or a list of them."""
    return {str(each) for each in (cast("list[Any]", value) if isinstance(value, list) else [value]) if each}


# --- what the API answers -------------------------------------------------------------------------------------------


async def check_earlier_orders(visit: Visit[CheckoutContext], api: CloudApiClient, timing: Timing) -> Event:
    """Ask for a while which tenants the earlier orders may have bought, by their streams and by what the API lists.

    Each finding is recorded when it is made. It ends early when the stream of each order has named its tenant.

    Raises:
        CloudError: The API has not answered once: nothing is known, so nothing is bought.
    """
    earlier = visit.context.earlier
    named = {each.session: trio.Event() for each in earlier}
    trouble: CloudError | None = None
    answered = False
    async with trio.open_nursery() as nursery:
        for each in earlier:
            nursery.start_soon(_listen, visit, api, each, named[each.session])
        pauses, until = Pauses.of(visit), trio.current_time() + visit.context.look_timeout
        while True:
            await pauses.wait_over("status")
            try:
                tenants = (await api.me()).tenants
            except API_FAILURES as exc:
                trouble = exc
                pauses.note("status", exc)
            else:
                answered = True
                for each in earlier:
                    as_then = msgspec.structs.replace(visit.context, known_tenants=each.known)
                    await _note(visit, [tenant.id for tenant in fitting(as_then, tenants)])
            if trio.current_time() >= until or (answered and all(each.is_set() for each in named.values())):
                break
            with trio.move_on_after(timing.poll_seconds):
                for event in named.values():
                    await event.wait()
                if not answered:
                    await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    if trouble is not None and not answered:
        raise trouble
    return EarlierOrdersChecked()


async def _listen(visit: Visit[CheckoutContext], api: CloudApiClient, order: EarlierOrder, named: trio.Event) -> None:
    """Note the tenants that an earlier order's stream names."""
    try:
        async with api.checkout_events(order.session) as stream:
            async for sse in stream:
                event = decode(sse, STREAM_EVENTS, CheckoutEvent)
                if event is None or event.checkout_session_id != order.session or not event.tenant_id:
                    continue
                if event.tenant_id not in order.known and is_word(event.tenant_id):
                    await _note(visit, [event.tenant_id])
                    named.set()
    except CloudError as exc:
        logger.info("the event stream of the earlier order %s: %s", order.session, exc)


async def _note(visit: Visit[CheckoutContext], tenants: Sequence[str]) -> None:
    known = visit.context.candidates
    if new := sorted({*tenants} - {*known})[: max(CANDIDATES - len(known), 0)]:
        await visit.send(CandidatesSeen(tuple(new)))


# --- what a person decides ------------------------------------------------------------------------------------------


async def ask_about_earlier_orders(visit: Visit[CheckoutContext], person: Person) -> Event:
    """Ask a person which tenant was bought already, or whether another order is to be placed.

    A resumed flow looks at the earlier orders again first: they may have ended meanwhile.

    Raises:
        OrderInDoubt: Nobody can be asked, or a person wants no other order.
    """
    context = visit.context
    if visit.resumed:
        return WaitResumed()
    if person.confirm is None:
        raise _doubt(context, visit.flow)
    for tenant in context.candidates:
        if await person.confirm(_use(tenant)):
            return TenantChosen(tenant)
    if not await person.confirm(_place_another(context)):  # in every case: a no never buys
        raise _doubt(context, visit.flow)
    nonce = await visit.keep(f"nonce_{visit.incarnation}", new_nonce())
    return OrderConfirmed(tuple(sorted({*context.known_tenants, *context.candidates})), nonce)


def _use(tenant: str) -> str:
    return (
        f"An earlier order of this plan and region may have bought the tenant {tenant}. "
        "Use it instead of buying another one?"
    )


def _place_another(context: CheckoutContext) -> str:
    situation = _situation(context)
    return f"{situation[0].upper()}{situation[1:]}. Place another order?"


def _situation(context: CheckoutContext) -> str:
    open_order = next((each for each in context.earlier if each.unfinished), None)
    if open_order is not None:
        return f"an earlier order of {_wanted(context)} is not finished ({_root(open_order)})"
    reported = next((each for each in context.earlier if each.reported), None)
    if reported is not None:
        return f"an earlier order of {_wanted(context)} may have been paid ({_root(reported)})"
    return f"an earlier order of {_wanted(context)} may have been paid"


def _wanted(context: CheckoutContext) -> str:
    return f"this plan and region ({context.plan_name or context.plan}, {context.region})"


def _doubt(context: CheckoutContext, flow: str) -> OrderInDoubt:
    problem = f"no other order was placed: {_situation(context)}"
    question = _use(context.candidates[0]) if context.candidates else _place_another(context)
    if context.candidates:
        problem = f"{problem}; since then {', '.join(context.candidates)} appeared"
    open_order = next((each for each in context.earlier if each.unfinished), None)
    if open_order is not None:
        return OrderInDoubt(
            problem,
            hint=(
                "Resume or cancel that order, then resume this flow; or resume this flow where you can answer. "
                f"The question: {question}"
            ),
            remedy=Remedy(
                "settle_earlier_order",
                {"flow": _root(open_order), "this": flow.partition(".")[0], "question": question},
            ),
        )
    return OrderInDoubt(problem, hint=answer_hint(question), remedy=answer_remedy(flow, question))


def _root(order: EarlierOrder) -> str:
    """The flow to resume: a checkout that another flow runs is resumed with it."""
    return order.flow.partition(".")[0]
