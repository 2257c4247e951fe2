"""The outside world of the activities, in parts: the API, a browser, a person, and how long is waited.

Nothing here decides anything. An activity takes the parts it uses; `services.Services` makes them and holds them
together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
import trio

from ..base.clock import Clock, SystemClock
from ..base.remedies import Remedy
from ..engine.visit import Visit
from ..errors import NotAuthenticated
from ..io.cloud.api import CloudApiClient
from ..io.http.polling import Backoff
from ..io.http.urls import Origin
from ..io.local.bootstrap import find_credentials
from ..io.local.credentials import CloudCredentials
from ..io.local.environment import API_TOKEN, API_URL, environment_token, no_login_in_container
from ..io.local.keyring_entries import note_of
from ..io.local.keyring_store import KeyringStore
from ..io.local.paths import CloudPaths
from ..io.loopback.browser import BrowserOutcome, check_openable
from ..io.loopback.callback import CallbackListener, listen_for_callback
from ..io.loopback.pages import CheckoutTemplates, OAuthTemplates
from ..machines.parts.vocabulary import NOT_WANTED

ShowUrl = Callable[[str, str, bool], None]
"""Called with what the URL is for ("log in", "pay"), the URL, and whether a tab may be open from before."""

Confirm = Callable[[str], Awaitable[bool]]
"""Asks a person a question that is answered with yes or no."""

ReadLine = Callable[[str], Awaitable[str | None]]
"""Asks a person for a line; None when there will be none."""

OpenBrowser = Callable[[str], Awaitable[BrowserOutcome]]

Listen = Callable[..., AbstractAsyncContextManager[CallbackListener]]
"""Listens for the browser's way back; the arguments are those of `listen_for_callback`."""

MakeClient = Callable[[str, str | None], CloudApiClient]
"""Makes an API client from a base URL and a token."""


def show_nothing(_purpose: str, _url: str, _again: bool) -> None:
    """For embedders whose browser needs no help."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited for a server.

    Attributes:
        poll_seconds: Between two questions about a tenant's status.
        idle_seconds: Silence after which an event stream counts as dead.
        backoff: Waits between attempts to get a lost stream back.
    """

    poll_seconds: float = 2.0
    idle_seconds: float = 30.0
    backoff: Backoff


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who can be asked, or nobody.

    Attributes:
        confirm: Asks a question; None when nobody is there to be asked.
        read_line: Asks for the address a browser on another computer ended on; None waits for a browser here only.
    """

    confirm: Confirm | None = None
    read_line: ReadLine | None = None


class Browser(msgspec.Struct, frozen=True, kw_only=True):
    """Where a person logs in and pays.

    Attributes:
        show_url: Shows a URL to the person.
        open: Opens a URL; None never opens one.
        login_pages: What is seen after a login.
        checkout_pages: What is seen after a payment.
        listen: Listens for the browser's way back.
    """

    show_url: ShowUrl
    open: OpenBrowser | None
    login_pages: OAuthTemplates
    checkout_pages: CheckoutTemplates
    listen: Listen = listen_for_callback

    async def invite(self, purpose: str, url: str, *, again: bool) -> BrowserOutcome:
        """Show the person where to go, then open a browser there if that is wanted and was not done before.

        Raises:
            UnsafeUrl: The API gave a URL that must not be opened.
        """
        check_openable(url)
        self.show_url(purpose, url, again)
        if self.open is None:
            return BrowserOutcome(opened=False, reason="no browser was asked for", code=NOT_WANTED)
        if again:
            return BrowserOutcome(opened=False, reason="a tab may still be open from before")
        return await self.open(url)


class Api:
    """The API, as whoever is logged in or with a token. An asynchronous context manager: it holds connection pools.

    Args:
        paths: Where the credentials are.
        clock: Tells whether a login has expired.
        make_client: Makes a client.
        environ: Where a login may be that goes before the stored one (`io/local/environment.py`); None looks for none.
        keyring: Where the stored login's token may be kept; a store of its own when not given.
    """

    def __init__(
        self,
        paths: CloudPaths,
        *,
        clock: Clock | None = None,
        make_client: MakeClient = CloudApiClient,
        environ: Mapping[str, str] | None = None,
        keyring: KeyringStore | None = None,
    ) -> None:
        self.paths = paths
        self.clock = clock or SystemClock()
        self.environ = environ
        self._keyring = keyring or KeyringStore()
        self._make_client = make_client
        self._clients: dict[tuple[str, str | None], CloudApiClient] = {}
        self._opening = trio.Lock()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._clients.clear()
        await self._stack.__aexit__(kind, exc, traceback)

    async def client(self, api_url: str, token: str | None) -> CloudApiClient:
        """The one client for this API and token, with its shared connection pool.

        Raises:
            UnsafeUrl: Not https, and not http on loopback.
            NotAuthenticated: The token must not go there.
        """
        async with self._opening:
            key = (api_url, token)
            if key not in self._clients:
                self._clients[key] = await self._stack.enter_async_context(self._make_client(api_url, token))
            return self._clients[key]

    def credentials(self, api_url: str) -> CloudCredentials:
        """The login, if it is for this API: a token goes only where it came from.

        Raises:
            NotAuthenticated: There is none, or it is for another API, or it has expired.
            CredentialsCorrupted: The file, or the environment, cannot be understood.
            KeyringUnavailable: The token is in the system's keyring, which cannot be used now.
        """
        environ = self.environ or {}
        found = find_credentials(environ, self.paths, self.clock.now(), keyring=self._keyring)
        if found is None:
            raise no_login_in_container()
        if Origin.parse(found.api_url) == Origin.parse(api_url):
            return found
        if environment_token(environ):
            raise NotAuthenticated(
                f"{API_TOKEN} is for {found.api_url}, not for {api_url}",
                hint=f"Set {API_URL} to the API the token is for, or unset {API_TOKEN}.",
            )
        raise NotAuthenticated(
            f"the login in {self.paths.credentials} is for {found.api_url}, not for {api_url}",
            hint="Log in there.",
            remedy=Remedy("log_in_there", {"api_url": api_url}),
        )

    async def of(self, visit: Visit[Any]) -> CloudApiClient:
        """The API that a flow is for, as the logged-in user. Raises as `as_user` does."""
        api_url: str = visit.context.api_url
        return await self.as_user(api_url)

    async def as_user(self, api_url: str) -> CloudApiClient:
        """The client of the logged-in user. Raises as `credentials` and `client` do."""
        if note_of(self.paths.credentials).exists():  # a keyring may take its time, or ask a person first
            found = await trio.to_thread.run_sync(self.credentials, api_url, abandon_on_cancel=True)
        else:
            found = self.credentials(api_url)
        return await self.client(api_url, found.api_token)
