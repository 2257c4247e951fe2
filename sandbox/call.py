"""A call of the local cloud's API: what a handler is given, and what a row of the table says about it.

A handler takes a `Call` (who asks, what the path and the body say) and returns an answer; it does not await, so it sees
and leaves the world whole. What all calls share happens around it, in `endpoint.py`. A row, `ApiCall`, holds all there
is to know about a call: the router reads it and so does `openapi.py`, so that what is described is what is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from .answers import WireError, unauthorized
from .state import Account, SandboxTenant
from .world import World

Body = TypeVar("Body")


class Call(msgspec.Struct, frozen=True):
    """One call, as a handler sees it.

    Attributes:
        world: What it is about.
        base_url: Where this cloud answers, as its client addressed it.
        path: The request's path.
        ids: The values in the path.
        query: The query's parameters.
        headers: The request's headers.
        body: The body, not yet read as anything.
        caller: The account behind the token; None where no token is asked for.
    """

    world: World
    base_url: str
    path: str
    ids: dict[str, str]
    query: QueryParams
    headers: Headers
    body: bytes
    caller: Account | None

    @property
    def account(self) -> Account:
        """Who asks."""
        if self.caller is None:
            raise unauthorized("missing_token", "this call needs a token")
        return self.caller

    @property
    def tenant(self) -> SandboxTenant:
        """The tenant the path names; `WireError` 404 when the caller has none of this id."""
        return self.world.tenant_of(self.account, self.ids["id"])

    def read(self, kind: type[Body]) -> Body:
        """The body as a record.

        Raises:
            WireError: 415 when it does not say that it is JSON, 422 naming the field when it is not what is wanted.
        """
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise WireError(415, "unsupported_media_type", "send `Content-Type: application/json`")
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as exc:
            raise WireError(422, "invalid_body", str(exc)) from exc
        except UnicodeDecodeError as exc:
            raise WireError(422, "invalid_body", "JSON is UTF-8 (RFC 8259 section 8.1), and this is not") from exc
        except RecursionError as exc:
            raise WireError(422, "invalid_body", "the JSON is nested too deeply") from exc


CallHandler = Callable[[Call], Response]


class ApiCall(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        method: The HTTP method.
        path: The path's template.
        handler: What answers; the first line of its docstring is the call's summary.
        takes: The record of the body; None where there is none.
        gives: The record of a good answer, in `Data` where it comes in that envelope; None = 204.
        query: The schema of each query parameter, all of which are required.
        conflicts: Whether the tenant may be in a state in which this cannot be done: 409.
        token: Whether a token is asked for.
        stream: Whether the answer is a stream of `gives`.
    """

    method: str
    path: str
    handler: CallHandler
    takes: type[Any] | None = None
    gives: Any = None
    query: dict[str, dict[str, object]] = {}
    conflicts: bool = False
    token: bool = True
    stream: bool = False

    @property
    def name(self) -> str:
        """The call's name, as OpenAPI's `operationId`."""
        return self.handler.__name__

    @property
    def changes(self) -> bool:
        """Whether it changes something, and so honours an Idempotency-Key."""
        return self.method != "GET"
