"""The API of the local cloud: the calls of docs/reference/wire.md as one table of plain functions.

A handler takes a `Call` (who asks, what the path and the body say) and returns an answer; it does not await, so it sees
and leaves the world whole. What all calls share happens around it, in `endpoint.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response

from ..io.wire import (
    REGIONS,
    ActivityEvent,
    ActivityRequest,
    AuthorizeResponse,
    CheckoutRequest,
    CheckoutResponse,
    Data,
    ExternalDbAccessRequest,
    OAuthProvider,
)
from . import views
from .answers import WireError, json_answer, no_content, unauthorized
from .state import PLANS, Account
from .streams import EventStream, checkout_feed, last_event_id, tenant_feed
from .world import World

Body = TypeVar("Body")


class Call(msgspec.Struct, frozen=True):
    """One call, as a handler sees it.

    Attributes:
        world: What it is about.
        base_url: Where this cloud answers, as its client addressed it.
        path: The request's path.
        ids: The values in the path.
        query: The query's parameters.
        headers: The request's headers.
        body: The body, not yet read as anything.
        caller: The account behind the token; None where no token is asked for.
    """

    world: World
    base_url: str
    path: str
    ids: dict[str, str]
    query: dict[str, str]
    headers: Headers
    body: bytes
    caller: Account | None

    @property
    def account(self) -> Account:
        """Who asks."""
        if self.caller is None:
            raise unauthorized("missing_token", "this call needs a token")
        return self.caller

    def read(self, kind: type[Body]) -> Body:
        """The body as a record.

        Raises:
            WireError: 415 when it does not say that it is JSON, 422 naming the field when it is not what is wanted.
        """
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise WireError(415, "unsupported_media_type", "send `Content-Type: application/json`")
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as exc:
            raise WireError(422, "invalid_body", str(exc)) from exc


Handler = Callable[[Call], Response]


# --- handlers ---


def authorize(call: Call) -> Response:
    if call.ids["provider"] not in set(OAuthProvider):
        raise WireError(404, "unknown_provider", f"providers are {', '.join(OAuthProvider)}")
    consent = call.world.open_consent(OAuthProvider(call.ids["provider"]), call.query.get("redirect_uri"))
    return json_answer(AuthorizeResponse(authorize_url=f"{call.base_url}/sandbox/consent/{consent.id}"))


def me(call: Call) -> Response:
    return json_answer(views.me(call.world, call.account))


def tenants(call: Call) -> Response:
    return json_answer(
        Data(data=[views.tenant_record(call.world, tenant) for tenant in call.world.tenants_of(call.account)])
    )


def plans(_: Call) -> Response:
    return json_answer(PLANS)


def checkout(call: Call) -> Response:
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
    found = call.world.checkout_of(call.account, call.ids["id"])
    return EventStream(call.world, checkout_feed(call.path, found), last_event_id(call.headers.get("last-event-id")))


def tenant_events(call: Call) -> Response:
    found = call.world.tenant_of(call.account, call.ids["id"])
    return EventStream(call.world, tenant_feed(call.path, found), last_event_id(call.headers.get("last-event-id")))


def tenant_status(call: Call) -> Response:
    tenant = call.world.tenant_of(call.account, call.ids["id"])
    return json_answer(Data(data=views.tenant_status(call.world, tenant)))


def tenant_secrets(call: Call) -> Response:
    tenant = call.world.tenant_of(call.account, call.ids["id"])
    return json_answer(views.tenant_secrets(call.world, tenant))


def external_db_access(call: Call) -> Response:
    wanted = call.read(ExternalDbAccessRequest)
    tenant = call.world.tenant_of(call.account, call.ids["id"])
    if views.tenant_status(call.world, tenant).secrets_url is None:
        raise WireError(409, "not_ready", "the tenant has no database yet")
    tenant.external_db_access = wanted.enabled
    return json_answer(Data(data=views.external_db_access(call.world, tenant)))


def activity(call: Call) -> Response:
    reported = call.read(ActivityRequest)
    if reported.event not in set(ActivityEvent):
        raise WireError(422, "unknown_event", f"events are {', '.join(ActivityEvent)}")
    if reported.data.user_id != call.account.id:
        raise WireError(403, "not_yours", "the activity is another user's")
    try:
        moment = datetime.fromisoformat(reported.timestamp)
    except ValueError as exc:
        raise WireError(422, "invalid_timestamp", "the timestamp is not RFC 3339") from exc
    if moment.tzinfo is None:
        raise WireError(422, "invalid_timestamp", "the timestamp has no offset from UTC")
    call.world.ledger.activities.append(msgspec.to_builtins(reported))
    return no_content()


class ApiCall(msgspec.Struct, frozen=True):
    """One row of the table: what is called, what answers, and whether it needs a token."""

    method: str
    path: str
    handler: Handler
    token: bool = True
    stream: bool = False


API: Final = (
    ApiCall("GET", "/api/v1/auth/oauth/{provider}", authorize, token=False),
    ApiCall("GET", "/api/v1/auth/me", me),
    ApiCall("GET", "/api/v1/tenants", tenants),
    ApiCall("GET", "/api/v1/checkout/plans", plans),
    ApiCall("POST", "/api/v1/checkout", checkout),
    ApiCall("GET", "/api/v1/checkout/{id}/events", checkout_events, stream=True),
    ApiCall("GET", "/api/v1/tenants/{id}/events", tenant_events, stream=True),
    ApiCall("GET", "/api/v1/tenants/{id}/status", tenant_status),
    ApiCall("GET", "/api/v1/tenants/{id}/provisioned-secrets", tenant_secrets),
    ApiCall("PUT", "/api/v1/tenants/{id}/external-db-access", external_db_access),
    ApiCall("POST", "/api/v1/activity", activity),
)
