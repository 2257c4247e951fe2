"""What lies between httpx and the API client: whom to call, what an answer means, and how much of it is read.

Theory: everything that comes back is untrusted. A proxy may answer in the API's place, a body may never end, a
redirect may lead a token elsewhere. So each rule is a small function that decides without doing I/O (which URLs may be
called, what error a status is, how long to wait), and one that reads, with a bound. Messages name the request by
method and URL without its query, and whatever the server said in them is cut short, stripped of control characters and
redacted.

Refused: compressed bodies. They are asked for as `identity`, because the size of a decompressed body is known only once
it is in memory, and these bodies are small.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec
import trio

from ..errors import ApiError, Network, NotAuthenticated, TokenExpired, TooLarge, UnsafeUrl
from .log import printable, redact, register_secret
from .unknown import UNREADABLE
from .urls import LOOPBACK_NAMES, Origin, check_api_url, may_be_an_id
from .wire import ErrorBody, Record

SKEW_WORTH_SAYING: Final = timedelta(minutes=5)
SHOWN_OF_A_BODY: Final = 500
NO_HOST: Final = "a part of a name between two dots has 1 to 63 characters (RFC 1035 section 2.3.4)"
NOT_A_URL: Final = (httpx.InvalidURL, UnicodeError)
"""What httpx raises of a URL that is none: the second of a host that begins as an encoded one, and is not."""
_READ_OF_AN_ERROR: Final = 64 * 1024
_DEEPEST_CAUSE: Final = 16
# What a server's request id may be to be shown: one printable word. No standard says more.
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")

T = TypeVar("T")
R = TypeVar("R", bound=Record)


# --- whom to call --------------------------------------------------------------------------------------


def parse_api_url(api_url: str) -> httpx.URL:
    """Parse a base URL tokens may be sent to; `urls.check_api_url` says which.

    Returns:
        The URL, without a slash at its end.

    Raises:
        UnsafeUrl: It is none, or httpx would call another place than the one that was checked; nothing was sent.
    """
    place = check_api_url(api_url)
    try:
        url = httpx.URL(api_url.rstrip("/"))
        agreed = _origin(url) == place and bool(url.host)  # asked for later, when httpx chooses a proxy
    except NOT_A_URL as exc:
        raise UnsafeUrl(f"the API URL is not one: {exc}") from exc
    if not agreed:
        raise UnsafeUrl(f"the API URL is not read alike by all: {redact(printable(api_url))!r}")
    return url


def may_be_a_host(url: httpx.URL) -> bool:
    """Whether the URL's host is one that can be looked up; a resolver's answer to any other is a bare UnicodeError."""
    try:
        url.raw_host.decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True


def is_loopback(url: httpx.URL) -> bool:
    """Whether the URL's host is this computer: 127.0.0.1, ::1 or localhost."""
    return _origin(url).host in LOOPBACK_NAMES


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether scheme, host and port agree (RFC 6454 section 5)."""
    return _origin(one) == _origin(other)


def _origin(url: httpx.URL) -> Origin:
    """From httpx's own parts, the host as it is looked up: what is compared must be what is called."""
    return Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)


def link_under(base: httpx.URL, link: str) -> httpx.URL:
    """Resolve a link the API gave, without leaving the API.

    Args:
        base: The API's base URL.
        link: An absolute URL of the same origin, or a path starting with one slash, taken under the base URL.

    Raises:
        UnsafeUrl: It leads anywhere else; a token must not follow it.
    """
    # "//host/" and "/\host/" are other hosts to some parsers, whatever ours thinks of them.
    is_path = link.startswith("/") and not link.startswith(("//", "/\\"))
    try:
        url = httpx.URL(f"{base}{link}" if is_path else link)
    except httpx.InvalidURL as exc:
        raise UnsafeUrl(f"the API gave a link that is not a URL: {exc}") from exc
    if not same_origin(url, base) or url.userinfo:
        raise UnsafeUrl(f"the API at {base} gave a link that leads elsewhere: {without_query(url)}")
    return url


def path_segment(value: str) -> str:
    """Percent-encode an id as one segment of a path.

    Raises:
        ApiError: It can be none (`urls.may_be_an_id`).
    """
    if not may_be_an_id(value):
        raise ApiError(f"{value!r} is not an id the API gives", hint="Check the id.")
    return quote(value, safe="")


def without_query(url: httpx.URL) -> str:
    """The URL as messages may show it: no user, query or fragment, and redacted."""
    return redact(printable(str(url.copy_with(username=None, password=None, query=None, fragment=None))))


# --- what an answer means ------------------------------------------------------------------------------


def parse_retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds a `Retry-After` asks to wait, from its two forms (RFC 9110 section 10.2.3).

    Args:
        headers: The answer's headers. A date is read against the answer's own `Date`, so a wrong clock here does no
        harm. now: The present, used when there is no `Date`.

    Returns:
        Seconds, never negative; None when the header is absent or unreadable.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        # Nobody waits 10**9 s; more digits than that only overflow a float.
        return float(value[:10])
    until = http_date(value)
    if until is None:
        return None
    return max((until - (http_date(headers.get("date", "")) or now)).total_seconds(), 0.0)


def http_date(value: str) -> datetime | None:
    """Read an HTTP date (RFC 9110 section 5.6.7); None when it is not one."""
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def measure_skew(headers: httpx.Headers, now: datetime) -> timedelta | None:
    """How far this computer's clock is ahead (negative: behind) of the server's, when it is over five minutes."""
    server = http_date(headers.get("date", ""))
    if server is None or abs(now - server) <= SKEW_WORTH_SAYING:
        return None
    return now - server


def describe_skew(skew: timedelta | None) -> str:
    """The skew as the end of a sentence, or nothing."""
    if skew is None:
        return ""
    # Whole minutes: a `Date` is cut to the second and as old as the network made it.
    amount = timedelta(minutes=round(abs(skew).total_seconds() / 60))
    return f"; this computer's clock is {amount} {'ahead of' if skew > timedelta() else 'behind'} the server's"


def network_reason(exc: BaseException) -> str:
    """The most telling words in a chain of exceptions: the operating system's, when it said something."""
    found: BaseException | None = exc
    for _ in range(_DEEPEST_CAUSE):
        if found is None:
            break
        if isinstance(found, OSError) and found.strerror:
            # trio puts the address before the reason, and the message names it already.
            number = found.errno if found.strerror.startswith("Error connecting to") else None
            return redact(printable(found.strerror if number is None else os.strerror(number)))
        if isinstance(found, BaseExceptionGroup):
            found = cast("BaseExceptionGroup[BaseException]", found).exceptions[0]
        else:
            found = found.__cause__ or found.__context__
    return redact(printable(str(exc))) or type(exc).__name__


def request_id(response: httpx.Response) -> str | None:
    """Under which name the server's operators know this request: the server's own word for it, else ours, if any."""
    theirs = response.headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(theirs):
        return redact(theirs)
    return response.request.headers.get("x-request-id")


def network_error(
    exc: httpx.TransportError | httpx.InvalidURL | UnicodeError,
    where: str,
    *,
    sent: bool,
    request_id: str | None = None,
) -> Network:
    """Translate what httpx says about a connection; raise the result `from` the original."""
    reason = network_reason(exc)
    if isinstance(exc, NOT_A_URL):
        # httpx reads a redirect's target also when it is not to follow it.
        return Network(
            f"{where} answered with a redirect to what is no URL: {reason}", sent=sent, request_id=request_id
        )
    # trio keeps the reason in the cause only.
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        error = Network(
            f"{where}: the server's certificate is not trusted: {reason}",
            sent=sent,
            request_id=request_id,
            hint="Check --api-url, the clock, and SSL_CERT_FILE when a proxy of yours signs certificates.",
        )
        error.retryable = False
        return error
    if isinstance(exc, httpx.ConnectTimeout):
        return Network(f"{where}: the connection could not be made in time", sent=sent, request_id=request_id)
    if isinstance(exc, httpx.ConnectError):
        return Network(f"{where}: cannot connect: {reason}", sent=sent, request_id=request_id)
    if isinstance(exc, httpx.TimeoutException):
        return Network(f"{where}: no answer in time", sent=sent, request_id=request_id)
    return Network(f"{where}: the connection broke: {reason}", sent=sent, request_id=request_id)


def _is_html(headers: httpx.Headers, body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<"


def _quote(body: bytes) -> str:
    """The first 500 characters of a body, fit to be shown. Redacted before it is cut, or half a token would escape."""
    text = redact(printable(body.decode("utf-8", "replace")).strip())
    return text if len(text) <= SHOWN_OF_A_BODY else text[:SHOWN_OF_A_BODY] + "…"


def refusal(response: httpx.Response, body: bytes, where: str, now: datetime) -> ApiError:
    """The error an answer that is not 2xx, and not 401, stands for.

    Args:
        response: Its status and headers.
        body: What was read of its body.
        where: The request in words.
        now: The present, for a `Retry-After` that is a date.
    """
    status, named = response.status_code, request_id(response)
    retry_after = parse_retry_after(response.headers, now)
    if response.is_redirect or 300 <= status < 400:
        try:
            target = response.url.join(response.headers.get("location", ""))
            leads = f" to {without_query(target)}" if "location" in response.headers else ""
        except httpx.InvalidURL:
            leads = " to something that is not a URL"
        return ApiError(
            f"{where} answered {status}, a redirect{leads}; redirects are not followed", status=status, request_id=named
        )
    try:
        error = msgspec.json.decode(body, type=ErrorBody).error
    except UNREADABLE:
        if _is_html(response.headers, body):
            said = ": answered with an HTML page, not the API"
        else:
            quoted = _quote(body)
            said = f": {quoted}" if quoted else ""
        return ApiError(f"{where} answered {status}{said}", status=status, retry_after=retry_after, request_id=named)
    code, message = _quote(error.code.encode()), _quote(error.message.encode())
    said = ApiError.in_words(where, code, message)
    return ApiError(said, status=status, code=code, retry_after=retry_after, request_id=named)


def login_refusal(response: httpx.Response, where: str, *, expired: bool, skew: timedelta | None) -> NotAuthenticated:
    """The error a 401 stands for (RFC 6750 section 3.1), saying so when a wrong clock may be the reason."""
    kind, said = (TokenExpired, "has expired") if expired else (NotAuthenticated, "was not accepted")
    return kind(f"{where} answered 401: the token {said}{describe_skew(skew)}", request_id=request_id(response))


def decode_body(response: httpx.Response, body: bytes, shape: type[T], where: str) -> T:
    """Decode the body of a 2xx answer.

    Raises:
        ApiError: It is not JSON, or not of this shape; the message names the field.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        raise ApiError(
            f"{where} answered {response.status_code} with something else than expected: {exc}",
            request_id=request_id(response),
        ) from exc
    except UNREADABLE as exc:
        if _is_html(response.headers, body):
            said = "answered with an HTML page, not the API"
        elif not body:
            said = f"answered {response.status_code} with an empty body"
        else:
            said = f"answered {response.status_code} with something that is not JSON"
        raise ApiError(f"{where}: {said}", request_id=request_id(response)) from exc


def keep_secret(record: R) -> R:
    """Make the redactor know what the record's hidden fields hold; returns the record."""
    for name in record.hidden:
        if isinstance(value := getattr(record, name), str):
            register_secret(value)
    return record


# --- how much is read ----------------------------------------------------------------------------------


async def unwind(chunks: AsyncIterator[bytes]) -> None:
    """Finish a half-read body's chain of asynchronous generators.

    httpx nests five of them. Closing the outermost abandons the others to the garbage collector, which trio warns
    about, rightly. A cancelled read unwinds all of them instead, from the innermost on.
    """
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        with suppress(StopAsyncIteration, httpx.TransportError):
            while True:
                await anext(chunks)


async def read_body(response: httpx.Response, limit: int, where: str) -> bytes:
    """Read the body of a 2xx answer.

    Args:
        response: Open and streaming.
        limit: Bytes; more are an error.
        where: The request in words.

    Raises:
        TooLarge: The body is over the limit; not more than the limit and one chunk was read.
        ApiError: It is compressed, though `identity` was asked for.
        httpx.TransportError: The connection broke, or the body was cut off; for the caller to translate.
    """
    check_encoding(response, where)
    announced = response.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and len(announced) < 20 and int(announced) > limit:
        raise TooLarge(f"{where} answered with {int(announced)} bytes; at most {limit} are read")
    body = await _read_up_to(response, limit)
    if len(body) > limit:
        raise TooLarge(f"{where} answered with more than {limit} bytes; at most {limit} are read")
    return bytes(body)


async def read_error(response: httpx.Response) -> bytes:
    """Read what there is, up to 64 KiB, of the body of an error: the status counts, the body only explains."""
    with suppress(httpx.TransportError):
        return bytes(await _read_up_to(response, _READ_OF_AN_ERROR))
    return b""


async def _read_up_to(response: httpx.Response, limit: int) -> bytearray:
    """Read until the end or until more than `limit` bytes are there."""
    body = bytearray()
    chunks = aiter(response.aiter_raw())
    try:
        while len(body) <= limit:
            try:
                body += await anext(chunks)
            except StopAsyncIteration:
                break
    finally:
        await unwind(chunks)
    return body


def check_encoding(response: httpx.Response, where: str) -> None:
    """Refuse a body that is not sent as it is.

    Raises:
        ApiError: The answer has a `Content-Encoding`.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise ApiError(
            f"{where} answered with a body encoded as {redact(printable(encoding))[:40]!r}, which was not asked for",
            request_id=request_id(response),
            hint="A proxy between here and the API compresses answers; check --api-url and the proxy.",
        )
