"""Opening one event stream: what is asked, over which redirects, and what counts as an answer.

Theory (WHATWG HTML, section 9.2.2 and 9.2.3): a stream is asked for with `Accept: text/event-stream`, past every cache,
and with the last event id when there is one. The answer is a stream when it is 200 with that content type; 204 says
that there is no more to come; anything else is a failure.

A redirect is followed as Fetch does (section 4.4, "HTTP-redirect fetch"), a few times, and with what protects a token.
What the caller gave to say who is asking (headers, cookies, `auth`, the user in the URL) goes on while scheme, host and
port stay the same. From the first hop that leaves them, only what any stranger would send is sent, also when a later
hop leads back. A redirect into the clear, to an address with a user in it, or in a circle is refused. The API client
follows no redirect at all (SECURITY 7); it shares what is asked and what counts as an answer.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import httpx
import trio

from ...base.log import get_logger
from ...base.redaction import forget, new_owner, redact, register_secret
from ...errors import ApiError, Network, UnsafeUrl
from ..http.addresses import NO_HOST, NOT_A_URL, may_be_a_host, same_origin, without_query
from ..http.answers import network_error, refusal, request_id
from ..http.bodies import may_be_left
from ..http.broken import broken
from ..http.reading import inflater_of, read_error
from .decoder import EventStream

logger = get_logger(__name__)

MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
# Less than the 100 ms within which a reader that is cancelled is gone.
_CLOSING_TIME: Final = 0.05
_HINT: Final = "Check the URL and the credentials that are sent with it."
# What may stand in a header (RFC 9110 section 5.5); an id is sent as UTF-8, whose bytes above 127 are obs-text.
_FIELD_VALUE: Final = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


def stream_headers(last_event_id: str) -> dict[bytes, bytes]:
    """What a stream is asked for with (9.2.2).

    Args:
        last_event_id: The stream goes on after it. One that no header can carry is left out: the stream starts over,
            and its reader recognises what it has.
    """
    headers = {b"Accept": b"text/event-stream", b"Cache-Control": b"no-store"}
    known = last_event_id.encode()
    if _FIELD_VALUE.fullmatch(known):
        headers[b"Last-Event-ID"] = known
    return headers


@asynccontextmanager
async def read_events(
    response: httpx.Response, *, where: str, last_event_id: str, idle_timeout: float, max_line: int, max_event: int
) -> AsyncGenerator[EventStream]:
    """The events of an open 2xx response; arguments are those of `EventStream`.

    Raises:
        ApiError: On entering: the answer is not 200 with `text/event-stream` (its parameters do not matter, the stream
            is UTF-8 whatever they say: 9.2.5), or it is compressed in a way that is not known.
    """
    named = request_id(response)
    if response.status_code != 200:
        status = response.status_code
        raise ApiError(f"{where} answered {status}: no stream", status=status, request_id=named)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        found = "an HTML page, not the API" if "html" in kind else repr(redact(kind)[:80] or "no content type")
        raise ApiError(
            f"answered with {found}, where an event stream was asked for", about=f"{where}:", request_id=named
        )
    stream = EventStream(
        response,
        inflater=inflater_of(response, where),
        where=where,
        last_event_id=last_event_id,
        idle_timeout=idle_timeout,
        max_line=max_line,
        max_event=max_event,
    )
    try:
        yield stream
    finally:
        await stream.aclose()


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient,
    url: httpx.URL | str,
    *,
    headers: Mapping[str, str],
    last_event_id: str,
    connect_timeout: float,
    open_timeout: float,
    idle_timeout: float,
    max_line: int,
    max_event: int,
) -> AsyncGenerator[EventStream]:
    """Open the event stream at a URL over any client; arguments are those of `EventSource.at`.

    Raises:
        ApiError: On entering: what came is not a stream; `status` says what it was, 204 among them.
        Network: On entering: nobody was reached, or nobody answered in `open_timeout` seconds.
        UnsafeUrl: On entering: the URL, or one it led to, is none that can be asked.
    """
    async with AsyncExitStack() as held:
        try:
            with trio.fail_after(open_timeout):
                limits = httpx.Timeout(open_timeout, connect=connect_timeout, read=None)
                response = await _follow(client, httpx.URL(url), dict(headers), last_event_id, limits, held)
        except NOT_A_URL as exc:
            raise UnsafeUrl(f"the address of the event stream is not a URL: {exc}", hint=_HINT) from exc
        except trio.TooSlowError as exc:
            where = without_query(httpx.URL(url))
            raise Network(f"no answer within {open_timeout:g} s", about=f"GET {where}:", hint=_HINT) from exc
        stream = read_events(
            response,
            where=f"GET {without_query(response.url)}",
            last_event_id=last_event_id,
            idle_timeout=idle_timeout,
            max_line=max_line,
            max_event=max_event,
        )
        yield await held.enter_async_context(stream)


async def _follow(
    client: httpx.AsyncClient,
    url: httpx.URL,
    headers: dict[str, str],
    last_event_id: str,
    limits: httpx.Timeout,
    held: AsyncExitStack,
) -> httpx.Response:
    """Ask, and follow redirects, until there is a 2xx answer; `held` closes it."""
    asked = stream_headers(last_event_id) | {b"Accept-Encoding": b"identity"}
    mine = httpx.Headers(headers)
    mine.update(asked)
    request = client.build_request("GET", url, headers=mine, timeout=limits)
    # A server may echo it, and errors quote what servers send.
    owner = new_owner("event stream")
    held.callback(forget, owner)
    register_secret(request.headers.get("authorization", "").partition(" ")[2], owner)
    foreign = False
    seen: set[str] = set()
    while True:
        where = f"GET {without_query(request.url)}"
        if request.url.scheme not in {"https", "http"} or not request.url.host:
            raise UnsafeUrl(f"{where}: an event stream is at an http or https URL", hint=_HINT)
        if not may_be_a_host(request.url):
            raise UnsafeUrl(f"{where}: that is no host: {NO_HOST}", hint=_HINT)
        if len(seen) > MAX_REDIRECTS or str(request.url) in seen:
            how = "in a circle" if str(request.url) in seen else f"on and on, {MAX_REDIRECTS} times and more"
            raise ApiError(f"redirects lead {how}", about=f"{where}:", hint=_HINT)
        seen.add(str(request.url))
        request.headers["X-Request-Id"] = secrets.token_hex(8)
        response = await _send(client, request, where, foreign=foreign)
        async with AsyncExitStack() as answer:
            answer.push_async_callback(_close, response)
            if response.is_success:
                held.push_async_exit(answer.pop_all())
                return response
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                error = refusal(response, await read_error(response), where, datetime.now(UTC))
                error.recovery_hint = _HINT
                raise error
        target = _target(response, request.url, where)
        logger.debug("%s leads to %s", where, without_query(target))
        foreign = foreign or not same_origin(request.url, target)
        if foreign:
            # Not made by the client: it would add what it sends to everybody it trusts, its cookies among it.
            bare = httpx.Headers([*asked.items(), (b"User-Agent", client.headers.get("user-agent", "").encode())])
            request = httpx.Request("GET", target, headers=bare, extensions={"timeout": limits.as_dict()})
        else:
            target = target.copy_with(userinfo=request.url.userinfo)
            request = client.build_request("GET", target, headers=mine, timeout=limits)


async def _send(client: httpx.AsyncClient, request: httpx.Request, where: str, *, foreign: bool) -> httpx.Response:
    """Send once, without a redirect; httpx's errors become ours."""
    auth = None if foreign else httpx.USE_CLIENT_DEFAULT
    try:
        return await client.send(may_be_left(request), stream=True, auth=auth, follow_redirects=False)
    except broken() as exc:
        error = network_error(exc, where, sent=not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout))
        error.recovery_hint = _HINT
        # A request that cannot be written down cannot be written down the next time either.
        error.retryable = error.retryable and not isinstance(exc, httpx.LocalProtocolError | httpx.UnsupportedProtocol)
        raise error from exc


def _target(response: httpx.Response, here: httpx.URL, where: str) -> httpx.URL:
    """Where a redirect leads (RFC 9110 section 10.2.2); UnsafeUrl when it must not be followed."""
    # httpx has parsed it before: an answer with a location that is no URL does not get here.
    given = httpx.URL(response.headers["location"])
    target = here.join(given)
    shown = without_query(target)
    if given.userinfo:
        raise UnsafeUrl(f"{where}: a redirect names a user to log in as, at {shown}", hint=_HINT)
    if here.scheme == "https" and target.scheme != "https":
        raise UnsafeUrl(f"{where}: a redirect leads into the clear, to {shown}", hint=_HINT)
    return target


async def _close(response: httpx.Response) -> None:
    with trio.move_on_after(_CLOSING_TIME, shield=True):
        await response.aclose()
