"""The steps that every API call shares, around its handler.

In this order: the ledger, scripted faults, duplicate headers, the token, the body's size, the idempotency key, the
handler. The order matters: a fault occurs before any effect (except `lose-answer`, whose purpose is to occur after it),
and a replayed answer needs a valid token like any other.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from .answers import IDEMPOTENCY_SUPPORTED, WireError, error_answer, name_request, no_content, unauthorized
from .call import ApiCall, Call
from .world import World

MAX_BODY: Final = 64 * 1024
"""Bytes of a request's body."""
MAX_KEY: Final = 255
"""Characters of an Idempotency-Key."""
_REPLICATED: Final = ("/auth/me", "/tenants", "/status")
"""The ends of the paths that a replica which is behind may answer."""
_ONCE: Final = ("authorization", "content-type", "idempotency-key", "last-event-id")
"""Headers that may occur only once: a second one would be ambiguous (RFC 9110 section 5.3)."""


class _Kept(msgspec.Struct, frozen=True):
    fingerprint: str
    status: int
    body: bytes
    headers: dict[str, str]


class IdempotencyStore:
    """First answers by key (draft-ietf-httpapi-idempotency-key-header, section 2).

    Only successes are kept: a refusal had no effect, so trying again is harmless and may end better.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}

    def find(self, owner: str, key: str, fingerprint: str) -> Response | None:
        """The answer the same request got before; `WireError` 422 when the key was another request's."""
        if not 0 < len(key) <= MAX_KEY:
            raise WireError(400, "invalid_idempotency_key", f"the key must have 1 to {MAX_KEY} characters")
        kept = self._kept.get((owner, key))
        if kept is None:
            return None
        if kept.fingerprint != fingerprint:
            raise WireError(422, "idempotency_key_reused", "this Idempotency-Key was used for another request")
        return Response(kept.body, kept.status, kept.headers)

    def keep(self, owner: str, key: str, fingerprint: str, answer: Response) -> None:
        """Remember the answer to the first request with this key."""
        if answer.status_code < 300:
            self._kept[owner, key] = _Kept(fingerprint, answer.status_code, bytes(answer.body), dict(answer.headers))


def _fingerprint(call: Call, method: str) -> str:
    """A hash of the request that ignores the spacing and key order of its JSON."""
    try:
        body = msgspec.json.encode(msgspec.json.decode(call.body), order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = call.body
    return hashlib.sha256(f"{method} {call.path}\n".encode() + body).hexdigest()


class BrokenAnswer(Response):
    """An answer that breaks off after its headers: the connection is closed before the promised body."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"64")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


async def read_body(request: Request) -> bytes:
    """A request's whole body; `WireError` 413 once it is longer than `MAX_BODY`."""
    body = b""
    async with aclosing(request.stream()) as chunks:  # trio requires a generator that is left early to be closed
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_BODY:
                raise WireError(413, "too_large", f"the body is longer than {MAX_BODY} bytes")
    return body


class Endpoint:
    """The HTTP handler of one call: everything around its function.

    Args:
        world: The world.
        store: The idempotency store all calls share.
        row: The call.
    """

    def __init__(self, world: World, store: IdempotencyStore, row: ApiCall) -> None:
        self._world = world
        self._store = store
        self._row = row

    async def __call__(self, request: Request) -> Response:
        """Answer a request, refusals included."""
        self._world.ledger.requests[f"{request.method} {self._row.path}"] += 1
        path = request.url.path
        if fault := self._world.faults.strike("slow", path):
            await self._sleep(fault.number("seconds"))
        if self._world.faults.strike("content-type", path):
            # Whatever stands between the client and the API made this, so it has none of the API's headers.
            return HTMLResponse("<!doctype html><title>Sandbox</title><h1>Welcome to the sandbox hotel wifi</h1>")
        if fault := self._world.faults.strike("proxy-page", path):
            return HTMLResponse("<html><h1>Request blocked</h1></html>", int(fault.number("status")))
        if fault := self._world.faults.strike("redirect", path):
            elsewhere = {"hostname": "localhost"} if fault.number("foreign") else {}
            # With a query: a redirect to the very same URL is a circle, and clients refuse to walk in one.
            there = request.url.include_query_params(redirected=1).replace(**elsewhere)
            return name_request(request, RedirectResponse(there, 307))
        if self._row.stream and self._world.faults.strike("no-content", path):
            return name_request(request, no_content())
        try:
            answer = await self._answer(request, path)
        except WireError as error:
            answer = error_answer(error)
        if self._world.honours_idempotency:
            answer.headers[IDEMPOTENCY_SUPPORTED] = "true"
        return name_request(request, answer)

    async def _answer(self, request: Request, path: str) -> Response:
        world, row = self._world, self._row
        self._fail(path)
        if twice := [name for name in _ONCE if len(request.headers.getlist(name)) > 1]:
            raise WireError(400, "duplicate_header", f"{', '.join(twice)}: given more than once")
        caller = world.account_of(request.headers.get("authorization")) if row.token else None
        if row.token and world.faults.strike_call("unauthorized", path):
            raise unauthorized("invalid_token", "the token was revoked (a scripted sandbox fault)")
        try:
            body = await read_body(request) if row.changes else b""
        except ClientDisconnect as exc:
            raise WireError(400, "incomplete_body", "the connection ended before the body") from exc
        seen = world
        if path.endswith(_REPLICATED) and (fault := world.faults.strike("stale", path)):
            seen = world.as_of(world.now() - fault.number("seconds"))
        call = Call(
            world=seen,
            base_url=str(request.base_url).rstrip("/"),
            path=path,
            ids=dict(request.path_params),
            query=request.query_params,
            headers=request.headers,
            body=body,
            caller=caller,
        )
        answer = self._once(call) if row.changes else row.handler(call)
        if row.changes and world.faults.strike("lose-answer", path):
            return BrokenAnswer()
        return answer

    def _fail(self, path: str) -> None:
        world = self._world
        if fault := world.faults.strike("error", path):
            wait = int(fault.number("retry_after"))
            moment = format_datetime(datetime.fromtimestamp(world.wall() + wait, UTC), usegmt=True)
            headers = {"Retry-After": moment if fault.number("date") else str(wait)} if wait else {}
            raise WireError(int(fault.number("status")), "sandbox_fault", "a scripted sandbox fault", headers)
        if self._row.stream and (fault := world.faults.strike("no-stream", path)):
            raise WireError(int(fault.number("status")), "not_found", "there is no such stream (scripted)")
        if self._row.stream and world.outage_until is not None and world.now() < world.outage_until:
            raise WireError(503, "stream_outage", "streams are out for a moment (a scripted sandbox fault)")

    def _once(self, call: Call) -> Response:
        key = call.headers.get("idempotency-key")
        if key is None or not call.world.honours_idempotency:
            return self._row.handler(call)
        owner, fingerprint = call.account.id, _fingerprint(call, self._row.method)
        kept = self._store.find(owner, key, fingerprint)
        if kept is not None:
            call.world.ledger.replayed += 1
            return kept
        answer = self._row.handler(call)
        self._store.keep(owner, key, fingerprint, answer)
        return answer

    async def _sleep(self, seconds: float) -> None:
        until = self._world.now() + seconds
        while self._world.now() < until and not self._world.closed:
            await self._world.wait_until(until)
