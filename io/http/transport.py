"""One request, sent once or as often as is safe.

Theory of the retries: what may be repeated depends on what may already have happened.

- A request that surely never left (none of it was written to any connection; httpcore's trace tells) is sent again,
  whatever it is.
- GET, PUT and DELETE are sent again on any failure that may pass by itself (RFC 9110 section 9.2.2, and checked call by
  call: a PUT of this API replaces a value by the same value, a DELETE removes what a name stands for, which nobody
  makes anew within seconds). The first try of a DELETE whose outcome is unknown may have done it: a 404 or 410 to the
  next one says that the thing is gone, which is what was asked for, and is no error then. To the first try it is one.
- A request that the server surely did not process is sent again, too: the stream was refused (RFC 9113 section 8.7), or
  the connection was ended before it (6.8; `goaway.py`), or a proxy refused the tunnel.
- A POST acts each time it arrives: a purchase, a restart, a rotation. It is sent again only when it carries an
  `Idempotency-Key` and this server has shown, by `Idempotency-Supported: true`, that it answers a repetition instead of
  acting again. In every other case the outcome is unknown: the error is raised, and the flow, or the person, asks the
  server what happened. So that this happens seldom, such a POST goes out on a connection of its own: one that was kept
  may have been closed by the server a moment ago, which is only noticed when the answer stays away.

A refused token is never tried twice. `Retry-After` is honoured within the budget; beyond it the error comes at once.

The deadline of a request covers all of it. httpx's own timeouts are per read, and a server that sends a byte now and
then would pass every one of them.

Every try has an id of its own, sent as `X-Request-Id`; an error ends with it, or with the one the server answered.
"""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

import httpx
import msgspec
import stamina
import trio
from typing_extensions import override

from ...base.log import get_logger
from ...errors import ApiError, Network, NotAuthenticated, UnsafeUrl
from .addresses import NOT_A_URL, is_loopback, without_query
from .answers import decode_body, login_refusal, measure_skew, network_error, network_reason, refusal
from .bodies import may_be_left
from .broken import broken
from .goaway import watch
from .lanes import CLOSING_TIME, LANE_WIDTH, Lane, Lanes
from .messages import Message
from .polling import Backoff
from .proxies import proxy_for, proxy_of
from .reading import read_body, read_error
from .retries import Retries
from .tokens import token_expiry

logger = get_logger(__name__)

CONNECTS_AT_ONCE: Final = 64
"""Connections being made at the same time; more wait for their turn, so that a thousand streams are no flood."""

_GONE: Final = frozenset({404, 410})
_CONNECTING: Final = frozenset({"connection.connect_tcp", "connection.start_tls"})

T = TypeVar("T")


class _OthersRetries(logging.Filter):
    """Keeps stamina's line about our retries out of the log: ours says more."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(getattr(record, "stamina.callable", "")).startswith(__name__)


logging.getLogger("stamina").addFilter(_OthersRetries())


class Answer(Message, frozen=True):
    """A 2xx answer, read.

    Attributes:
        where: The request in words.
        response: Status and headers; closed.
        body: All of it; it may hold tokens.
    """

    hidden: ClassVar[frozenset[str]] = frozenset({"body"})

    where: str
    response: httpx.Response
    body: bytes

    def decode(self, shape: type[T]) -> T:
        """The body as a record; ApiError naming the field when it is something else."""
        return decode_body(self.response, self.body, shape, self.where)


class _Outgoing:
    """A request about to be sent in a lane.

    Args:
        request: What goes out.
        where: The same in words.
        authorized: Whether the token goes with it.
        lane: What it is sent in.
        connects: Bounds the connections being made.

    Attributes:
        sent: Whether any of it has been written to a connection.
    """

    def __init__(
        self, request: httpx.Request, where: str, *, authorized: bool, lane: Lane, connects: trio.CapacityLimiter
    ) -> None:
        self.request: Final = request
        self.where: Final = where
        self.authorized: Final = authorized
        self.lane: Final = lane
        self.sent = False
        self._connects: Final = connects
        request.extensions = dict(request.extensions) | {"trace": self._trace}

    @property
    def request_id(self) -> str | None:
        """The id it may be found under, if it may have arrived."""
        return self.request.headers["X-Request-Id"] if self.sent else None

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        step, _, stage = name.rpartition(".")
        if stage == "complete" and step.endswith(".start_tls"):
            watch(info["return_value"], self._retire)
        if step in _CONNECTING:
            if stage == "started":
                await self._connects.acquire()
            else:
                self._connects.release()
        # The first byte of a request, over HTTP/1.1 or 2. A CONNECT to a proxy comes before it and is none.
        elif name.endswith("send_request_headers.started"):
            self.sent = self.sent or info["request"].method != b"CONNECT"
        # What fails or is cancelled after that leaves its half of the connection open.
        elif stage == "failed" and step.startswith("http2."):
            self._retire()

    def _retire(self) -> None:
        self.lane.retired = True


async def _close(response: httpx.Response, lane: Lane) -> None:
    # Over HTTP/2 a server goes on sending what nobody has read to its end.
    if not response.is_closed and response.http_version == "HTTP/2":
        lane.retired = True
    with trio.move_on_after(CLOSING_TIME, shield=True):
        await response.aclose()


class Transport:
    """The connection pool, the token and the rules of sending; arguments are those of `CloudApiClient`.

    Attributes:
        base: The one base URL everything is sent under.
        honours_idempotency: True once an answer carried `Idempotency-Supported: true`.
        clock_skew: Local clock minus the server's, by the last answer, when over five minutes.
    """

    def __init__(
        self,
        base: httpx.URL,
        token: str | None,
        *,
        timeout: float,
        connect_timeout: float,
        max_body: int,
        attempts: int,
        retry_budget: float,
        backoff: Backoff,
    ) -> None:
        self.base: Final = base
        self.honours_idempotency = False
        self.clock_skew: timedelta | None = None
        self._token: Final = token
        self._timeout: Final = timeout
        self._connect_timeout: Final = connect_timeout
        self._max_body: Final = max_body
        self._attempts: Final = attempts
        self._retry_budget: Final = retry_budget
        self._backoff: Final = backoff
        self._connects: Final = trio.CapacityLimiter(CONNECTS_AT_ONCE)
        self._lanes: Lanes | None = None
        self._proxy: Final = None if is_loopback(base) else proxy_of(base)

    def open(self) -> None:
        """Make the connection pool.

        Raises:
            Network: The environment's proxy or certificate settings cannot be used.
        """
        secure = self.base.scheme == "https"
        # Requests to loopback never go through a proxy.
        proxy = None if is_loopback(self.base) else proxy_for(self.base)
        try:
            # Without TLS no certificates need to be read, which takes longer than a call; an empty context trusts
            # nobody. With it they are read once, for all lanes.
            trust = httpx.create_ssl_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._lanes = Lanes(lambda: self._make_lane(trust, proxy))
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as exc:
            error = Network(
                f"the proxy or certificate settings of the environment cannot be used: {network_reason(exc)}",
                sent=False,
                hint="Check HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE.",
            )
            error.retryable = False
            raise error from exc

    def _make_lane(self, trust: ssl.SSLContext, proxy: httpx.Proxy | None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", "User-Agent": "systemprompt-cloud"},
            timeout=httpx.Timeout(self._timeout, connect=self._connect_timeout),
            # The lanes bound what is in use. httpcore counts connections in use as kept alive, too: a bound below the
            # width of a lane would close every connection as soon as it is free.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=LANE_WIDTH),
            follow_redirects=False,
            # All of the environment that counts is read above.
            trust_env=False,
            proxy=proxy,
            verify=trust,
            # Agreed upon with the server while TLS starts (RFC 7301); there is none without TLS.
            http2=self.base.scheme == "https",
        )

    async def aclose(self) -> None:
        """Close every connection; once is enough, more often does no harm."""
        lanes, self._lanes = self._lanes, None
        if lanes is not None:
            await lanes.aclose()

    async def call(
        self,
        method: str,
        link: str | httpx.URL,
        *,
        body: msgspec.Struct | None = None,
        key: str | None = None,
        authorized: bool = True,
    ) -> Answer:
        """Send a request and read its answer, repeating it where that is safe.

        Args:
            method: The HTTP method.
            link: A path under the base URL, or a URL `link_under` has let pass.
            body: What to send as JSON.
            key: Sent as `Idempotency-Key`; the same for every try at the same effect.
            authorized: Whether the token goes with it.

        Raises:
            NotAuthenticated: There is no token, or it was refused (TokenExpired when its `exp` has passed).
            ApiError: The API refused, or something else answered.
            Network: It was not reached, or the connection broke; `sent` tells whether the request may have arrived.
            TooLarge: The answer is over the bound.
            UnsafeUrl: The base URL and the path make no URL; nothing was sent.
        """
        retries = Retries(
            method,
            key,
            honoured=lambda: self.honours_idempotency,
            attempts=self._attempts,
            budget=self._retry_budget,
            backoff=self._backoff,
        )
        headers = {b"Accept": b"application/json"}
        if key is not None:
            headers[b"Idempotency-Key"] = key.encode("ascii")
        content = None
        if body is not None:
            headers[b"Content-Type"] = b"application/json"
            content = msgspec.json.encode(body)

        # `Retries` keeps the budget: stamina's own timeout is only looked at after a wait that is already too long.
        @stamina.retry(on=retries.decide, attempts=self._attempts, timeout=None)
        async def attempt() -> Answer:
            fresh = method == "POST" and not (key is not None and self.honours_idempotency)
            async with self._prepared(method, link, headers, content, authorized=authorized, fresh=fresh) as outgoing:
                with self._deadline(outgoing):
                    response = await self._send(outgoing)
                    try:
                        read = await read_body(response, self._max_body, outgoing.where)
                    finally:
                        await _close(response, outgoing.lane)
                return Answer(outgoing.where, response, read)

        try:
            return await attempt()
        except ApiError as exc:
            if method == "DELETE" and retries.unsure and exc.status in _GONE:
                logger.info("%s; it was deleted by a try whose answer was lost", exc)
                return Answer(f"DELETE {link}", httpx.Response(204), b"")
            raise

    @asynccontextmanager
    async def stream(self, link: str, headers: Mapping[bytes, bytes]) -> AsyncGenerator[tuple[httpx.Response, str]]:
        """Open an authorized GET whose answer is read by the caller for as long as it lasts; not repeated.

        Args:
            link: A path under the base URL.
            headers: What to send besides the token.

        Yields:
            The open 2xx response and the request in words.

        Raises:
            NotAuthenticated, ApiError, Network, UnsafeUrl: As `call`, before the caller gets anything. What the
                caller's own block raises passes through untouched.
        """
        async with self._prepared("GET", link, headers, None, authorized=True) as outgoing:
            # The watchdog of the stream replaces the timeout of a single read.
            outgoing.request.extensions["timeout"] = httpx.Timeout(
                self._timeout, connect=self._connect_timeout, read=None
            ).as_dict()
            with self._deadline(outgoing):
                response = await self._send(outgoing)
            try:
                yield response, outgoing.where
            finally:
                await _close(response, outgoing.lane)

    @asynccontextmanager
    async def _prepared(
        self,
        method: str,
        link: str | httpx.URL,
        headers: Mapping[bytes, bytes],
        content: bytes | None,
        *,
        authorized: bool,
        fresh: bool = False,
    ) -> AsyncGenerator[_Outgoing]:
        """Put a request together and reserve its place; NotAuthenticated when it needs a token and there is none."""
        if self._lanes is None:
            raise RuntimeError("the client is used outside its `async with` block")
        try:
            url = link if isinstance(link, httpx.URL) else httpx.URL(f"{self.base}{link}")
        except httpx.InvalidURL as exc:  # each of the two is good, but httpx takes no more than 65536 characters
            raise UnsafeUrl(f"{method}: the API's URL and a path under it make none: {exc}") from exc
        where = f"{method} {without_query(url)}"
        every = {**headers, b"X-Request-Id": secrets.token_hex(8).encode()}
        if authorized:
            if self._token is None:
                raise NotAuthenticated(f"not logged in, and {where} needs a token")
            every[b"Authorization"] = f"Bearer {self._token}".encode()
        async with self._lanes.lane(fresh=fresh) as lane:
            request = may_be_left(lane.http.build_request(method, url, headers=every, content=content))
            yield _Outgoing(request, where, authorized=authorized, lane=lane, connects=self._connects)

    @contextmanager
    def _deadline(self, outgoing: _Outgoing) -> Generator[None]:
        """Bound the block by the request's timeout, and translate what httpx raises in it."""
        try:
            with trio.fail_after(self._timeout):
                yield
        except trio.TooSlowError as exc:
            late = f"no complete answer within {self._timeout:g} s"
            raise Network(late, about=f"{outgoing.where}:", sent=outgoing.sent, request_id=outgoing.request_id) from exc
        except (*broken(), *NOT_A_URL) as exc:
            raise network_error(
                exc, outgoing.where, sent=outgoing.sent, request_id=outgoing.request_id, proxy=self._proxy
            ) from exc

    async def _send(self, outgoing: _Outgoing) -> httpx.Response:
        """Send once; the open 2xx response, to be closed by the caller, or the error it stands for."""
        response = await outgoing.lane.http.send(outgoing.request, stream=True)
        self._observe(response)
        logger.debug("%s answered %s", outgoing.where, response.status_code)
        if response.is_success:
            return response
        try:
            raise await self._refusal(response, outgoing)
        finally:
            await _close(response, outgoing.lane)

    def _observe(self, response: httpx.Response) -> None:
        """Learn from an answer's headers, whatever its status."""
        self.clock_skew = measure_skew(response.headers, datetime.now(UTC))
        if response.headers.get("idempotency-supported", "").strip().lower() == "true":
            self.honours_idempotency = True

    async def _refusal(self, response: httpx.Response, outgoing: _Outgoing) -> ApiError | NotAuthenticated:
        now = datetime.now(UTC)
        if response.status_code == 401:
            expired = outgoing.authorized and self._has_expired(now)
            return login_refusal(response, outgoing.where, expired=expired, skew=self.clock_skew)
        return refusal(response, await read_error(response), outgoing.where, now)

    def _has_expired(self, now: datetime) -> bool:
        """Whether the token's `exp` has passed, by this computer's clock or by the server's."""
        expiry = token_expiry(self._token or "")
        return expiry is not None and expiry < max(now, now - (self.clock_skew or timedelta()))
