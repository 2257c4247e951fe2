"""What the tables promise about money, whatever events come, in any order and with any content.

Which events come is the activities' business (`tests/flows/test_any_sale.py`); what must not follow from any of them is
decided here, by the tables alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, DeadlinePassed, Event
from systemprompt_cloud.machines.checkout import CHECKOUT, WAITING
from systemprompt_cloud.machines.onboarding import (
    ONBOARDING,
    CheckoutSucceeded,
    CredentialsFound,
    LoginSucceeded,
    OnboardingContext,
    TenantGivenUp,
)
from systemprompt_cloud.machines.parts.order import (
    CheckoutContext,
    CheckoutCreated,
    EarlierOrdersChecked,
    OrderConfirmed,
    OrderValidated,
    PaymentAwaited,
    TenantAnnounced,
    TenantChosen,
    TenantConfirmed,
)
from systemprompt_cloud.machines.parts.order_updates import named_tenants
from systemprompt_cloud.machines.parts.vocabulary import RepeatConfirmed, RepeatDeclined
from systemprompt_cloud.testing.tables import row_taken, structs

from tests.support.length import by_length

LONGEST: Final = 40
"""Events of one walk."""

STORIES: Final = settings(max_examples=by_length(200, 5000), deadline=None)

ORDER: Final = CheckoutContext(api_url="https://api.example", plan="p", region="fra")
ONBOARDED: Final = OnboardingContext(api_url="https://api.example", plan="p", region="fra")


class Taken(msgspec.Struct, frozen=True):
    """A step of a walk.

    Attributes:
        state: Where it began.
        context: What was known there.
        event: What happened.
        to: Where it led.
        after: What is known now.
    """

    state: str
    context: Context
    event: Event
    to: str
    after: Context


def walk(data: st.DataObject, machine: Machine[Any], context: Context) -> Iterator[Taken]:
    """Events that are accepted where they come, from the beginning to an end or long enough."""
    state = machine.initial
    for _ in range(LONGEST):
        events = {row.event for source, row in machine.expanded if source == state}
        kinds = sorted(events - {CancelRequested}, key=lambda kind: kind.__name__)
        # A cancel ends everything, so it is drawn as rarely as it happens.
        kind = CancelRequested if data.draw(st.integers(0, 40)) == 40 else data.draw(st.sampled_from(kinds))
        event = data.draw(structs(kind))
        if row_taken(machine, state, context, event) is None:
            continue
        step = machine.step(state, context, event)
        yield Taken(state, context, event, step.state, step.context)
        state, context = step.state, step.context
        if machine.states[state].final:
            return


@STORIES
@given(data=st.data())
def test_after_a_payment_page_only_the_api_or_a_person_ends_an_order(data: st.DataObject) -> None:
    """The ends are the API's word about the tenant, and a person's; and only a person has another one placed."""
    shown = False
    for taken in walk(data, CHECKOUT, ORDER):
        if shown and CHECKOUT.states[taken.to].final:
            success = isinstance(taken.event, TenantConfirmed | TenantAnnounced)
            assert success == (taken.to == "completed")
            assert success or isinstance(taken.event, CancelRequested | RepeatDeclined)
        if shown and taken.to == "creating_checkout":
            assert isinstance(taken.event, OrderConfirmed | RepeatConfirmed)
        if not shown and taken.to == "creating_checkout":
            assert isinstance(taken.event, OrderValidated | EarlierOrdersChecked | OrderConfirmed | RepeatConfirmed)
        # Of the order that a person wants in place of this one no page was shown yet.
        shown = (shown or isinstance(taken.event, CheckoutCreated)) and not isinstance(taken.event, OrderConfirmed)


@STORIES
@given(data=st.data())
def test_beside_an_earlier_order_that_may_be_paid_only_a_person_has_another_one_placed(data: st.DataObject) -> None:
    """One that has not ended, or was reported as paid, or may have bought a tenant that appeared."""
    for taken in walk(data, CHECKOUT, ORDER):
        known = taken.after
        assert isinstance(known, CheckoutContext)
        in_doubt = known.candidates != () or any(each.unfinished or each.reported for each in known.earlier)
        if isinstance(taken.event, OrderValidated) and known.earlier:
            assert taken.to == "checking_earlier_orders"
            assert {*known.candidates} >= {tenant for each in known.earlier for tenant in each.tenants}
        if isinstance(taken.event, EarlierOrdersChecked):
            assert taken.to == ("earlier_order_in_doubt" if in_doubt else "creating_checkout")
        if taken.state == "earlier_order_in_doubt" and taken.to == "creating_checkout":
            assert isinstance(taken.event, OrderConfirmed)


@STORIES
@given(data=st.data())
def test_what_was_reported_about_an_order_is_not_forgotten(data: st.DataObject) -> None:
    """Until another order is placed: the payment, but for what only a strange browser said; the tenants that are named,
    and those that appeared, until a person has chosen one.
    """
    for taken in walk(data, CHECKOUT, ORDER):
        before, after = taken.context, taken.after
        assert isinstance(before, CheckoutContext)
        assert isinstance(after, CheckoutContext)
        if isinstance(taken.event, OrderConfirmed):
            assert (after.paid, named_tenants(after), after.candidates, after.denied) == ("", (), (), ())
            continue
        assert after.paid or before.paid in {"", "browser"}
        if not isinstance(taken.event, TenantChosen):
            assert {*named_tenants(after)} >= {*named_tenants(before)}
            if not isinstance(taken.event, OrderValidated | CheckoutCreated):
                assert {*after.candidates} >= {*before.candidates}


@STORIES
@given(data=st.data())
def test_the_payment_page_comes_back_while_only_a_strange_browser_reported_the_payment(data: st.DataObject) -> None:
    """No such report leads to a state that has no way back to the page."""
    for taken in walk(data, CHECKOUT, ORDER):
        before = taken.context
        assert isinstance(before, CheckoutContext)
        if before.paid == "browser" and taken.state in WAITING and isinstance(taken.event, DeadlinePassed):
            assert taken.to == "payment_in_doubt"
        if taken.state == "payment_in_doubt" and isinstance(taken.event, PaymentAwaited):
            assert isinstance(taken.after, CheckoutContext)
            assert (taken.to, taken.after.paid) == ("awaiting_payment", "")


@STORIES
@given(data=st.data())
def test_a_paid_tenant_is_never_left_for_another_checkout(data: st.DataObject) -> None:
    """An onboarding with a tenant provisions it, pauses, succeeds or is cancelled until a person gives it up."""
    paid = False
    for taken in walk(data, ONBOARDING, ONBOARDED):
        if paid and not isinstance(taken.event, TenantGivenUp):
            assert taken.to in {"provisioning", "tenant_unready", "ready", "cancelled"}
            assert taken.to != "cancelled" or isinstance(taken.event, CancelRequested)
        found = isinstance(taken.event, CredentialsFound | LoginSucceeded) and taken.event.tenant_id != ""
        if found:
            assert taken.to == "provisioning"
        bought = found or isinstance(taken.event, CheckoutSucceeded)
        paid = (paid or bought) and not isinstance(taken.event, TenantGivenUp)
