"""The API of the local cloud, described: OpenAPI 3.1 (spec.openapis.org/oas/v3.1.1), served at `/openapi.json`.

Theory: a description that is written beside the code drifts from it. This one is computed from the table the router
answers from (`api.py`) and from the records it reads and writes, whose schemas msgspec gives; what is written here is
only what all calls share. `tests/sandbox/test_contract.py` calls every operation through the real client, and
`test_schemathesis.py` looks for answers that are not described.

Scripted faults are not described: they are what a description does not promise.

`python docs/build_reference.py` records it in docs/reference/openapi.json, where a change of it can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, cast, get_args, get_origin

import msgspec

from ..io.cloud.wire import Data, OAuthProvider
from ..io.http.messages import ErrorBody
from .answers import IDEMPOTENCY_SUPPORTED, REQUEST_ID
from .api import API
from .call import ApiCall
from .endpoint import MAX_BODY, MAX_KEY
from .requests import SecretName, json_schema

Json = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{name}"
_PATH_PARAMETERS: Final[dict[str, Json]] = {
    "provider": {"type": "string", "enum": list(OAuthProvider)},
    "id": {"type": "string", "minLength": 1},
    "key": json_schema(SecretName),
}
_REFUSALS: Final = {
    400: "A header, or where to send the browser back to, cannot be used.",
    401: "The token is missing, is not one of this cloud's, or has expired (RFC 6750).",
    403: "The request comes from another site, or is about another user.",
    404: "There is nothing of this name that is the caller's.",
    409: "The tenant is not in a state in which this can be done.",
    413: f"The body is longer than {MAX_BODY} bytes.",
    415: "The body is not declared as JSON.",
    421: "The request is addressed to a host that is not this cloud.",
    422: "The body is not what is wanted, or the Idempotency-Key was another request's.",
}


@cache
def description() -> Json:
    """The whole document."""
    kinds = {ErrorBody: None}
    for row in API:
        kinds |= {kind: None for kind in (row.takes, _inner(row.gives)) if kind is not None}
    schemas, components = msgspec.json.schema_components(list(kinds), ref_template=_REFERENCE)
    named = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, Json] = {}
    for row in API:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, named)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "SystemPrompt Cloud API, as the local cloud answers it",
            "version": "v1",
            "description": "A sandbox on this computer: nothing here costs money or is kept.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {f"Refused{status}": _refusal(status) for status in _REFUSALS},
            "headers": {
                REQUEST_ID: {
                    "description": "The request's id: the caller's own, if it sent a usable one.",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
                },
                IDEMPOTENCY_SUPPORTED: {
                    "description": "A repeated Idempotency-Key is answered, not acted on.",
                    "schema": {"type": "string", "enum": ["true"]},
                },
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _inner(kind: Any) -> Any:
    """What is in the envelope, where there is one."""
    return get_args(kind)[0] if get_origin(kind) is Data else kind


def _operation(row: ApiCall, named: dict[Any, Json]) -> Json:
    operation: Json = {
        "operationId": row.name,
        "summary": (row.handler.__doc__ or "").partition("\n")[0].rstrip("."),
        "parameters": list(_parameters(row)),
        "responses": {
            **_success(row, named),
            **{str(status): {"$ref": f"#/components/responses/Refused{status}"} for status in _refusals(row)},
        },
    }
    if not row.token:
        operation["security"] = []
    if row.takes is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": named[row.takes]}}}
    return operation


def _parameters(row: ApiCall) -> Iterator[Json]:
    for name in cast("list[str]", re.findall(r"\{(\w+)\}", row.path)):
        yield {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]}
    for name, schema in row.query.items():
        yield {"name": name, "in": "query", "required": True, "schema": schema}
    if row.changes:
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same for every try at the same effect; the first answer is given again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
        }
    if row.stream:
        yield {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last event that was received; the stream continues after it.",
            "schema": {"type": "string"},
        }
    yield {"name": REQUEST_ID, "in": "header", "schema": {"type": "string"}}


def _success(row: ApiCall, named: dict[Any, Json]) -> Json:
    if row.gives is None:
        return {"204": {"description": "Done.", "headers": _headers()}}
    schema = named[_inner(row.gives)]
    if row.stream:
        content: Json = {"text/event-stream": {"schema": _event(schema)}}
    else:
        if get_origin(row.gives) is Data:
            schema = {"type": "object", "properties": {"data": schema}, "required": ["data"]}
        content = {"application/json": {"schema": schema}}
    return {"200": {"description": "Good.", "headers": _headers(), "content": content}}


def _event(data: Json) -> Json:
    """One event of a stream: before OpenAPI 3.2 there is no word for it, and tools take `schema` to mean it."""
    content = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    name = {"type": "string"}
    return {
        "anyOf": [
            {"type": "object", "properties": {"event": {"const": "heartbeat"}}, "required": ["event"]},
            {"type": "object", "properties": {"event": name, "id": name, "data": content}, "required": ["data", "id"]},
        ]
    }


def _refusals(row: ApiCall) -> Iterator[int]:
    """The statuses of the refusals a call can meet."""
    wanted = {
        400: True,
        401: row.token,
        403: True,
        404: "{" in row.path,
        409: row.conflicts,
        413: row.changes,
        415: row.takes is not None,
        421: True,
        422: row.changes,
    }
    return (status for status, met in wanted.items() if met)


def _refusal(status: int) -> Json:
    headers = _headers()
    if status == 401:
        headers["WWW-Authenticate"] = {"required": True, "schema": {"type": "string"}}
    return {
        "description": _REFUSALS[status],
        "headers": headers,
        "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(name=ErrorBody.__name__)}}},
    }


def _headers() -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID, IDEMPOTENCY_SUPPORTED)}
