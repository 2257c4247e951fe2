"""The callback listener: a browser on this computer is sent back to it, and the flow decides what it gets.

Theory. A loopback redirect (RFC 8252 section 7.3) goes to a port on the person's own computer that every program there
can reach, and through the browser every web page. So a request is checked for what others cannot know or forge, in this
order:

- the **Host** header is ours (a page whose name was rebound to 127.0.0.1 sends its own name; SECURITY 5);
- there is no foreign **Origin**, and the browser itself does not say that this is an image, frame or script;
- the request is `GET /callback`, nothing else;
- `state` is the **nonce** of this wait (RFC 6749 section 10.12, RFC 9700 section 4.7), also when the query says
  `error=`: nobody else may end a login either. It is looked for before anything else of the query is judged.

A request that fails is answered 4xx, and the wait continues. If it carried the nonce, it came from where the person was
sent, so the person has to learn of it: what is wrong and what to do is on the page, and is given to `unusable`
(SECURITY 3). One that passes is a *hit*, also when what it brought is damaged. A hit is held open until the flow
has looked at what it brought: `accept` uses the nonce up, `refuse` leaves it usable, so that the page shows what
has really happened. Closing answers every request that is still held. Deciding is synchronous, answering is not: once
`accept` has returned, the answer is sent whatever is cancelled.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import quote

import msgspec
import trio
from typing_extensions import override

from ...base.redaction import forget, new_owner, register_secret
from ...errors import CallbackRejected
from .brought import SECRET_PARAMETERS, Arrival, has_nonce, pasted_query, read_query
from .exchange import MAX_HEAD, Disconnected, Exchange, Request, ShortAnswer
from .pages import PRIVATE_HEADERS
from .refusals import BUSY_PAGE, CLOSED_PAGE, USED, USED_PAGE, Refusal, foreign, paged, too_large
from .serving import LOOPBACK, HandOver, serve_loopback

FLUSH_SECONDS: Final = 2.0
"""How long closing waits for the answers that are on their way."""
FORM_SECONDS: Final = 2.0
"""How long the body of a form may take that is only looked at for the nonce."""
MAX_HELD: Final = 16
"""Hits held open at once; only reachable with the nonce, or without one (`nonce=None`)."""


def _untold(_why: str) -> None:
    """For who has nobody to tell."""


class StatusView(msgspec.Struct, frozen=True):
    """What the waiting page is told: `ready`, `failed`, or anything else while it works."""

    status: str
    message: str | None = None
    app_url: str | None = None


def new_nonce() -> str:
    """Return a fresh nonce of 256 random bits, safe in a URL (SECURITY 3)."""
    return secrets.token_urlsafe(32)


def callback_uri(port: int, nonce: str | None) -> str:
    """The redirect URI of a listener on `port`, known before it listens (RFC 8252 section 7.3: the literal address)."""
    query = "" if nonce is None else f"?state={quote(nonce, safe='')}"
    return f"http://{LOOPBACK}:{port}/callback{query}"


class CallbackHit:
    """One arrival of the browser that passed every check; its request waits for `accept` or `refuse`.

    Attributes:
        params: The query parameters without `state`, percent-decoded, each once. What is not UTF-8, and control
            characters, are U+FFFD.
        damage: Why nothing of it can be used, as a sentence; `params` is empty then. Empty for an intact callback.
    """

    def __init__(self, params: dict[str, str], use_up: Callable[[], None], damage: str = "") -> None:
        self.params = params
        self.damage = damage
        self._use_up = use_up
        self._decided = trio.Event()
        self._answer = (0, "")

    @override
    def __repr__(self) -> str:
        # Names only: the values are tokens.
        return f"<CallbackHit {sorted(self.params)}{' decided' if self.decided else ''}>"

    @property
    def decided(self) -> bool:
        """True once the browser's answer is fixed: by `accept`, by `refuse`, or because the listener closed."""
        return self._decided.is_set()

    def accept(self, page: str) -> None:
        """Take the callback: the browser gets the page (200), the nonce is used up, whoever comes later gets 409.

        Args:
            page: A page of `io/loopback/pages.py`; an error page when what was taken is a refusal of the provider.

        Raises:
            CallbackRejected: The hit was decided before, or another one was accepted; keep what that one brought.
        """
        self.answer(200, page)
        self._use_up()

    def refuse(self, page: str) -> None:
        """Turn the callback away: the browser gets the page (503) and may come again, the nonce stays usable.

        Args:
            page: A page of `io/loopback/pages.py` saying what to do; with `retry=True` when that is to reload it.

        Raises:
            CallbackRejected: The hit was decided before.
        """
        self.answer(503, page)

    def answer(self, status: int, page: str) -> None:
        """Fix what the browser gets, without touching the nonce: what `accept`, `refuse` and the listener build on."""
        if self.decided:
            raise CallbackRejected("this callback was answered before", hint="")
        self._answer = (status, page)
        self._decided.set()

    async def wait_answer(self) -> tuple[int, str]:
        """Wait until the hit is decided; return status and page."""
        await self._decided.wait()
        return self._answer


class CallbackListener:
    """What `listen_for_callback` gives: where the browser must be sent, and the hits it makes.

    Attributes:
        port: The bound port.
        redirect_uri: What to give the API: `http://127.0.0.1:PORT/callback?state=NONCE`. Holds the nonce: do not log.
    """

    def __init__(
        self,
        nonce: str | None,
        status_page: Callable[[], StatusView] | None,
        holder: str,
        unusable: Callable[[str], None] = _untold,
    ) -> None:
        self.port = 0
        self._unusable = unusable
        self._nonce = nonce
        self._holder = holder
        self._status_page = status_page
        self._used = False
        self._closed = False
        # Held by what they brought: a reload while the first request waits is the same callback and shares its answer.
        self._held: dict[tuple[tuple[str, str], ...], CallbackHit] = {}
        self._queue: deque[CallbackHit] = deque()
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def redirect_uri(self) -> str:
        return callback_uri(self.port, self._nonce)

    async def wait_hit(self) -> CallbackHit:
        """Wait for the next callback nobody has decided on, in order of arrival.

        Cancelling the wait loses no hit: the next call gets it.
        """
        await trio.lowlevel.checkpoint()
        while True:
            while self._queue:
                hit = self._queue.popleft()
                if not hit.decided:
                    return hit
            await self._waiting.park()

    async def take_pasted(self, address: str) -> None:
        """Take a callback that a person carried here by hand, from a browser on another computer.

        It is held to the same rules as one that comes by HTTP, and becomes a hit like it.

        Args:
            address: What that browser's address bar shows: `http://127.0.0.1:PORT/callback?…`, in any spelling.

        Raises:
            CallbackRejected: It is not that address, or not of this wait, or the flow refused it; ask again.
        """
        query = pasted_query(address, None if self._nonce else self.port)
        if query is None:
            raise CallbackRejected(f"That is not an address that begins with http://{LOOPBACK}:{self.port}/callback.")
        brought = read_query(query, self._nonce)
        if brought is None:
            raise CallbackRejected("That address is of another login.")
        if brought.damage:
            raise CallbackRejected("That address is damaged: copy all of it.")
        if self._used or self._closed:
            raise CallbackRejected("This login has been answered already.")
        status, _page = await self._hold(brought)
        if status != 200:
            raise CallbackRejected("That address carries nothing that can be used.")

    def close(self) -> None:
        """Answer whoever is still held, and everybody later, with 503 "not recorded"; leaving the `async with` does."""
        self._closed = True
        self._answer_held(503, CLOSED_PAGE)

    async def serve(self, exchange: Exchange) -> None:
        """Answer one exchange. A form is not taken; whether it is of this wait, its body may say."""
        form = bytearray()
        if self._nonce is not None and exchange.request.method == "POST":
            with suppress(Disconnected), trio.move_on_after(FORM_SECONDS):
                while len(form) < MAX_HEAD and (piece := await exchange.read()):
                    form += piece
        await exchange.respond(await self.answer(exchange.request, form.decode("ascii", "replace")))

    async def answer(self, request: Request, form: str = "") -> ShortAnswer:
        """Answer one request; one that passes every check waits here until its hit is decided.

        Args:
            request: Its head.
            form: What was read of its body; only looked at for the nonce.
        """
        checked = self._check(request)
        if isinstance(checked, Refusal):
            # HEAD comes from programs that look at links; the browser itself follows with GET.
            if checked.told and request.method != "HEAD" and self._carries_nonce(request.query, form):
                self._unusable(checked.told)
            return checked.answer
        return checked if isinstance(checked, ShortAnswer) else paged(*await self._hold(checked))

    def refuse(self, request: Request, status: int) -> ShortAnswer | None:
        """Answer a request whose head was not read to its end, as far as it was; None for the server's own answer."""
        if status != 431:
            return None
        refused = too_large(request)
        if self._carries_nonce(request.query):
            self._unusable(refused.told)
        return refused.answer

    def _carries_nonce(self, *queries: str) -> bool:
        return self._nonce is not None and any(has_nonce(query, self._nonce) for query in queries)

    def _check(self, request: Request) -> ShortAnswer | Refusal | Arrival:
        """Return the answer to a request, or what a callback brought that passed every check."""
        # Not decoded: an absolute-form target or `/%63allback` is not what a browser sends (RFC 9112 section 3.2).
        path = request.path
        status_page = self._status_page if path.startswith("/status/") else None
        refused = foreign(request, self.port)
        if refused is not None:
            return refused
        if path != "/callback" and status_page is None:
            return Refusal.of(
                404,
                "Nothing here",
                "This address only takes the way back from a login or a payment.",
                "It came to another path than /callback. Open the address again.",
            )
        if request.method != "GET":
            return Refusal.of(
                405,
                "Not this way",
                "This address only takes GET: the answer has to be a redirect, not a form that is sent "
                "(response_mode=form_post). Open the address in the terminal again.",
                f"It came as {request.method}, not as a redirect (GET). Open the address again; if that changes "
                "nothing, the API sends its answer as a form (response_mode=form_post), which is not taken.",
                Allow="GET",
            )
        if status_page is not None:
            body = msgspec.json.encode(status_page())
            return ShortAnswer(200, {"Content-Type": "application/json", **PRIVATE_HEADERS}, body)
        brought = read_query(request.query, self._nonce)
        if self._used and not request.query:  # a reload: our page has taken the query away
            return Refusal.of(409, *USED)
        if brought is None:
            return Refusal.of(
                400,
                "Not the login that is being waited for",
                "Use the address the terminal shows; it is still waiting.",
                "It carried more than one `state`. Open the address again.",
            )
        if brought.damage and self._nonce is None:  # anybody can have sent it
            return Refusal.of(400, "This link is damaged", "Start again from the page you came from.")
        if self._used:
            return Refusal.of(409, *USED)
        if self._closed:
            return paged(503, CLOSED_PAGE)
        return brought

    async def _hold(self, brought: Arrival) -> tuple[int, str]:
        """Hold a request that passed every check until its hit is decided; return status and page."""
        params = brought.params
        key = (("", brought.damage), *sorted(params.items()))
        hit = self._held.get(key)
        if hit is None:
            if len(self._held) >= MAX_HELD:
                return 503, BUSY_PAGE
            for name in SECRET_PARAMETERS:
                register_secret(params.get(name, ""), self._holder)
            hit = self._held[key] = CallbackHit(params, self._use_up, brought.damage)
            self._queue.append(hit)
            self._waiting.unpark_all()
        try:
            return await hit.wait_answer()
        finally:
            if self._held.get(key) is hit:
                del self._held[key]

    def _use_up(self) -> None:
        self._used = True
        self._answer_held(409, USED_PAGE)

    def _answer_held(self, status: int, page: str) -> None:
        for hit in self._held.values():
            if not hit.decided:
                hit.answer(status, page)


@asynccontextmanager
async def listen_for_callback(
    *,
    port: int,
    nonce: str | None,
    status_page: Callable[[], StatusView] | None = None,
    unusable: Callable[[str], None] = _untold,
    hand_over: HandOver | None = None,
    follows: Callable[[], bool] = bool,
) -> AsyncGenerator[CallbackListener]:
    """Listen on 127.0.0.1 for the browser's way back while inside the `async with`.

    The redactor hides the nonce and what the browser brings until then; whoever needs them for longer keeps them in a
    vault.

    Args:
        port: The port, 0 for any free one.
        nonce: What `state` must be, from `new_nonce()` or the journal. None for an API that takes no query in its
            redirect URI: then anybody on this computer may answer, so show whose account came and have it confirmed
            (SECURITY 4).
        status_page: When given, `/status/anything` answers with its view as JSON, for the waiting page.
        unusable: Called with why, and what to do, for each request that carries the nonce and is refused: a few
            sentences. Never called without a nonce.
        hand_over: Keeps the port open from this listener to the next one.
        follows: Asked when this listener ends: whether another one follows on the same port.

    Raises:
        PortBusy: On entering, when the port is taken; nothing was opened yet, choose another.
    """
    holder = new_owner("callback listener")
    if nonce is not None:
        register_secret(nonce, holder)
    listener = CallbackListener(nonce, status_page, holder, unusable)
    try:
        serving = serve_loopback(
            listener.serve,
            port=port,
            grace=FLUSH_SECONDS,
            hand_over=hand_over,
            follows=follows,
            refuse=listener.refuse,
        )
        async with serving as listener.port:
            try:
                yield listener
            finally:
                listener.close()
    finally:
        forget(holder)
