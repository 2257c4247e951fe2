"""The calls about a person and what they buy: login, plans, checkout, activity."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
from starlette.responses import Response

from ..io.cloud.wire import REGIONS, ActivityEvent, AuthorizeResponse, CheckoutResponse, Data, OAuthProvider
from . import views
from .answers import WireError, json_answer, no_content
from .call import Call
from .requests import TIMESTAMP, ActivityRequest, CheckoutRequest
from .state import PLANS
from .streams import StreamAnswer, checkout_feed, last_event_id


def authorize(call: Call) -> Response:
    """Where a person can log in."""
    if call.ids["provider"] not in set(OAuthProvider):
        raise WireError(404, "unknown_provider", f"providers are {', '.join(OAuthProvider)}")
    if len(call.query.getlist("redirect_uri")) > 1:
        raise WireError(400, "invalid_redirect_uri", "the redirect_uri is given more than once")
    consent = call.world.open_consent(OAuthProvider(call.ids["provider"]), call.query.get("redirect_uri"))
    return json_answer(AuthorizeResponse(authorize_url=f"{call.base_url}/sandbox/consent/{consent.id}"))


def me(call: Call) -> Response:
    """Who the token belongs to, and what is theirs."""
    return json_answer(views.me(call.world, call.account))


def tenants(call: Call) -> Response:
    """The account's tenants."""
    return json_answer(
        Data(data=[views.tenant_record(call.world, tenant) for tenant in call.world.tenants_of(call.account)])
    )


def plans(_: Call) -> Response:
    """What can be bought."""
    return json_answer(PLANS)


def create_checkout(call: Call) -> Response:
    """Open a purchase; nothing is paid yet."""
    wanted = call.read(CheckoutRequest)
    plan = next((plan for plan in PLANS if plan.paddle_price_id == wanted.price_id), None)
    if plan is None:
        raise WireError(422, "unknown_price", f"prices are {', '.join(plan.paddle_price_id for plan in PLANS)}")
    if wanted.region not in REGIONS:
        raise WireError(422, "unknown_region", f"regions are {', '.join(REGIONS)}")
    opened = call.world.open_checkout(call.account, plan, wanted.region, wanted.redirect_uri)
    return json_answer(
        CheckoutResponse(
            checkout_url=f"{call.base_url}/sandbox/pay/{opened.id}",
            transaction_id=opened.transaction_id,
            checkout_session_id=opened.id,
        )
    )


def checkout_events(call: Call) -> Response:
    """What happens to a purchase, as it happens."""
    found = call.world.checkout_of(call.account, call.ids["id"])
    return StreamAnswer(call.world, checkout_feed(call.path, found), last_event_id(call.headers.get("last-event-id")))


def report_activity(call: Call) -> Response:
    """Report a login or a logout."""
    reported = call.read(ActivityRequest)
    if reported.event not in set(ActivityEvent):
        raise WireError(422, "unknown_event", f"events are {', '.join(ActivityEvent)}")
    if not _is_moment(reported.timestamp):
        raise WireError(422, "invalid_timestamp", "the timestamp is not RFC 3339, with an offset from UTC")
    if reported.data.user_id != call.account.id:
        raise WireError(403, "not_yours", "the activity is another user's")
    call.world.ledger.activities.append(msgspec.to_builtins(reported))
    return no_content()


def _is_moment(timestamp: str) -> bool:
    if not re.match(TIMESTAMP, timestamp):
        return False
    # A minute may have a 61st second (RFC 3339 section 5.7), for which Python has no name.
    text = re.sub(r"(:[0-5][0-9]):60", r"\1:59", timestamp.upper())
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
