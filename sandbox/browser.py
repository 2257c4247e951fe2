"""A person at a browser, for tests and the demo: reads a page, makes the choice they were told to, goes where it leads.

Theory: the flows see a browser only through two doors, the URL they print and the callback that comes back. What
happens between is played here with real HTTP: cookies, a form found in the page's HTML, the redirect followed by hand
as a browser does. The way back is tried again while nothing listens there, or while the answer is 503 ("not recorded,
reload"), like a person who reloads: a command that is killed and resumed must find the tab still open.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from html.parser import HTMLParser
from typing import Final, Literal
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import trio
from typing_extensions import override

from ..errors import Network
from ..io.http.bodies import may_be_left

RELOAD_SECONDS: Final = 0.1
_LOAD_SECONDS: Final = 10.0
"""What one page may take."""
_MAX_STEPS: Final = 20
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class PageVisit(msgspec.Struct, frozen=True):
    """Where a visit ended.

    Attributes:
        url: The last address, with its query: it may hold a token, do not print it.
        status: The last HTTP status; None when nobody ever answered there.
        page: The last page's HTML.
        pressed: The values of the buttons that were pressed, in order.
    """

    url: str
    status: int | None
    page: str
    pressed: tuple[str, ...] = ()


class Form:
    """One form of a page: where it goes, what it holds, which buttons and choices it offers."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.fields: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self.buttons: list[tuple[str, str]] = []


class FormReader(HTMLParser):
    """Collects the forms of a page, with the defaults a browser would send."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._form: Form | None = None

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value, kind = given.get("name") or "", given.get("value") or "", given.get("type") or ""
        if tag == "form":
            self._form = Form(given.get("action") or "", (given.get("method") or "get").lower())
            self.forms.append(self._form)
        elif self._form is None:
            return
        elif (tag == "button" and kind in {"", "submit"}) or (tag == "input" and kind == "submit"):
            self._form.buttons.append((name, value))
        elif tag == "input" and kind in {"radio", "checkbox"}:
            self._form.choices.setdefault(name, []).append(value)
            if "checked" in given:
                self._form.fields[name] = value
        elif tag == "input" and name:
            self._form.fields[name] = value

    @override
    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None


class ScriptedBrowser:
    """A person who does as told.

    Args:
        consent: Which button they press on a consent page.
        payment: Which button they press on a payment page.
        account: The account they choose there (an e-mail); None leaves what the page suggests.
        patience: Seconds they go on reloading when nobody answers at the callback.
    """

    def __init__(
        self,
        *,
        consent: Literal["approve", "deny"] = "approve",
        payment: Literal["pay", "decline", "pending"] = "pay",
        account: str | None = None,
        patience: float = 10.0,
    ) -> None:
        self._wanted = (consent, payment)
        self._account = account
        self._patience = patience

    async def visit(self, url: str) -> PageVisit:
        """Open a URL, press what there is to press, follow to the end.

        Returns:
            Where it ended. A person whose patience ran out is a visit like any other: look at `status`.

        Raises:
            LookupError: A page offers no button, or no account, they were told to choose.
            Network: The first page cannot be loaded.
        """
        try:
            return await self._visit(url)
        except httpx.TransportError as exc:
            raise Network(f"the browser cannot load {urlsplit(url).netloc}: {exc}") from exc

    async def _visit(self, url: str) -> PageVisit:
        # A proxy has no business on loopback, and certificates, which take long to read, have none either.
        nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx.AsyncClient(
            follow_redirects=False, trust_env=False, verify=nobody, timeout=_LOAD_SECONDS
        ) as client:
            pressed: list[str] = []
            request = client.build_request("GET", url)
            for _ in range(_MAX_STEPS):
                may_be_left(request)  # a tab is closed without asking
                # A form that was sent and lost is not sent again: a person would be asked first.
                reloads = bool(pressed) and request.method == "GET"
                answer = await self._load(client, request) if reloads else await client.send(request)
                here = str(request.url)
                if answer is None:
                    return PageVisit(here, None, "", tuple(pressed))
                target = answer.headers.get("location")
                if answer.status_code in _REDIRECTS and target is not None:
                    request = client.build_request("GET", urljoin(here, target))
                    continue
                submission = None if answer.status_code >= 400 else self._fill_in(client, here, answer.text)
                if submission is None:
                    return PageVisit(here, answer.status_code, answer.text, tuple(pressed))
                button, request = submission
                pressed.append(button)
            raise LookupError(f"no end after {_MAX_STEPS} pages, last on {urlsplit(str(request.url)).netloc}")

    async def _load(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response | None:
        """Get a page, again while it is refused or answered 503. None when patience ran out unanswered."""
        answer: httpx.Response | None = None
        with trio.move_on_after(self._patience):
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.send(request)
                    if answer.status_code != 503:
                        return answer
                await trio.sleep(RELOAD_SECONDS)
        return answer

    def _fill_in(self, client: httpx.AsyncClient, here: str, page: str) -> tuple[str, httpx.Request] | None:
        """Return the button to press and the request it makes, or None for a page that asks nothing."""
        reader = FormReader()
        reader.feed(page)
        for form in reader.forms:
            for name, value in form.buttons:
                if value not in self._wanted:
                    continue
                fields = {**form.fields, **self._choose_account(form)}
                if name:
                    fields[name] = value
                target = urljoin(here, form.action)
                parts = urlsplit(here)
                headers = {"Origin": f"{parts.scheme}://{parts.netloc}", "Referer": here}
                if form.method == "post":
                    return value, client.build_request("POST", target, data=fields, headers=headers)
                return value, client.build_request("GET", target, params=fields)
        if any(form.buttons for form in reader.forms):
            raise LookupError(f"the page offers none of the buttons {self._wanted}")
        return None

    def _choose_account(self, form: Form) -> dict[str, str]:
        if self._account is None or "account" not in form.choices:
            return {}
        if self._account not in form.choices["account"]:
            raise LookupError(f"the page does not offer the account {self._account}")
        return {"account": self._account}
