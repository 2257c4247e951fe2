"""The SystemPrompt Cloud API, called.

The story of a call: the path is put together under the one base URL this client was made for (https, or http on
loopback). The token goes into the `Authorization` header and nowhere else. The request is sent on the shared
connection pool, under a deadline for the whole of it, and repeated only where that is safe (`http/transport.py` tells
when). Redirects are not followed: wherever they lead, the token does not. The answer is read up to a bound. A good one
becomes a record of `wire.py`, anything else an error that names the request (`http/answers.py`).

`tenant_events` and `checkout_events` open a stream once: `flows/` decides between stream and polling. `follow_tenant`
and `follow_checkout` open it again as often as it takes (`sse/event_source.py`).

Every call raises `NotAuthenticated` without a token or when it was refused (`TokenExpired` when its `exp` has passed),
`ApiError` on any other refusal and on an answer of the wrong shape, `Network` when the API was not reached or the
connection broke, `TooLarge` on a body over the bound, and `UnsafeUrl` when the base URL and the path are too long to be
one URL. Their docstrings name only what comes on top.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from ...base.redaction import forget, new_owner, register_secret
from ...errors import NotAuthenticated
from ..http.addresses import is_loopback, link_under, parse_api_url, path_segment
from ..http.answers import keep_secret
from ..http.polling import Backoff
from ..http.tokens import is_sandbox_token, token_problem
from ..http.transport import Transport
from ..sse.decoder import EventStream
from ..sse.event_source import EventSource
from ..sse.opening import read_events, stream_headers
from . import wire
from .accounts import UserMeFound
from .tenant_calls import TenantCalls

DEFAULT_TIMEOUT: Final = 30.0
DEFAULT_CONNECT_TIMEOUT: Final = 10.0
DEFAULT_MAX_BODY: Final = 4 * 1024 * 1024

_STREAM_MAX_LINE: Final = 1024 * 1024


class CloudApiClient(TenantCalls):
    """The API of one cloud, for one token, on one shared connection pool. An asynchronous context manager.

    While it is open the redactor hides its token and the secrets that were sent or answered.

    Args:
        api_url: The base URL: https, or http on 127.0.0.1, ::1 or localhost.
        token: The bearer token; None can only call `authorize_url`.
        timeout: Seconds for one whole request, and for opening a stream.
        connect_timeout: Seconds for making the connection, within `timeout`.
        max_body: Bytes read of one answer; characters of one event.
        attempts: How often a call that may be repeated is tried in all.
        retry_budget: Seconds from the first try to the start of the last.
        backoff: The waits between tries; full jitter from 0.25 s up to 5 s by default.

    Raises:
        UnsafeUrl: `api_url` is not one a token may be sent to.
        NotAuthenticated: The token fits into no header, or is a local cloud's and `api_url` is not on loopback.

    Attributes:
        api_url: The base URL, without a slash at its end.
    """

    def __init__(
        self,
        api_url: str,
        token: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        max_body: int = DEFAULT_MAX_BODY,
        attempts: int = 4,
        retry_budget: float = 20.0,
        backoff: Backoff | None = None,
    ) -> None:
        base = parse_api_url(api_url)
        self.api_url: Final = str(base).rstrip("/")
        if token is not None:
            if problem := token_problem(token):
                raise NotAuthenticated(f"the stored token {problem}")
            if not is_loopback(base) and is_sandbox_token(token):
                raise NotAuthenticated(f"the token is a local cloud's and is not sent to {self.api_url}")
        self._token: Final = token
        self._holder = new_owner("API client")
        self._max_body: Final = max_body
        self._transport = Transport(
            base,
            token,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_body=max_body,
            attempts=attempts,
            retry_budget=retry_budget,
            backoff=backoff or Backoff(base=0.25, cap=5.0),
        )

    @property
    def honours_idempotency(self) -> bool:
        """Whether this server answers a repeated `Idempotency-Key` instead of acting again; False until it said so."""
        return self._transport.honours_idempotency

    @property
    def clock_skew(self) -> timedelta | None:
        """How far this computer's clock is ahead (negative: behind) of the server's; None up to five minutes."""
        return self._transport.clock_skew

    async def __aenter__(self) -> Self:
        """Open the connection pool.

        Raises:
            Network: The environment's proxy or certificate settings (HTTPS_PROXY, SSL_CERT_FILE) cannot be used.
        """
        self._transport.open()
        if self._token is not None:
            register_secret(self._token, self._holder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._transport.aclose()
        finally:
            forget(self._holder)

    # --- who is asking ---------------------------------------------------------------------------------

    async def authorize_url(self, provider: wire.OAuthProvider | str, redirect_uri: str) -> str:
        """Ask where the person can log in. The only call made without a token.

        Args:
            provider: The identity provider to log in with.
            redirect_uri: The loopback URL the browser comes back to.

        Returns:
            The URL to open; unchecked, so check it before opening.
        """
        path = f"/api/v1/auth/oauth/{path_segment(str(provider))}?{urlencode({'redirect_uri': redirect_uri})}"
        answer = await self._transport.call("GET", path, authorized=False)
        return answer.decode(wire.AuthorizeResponse).authorize_url

    async def me(self) -> wire.UserMeResponse:
        """Ask who the token belongs to, and what is theirs.

        An account without an e-mail address has one that reaches nobody: its id at `email.invalid`.
        """
        return (await self._transport.call("GET", "/api/v1/auth/me")).decode(UserMeFound).named()

    async def report_activity(
        self, event: wire.ActivityEvent | str, user_id: str, at: datetime, *, idempotency_key: str
    ) -> None:
        """Tell the API that somebody logged in or out.

        Args:
            event: What happened.
            user_id: `UserInfo.id`.
            at: When, with a time zone.
            idempotency_key: The same for every try at the same report.

        Raises:
            ValueError: `at` has no time zone.
        """
        if at.tzinfo is None:
            raise ValueError("the time of an activity needs a time zone")
        body = wire.ActivityRequest(
            event=str(event),
            timestamp=at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            data=wire.ActivityData(user_id=user_id),
        )
        await self._transport.call("POST", "/api/v1/activity", body=body, key=idempotency_key)

    # --- plans and checkout ----------------------------------------------------------------------------

    async def plans(self) -> list[wire.Plan]:
        """List what can be bought."""
        return (await self._transport.call("GET", "/api/v1/checkout/plans")).decode(list[wire.Plan])

    async def create_checkout(
        self, price_id: str, region: str, redirect_uri: str | None = None, *, idempotency_key: str
    ) -> wire.CheckoutResponse:
        """Open a purchase. Nothing is paid yet.

        Args:
            price_id: `Plan.paddle_price_id`.
            region: A key of `wire.REGIONS`, or a newer one.
            redirect_uri: Where the browser goes after the payment page.
            idempotency_key: The same for every try at the same purchase.
        """
        body = wire.CheckoutRequest(price_id=price_id, region=region, redirect_uri=redirect_uri)
        answer = await self._transport.call("POST", "/api/v1/checkout", body=body, key=idempotency_key)
        return answer.decode(wire.CheckoutResponse)

    def checkout_events(
        self, checkout_session_id: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open the event stream of a purchase; data are `wire.CheckoutEvent` in events named `provisioning`.

        Args:
            checkout_session_id: `CheckoutResponse.checkout_session_id`.
            last_event_id: The id of the last event already known; the stream goes on after it.
            idle_timeout: Seconds without a byte after which the stream is given up.

        Returns:
            An asynchronous context manager giving an `EventStream`. Entering it raises what the calls raise; a 204,
            and a body that is no event stream, are ApiErrors.
        """
        return self._events("checkout", checkout_session_id, idle_timeout, last_event_id)

    def follow_checkout(
        self,
        checkout_session_id: str,
        *,
        last_event_id: str = "",
        idle_timeout: float = 30.0,
        backoff: Backoff | None = None,
    ) -> EventSource:
        """Follow a purchase's event stream across as many connections as it takes.

        Args:
            checkout_session_id: As `checkout_events`; so are the events.
            last_event_id: The id of the last event already known; "" for all of it.
            idle_timeout: As `checkout_events`; a stream that is given up is opened again.
            backoff: The waits between connections, as `EventSource`.
        """
        connect = partial(self._events, "checkout", checkout_session_id, idle_timeout)
        return EventSource(connect, last_event_id=last_event_id, backoff=backoff)

    # --- tenants ---------------------------------------------------------------------------------------

    async def tenants(self) -> list[wire.Tenant]:
        """List the account's tenants."""
        return (await self._transport.call("GET", "/api/v1/tenants")).decode(wire.Data[list[wire.Tenant]]).data

    async def tenant_status(self, tenant_id: str) -> wire.TenantStatus:
        """Ask how far a tenant's provisioning or deployment is."""
        answer = await self._transport.call("GET", f"/api/v1/tenants/{path_segment(tenant_id)}/status")
        return answer.decode(wire.Data[wire.TenantStatus]).data

    async def tenant_secrets(self, secrets_url: str) -> wire.TenantSecrets:
        """Fetch a ready tenant's secrets.

        Args:
            secrets_url: `TenantStatus.secrets_url`: a path, or absolute on the API's own origin.

        Raises:
            UnsafeUrl: It leads elsewhere; the token was not sent.
        """
        url = link_under(self._transport.base, secrets_url)
        return keep_secret((await self._transport.call("GET", url)).decode(wire.TenantSecrets), self._holder)

    async def set_external_db_access(
        self, tenant_id: str, enabled: bool, *, idempotency_key: str | None = None
    ) -> wire.ExternalDbAccessResponse:
        """Open or close a tenant's database to the outside.

        Args:
            tenant_id: The tenant.
            enabled: Whether it accepts connections from outside.
            idempotency_key: The same for every try at the same change.
        """
        path = f"/api/v1/tenants/{path_segment(tenant_id)}/external-db-access"
        body = wire.ExternalDbAccessRequest(enabled=enabled)
        answer = await self._transport.call("PUT", path, body=body, key=idempotency_key)
        return keep_secret(answer.decode(wire.Data[wire.ExternalDbAccessResponse]).data, self._holder)

    def tenant_events(
        self, tenant_id: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractAsyncContextManager[EventStream]:
        """Open a tenant's event stream; data are `wire.ProvisioningEvent`, events named `provisioning` or `message`.

        Arguments, result and errors are those of `checkout_events`.
        """
        return self._events("tenants", tenant_id, idle_timeout, last_event_id)

    def follow_tenant(
        self,
        tenant_id: str,
        *,
        last_event_id: str = "",
        idle_timeout: float = 30.0,
        backoff: Backoff | None = None,
    ) -> EventSource:
        """Follow a tenant's event stream across as many connections as it takes; arguments as `follow_checkout`."""
        connect = partial(self._events, "tenants", tenant_id, idle_timeout)
        return EventSource(connect, last_event_id=last_event_id, backoff=backoff)

    @asynccontextmanager
    async def _events(
        self, family: str, owner: str, idle_timeout: float, last_event_id: str | None
    ) -> AsyncGenerator[EventStream]:
        known = last_event_id or ""
        path = f"/api/v1/{family}/{path_segment(owner)}/events"
        async with (
            self._transport.stream(path, stream_headers(known)) as (response, where),
            read_events(
                response,
                where=where,
                last_event_id=known,
                idle_timeout=idle_timeout,
                max_line=_STREAM_MAX_LINE,
                max_event=self._max_body,
            ) as stream,
        ):
            yield stream
