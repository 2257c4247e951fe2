"""What the activities need from the outside, handed in as one object: files, the API, a browser, and a person to ask.

A tool that embeds a flow makes a `Services` of its own: a window instead of a terminal for `show_url`, no browser at
all, a dialog for `confirm`. The programs give each activity the parts it uses (`outside.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ..base.clock import Clock
from ..io.cloud.api import CloudApiClient
from ..io.http.polling import Backoff
from ..io.local.credentials import CloudCredentials
from ..io.local.keyring_store import KeyringStore
from ..io.local.paths import CloudPaths
from ..io.loopback.browser import BrowserOutcome, open_browser
from ..io.loopback.callback import listen_for_callback
from ..io.loopback.pages import OUR_CHECKOUT_PAGES, OUR_LOGIN_PAGES, CheckoutTemplates, OAuthTemplates
from .outside import (
    Api,
    Browser,
    Confirm,
    Listen,
    MakeClient,
    OpenBrowser,
    Person,
    ReadLine,
    ShowUrl,
    Timing,
    show_nothing,
)


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
        login_pages: What a browser sees after a login.
        checkout_pages: What a browser sees after a payment.
        environ: Where a login may be that goes before the stored one (`io/local/environment.py`); None looks for none.
        listen: Listens for the browser's way back.
        keyring: Where the stored login's token may be kept; a store of its own when not given.

    Attributes:
        cloud_api: The API.
        browser: Where a person logs in and pays.
        person: Who can be asked.
        timing: How long is waited.
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
        make_client: MakeClient = CloudApiClient,
        login_pages: OAuthTemplates = OUR_LOGIN_PAGES,
        checkout_pages: CheckoutTemplates = OUR_CHECKOUT_PAGES,
        environ: Mapping[str, str] | None = None,
        listen: Listen = listen_for_callback,
        keyring: KeyringStore | None = None,
    ) -> None:
        self.paths = paths
        self.cloud_api = Api(paths, clock=clock, make_client=make_client, environ=environ, keyring=keyring)
        self.browser = Browser(
            show_url=show_url,
            open=open_browser,
            login_pages=login_pages,
            checkout_pages=checkout_pages,
            listen=listen,
        )
        self.person = Person(confirm=confirm, read_line=read_line)
        self.timing = Timing(poll_seconds=poll_seconds, idle_seconds=idle_seconds, backoff=backoff or Backoff())

    async def __aenter__(self) -> Self:
        await self.cloud_api.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cloud_api.__aexit__(kind, exc, traceback)

    # --- the parts, as their users know them ------------------------------------------------------------------------

    async def client(self, api_url: str, token: str | None) -> CloudApiClient:
        """The one client for this API and token, with its shared connection pool.

        Raises:
            UnsafeUrl: Not https, and not http on loopback.
            NotAuthenticated: The token must not go there.
        """
        return await self.cloud_api.client(api_url, token)

    def credentials(self, api_url: str) -> CloudCredentials:
        """The login, if it is for this API: a token goes only where it came from.

        Raises:
            NotAuthenticated: There is none, or it is for another API, or it has expired.
            CredentialsCorrupted: The file, or the environment, cannot be understood.
            KeyringUnavailable: The token is in the system's keyring, which cannot be used now.
        """
        return self.cloud_api.credentials(api_url)

    async def api(self, api_url: str) -> CloudApiClient:
        """The API as the logged-in user. Raises as `credentials` and `client` do."""
        return await self.cloud_api.as_user(api_url)

    async def invite(self, purpose: str, url: str, *, again: bool) -> BrowserOutcome:
        """Show the person where to go, then open a browser there if that is wanted and was not done before.

        Raises:
            UnsafeUrl: The API gave a URL that must not be opened.
        """
        return await self.browser.invite(purpose, url, again=again)

    @property
    def environ(self) -> Mapping[str, str] | None:
        """Where a login may be that goes before the stored one."""
        return self.cloud_api.environ

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.cloud_api.clock

    @property
    def show_url(self) -> ShowUrl:
        """Shows a URL to the person."""
        return self.browser.show_url

    @property
    def open_browser(self) -> OpenBrowser | None:
        """Opens a URL."""
        return self.browser.open

    @property
    def login_pages(self) -> OAuthTemplates:
        """What a browser sees after a login."""
        return self.browser.login_pages

    @property
    def checkout_pages(self) -> CheckoutTemplates:
        """What a browser sees after a payment."""
        return self.browser.checkout_pages

    @property
    def confirm(self) -> Confirm | None:
        """Asks a person a question."""
        return self.person.confirm

    @property
    def read_line(self) -> ReadLine | None:
        """Asks a person for a line."""
        return self.person.read_line

    @property
    def poll_seconds(self) -> float:
        """Between two questions about a tenant's status."""
        return self.timing.poll_seconds

    @property
    def idle_seconds(self) -> float:
        """Silence after which an event stream counts as dead."""
        return self.timing.idle_seconds

    @property
    def backoff(self) -> Backoff:
        """Waits between attempts to get a lost stream back."""
        return self.timing.backoff
