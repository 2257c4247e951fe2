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
    read_callback,
    status_view,
    stream_meaning,
    undecided,
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
from systemprompt_cloud.machines.parts.order import CandidatesSeen, TenantFailed
from systemprompt_cloud.machines.parts.order_updates import browser_paid, candidates, failed, named_tenants, stream_paid
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
        ("status=pending&checkout_session_id=cs_1&tenant_id=t", PaymentPending("t")),
        ("status=pending&checkout_session_id=cs_1&tenant_id=old", PaymentPending()),
        (
            "status=completed&tenant_id=eyJhbGciOiJIUzI1NiJ9.x&transaction_id=txn_1",
            PaymentUnclear("the payment page named something that is no tenant"),
        ),
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
        (_record(tenant="x" * 1000), "…"),
    ],
    ids=["session", "end", "known before", "no id"],
)
def test_an_event_of_somebody_else_is_dropped(record: CheckoutEvent, named: str) -> None:
    """Another session, or a tenant that was there before the order: noted, and nothing else."""
    (event,) = stream_meaning(CONTEXT, record, "7")
    assert isinstance(event, ForeignEventDropped)
    assert event.named == named


def test_a_second_tenant_of_the_same_session_is_a_contradiction() -> None:
    """It is recorded, once, and neither is taken; how far it is does not matter."""
    known = msgspec.structs.replace(CONTEXT, paid="stream", session_tenant="t")
    (event,) = stream_meaning(known, _record(tenant="other"), "7")
    assert isinstance(event, PaymentObserved)
    assert event == PaymentObserved("other", "")
    both = stream_paid(known, event)
    assert named_tenants(both) == ("other", "t")
    assert linked(both, [tenant("t"), tenant("other")]) is None
    assert stream_meaning(both, _record("tenant_ready", tenant="other"), "8") == []


def test_an_event_that_names_no_session_links_no_tenant() -> None:
    """It is dropped, unless it is about the tenant that is linked already: then it reports how far that is."""
    (event,) = stream_meaning(CONTEXT, _record(session=""), "7")
    assert isinstance(event, ForeignEventDropped)
    known = msgspec.structs.replace(CONTEXT, paid="stream", session_tenant="t")
    assert stream_meaning(known, _record(session=""), "7") == [StepObserved("tenant_created", "said", "stream", "7")]
    assert stream_meaning(CONTEXT, _record(session="", tenant=""), "7") == [
        StepObserved("tenant_created", "said", "stream", "7")
    ]


@pytest.mark.parametrize("denied", [(), ("other",)])
def test_a_person_decides_a_contradiction_once(denied: tuple[str, ...]) -> None:
    """What they said no to is not taken up again; a tenant they were not asked about is."""
    decided = msgspec.structs.replace(CONTEXT, paid="person", session_tenant="t", denied=denied)
    (event,) = stream_meaning(decided, _record(tenant="other"), "7")
    assert isinstance(event, ForeignEventDropped if denied else PaymentObserved)


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
        ([tenant("old")], ()),
        ([tenant("old"), tenant("new")], ("new",)),
        ([tenant("new", region=None, plan=None)], ("new",)),
        ([tenant("new", region="iad")], ()),
        ([tenant("new", plan="Team")], ()),
        ([tenant("new"), tenant("other", region="iad")], ("new",)),
        ([tenant("new"), tenant("newer")], ("new", "newer")),
        ([tenant("x" * 201), tenant("eyJhbGciOiJIUzI1NiJ9.x"), tenant("")], ()),
    ],
)
def test_a_new_tenant_that_fits_the_order_is_a_candidate_and_no_more(
    listed: list[TenantInfo], found: tuple[str, ...]
) -> None:
    """Nothing is guessed, not even where it is the only one: another order's tenant would be handed out."""
    assert candidates_of(ORDERED, listed) == found
    for paid in ("", "browser", "page", "stream"):
        assert linked(msgspec.structs.replace(ORDERED, paid=paid), listed) is None


BOTH = [tenant("old"), tenant("a"), tenant("b")]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"session_tenant": "b"}, "b"),
        ({"session_tenant": "unlisted"}, "unlisted"),
        ({"browser_tenant": "a", "browser_linked": True}, "a"),
        ({"browser_tenant": "a"}, None),
        ({"browser_tenant": "old", "browser_linked": True}, None),
        ({"browser_tenant": "unlisted", "browser_linked": True}, None),
        ({"session_tenant": "b", "browser_tenant": "a"}, "b"),
        ({"session_tenant": "b", "browser_tenant": "b", "browser_linked": True}, "b"),
        ({"session_tenant": "b", "browser_tenant": "a", "browser_linked": True}, None),
        ({"session_tenant": "b", "also_named": ("a",)}, None),
        ({"failed_tenant": "a"}, None),
    ],
)
def test_what_links_one_of_two_tenants_to_the_order(changes: dict[str, object], found: str | None) -> None:
    """What the order's session names, by its stream or by a browser; two that are named are a question."""
    context = msgspec.structs.replace(ORDERED, **changes)
    named = linked(context, BOTH)
    assert (named.id if named is not None else None) == found
    assert candidates_of(context, BOTH) == ("a", "b")


def test_what_a_person_is_asked_about() -> None:
    """What appeared, without what they said no to; where several are named, those, each time."""
    context = msgspec.structs.replace(ORDERED, candidates=("a", "b"), denied=("a",))
    assert undecided(context, again=False) == ("b",)
    assert undecided(context, again=True) == ("a", "b")
    named = msgspec.structs.replace(context, session_tenant="a", also_named=("c",), denied=("a", "c"))
    assert undecided(named, again=False) == ("a", "c")


def test_candidates_are_joined() -> None:
    """A replica that is behind takes back nothing."""
    seen = candidates(candidates(ORDERED, CandidatesSeen(("b",))), CandidatesSeen(("a",)))
    assert candidates(seen, CandidatesSeen(())).candidates == ("a", "b")


@pytest.mark.parametrize(
    ("reports", "paid", "named"),
    [
        ([PaymentCompleted("x", "a")], "browser", ()),
        ([PaymentCompleted("x", "a"), PaymentPending()], "page", ()),
        ([PaymentPending("a")], "page", ("a",)),
        ([PaymentCompleted("x", "a"), PaymentCompleted("txn_1", "b", linked=True)], "page", ("b",)),
        ([PaymentCompleted("txn_1", "b", linked=True), PaymentCompleted("x", "a")], "page", ("b",)),
        ([PaymentPending("a"), PaymentCompleted("txn_1", "b", linked=True)], "page", ("a", "b")),
    ],
)
def test_what_browsers_report_is_joined(reports: list[PaymentCompleted], paid: str, named: tuple[str, ...]) -> None:
    """The strongest report counts; what one named that could be anybody's links nothing."""
    context = CONTEXT
    for report in reports:
        context = browser_paid(context, report)
    assert (context.paid, named_tenants(context)) == (paid, named)


def test_a_tenant_that_failed_is_not_named_by_that() -> None:
    """That the API gave up on it says nothing about whose it is."""
    context = failed(CONTEXT, TenantFailed("no disk", "a"))
    assert (context.failed_tenant, named_tenants(context)) == ("a", ())


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
