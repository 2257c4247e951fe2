"""What a callback, an event of the checkout's stream and a status mean, as docs/reference/wire.md section 2 has it."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from systemprompt_cloud.engine.visit import Intent
from systemprompt_cloud.errors import ApiError, CallbackRejected, Network
from systemprompt_cloud.flows.checkout import read_callback, status_view, stream_meaning
from systemprompt_cloud.flows.steps.effects import is_conflict_with_itself
from systemprompt_cloud.io.cloud.wire import CheckoutEvent
from systemprompt_cloud.machines.checkout import (
    CheckoutContext,
    CheckoutFailed,
    PaymentCompleted,
    PaymentDeclined,
    PaymentPending,
    TenantAnnounced,
)
from systemprompt_cloud.machines.parts.watching import StepObserved

from tests.support.rehearsal import PLAN

CONTEXT = CheckoutContext(api_url="http://127.0.0.1:1", plan=PLAN, region="fra", checkout_session_id="cs_1")


@pytest.mark.parametrize(
    ("query", "event"),
    [
        ("error=declined", PaymentDeclined("declined")),
        ("error=declined&checkout_session_id=cs_1", PaymentDeclined("declined")),
        ("status=completed&tenant_id=t&transaction_id=x", PaymentCompleted("x", "t")),
        ("status=completed&tenant_id=t&transaction_id=x&checkout_session_id=cs_1", PaymentCompleted("x", "t")),
        ("status=pending&checkout_session_id=cs_1", PaymentPending()),
        (
            "status=refunded&tenant_id=t&transaction_id=x",
            CheckoutFailed("the payment page came back with status 'refunded'"),
        ),
        ("status=pending", CheckoutFailed("the payment page came back with status 'pending'")),
        ("status=completed&tenant_id=t", CheckoutFailed("the payment page came back with status 'completed'")),
        ("", CheckoutFailed("the payment page came back with neither a tenant nor a status")),
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


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("infrastructure_ready", TenantAnnounced("infrastructure_ready", "said", "t", "n", needs_deploy=True)),
        ("tenant_ready", TenantAnnounced("tenant_ready", "said", "t", "n", needs_deploy=False)),
        ("provisioning_failed", CheckoutFailed("said")),
        ("tenant_created", StepObserved("tenant_created", "said", "stream", "7", "t")),
        ("something_new", StepObserved("something_new", "said", "stream", "7", "t")),
    ],
)
def test_what_an_event_of_the_stream_means(kind: str, event: object) -> None:
    """Two ready events and the failure end the wait; anything else, known or not, is progress.

    So says docs/reference/wire.md, section 2.
    """
    record = CheckoutEvent(
        checkout_session_id="cs_1", tenant_id="t", tenant_name="n", event_type=kind, status="x", message="said"
    )
    assert stream_meaning(record, "7") == event


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
