"""What a callback, an event of the checkout's stream and a status mean, as docs/reference/wire.md section 2 has it."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec
import pytest
from systemprompt_cloud.engine.visit import Intent
from systemprompt_cloud.errors import ApiError, CallbackRejected, Network
from systemprompt_cloud.flows.steps.effects import is_conflict_with_itself
from systemprompt_cloud.flows.steps.order import (
    candidates_of,
    linked,
    our_tenant,
    read_callback,
    status_view,
    stream_meaning,
)
from systemprompt_cloud.io.cloud.wire import CheckoutEvent, TenantInfo, TenantPlan
from systemprompt_cloud.machines.checkout import (
    CheckoutContext,
    PaymentCompleted,
    PaymentDeclined,
    PaymentObserved,
    PaymentPending,
    PaymentUnclear,
)
from systemprompt_cloud.machines.parts.progress import EndReported, ForeignEventDropped, StepObserved

from tests.support.rehearsal import PLAN

CONTEXT = CheckoutContext(
    api_url="http://127.0.0.1:1",
    plan=PLAN,
    region="fra",
    checkout_session_id="cs_1",
    transaction_id="txn_1",
    known_tenants=("old",),
)


@pytest.mark.parametrize(
    ("query", "event"),
    [
        ("error=declined", PaymentDeclined("declined")),
        ("error=declined&checkout_session_id=cs_1", PaymentDeclined("declined")),
        ("status=completed&tenant_id=t&transaction_id=x", PaymentCompleted("x", "t")),
        ("status=completed&tenant_id=t&transaction_id=txn_1", PaymentCompleted("txn_1", "t", linked=True)),
        (
            "status=completed&tenant_id=t&transaction_id=x&checkout_session_id=cs_1",
            PaymentCompleted("x", "t", linked=True),
        ),
        (
            "status=completed&tenant_id=old&transaction_id=txn_1",
            PaymentUnclear("the payment page named a tenant that was there before the order"),
        ),
        ("status=pending&checkout_session_id=cs_1", PaymentPending()),
        ("status=pending&checkout_session_id=cs_1&error=no", PaymentDeclined("no")),
        (
            "status=refunded&tenant_id=t&transaction_id=x",
            PaymentUnclear("the payment page came back with status 'refunded'"),
        ),
        ("status=pending", PaymentUnclear("the payment page came back with status 'pending'")),
        ("status=completed&tenant_id=t", PaymentUnclear("the payment page came back with status 'completed'")),
        ("", PaymentUnclear("the payment page came back with neither a tenant nor a status")),
    ],
)
def test_what_a_callback_means(query: str, event: object) -> None:
    """docs/reference/wire.md section 2, line by line."""
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    assert read_callback(CONTEXT, parameters).event == event


@pytest.mark.parametrize("query", ["error=x", "status=pending", "status=completed&tenant_id=t&transaction_id=x"])
def test_a_callback_of_another_session_means_nothing(query: str) -> None:
    """Whatever it says, it is not about this checkout."""
    parameters = {name: values[0] for name, values in parse_qs(query).items()}
    with pytest.raises(CallbackRejected):
        read_callback(CONTEXT, {**parameters, "checkout_session_id": "cs_2"})


PAID = PaymentObserved("t", "n")


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("infrastructure_ready", EndReported("infrastructure_ready", "said", "7")),
        ("tenant_ready", EndReported("tenant_ready", "said", "7")),
        ("provisioning_failed", EndReported("provisioning_failed", "said", "7")),
        ("tenant_created", StepObserved("tenant_created", "said", "stream", "7")),
        ("something_new", StepObserved("something_new", "said", "stream", "7")),
    ],
)
def test_what_an_event_of_the_stream_means(kind: str, event: object) -> None:
    """The payment, once; then progress, known or not, or an end that the API is asked about."""
    record = _record(kind)
    assert stream_meaning(CONTEXT, record, "7") == [PAID, event]
    known = msgspec.structs.replace(CONTEXT, paid="stream", session_tenant="t")
    assert stream_meaning(known, record, "7") == [event]


def _record(kind: str = "tenant_created", *, session: str = "cs_1", tenant: str = "t") -> CheckoutEvent:
    return CheckoutEvent(
        checkout_session_id=session, tenant_id=tenant, tenant_name="n", event_type=kind, status="x", message="said"
    )


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (_record(session="cs_2"), "cs_2"),
        (_record("tenant_ready", session="cs_2", tenant=""), "cs_2"),
        (_record(tenant="old"), "old"),
        (_record(tenant="x" * 1000), "x" * 200),
    ],
    ids=["session", "end", "known before", "no id"],
)
def test_an_event_of_somebody_else_is_dropped(record: CheckoutEvent, named: str) -> None:
    """Another session, or a tenant that was there before the order: noted, and nothing else."""
    (event,) = stream_meaning(CONTEXT, record, "7")
    assert isinstance(event, ForeignEventDropped)
    assert event.named == named


def test_a_second_tenant_of_the_same_session_is_dropped() -> None:
    """The first one the session named is asked about; a contradiction does not replace it."""
    known = msgspec.structs.replace(CONTEXT, paid="stream", session_tenant="t")
    (event,) = stream_meaning(known, _record(tenant="other"), "7")
    assert isinstance(event, ForeignEventDropped)


def test_an_unknown_event_without_a_tenant_is_no_payment() -> None:
    """A step of the wire is: they all come after it."""
    assert stream_meaning(CONTEXT, _record("payment_page_shown", tenant=""), "") == [
        StepObserved("payment_page_shown", "said", "stream", "")
    ]
    assert stream_meaning(CONTEXT, _record("subscription_created", tenant=""), "")[0] == PaymentObserved("", "n")


# --- which tenant is the order's ------------------------------------------------------------------------------------


def tenant(name: str, *, region: str | None = "fra", plan: str | None = "Starter") -> TenantInfo:
    """A tenant as the API lists it."""
    listed = None if plan is None else TenantPlan(name=plan, memory_mb=1, volume_gb=1)
    return TenantInfo(id=name, name=name, region=region, plan=listed, database_url="")


ORDERED = msgspec.structs.replace(CONTEXT, plan_name="Starter")


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([tenant("old")], None),
        ([tenant("old"), tenant("new")], "new"),
        ([tenant("new", region=None, plan=None)], "new"),
        ([tenant("new", region="iad")], None),
        ([tenant("new", plan="Team")], None),
        ([tenant("new"), tenant("other", region="iad")], "new"),
        ([tenant("new"), tenant("newer")], None),
    ],
)
def test_only_the_one_new_tenant_that_fits_the_order_is_ours(listed: list[TenantInfo], found: str | None) -> None:
    """Where there is a choice nothing is guessed: another order's tenant would be handed out."""
    ours = our_tenant(ORDERED, listed)
    assert (ours.id if ours is not None else None) == found
    named = linked(ORDERED, listed, paid=True)
    assert (named.id if named is not None else None) == found
    assert linked(ORDERED, listed, paid=False) is None
    if found is not None:  # listed for a while before anybody reported the payment
        assert linked(msgspec.structs.replace(ORDERED, unclaimed=(found,)), listed, paid=True) is None


BOTH = [tenant("old"), tenant("a"), tenant("b")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"session_tenant": "b"}, "b"),
        ({"session_tenant": "b", "unclaimed": ("a", "b")}, "b"),
        ({"browser_tenant": "a", "browser_linked": True, "unclaimed": ("a",)}, "a"),
        ({"session_tenant": "unlisted"}, "unlisted"),
        ({"browser_tenant": "a", "browser_linked": True}, "a"),
        ({"browser_tenant": "a"}, None),
        ({"browser_tenant": "old", "browser_linked": True}, None),
        ({"browser_tenant": "unlisted", "browser_linked": True}, None),
        ({"session_tenant": "b", "browser_tenant": "a", "browser_linked": True}, "b"),
    ],
)
def test_what_links_one_of_two_tenants_to_the_order(changes: dict[str, object], found: str | None) -> None:
    """The session's word goes first, then the browser's where it named the order and the API lists the tenant."""
    context = msgspec.structs.replace(ORDERED, **changes)
    named = linked(context, BOTH, paid=True)
    assert (named.id if named is not None else None) == found
    assert candidates_of(context, BOTH) == ("a", "b")


def test_a_browser_that_names_another_tenant_than_the_only_new_one_is_a_contradiction() -> None:
    """Neither is taken."""
    context = msgspec.structs.replace(ORDERED, browser_tenant="unlisted")
    assert linked(context, [tenant("new")], paid=True) is None


def test_what_the_waiting_page_is_told() -> None:
    """`ready` and `failed` are the words it knows; before them, the step and the last message."""
    context = CheckoutContext(api_url="http://127.0.0.1:1", plan=PLAN, region="fra")
    assert status_view(context).status == "waiting"
    steps = ("tenant_created", "infrastructure_ready")
    working = CheckoutContext(api_url=context.api_url, plan=PLAN, region="fra", steps=steps[:1], messages=("so far",))
    assert (status_view(working).status, status_view(working).message) == ("tenant_created", "so far")
    built = CheckoutContext(api_url=context.api_url, plan=PLAN, region="fra", steps=steps)
    assert status_view(built).status == "ready"
    failed = CheckoutContext(api_url=context.api_url, plan=PLAN, region="fra", steps=steps, problem="no")
    assert (status_view(failed).status, status_view(failed).message) == ("failed", "no")


@pytest.mark.parametrize(("uncertain", "status", "meant"), [(True, 409, True), (False, 409, False), (True, 422, False)])
def test_a_conflict_with_oneself(uncertain: bool, status: int, meant: bool) -> None:
    """409 is the first request's doing only where an earlier process may have sent it; else it is a refusal."""
    intent = Intent("key", uncertain)
    assert is_conflict_with_itself(intent, ApiError("no", status=status)) is meant
    assert not is_conflict_with_itself(intent, Network("gone"))
