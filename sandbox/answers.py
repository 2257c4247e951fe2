"""What the local cloud answers when it is not HTML: JSON bodies and the API's error body.

`WireError` is how any part of the cloud refuses a call. It carries everything the answer needs, so that whoever finds
the reason (the token check, the idempotency store, a handler, a scripted fault) need not know about HTTP responses, and
one place turns it into `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..io.http.messages import ErrorBody, ErrorDetail

IDEMPOTENCY_SUPPORTED: Final = "Idempotency-Supported"

REQUEST_ID: Final = "X-Request-Id"

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_PRIVATE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class WireError(Exception):
    """A refusal in the API's own form.

    Attributes:
        status: The HTTP status.
        code: The word for programs.
        message: The sentence for people.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def unauthorized(code: str, message: str) -> WireError:
    """A 401 with the challenge RFC 6750 section 3 asks for."""
    return WireError(401, code, message, {"WWW-Authenticate": f'Bearer realm="systemprompt-sandbox", error="{code}"'})


def json_answer(body: object, status: int = 200) -> Response:
    """A JSON answer; `body` is anything msgspec encodes."""
    return Response(msgspec.json.encode(body), status, _PRIVATE, "application/json")


def no_content() -> Response:
    """A 204."""
    return Response(status_code=204, headers=_PRIVATE)


def error_answer(error: WireError) -> Response:
    """The answer a `WireError` stands for."""
    answer = json_answer(ErrorBody(error=ErrorDetail(code=error.code, message=error.message)), error.status)
    answer.headers.update(error.headers)
    return answer


def name_request(request: Request, answer: Response) -> Response:
    """Give an answer its request's id: the caller's, when there is one that can go into any log, else a new one."""
    given = request.headers.getlist(REQUEST_ID)
    sane = len(given) == 1 and _REQUEST_ID.fullmatch(given[0])
    answer.headers[REQUEST_ID] = given[0] if sane else f"req_sandbox_{secrets.token_hex(8)}"
    return answer
