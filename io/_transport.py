"""One request, sent once or as often as is safe.

Theory of the retries: what may be repeated depends on what may already have happened. A GET changes nothing, so it is
repeated on any failure that may mend itself. A POST or PUT is repeated when it surely never left (no request was
written to any connection; httpcore's trace tells), or when it carries an `Idempotency-Key` and this server has shown,
by `Idempotency-Supported: true`, that it answers a repetition instead of doing it again. In every other case the
outcome is unknown: the error is raised and the flow asks the server what happened. A refused token is never tried
twice. `Retry-After` is honoured while the budget lasts; beyond it the error says so at once instead of sleeping
towards a failure.

The deadline of a request covers all of it. httpx's own timeouts are per read, and a server that sends a byte now and
then would pass every one of them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import httpx
import msgspec
import stamina
import trio
from typing_extensions import override

from ..errors import ApiError, JwtDecode, Network, NotAuthenticated
from . import _http
from .bodies import may_be_left
from .log import logger
from .polling import Backoff
from .tokens import token_expiry

_CLOSING_TIME: Final = 1.0

T = TypeVar("T")


class _OthersRetries(logging.Filter):
    """Keeps stamina's line about our retries out of the log: ours says more. What others retry is left alone."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not str(getattr(record, "stamina.callable", "")).startswith(__name__)


logging.getLogger("stamina").addFilter(_OthersRetries())


class Answer(msgspec.Struct, frozen=True):
    """A 2xx answer, read.

    Attributes:
        where: The request in words.
        response: Status and headers; closed.
        body: All of it.
    """

    where: str
    response: httpx.Response
    body: bytes

    def decode(self, shape: type[T]) -> T:
        """The body as a record; ApiError naming the field when it is something else."""
        return _http.decode_body(self.response, self.body, shape, self.where)


class _Outgoing:
    """A request about to be sent.

    Attributes:
        request: What goes out.
        where: The same in words.
        authorized: Whether the token goes with it.
        sent: Whether any of it has been written to a connection.
    """

    def __init__(self, request: httpx.Request, where: str, *, authorized: bool) -> None:
        self.request: Final = request
        self.where: Final = where
        self.authorized: Final = authorized
        self.sent = False
        request.extensions = dict(request.extensions) | {"trace": self._trace}

    async def _trace(self, name: str, _info: object) -> None:
        # The first byte of a request, over HTTP/1.1 or 2; also of a CONNECT to a proxy, so this errs to the safe side.
        if name.endswith("send_request_headers.started"):
            self.sent = True


async def _close(response: httpx.Response) -> None:
    with trio.move_on_after(_CLOSING_TIME, shield=True):
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
        self._client: httpx.AsyncClient | None = None

    def open(self) -> None:
        """Make the connection pool.

        Raises:
            Network: The environment's proxy or certificate settings cannot be used.
        """
        try:
            self._client = httpx.AsyncClient(
                headers={"Accept-Encoding": "identity", "User-Agent": "systemprompt-cloud"},
                timeout=httpx.Timeout(self._timeout, connect=self._connect_timeout),
                # Streams hold their connections for minutes; a bound would let them starve every other call.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
                follow_redirects=False,
                # What happens on loopback is no proxy's business.
                trust_env=not _http.is_loopback(self.base),
                # Without TLS no certificates need to be read, which takes longer than a call; an empty context trusts
                # nobody.
                verify=self.base.scheme == "https" or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            )
        except (ImportError, ValueError, OSError, httpx.InvalidURL) as exc:
            error = Network(
                f"the proxy or certificate settings of the environment cannot be used: {_http.network_reason(exc)}",
                sent=False,
                hint="Check HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE.",
            )
            error.retryable = False
            raise error from exc

    async def aclose(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            with trio.move_on_after(_CLOSING_TIME, shield=True):
                await client.aclose()

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
        """
        started = trio.current_time()
        failures = 0

        def decide(exc: Exception) -> bool | float:
            nonlocal failures
            failures += 1
            if not isinstance(exc, Network | ApiError) or not exc.retryable or failures >= self._attempts:
                return False
            never_left = isinstance(exc, Network) and not exc.sent
            if method != "GET" and not never_left and not (key is not None and self.honours_idempotency):
                return False
            wait = self._backoff.delay(failures - 1, exc.retry_after if isinstance(exc, ApiError) else None)
            if trio.current_time() - started + wait > self._retry_budget:
                return False
            logger.info("{}; trying again in {:.1f} s", exc, wait)
            return wait

        headers = {b"Accept": b"application/json"}
        if key is not None:
            headers[b"Idempotency-Key"] = key.encode("ascii")
        content = None
        if body is not None:
            headers[b"Content-Type"] = b"application/json"
            content = msgspec.json.encode(body)

        # `decide` keeps the budget: stamina's own timeout would only be looked at after a wait that is already too
        # long.
        @stamina.retry(on=decide, attempts=self._attempts, timeout=None)
        async def attempt() -> Answer:
            outgoing = self._prepare(method, link, headers, content, authorized=authorized)
            with self._deadline(outgoing):
                response = await self._send(outgoing)
                try:
                    read = await _http.read_body(response, self._max_body, outgoing.where)
                finally:
                    await _close(response)
            return Answer(outgoing.where, response, read)

        return await attempt()

    @asynccontextmanager
    async def stream(self, link: str, headers: Mapping[bytes, bytes]) -> AsyncGenerator[tuple[httpx.Response, str]]:
        """Open an authorized GET whose answer is read by the caller for as long as it lasts; not repeated.

        Args:
            link: A path under the base URL.
            headers: What to send besides the token.

        Returns:
            The open 2xx response and the request in words.

        Raises:
            NotAuthenticated, ApiError, Network: As `call`, before the caller gets anything. What the caller's own block
                raises passes through untouched.
        """
        outgoing = self._prepare("GET", link, headers, None, authorized=True)
        # The watchdog of the stream replaces the timeout of a single read.
        outgoing.request.extensions["timeout"] = httpx.Timeout(
            self._timeout, connect=self._connect_timeout, read=None
        ).as_dict()
        with self._deadline(outgoing):
            response = await self._send(outgoing)
        try:
            yield response, outgoing.where
        finally:
            await _close(response)

    def _prepare(
        self,
        method: str,
        link: str | httpx.URL,
        headers: Mapping[bytes, bytes],
        content: bytes | None,
        *,
        authorized: bool,
    ) -> _Outgoing:
        """Put a request together; NotAuthenticated when it needs a token and there is none."""
        if self._client is None:
            raise RuntimeError("the client is used outside its `async with` block")
        url = link if isinstance(link, httpx.URL) else httpx.URL(f"{self.base}{link}")
        outgoing = _Outgoing(
            may_be_left(self._client.build_request(method, url, headers=dict(headers), content=content)),
            f"{method} {_http.without_query(url)}",
            authorized=authorized,
        )
        if authorized:
            if self._token is None:
                raise NotAuthenticated(f"nobody is logged in, and {outgoing.where} needs a token")
            outgoing.request.headers["Authorization"] = f"Bearer {self._token}"
        return outgoing

    @contextmanager
    def _deadline(self, outgoing: _Outgoing) -> Generator[None]:
        """Bound the block by the request's timeout, and translate what httpx raises in it."""
        try:
            with trio.fail_after(self._timeout):
                yield
        except trio.TooSlowError as exc:
            raise Network(
                f"{outgoing.where}: no complete answer within {self._timeout:g} s", sent=outgoing.sent
            ) from exc
        except httpx.TransportError as exc:
            raise _http.network_error(exc, outgoing.where, sent=outgoing.sent) from exc

    async def _send(self, outgoing: _Outgoing) -> httpx.Response:
        """Send once; the open 2xx response, to be closed by the caller, or the error it stands for."""
        assert self._client is not None  # noqa: S101 -- `_prepare` has looked
        response = await self._client.send(outgoing.request, stream=True)
        self._observe(response)
        logger.debug("{} answered {}", outgoing.where, response.status_code)
        if response.is_success:
            return response
        try:
            raise await self._refusal(response, outgoing)
        finally:
            await _close(response)

    def _observe(self, response: httpx.Response) -> None:
        """Learn from an answer's headers, whatever its status."""
        self.clock_skew = _http.measure_skew(response.headers, datetime.now(UTC))
        if response.headers.get("idempotency-supported", "").strip().lower() == "true":
            self.honours_idempotency = True

    async def _refusal(self, response: httpx.Response, outgoing: _Outgoing) -> ApiError | NotAuthenticated:
        now = datetime.now(UTC)
        if response.status_code == 401:
            expired = outgoing.authorized and self._has_expired(now)
            return _http.login_refusal(outgoing.where, expired=expired, skew=self.clock_skew)
        return _http.refusal(response, await _http.read_error(response), outgoing.where, now)

    def _has_expired(self, now: datetime) -> bool:
        """Whether the token's `exp` has passed, by this computer's clock or by the server's."""
        try:
            expiry = token_expiry(self._token or "")
        except JwtDecode:
            return False
        return expiry is not None and expiry < max(now, now - (self.clock_skew or timedelta()))
