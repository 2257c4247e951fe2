"""Event streams: the steps of a tenant as server-sent events (HTML Living Standard, section 9.2).

A stream has no state of its own. It reads the timeline, sends what its client has not received, and waits for the next
step, the next heartbeat or a change, whichever comes first. Ids are the numbers of the steps, so a client that
reconnects with `Last-Event-ID` gets exactly the newer ones, on either of a tenant's two streams. The heartbeat, every
second, is a comment and a `heartbeat` event in turn, since clients must accept both.

Written as a plain ASGI response with a nursery of its own rather than an async generator: a generator that waits
inside a cancel scope is left at a `yield` when the client goes away, and trio forbids exactly that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from ..io.cloud.wire import CheckoutEvent, ProvisioningEvent
from ..io.cloud.wire import ProvisioningEventType as Event
from .faults import Fault
from .provisioning import BuildStep
from .serving import reset_connection
from .state import Checkout, SandboxTenant
from .views import checkout_event, provisioning_event
from .world import World

Write = Callable[[bytes], Awaitable[None]]

HEARTBEAT_SECONDS: Final = 1.0
_LAST_STEPS: Final = frozenset({Event.TENANT_READY, Event.PROVISIONING_FAILED})


def encode_event(data: str, *, event: str | None = None, event_id: int | None = None) -> bytes:
    """One event as it goes over the wire; without a name it is a `message` (9.2.6)."""
    lines = [f"event: {event}"] if event else []
    lines += [f"id: {event_id}"] if event_id is not None else []
    lines += [f"data: {line}" for line in data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def last_event_id(header: str | None) -> int:
    """The number in a `Last-Event-ID` header; 0, from the beginning, when it is none of ours."""
    text = (header or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


class StepFeed(msgspec.Struct, frozen=True):
    """Where a stream's events come from.

    Attributes:
        path: The request's path, for faults that name one.
        tenant: The tenant, or None while nothing was paid.
        event_name: The event's name in the stream; None sends it unnamed.
        record: A step as this stream tells it.
    """

    path: str
    tenant: Callable[[], SandboxTenant | None]
    event_name: Callable[[BuildStep], str | None]
    record: Callable[[SandboxTenant, BuildStep], ProvisioningEvent | CheckoutEvent]


def tenant_feed(path: str, tenant: SandboxTenant) -> StepFeed:
    """The events of `GET /api/v1/tenants/{id}/events`."""
    return StepFeed(
        path=path,
        tenant=lambda: tenant,
        # Both names are allowed on this stream, so clients meet both.
        event_name=lambda step: None if step.event_type is Event.VM_PROVISIONING_PROGRESS else "provisioning",
        record=provisioning_event,
    )


def checkout_feed(path: str, checkout: Checkout) -> StepFeed:
    """The events of `GET /api/v1/checkout/{checkout_session_id}/events`: none before the payment."""
    return StepFeed(
        path=path,
        tenant=lambda: checkout.tenant,
        event_name=lambda _: "provisioning",
        record=lambda tenant, step: checkout_event(checkout, tenant, step),
    )


class StreamAnswer(Response):
    """The answer to a stream request.

    Args:
        world: Where time and faults come from.
        feed: The events.
        after: The id of the last event the client has received; 0 = none.
    """

    media_type = "text/event-stream"

    def __init__(self, world: World, feed: StepFeed, after: int) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
        del self.headers["content-length"]
        self._world = world
        self._feed = feed
        self._after = after

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ended_well = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_disconnect, receive, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            ended_well = await self._pump(send)
            nursery.cancel_scope.cancel()
        if ended_well:
            # After the nursery: a client that hangs up at this moment must not cancel the end in the middle.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Else the response stays unfinished, and the server breaks the connection in the middle of it.

    async def _watch_disconnect(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    async def _pump(self, send: Send) -> bool:
        """Send events until the last one; returns False when a fault breaks the connection, else True."""
        world, feed = self._world, self._feed
        sent, beats, held = 0, 0, b""
        asked: set[tuple[str, int]] = set()
        if self._after and world.faults.strike("replay-all", feed.path):
            self._after = 0
        next_beat = world.now() + HEARTBEAT_SECONDS

        async def write(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        def strikes(name: str) -> Fault | None:
            """Check each fault once between two events, however often the loop runs."""
            if (name, sent) in asked:
                return None
            asked.add((name, sent))
            return world.faults.strike_stream(name, feed.path, sent)

        await write(b": systemprompt sandbox, not a real cloud\nretry: 1000\n\n")
        while not world.closed:
            if fault := strikes("drop-stream"):
                world.outage_until = max(world.outage_until or 0.0, world.now() + fault.number("outage"))
                return False
            if strikes("reset"):
                await write(b'event: provisioning\ndata: {"event_type": "vm_prov')
                reset_connection()
                return False
            if fault := strikes("silence"):
                await self._be_silent(feed, fault, write)
            if strikes("malformed"):
                await write(encode_event('{"event_type": "vm_prov', event="provisioning"))
            if fault := strikes("foreign-event"):
                await write(_scripted_event(str(fault.parameters["says"]), "tnt_sandbox_other", "cs_sandbox_other"))
            if (fault := strikes("false-event")) and (named := feed.tenant()) is not None:
                await write(_scripted_event(str(fault.parameters["says"]), named.id, named.checkout_session_id))
            if strikes("bad-utf8"):
                await write(b": \xff\xfe \xc3(\nevent: \xf0\x9f\ndata: \xed\xa0\x80\n\n")
            if fault := strikes("huge-line"):
                await self._send_huge_line(int(fault.number("megabytes")), write)
            tenant = feed.tenant()
            if tenant is not None and tenant.deleted:
                return True
            steps = [] if tenant is None else world.steps_of(tenant, self._after)
            if tenant is not None and steps:
                step = steps[0]
                data = msgspec.json.encode(feed.record(tenant, step)).decode()
                chunk = encode_event(data, event=feed.event_name(step), event_id=step.number)
                if strikes("duplicate"):
                    chunk *= 2
                trickle = strikes("trickle")
                hold = not held and strikes("reorder") is not None
                # Counted before it is written, so that nothing is sent twice if the client disconnects meanwhile.
                self._after, sent = step.number, sent + 1
                if hold:
                    held = chunk
                else:
                    chunk, held = chunk + held, b""
                    await self._send(chunk, trickle, write)
                continue
            if tenant is not None and self._finished(tenant):
                if held:
                    await write(held)
                return True
            if world.now() >= next_beat:
                beats, next_beat = beats + 1, world.now() + HEARTBEAT_SECONDS
                await write(encode_event("{}", event="heartbeat") if beats % 2 else b": heartbeat\n\n")
                continue  # the world may have changed during the write
            await world.wait_until(min(next_beat, self._next_step(tenant)))
        return True

    def _finished(self, tenant: SandboxTenant) -> bool:
        """Whether the tenant's last step has been sent."""
        done = self._world.steps_of(tenant)
        # A step may become due after the caller looked for new ones: then it is not sent yet.
        return bool(done) and done[-1].number <= self._after and done[-1].event_type in _LAST_STEPS

    def _next_step(self, tenant: SandboxTenant | None) -> float:
        """The time of the next step that is not sent, perhaps past, on the world's clock; infinity for none."""
        if tenant is None:
            return float("inf")
        moments = (tenant.started + step.offset for step in tenant.steps if step.number > self._after)
        return min(moments, default=float("inf"))

    async def _send(self, chunk: bytes, trickle: Fault | None, write: Write) -> None:
        if trickle is None:
            await write(chunk)
            return
        for byte in chunk:
            await write(bytes([byte]))
            await self._world.wait_until(self._world.now() + trickle.number("seconds"))

    async def _send_huge_line(self, megabytes: int, write: Write) -> None:
        piece = b"x" * 65_536
        await write(b"data: ")
        for _ in range(megabytes * 1_000_000 // len(piece) + 1):
            await write(piece)
        await write(b"\n\n")

    async def _be_silent(self, feed: StepFeed, fault: Fault, write: Write) -> None:
        world, seconds = self._world, fault.number("seconds")
        until = world.now() + seconds if seconds else float("inf")
        beats = bool(fault.number("heartbeats"))
        while not world.closed and world.now() < until and not ((tenant := feed.tenant()) and tenant.deleted):
            if beats:
                await write(b": heartbeat\n\n")
            await world.wait_until(min(until, world.now() + HEARTBEAT_SECONDS if beats else until))


def _scripted_event(says: str, tenant: str, session: str) -> bytes:
    """An event that a fault makes up; without an id, so that it does not count."""
    event = CheckoutEvent(
        checkout_session_id=session,
        tenant_id=tenant,
        tenant_name=tenant,
        event_type=says,
        status="provisioning",
        message="sent by a scripted sandbox fault",
    )
    return encode_event(msgspec.json.encode(event).decode(), event="provisioning")
