"""What a broken connection raises: httpx's own errors, and what HTTP/2 raises past httpx when its peer misbehaves."""

from __future__ import annotations

import sys

import httpx


def broken() -> tuple[type[Exception], ...]:
    """The errors of a connection that broke, for an `except` clause; those of h2 once that is loaded.

    httpcore translates what h2 raises while a request is sent, and not what it raises while a body is read.
    """
    h2 = sys.modules.get("h2.exceptions")
    return (httpx.TransportError,) if h2 is None else (httpx.TransportError, h2.H2Error)
