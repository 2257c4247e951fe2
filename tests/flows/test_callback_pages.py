"""What a browser sees that comes back from the payment page: nothing that the API has not confirmed."""

from __future__ import annotations

import msgspec
import pytest
from systemprompt_cloud.flows.steps.order import read_callback
from systemprompt_cloud.io.loopback.pages import CheckoutTemplates
from systemprompt_cloud.machines.checkout import CHECKOUT, CheckoutContext

ORDERED = CheckoutContext(
    api_url="http://127.0.0.1:1", plan="p", region="fra", checkout_session_id="cs_1", known_tenants=("old",)
)
BAD_NEWS = [
    {"error": "payment_declined"},
    {"status": "refunded"},
    {"status": "completed", "tenant_id": "old", "transaction_id": "t"},
    {},
]
OURS = CheckoutTemplates(error_html="<title>Ours</title><p>Not paid</p>")


@pytest.mark.parametrize("parameters", [*BAD_NEWS, {"status": "completed", "tenant_id": "t", "transaction_id": "x"}])
def test_nothing_a_browser_brings_is_confirmed_by_its_page(parameters: dict[str, str]) -> None:
    """Good news and bad news look the same until the API was asked."""
    page = read_callback(ORDERED, parameters).page
    assert "Your terminal is checking the payment with the API." in page
    assert "Not paid" not in page
    assert "Paid" not in page
    assert '<body class="busy"' in page


@pytest.mark.parametrize("parameters", BAD_NEWS)
def test_bad_news_is_not_shown_beside_a_reported_payment(parameters: dict[str, str]) -> None:
    """An old tab, or anybody: the page follows the order that the stream has reported as paid."""
    paid = msgspec.structs.replace(ORDERED, paid="stream")
    assert "/status/cs_1" in read_callback(paid, parameters, OURS).page
    assert "Not paid" in read_callback(ORDERED, parameters, OURS).page


def test_a_tenant_that_an_older_version_was_told_of_is_not_taken_for_linked() -> None:
    """Version 1 recorded it under one name whoever had named it: a browser without the order's session, perhaps."""
    (migration,) = CHECKOUT.migrations
    assert migration.context is not None
    told = migration.context({"tenant_id": "tnt_bogus"})
    assert (told["tenant_id"], told["browser_tenant"], told["browser_linked"]) == ("", "tnt_bogus", False)
