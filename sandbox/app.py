"""The local cloud as a web application: the API, the login and payment pages, and the gate before both.

The gate keeps other sites from reaching the local server through the user's browser: a `Host` that is not loopback is
DNS rebinding, an `Origin` that is not ours is another site's script or form. Both are refused before anything else is
read. The pages' forms also carry a token, which must match a cookie bound to that page, so another program's page on
loopback cannot answer for the user.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..io.http.urls import LISTENER_NAMES
from .answers import WireError, error_answer, json_answer, name_request
from .api import API
from .call import ApiCall
from .endpoint import Endpoint, IdempotencyStore, read_body
from .openapi import description
from .pages import FORM_COOKIE, consent_page, home_page, payment_page, plain_page
from .state import Page
from .world import World

CONSENT: Final = "/sandbox/consent/{id}"
PAYMENT: Final = "/sandbox/pay/{id}"

AnyPage = TypeVar("AnyPage", bound=Page)


class Gate:
    """Refuses requests that were not addressed to loopback, or come from another site.

    Args:
        app: What is behind the gate.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI side."""
        app = self._app
        if scope["type"] == "http":
            request = Request(scope)
            hosts = request.headers.getlist("host")
            origins = request.headers.getlist("origin")
            if len(hosts) != 1 or not is_loopback(hosts[0]):
                app = name_request(
                    request,
                    error_answer(WireError(421, "wrong_host", "this sandbox answers on 127.0.0.1 and localhost only")),
                )
            elif any(origin != f"http://{hosts[0]}" for origin in origins):
                app = name_request(
                    request,
                    error_answer(WireError(403, "foreign_origin", "this sandbox refuses requests from other sites")),
                )
        await app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a `Host` header is 127.0.0.1 or localhost, with or without a port."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return False
    name = parts.hostname or ""
    return name in LISTENER_NAMES and host.lower().partition(":")[0] == name and parts.netloc == host


def build_app(world: World) -> ASGIApp:
    """The whole application for one world."""
    store = IdempotencyStore()
    paths = dict.fromkeys(row.path for row in API)
    routes = [Route(path, Resource(world, store, [row for row in API if row.path == path])) for path in paths]
    pages = Pages(world)
    routes += [
        Route("/", pages.home, methods=["GET"]),
        Route("/openapi.json", pages.openapi, methods=["GET"]),
        Route("/sandbox/ledger", pages.ledger, methods=["GET"]),
        Route(CONSENT, pages.show_consent, methods=["GET"]),
        Route(CONSENT, pages.answer_consent, methods=["POST"]),
        Route(PAYMENT, pages.show_payment, methods=["GET"]),
        Route(PAYMENT, pages.answer_payment, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _not_routed, WireError: _refused_page})
    app.router.redirect_slashes = False  # a redirect would drop the token
    return Gate(app)


class Resource:
    """All calls of one path, dispatched by method.

    Not by starlette, which accepts HEAD for every GET and lists in `Allow` only the methods of one route.

    Args:
        world: The world.
        store: The idempotency store all calls share.
        rows: The calls.
    """

    def __init__(self, world: World, store: IdempotencyStore, rows: Iterable[ApiCall]) -> None:
        self._calls = {row.method: Endpoint(world, store, row) for row in rows}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI side."""
        request = Request(scope, receive)
        call = self._calls.get(request.method)
        if call is None:
            allowed = ", ".join(self._calls)
            refused = WireError(405, "method_not_allowed", f"this path allows only {allowed}", {"Allow": allowed})
            answer = name_request(request, error_answer(refused))
        else:
            answer = await call(request)
        await answer(scope, receive, send)


async def _not_routed(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if request.url.path.startswith("/api/"):
        code = "not_found" if error.status_code == 404 else "http_error"
        return name_request(request, error_answer(WireError(error.status_code, code, error.detail, error.headers)))
    return plain_page(error.detail, "The sandbox has no such page.", error.status_code)


async def _refused_page(_: Request, error: Exception) -> Response:
    if not isinstance(error, WireError):
        raise error
    return plain_page("Request failed", error.message[:1].upper() + error.message[1:] + ".", error.status)


class Pages:
    """The handlers of the pages; each method answers one route.

    Args:
        world: The world the pages are about.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def home(self, request: Request) -> Response:
        """`GET /`."""
        return home_page(self._world, str(request.base_url).rstrip("/"))

    async def openapi(self, _: Request) -> Response:
        """`GET /openapi.json`."""
        return json_answer(description())

    async def ledger(self, _: Request) -> Response:
        """`GET /sandbox/ledger`."""
        return json_answer(self._world.ledger)

    async def show_consent(self, request: Request) -> Response:
        """The consent page."""
        consent = self._page(request, CONSENT, self._world.consents)
        return _with_cookie(request, consent_page(self._world, consent), consent.csrf)

    async def answer_consent(self, request: Request) -> Response:
        """The consent form."""
        consent = self._page(request, CONSENT, self._world.consents)
        form = await self._form(request, consent.csrf)
        return _go(self._world.answer_consent(consent, form.get("decision", ""), form.get("account")))

    async def show_payment(self, request: Request) -> Response:
        """The payment page."""
        checkout = self._page(request, PAYMENT, self._world.checkouts)
        return _with_cookie(request, payment_page(checkout), checkout.csrf)

    async def answer_payment(self, request: Request) -> Response:
        """The payment form."""
        checkout = self._page(request, PAYMENT, self._world.checkouts)
        form = await self._form(request, checkout.csrf)
        location = self._world.answer_payment(checkout, form.get("decision", ""))
        return _go(location) if location else plain_page("Thank you", "Go back to your terminal.")

    def _page(self, request: Request, template: str, pages: dict[str, AnyPage]) -> AnyPage:
        self._world.ledger.requests[f"{request.method} {template}"] += 1
        page = pages.get(request.path_params["id"])
        if page is None:
            raise WireError(404, "no_such_page", "this sandbox has no such page; it forgets everything when it stops")
        return page

    async def _form(self, request: Request, csrf: str) -> dict[str, str]:
        try:
            body = await read_body(request)
        except ClientDisconnect as exc:
            raise WireError(400, "incomplete_body", "the connection ended before the form") from exc
        form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
        given, cookie = form.get("csrf", ""), request.cookies.get(FORM_COOKIE, "")
        if not all(secrets.compare_digest(value.encode(), csrf.encode()) for value in (given, cookie)):
            raise WireError(403, "foreign_form", "the form does not come from this page; reload it and try again")
        return form


def _with_cookie(request: Request, page: Response, csrf: str) -> Response:
    # The path binds the cookie to this page. Cookies ignore ports, so other local servers would get a broader one.
    page.set_cookie(FORM_COOKIE, csrf, path=request.url.path, httponly=True, samesite="strict")
    return page


def _go(location: str) -> Response:
    """303: the browser goes on with a GET (RFC 9110 section 15.4.4). The location may hold a token, so no referrer."""
    return RedirectResponse(location, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
