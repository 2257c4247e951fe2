"""The API for programs that do not run trio: the same calls, which wait.

Theory: there is one client, the asynchronous one. `SyncCloudApiClient` keeps a trio loop in a thread of its own
(`io/http/blocking.py`) with one `CloudApiClient` in it, hands each call over and waits for the result. So the rules
of sending, the bounds and the errors are the same ones, and any number of threads share one connection pool.
Every method has the name, the parameters and the meaning of its asynchronous twin; a test compares the two.

A call holds up its thread. In a program that runs asyncio or trio it belongs into a worker thread
(`asyncio.to_thread`, `trio.to_thread.run_sync`); trio programs have `CloudApiClient`. Ctrl-C ends the waiting and
cancels the call.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

from ..http.blocking import BlockingLoop
from ..http.polling import Backoff
from ..sse.blocking import SyncEventSource, SyncEventStream
from ..sse.decoder import EventStream
from . import wire
from .api import DEFAULT_CONNECT_TIMEOUT, DEFAULT_MAX_BODY, DEFAULT_TIMEOUT, CloudApiClient


class SyncCloudApiClient:
    """The API of one cloud, for one token, for any thread. A context manager; arguments are `CloudApiClient`'s.

    The methods are those of `CloudApiClient`, with the same parameters and errors, and wait for their answer. Between
    `with` and its end, or `close`, they may be called from any number of threads; outside they raise RuntimeError.

    Raises:
        UnsafeUrl: `api_url` is not one a token may be sent to.
        NotAuthenticated: The token fits into no header, or is a local cloud's and `api_url` is not on loopback.
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
        self._loop: Final = BlockingLoop()
        self._api: Final = CloudApiClient(
            api_url,
            token,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_body=max_body,
            attempts=attempts,
            retry_budget=retry_budget,
            backoff=backoff,
        )
        self.api_url: Final = self._api.api_url

    @property
    def honours_idempotency(self) -> bool:
        return self._api.honours_idempotency

    @property
    def clock_skew(self) -> timedelta | None:
        return self._api.clock_skew

    def __enter__(self) -> Self:
        """Start the loop and open the connection pool.

        Raises:
            Network: The environment's proxy or certificate settings (HTTPS_PROXY, SSL_CERT_FILE) cannot be used.
            RuntimeError: It is open already.
        """
        self._loop.start()
        try:
            self._loop.wait(self._api.__aenter__)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and end the loop's thread; calls that still wait raise RuntimeError.

        Once is enough, more often does no harm. A closed client can be opened again.
        """
        self._loop.stop(partial(self._api.__aexit__, None, None, None))

    # --- who is asking ---------------------------------------------------------------------------------

    def authorize_url(self, provider: wire.OAuthProvider | str, redirect_uri: str) -> str:
        return self._loop.wait(self._api.authorize_url, provider, redirect_uri)

    def me(self) -> wire.UserMeResponse:
        return self._loop.wait(self._api.me)

    def report_activity(
        self, event: wire.ActivityEvent | str, user_id: str, at: datetime, *, idempotency_key: str
    ) -> None:
        self._loop.wait(self._api.report_activity, event, user_id, at, idempotency_key=idempotency_key)

    # --- plans and checkout ----------------------------------------------------------------------------

    def plans(self) -> list[wire.Plan]:
        return self._loop.wait(self._api.plans)

    def create_checkout(
        self, price_id: str, region: str, redirect_uri: str | None = None, *, idempotency_key: str
    ) -> wire.CheckoutResponse:
        return self._loop.wait(
            self._api.create_checkout, price_id, region, redirect_uri, idempotency_key=idempotency_key
        )

    def checkout_events(
        self, checkout_session_id: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractContextManager[SyncEventStream]:
        return self._events(
            self._api.checkout_events(checkout_session_id, last_event_id=last_event_id, idle_timeout=idle_timeout)
        )

    def follow_checkout(
        self,
        checkout_session_id: str,
        *,
        last_event_id: str = "",
        idle_timeout: float = 30.0,
        backoff: Backoff | None = None,
    ) -> SyncEventSource:
        source = self._api.follow_checkout(
            checkout_session_id, last_event_id=last_event_id, idle_timeout=idle_timeout, backoff=backoff
        )
        return SyncEventSource(source, self._loop)

    # --- tenants ---------------------------------------------------------------------------------------

    def tenants(self) -> list[wire.Tenant]:
        return self._loop.wait(self._api.tenants)

    def tenant_status(self, tenant_id: str) -> wire.TenantStatus:
        return self._loop.wait(self._api.tenant_status, tenant_id)

    def tenant_secrets(self, secrets_url: str) -> wire.TenantSecrets:
        return self._loop.wait(self._api.tenant_secrets, secrets_url)

    def set_external_db_access(
        self, tenant_id: str, enabled: bool, *, idempotency_key: str | None = None
    ) -> wire.ExternalDbAccessResponse:
        return self._loop.wait(self._api.set_external_db_access, tenant_id, enabled, idempotency_key=idempotency_key)

    def tenant_events(
        self, tenant_id: str, *, last_event_id: str | None = None, idle_timeout: float = 30.0
    ) -> AbstractContextManager[SyncEventStream]:
        return self._events(self._api.tenant_events(tenant_id, last_event_id=last_event_id, idle_timeout=idle_timeout))

    def follow_tenant(
        self,
        tenant_id: str,
        *,
        last_event_id: str = "",
        idle_timeout: float = 30.0,
        backoff: Backoff | None = None,
    ) -> SyncEventSource:
        source = self._api.follow_tenant(
            tenant_id, last_event_id=last_event_id, idle_timeout=idle_timeout, backoff=backoff
        )
        return SyncEventSource(source, self._loop)

    @contextmanager
    def _events(self, opening: AbstractAsyncContextManager[EventStream]) -> Generator[SyncEventStream]:
        with self._loop.hold(opening) as stream:
            yield SyncEventStream(stream, self._loop)

    # --- what a tenant runs, knows and is called -------------------------------------------------------

    def registry_token(self, tenant_id: str) -> wire.RegistryToken:
        return self._loop.wait(self._api.registry_token, tenant_id)

    def deploy(self, tenant_id: str, image: str, *, idempotency_key: str | None = None) -> wire.DeployResponse:
        return self._loop.wait(self._api.deploy, tenant_id, image, idempotency_key=idempotency_key)

    def restart_tenant(self, tenant_id: str, *, idempotency_key: str | None = None) -> wire.StatusResponse:
        return self._loop.wait(self._api.restart_tenant, tenant_id, idempotency_key=idempotency_key)

    def retry_provision(self, tenant_id: str, *, idempotency_key: str | None = None) -> wire.StatusResponse:
        return self._loop.wait(self._api.retry_provision, tenant_id, idempotency_key=idempotency_key)

    def delete_tenant(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        self._loop.wait(self._api.delete_tenant, tenant_id, idempotency_key=idempotency_key)

    def cancel_subscription(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        self._loop.wait(self._api.cancel_subscription, tenant_id, idempotency_key=idempotency_key)

    def list_secrets(self, tenant_id: str) -> list[str]:
        return self._loop.wait(self._api.list_secrets, tenant_id)

    def set_secrets(self, tenant_id: str, secrets: Mapping[str, str], *, idempotency_key: str | None = None) -> None:
        self._loop.wait(self._api.set_secrets, tenant_id, secrets, idempotency_key=idempotency_key)

    def unset_secret(self, tenant_id: str, key: str, *, idempotency_key: str | None = None) -> None:
        self._loop.wait(self._api.unset_secret, tenant_id, key, idempotency_key=idempotency_key)

    def rotate_credentials(
        self, tenant_id: str, *, idempotency_key: str | None = None
    ) -> wire.RotateCredentialsResponse:
        return self._loop.wait(self._api.rotate_credentials, tenant_id, idempotency_key=idempotency_key)

    def rotate_sync_token(self, tenant_id: str, *, idempotency_key: str | None = None) -> str:
        return self._loop.wait(self._api.rotate_sync_token, tenant_id, idempotency_key=idempotency_key)

    def custom_domain(self, tenant_id: str) -> wire.CustomDomainResponse:
        return self._loop.wait(self._api.custom_domain, tenant_id)

    def set_custom_domain(
        self, tenant_id: str, domain: str, *, idempotency_key: str | None = None
    ) -> wire.CustomDomainResponse:
        return self._loop.wait(self._api.set_custom_domain, tenant_id, domain, idempotency_key=idempotency_key)

    def delete_custom_domain(self, tenant_id: str, *, idempotency_key: str | None = None) -> None:
        self._loop.wait(self._api.delete_custom_domain, tenant_id, idempotency_key=idempotency_key)


# What a call is for, takes and raises is written down once.
for _name, _member in vars(SyncCloudApiClient).items():
    if not _name.startswith("_") and _member.__doc__ is None:
        _member.__doc__ = getattr(CloudApiClient, _name).__doc__
