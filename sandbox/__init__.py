"""The embedded local cloud: the SystemPrompt Cloud API on loopback, for demos, tests and development.

It speaks the API of docs/reference/wire.md over real HTTP with real tokens, real forms and real event streams, so that
everything above the wire can be used and tested without an account, without money and without a network. What it does
not do is be a cloud: it binds nothing but 127.0.0.1, its tokens say they are a sandbox's, and it forgets everything
when it stops.

    async with serve_sandbox(faults=["drop-stream:after=3"]) as sandbox:
        ...  # a client with api_url=sandbox.url

From the inside out: `provisioning` is the timeline, `state` the records, `world` what they add up to, `upkeep` what is
done to a tenant that is built, `views` what the API shows of it, `api` the table of calls (`account_calls` and
`tenant_calls`), `openapi` their description, `endpoint` and `streams` their HTTP side, `pages` what people see, `app`
all of it together, `serving` what puts it on a port, and `faults` what goes wrong on request.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from .app import build_app
from .faults import FAULTS, Fault, fault_syntax
from .serving import serve_app
from .tokens import LIFETIME
from .world import World

__all__ = ["FAULTS", "Fault", "Sandbox", "World", "fault_syntax", "serve_sandbox"]


MAX_CONNECTIONS: Final = 4096
"""Held at once: a stream is one, and a thousand flows have a stream each."""


class Sandbox(msgspec.Struct, frozen=True):
    """A running local cloud.

    Attributes:
        url: Its base URL, `http://127.0.0.1:PORT`.
        cloud: Its world, to look into and, in tests, to change; call `cloud.wake()` after changing it.
    """

    url: str
    cloud: World


@asynccontextmanager
async def serve_sandbox(
    port: int = 0,
    *,
    seed: int | None = 0,
    faults: Sequence[Fault | str] = (),
    step_seconds: float = 0.3,
    now: Callable[[], float] = trio.current_time,
    wall: Callable[[], float] = time.time,
    token_lifetime: float = LIFETIME,
) -> AsyncGenerator[Sandbox, None]:
    """Run a local cloud on 127.0.0.1 for as long as the context lasts.

    Args:
        port: The port; 0 = any free one.
        seed: Equal seeds give equal ids, secrets and signing keys; None gives fresh ones.
        faults: What shall go wrong; see `FAULTS` and `Fault.parse`.
        step_seconds: Seconds per provisioning step, of which there are ten.
        now: The world's clock in seconds; only differences count. See `World`.
        wall: Seconds since 1970, for the stamps in tokens.
        token_lifetime: Seconds a login is good for.

    Raises:
        PortBusy: The port is taken; nothing was started.
        InvalidFault: A fault's text cannot be read.
    """
    cloud = World(
        seed=seed, faults=faults, step_seconds=step_seconds, now=now, wall=wall, token_lifetime=token_lifetime
    )
    async with serve_app(build_app(cloud), port=port, connections=MAX_CONNECTIONS) as bound:
        try:
            yield Sandbox(f"http://127.0.0.1:{bound}", cloud)
        finally:
            # First, so that open streams end by themselves and the server has nothing to wait for.
            cloud.close()
