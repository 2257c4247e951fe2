"""What a broken connection raises: httpx's own errors, and what HTTP/2 raises past httpx when its peer misbehaves."""

from __future__ import annotations

import sys

import httpx


def broken() -> tuple[type[Exception], ...]:
    """The errors of a connection that broke, for an `except` clause; those of h2 and socksio once they are loaded.

    httpcore translates what h2 raises while a request is sent, and not what it raises while a body is read; nor does it
    translate what socksio raises where something else than a SOCKS proxy answers.
    """
    known: list[type[Exception]] = [httpx.TransportError]
    for module, error in (("h2.exceptions", "H2Error"), ("socksio.exceptions", "SOCKSError")):
        if module in sys.modules:
            known.append(getattr(sys.modules[module], error))
    return tuple(known)
