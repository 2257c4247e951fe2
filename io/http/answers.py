"""What an answer means: an error for each status, how long to wait, a record from a body.

Everything that comes back is untrusted. A proxy may answer in the API's place. So each rule is a small function that
decides without doing I/O; messages name the request by method and URL, and whatever the server wrote in them is cut
short, stripped of control characters and redacted.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, cast

import httpx
import msgspec
import trio

from ...base.decoding import UNREADABLE
from ...base.misfit import misfit_of_json
from ...base.redaction import redact, register_secret
from ...base.remedies import Remedy
from ...errors import ApiError, Network, NotAuthenticated, TokenExpired
from .addresses import NOT_A_URL, is_loopback, without_query
from .goaway import surely_refused
from .messages import ErrorBody, Message
from .proxies import Proxy, proxy_of
from .texts import shown

SKEW_WORTH_SAYING: Final = timedelta(minutes=5)
SHOWN_OF_A_BODY: Final = 500
_CLOSED: Final = "peer closed connection"
"""How h11 begins what it says of an answer that was cut off."""
_DEEPEST_CAUSE: Final = 16
_NUMBERED_ELSEWHERE: Final = (ssl.SSLError, socket.gaierror, socket.herror)
"""Errors whose numbers are not the system's `errno`: a library's, or the resolver's."""
# What a server's request id may be to be shown: one printable word. No standard says more.
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")

T = TypeVar("T")
R = TypeVar("R", bound=Message)


def parse_retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """Seconds a `Retry-After` asks to wait, from its two forms (RFC 9110 section 10.2.3).

    Args:
        headers: The answer's headers. A date is read against the answer's own `Date`, so a wrong clock here does no
            harm.
        now: The present, used when there is no `Date`.

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
        # Brought to UTC here: a date at the end of time may have none, and reckoning with it would fail later.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        return None


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
    for found in _causes(exc):
        if isinstance(found, OSError) and found.strerror:
            # The number is the system's own: others have put the address before its words, which the message names.
            number = None if isinstance(found, _NUMBERED_ELSEWHERE) else found.errno
            return shown(found.strerror if number is None else os.strerror(number), SHOWN_OF_A_BODY)
    words = str(exc)
    if words.startswith(_CLOSED):
        return "the server closed the connection"
    return shown(words, SHOWN_OF_A_BODY) or type(exc).__name__


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """An exception, what it came from, and so on; of a group, its first."""
    found: BaseException | None = exc
    for _ in range(_DEEPEST_CAUSE):
        if found is None:
            return
        yield found
        if isinstance(found, BaseExceptionGroup):
            found = cast("BaseExceptionGroup[BaseException]", found).exceptions[0]
        else:
            found = found.__cause__ or found.__context__


def request_id(response: httpx.Response) -> str | None:
    """The id under which the server's operators find this request: the server's own, else ours, if any."""
    theirs = response.headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(theirs):
        return redact(theirs)
    return response.request.headers.get("x-request-id")


def network_error(
    exc: Exception,
    where: str,
    *,
    sent: bool,
    request_id: str | None = None,
    proxy: Proxy | None = None,
) -> Network:
    """Translate what is said about a connection; raise the result `from` the original.

    Args:
        exc: What httpx raised, or h2 past it.
        where: The request in words.
        sent: Whether the request may have arrived.
        request_id: The id it may be found under.
        proxy: What it goes through, if anything.
    """
    reason, about = network_reason(exc), f"{where}:"
    if isinstance(exc, NOT_A_URL):
        # httpx reads a redirect's target also when it is not to follow it.
        return Network(
            f"{where} answered with a redirect to what is no URL: {reason}", sent=sent, request_id=request_id
        )
    # trio keeps the reason in the cause only.
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in _causes(exc)):
        error = Network(
            f"the server's certificate is not trusted: {reason}",
            about=about,
            sent=sent,
            request_id=request_id,
            hint="Check the API's URL, the clock, and SSL_CERT_FILE when a proxy of yours signs certificates.",
            remedy=Remedy("check_certificates"),
        )
        error.retryable = False
        return error
    if proxy is not None and (problem := _by_the_proxy(exc, proxy, reason)):
        return Network(
            problem,
            about=about,
            sent=False,
            request_id=request_id,
            hint=proxy.hint,
            remedy=Remedy("check_proxy_variable", {"variable": proxy.variable}),
        )
    if isinstance(exc, httpx.ConnectTimeout):
        return Network("the connection could not be made in time", about=about, sent=sent, request_id=request_id)
    if isinstance(exc, httpx.ConnectError):
        return Network(f"cannot connect: {reason}", about=about, sent=sent, request_id=request_id)
    if surely_refused(exc):
        return Network("the server refused the request unprocessed", about=about, sent=False, request_id=request_id)
    if isinstance(exc, httpx.TimeoutException):
        return Network("no answer in time", about=about, sent=sent, request_id=request_id)
    return Network(f"the connection broke: {reason}", about=about, sent=sent, request_id=request_id)


def _by_the_proxy(exc: Exception, proxy: Proxy, reason: str) -> str:
    """What a proxy did, or may have done; empty where the trouble is with the server behind it."""
    if isinstance(exc, httpx.ProxyError):
        return f"the proxy {proxy.address} refused to connect: {reason}"
    if isinstance(exc, httpx.ConnectTimeout):
        return f"no connection through the proxy {proxy.address} could be made in time"
    if isinstance(exc, httpx.ConnectError) and not _is_past_the_connect(exc):
        return f"the proxy {proxy.address} cannot be reached: {reason}"
    return ""


def _is_past_the_connect(exc: BaseException) -> bool:
    """Whether a connection failed while TLS was started: then the proxy had been reached."""
    return any(isinstance(each, ssl.SSLError | trio.BrokenResourceError) for each in _causes(exc))


def _is_html(headers: httpx.Headers, body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<"


def _quote(body: bytes) -> str:
    """The first 500 characters of a body, fit to be shown."""
    return shown(body[: 4 * SHOWN_OF_A_BODY + 4].decode("utf-8", "replace").strip(), SHOWN_OF_A_BODY)


def _page(message: str, response: httpx.Response, **known: Any) -> ApiError:
    """The error for an HTML page: a proxy, or the sign-in page of a network, answered in the API's place."""
    url = response.request.url
    if not is_loopback(url) and (proxy := proxy_of(url)) is not None:
        hint, remedy = proxy.hint, Remedy("check_proxy_variable", {"variable": proxy.variable})
    else:
        hint = "Check whether this network wants a sign-in first, HTTPS_PROXY, and the API's URL."
        remedy = Remedy("check_page")
    return ApiError(message, hint=hint, remedy=remedy, **known)


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
            problem = f"{where} answered {status} with an HTML page, not the API"
            return _page(problem, response, status=status, retry_after=retry_after, request_id=named)
        quoted = _quote(body)
        problem = f": {quoted}" if quoted else ""
        return ApiError(f"{where} answered {status}{problem}", status=status, retry_after=retry_after, request_id=named)
    code, message = _quote(error.code.encode()), _quote(error.message.encode())
    problem = f"{code}: {message}"
    return ApiError(problem, about=f"{where}:", status=status, code=code, retry_after=retry_after, request_id=named)


def login_refusal(response: httpx.Response, where: str, *, expired: bool, skew: timedelta | None) -> NotAuthenticated:
    """The error a 401 stands for (RFC 6750 section 3.1), saying so when a wrong clock may be the reason."""
    kind, problem = (TokenExpired, "has expired") if expired else (NotAuthenticated, "was not accepted")
    return kind(f"{where} answered 401: the token {problem}{describe_skew(skew)}", request_id=request_id(response))


def decode_body(response: httpx.Response, body: bytes, shape: type[T], where: str) -> T:
    """Decode the body of a 2xx answer.

    Raises:
        ApiError: It is not JSON, or not of this shape; the message names the field.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        raise ApiError(
            f"{where} answered {response.status_code} with something else than expected: "
            f"{shown(misfit_of_json(body, shape, exc), SHOWN_OF_A_BODY)}",
            request_id=request_id(response),
        ) from exc
    except UNREADABLE as exc:
        if _is_html(response.headers, body):
            problem = "answered with an HTML page, not the API"
            raise _page(problem, response, about=f"{where}:", request_id=request_id(response)) from exc
        if not body:
            problem = f"answered {response.status_code} with an empty body"
        else:
            problem = f"answered {response.status_code} with something that is not JSON"
        raise ApiError(problem, about=f"{where}:", request_id=request_id(response)) from exc


def keep_secret(record: R, owner: str) -> R:
    """Make the redactor know what the record's hidden fields hold, until `owner` is forgotten; returns the record."""
    for name in record.hidden:
        if isinstance(value := getattr(record, name), str):
            register_secret(value, owner)
    return record
