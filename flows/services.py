"""What the activities need from the outside, handed in: files, the API, a browser, and a person to ask.

Nothing here decides anything. A tool that embeds a flow makes a `Services` of its own: a window instead of a terminal
for `show_url`, no browser at all, a dialog for `confirm`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import trio

from ..errors import NotAuthenticated
from ..io.api import CloudApiClient
from ..io.browser import BrowserOutcome, check_openable, open_browser
from ..io.clock import Clock, SystemClock
from ..io.credentials import CloudCredentials
from ..io.paths import CloudPaths
from ..io.polling import Backoff

ShowUrl = Callable[[str, str, bool], None]
"""Called with what the URL is for ("log in", "pay"), the URL, and whether a tab may be open from before."""

Confirm = Callable[[str], Awaitable[bool]]
"""Asks a person a question that is answered with yes or no."""

ReadLine = Callable[[str], Awaitable[str | None]]
"""Asks a person for a line; None when there will be none."""

OpenBrowser = Callable[[str], Awaitable[BrowserOutcome]]


def show_nothing(_purpose: str, _url: str, _again: bool) -> None:
    """For embedders whose browser needs no help."""


class Services:
    """The outside world of a run of flows. An asynchronous context manager: it holds the API's connection pools.

    Args:
        paths: Where credentials and tenants are.
        clock: The time.
        show_url: Shows a URL to the person, always before a browser is opened with it.
        open_browser: Opens a URL; None never opens one.
        confirm: Asks a person; None when nobody is there to be asked.
        read_line: Asks for the address a browser on another computer ended on; None waits for a browser here only.
        poll_seconds: Between two questions about a tenant's status.
        idle_seconds: Silence after which an event stream counts as dead.
        backoff: Waits between attempts to get a lost stream back.
        make_client: Makes an API client from a base URL and a token.
    """

    def __init__(
        self,
        paths: CloudPaths,
        *,
        clock: Clock | None = None,
        show_url: ShowUrl = show_nothing,
        open_browser: OpenBrowser | None = open_browser,
        confirm: Confirm | None = None,
        read_line: ReadLine | None = None,
        poll_seconds: float = 2.0,
        idle_seconds: float = 30.0,
        backoff: Backoff | None = None,
        make_client: Callable[[str, str | None], CloudApiClient] = CloudApiClient,
    ) -> None:
        self.paths = paths
        self.clock = clock or SystemClock()
        self.show_url = show_url
        self.open_browser = open_browser
        self.confirm = confirm
        self.read_line = read_line
        self.poll_seconds = poll_seconds
        self.idle_seconds = idle_seconds
        self.backoff = backoff or Backoff()
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
        """The stored credentials, if they are for this API: a token goes only where it came from.

        Raises:
            NotAuthenticated: There are none, or they are for another API, or they have expired.
            CredentialsCorrupted: The file cannot be understood.
        """
        path = self.paths.credentials
        stored = CloudCredentials.load_and_validate_from_path(path, self.clock.now())
        if origin(stored.api_url) != origin(api_url):
            raise NotAuthenticated(
                f"the credentials in {path} are for {stored.api_url}, not for {api_url}",
                hint=f"Log in there: systemprompt-cloud login --api-url {api_url}",
            )
        return stored

    async def api(self, api_url: str) -> CloudApiClient:
        """The API as the logged-in user. Raises as `credentials` and `client` do."""
        return await self.client(api_url, self.credentials(api_url).api_token)

    async def invite(self, purpose: str, url: str, *, again: bool) -> BrowserOutcome:
        """Show the person where to go, then open a browser there if that is wanted and was not done before.

        Raises:
            UnsafeUrl: The API gave a URL that must not be opened.
        """
        check_openable(url)
        self.show_url(purpose, url, again)
        if self.open_browser is None:
            return BrowserOutcome(opened=False, reason="no browser was asked for")
        if again:
            return BrowserOutcome(opened=False, reason="a tab may still be open from before")
        return await self.open_browser(url)


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: what makes two URLs the same place (RFC 6454 section 4)."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default
