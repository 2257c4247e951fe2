"""The kinds of scripted faults there are: what each does, and its parameters with their defaults."""

from __future__ import annotations

from typing import Final

import msgspec

Value = float | int | str


class FaultKind(msgspec.Struct, frozen=True):
    """One kind of fault: what it does, and its parameters with their defaults (the default decides the type)."""

    help: str
    defaults: dict[str, Value]


_COMMON: Final[dict[str, Value]] = {"times": 1, "path": "", "chance": 1.0}


def _kind(what: str, /, **own: Value) -> FaultKind:
    """A fault of requests or streams, which has the common parameters besides its own."""
    return FaultKind(what, {**own, **{key: value for key, value in _COMMON.items() if key not in own}})


KINDS: Final[dict[str, FaultKind]] = {
    "drop-stream": _kind(
        "break an event stream's connection after `after` events; streams then answer 503 for `outage` seconds",
        after=3,
        times=1,
        outage=0.0,
    ),
    "reset": _kind("send half of an event after `after` events of a stream, then reset the connection (RST)", after=3),
    "silence": _kind(
        "keep an event stream open after `after` events but send no event for `seconds` (0 = for good), and heartbeats "
        "only when `heartbeats` is 1",
        after=3,
        seconds=0.0,
        heartbeats=0,
    ),
    "malformed": _kind("send one event whose data is not JSON after `after` events of a stream", after=2),
    "bad-utf8": _kind(
        "send a comment and an event, of an unknown name, that are not UTF-8 after `after` events of a stream",
        after=2,
    ),
    "huge-line": _kind("send a line of so many `megabytes` after `after` events of a stream", after=2, megabytes=9),
    "trickle": _kind(
        "send the event after `after` events of a stream byte by byte, `seconds` apart", after=2, seconds=0.01
    ),
    "duplicate": _kind("send the event after `after` events of a stream twice", after=2),
    "reorder": _kind("hold the event after `after` events of a stream back until the next one was sent", after=2),
    "replay-all": _kind("ignore Last-Event-ID: start a stream from the beginning"),
    "no-content": _kind("answer a stream 204: there will never be more"),
    "redirect": _kind(
        "answer 307: go to the same path here or, when `foreign` is 1, on `localhost`, which is another origin",
        foreign=0,
    ),
    "error": _kind(
        "answer `status` instead of doing the work; `retry_after` seconds go into Retry-After when not 0, as a moment "
        "when `date` is 1",
        status=503,
        retry_after=0,
        date=0,
    ),
    "unauthorized": _kind("answer 401 although the token is good, after `after` authenticated calls", after=0),
    "content-type": _kind("answer 200 with an HTML page, as a captive portal does"),
    "lose-answer": _kind("do the work of a call that changes something, then break the connection before the answer"),
    "proxy-page": _kind("answer `status` with an HTML page that a proxy made, instead of doing the work", status=403),
    "no-stream": _kind("answer an event stream `status`, as a server without it does", status=404, times=0),
    "foreign-event": _kind(
        "send a `says` event of another tenant and another checkout, after `after` events of a stream",
        after=1,
        says="tenant_ready",
    ),
    "false-event": _kind(
        "send a false `says` event of the stream's own tenant, after `after` events",
        after=2,
        says="provisioning_failed",
    ),
    "stale": _kind(
        "answer `/auth/me`, `/tenants` or `/status` as it was `seconds` ago, as a replica that is behind does",
        seconds=3.0,
    ),
    "false-callback": _kind(
        "send the browser back with `says` (error, completed, pending or nothing), whatever was paid", says="error"
    ),
    "lost-callback": _kind("show the payer a page, and do not send the browser back"),
    "secrets-once": FaultKind("give a tenant's secrets out once; afterwards answer 410", {}),
    "slow": _kind("wait `seconds` before answering", seconds=1.0, times=0),
    "provisioning-failure": FaultKind(
        "provisioning fails after `after` steps, in each tenant's first `times` attempts", {"after": 4, "times": 1}
    ),
    "needs-deploy": FaultKind("provisioning stops at infrastructure_ready: there is no image to run yet", {}),
    "deploy-failure": _kind("a deployment is accepted and then fails"),
    "no-idempotency": FaultKind("ignore Idempotency-Key, and do not declare it supported", {}),
}
"""Every kind of fault, by its name."""
