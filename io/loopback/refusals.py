"""What the callback listener refuses before it looks at what a request brought, and the pages for it."""

from __future__ import annotations

from typing import Final, Self

import msgspec

from ..http.urls import LISTENER_NAMES
from .exchange import MAX_HEAD, Request, ShortAnswer
from .pages import error_page, page_headers
from .serving import LOOPBACK


class Refusal(msgspec.Struct, frozen=True):
    """An answer that lets nobody in.

    Attributes:
        answer: What the browser gets.
        told: What the terminal shows when the request carried the nonce: what is wrong and what to do. Empty when there
            is nothing to do.
    """

    answer: ShortAnswer
    told: str = ""

    @classmethod
    def of(cls, status: int, title: str, text: str, told: str = "", **headers: str) -> Self:
        """A refusal with a page."""
        page = paged(status, error_page(title, text))
        # Closed at once: whoever is refused may not keep the browser waiting for a free connection (SECURITY 5).
        return cls(msgspec.structs.replace(page, headers={**page.headers, **headers, "Connection": "close"}), told)


def paged(status: int, page: str) -> ShortAnswer:
    """An answer with a page."""
    return ShortAnswer(status, page_headers(page), page.encode())


def foreign(request: Request, port: int) -> Refusal | None:
    """Return why a request does not come from a browser that was sent here, or None."""
    ours = {*(f"{name}:{port}" for name in LISTENER_NAMES), *(LISTENER_NAMES if port == 80 else ())}
    hosts = request.values("host")
    if len(hosts) != 1 or hosts[0].lower() not in ours:
        return Refusal.of(
            400,
            "Wrong address",
            f"This is http://{LOOPBACK}:{port}, and it was asked for under another name or port. A tunnel must have "
            f"the port {port} at both ends.",
            f"It came to {' and '.join(hosts) or 'no host'}, and this is {LOOPBACK}:{port}. A tunnel must have the "
            f"port {port} at both ends; then open the address again.",
        )
    if any(origin not in {f"http://{host}" for host in ours} for origin in request.values("origin")):
        return Refusal.of(
            403,
            "Not from there",
            "Another site sent this; that is not allowed. The answer has to be a redirect, not a form or a script. "
            "Open the address in the terminal again.",
            "Another site sent it with a form or a script, and only a redirect is taken. Open the address again; if "
            "that changes nothing, the API sends its answer as a form (response_mode=form_post).",
        )
    if request.values("upgrade") or not {"document", "empty"}.issuperset(request.values("sec-fetch-dest")):
        return Refusal.of(
            403,
            "Not inside a page",
            "This address must be opened in a tab of its own.",
            "It came from inside another page. Open the address in a tab of its own.",
        )
    return None


def too_large(request: Request) -> Refusal:
    """The refusal of a request whose head is over the bound; `request` holds what was read of it."""
    limit = f"{MAX_HEAD // 1024} KB"
    if not request.version or len(request.target) > MAX_HEAD // 2:  # without a version the line has no end
        return Refusal.of(
            431,
            "This address is too long",
            f"It has more than {limit}. Open the address in the terminal again.",
            f"Its address has more than {limit}. Open the address again.",
        )
    return Refusal.of(
        431,
        "Too many cookies",
        f"Your browser sent more than {limit} with this request, most likely cookies of other pages on this computer. "
        "Delete the cookies of 127.0.0.1 and localhost, or use a private window. Then open the address in the terminal "
        "again.",
        f"The browser sent more than {limit} with it, most likely cookies of other pages on this computer. Delete the "
        f"cookies of {LOOPBACK} and localhost, or use a private window; then open the address again.",
    )


USED: Final = (
    "This was already used",
    "The terminal has what it needs from an earlier visit. You can close this tab.",
)
USED_PAGE: Final = error_page(*USED)
BUSY_PAGE: Final = error_page("Too many tabs at once", "Close the others, then reload this page.", retry=True)
CLOSED_PAGE: Final = error_page(
    "Not recorded",
    "The terminal stopped listening before it could take this. Resume it in the terminal, then reload this page.",
    retry=True,
)
