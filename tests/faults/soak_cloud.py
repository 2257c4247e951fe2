"""The cloud of a soak, as a process: `python -m tests.faults.soak_cloud PLAN LIFE`.

Besides serving the planned world it writes down what only the server knows: how often each fault struck, what was asked
for, under how many keys a tenant's database was opened, and how long a client whose stream had broken heard nothing.
It is killed with SIGKILL, so what it knows is on disk twice a second; at most half a second of counting is lost.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from systemprompt_cloud.io.http.open_files import allow_open_files
from systemprompt_cloud.sandbox import MAX_CONNECTIONS, World
from systemprompt_cloud.sandbox.app import build_app
from systemprompt_cloud.sandbox.serving import serve_app

from tests.faults.soak_plan import NotedFaults, Plan, build_world

FLUSH_SECONDS = 0.5


class Silence(msgspec.Struct, frozen=True, array_like=True):
    """The time from a tenant's broken stream to the next answer its client got, a status or a stream event.

    `broke` and `heard` are seconds since 1970, as the journal's stamps are.
    """

    tenant: str
    broke: float
    heard: float


class Seen(msgspec.Struct):
    """The log of one run of the cloud.

    Attributes:
        life: Which of the cloud's lives.
        struck: How often each fault struck.
        requests: By method and path template.
        keys: The idempotency keys under which each tenant's database was opened.
        silences: Of clients whose streams had broken.
        misled: The tenants whose status or stream was older than it looked.
    """

    life: int
    struck: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    requests: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    keys: dict[str, set[str]] = msgspec.field(default_factory=dict[str, set[str]])
    silences: list[Silence] = msgspec.field(default_factory=list[Silence])
    misled: set[str] = msgspec.field(default_factory=set[str])


def seen_by_the_cloud(plan: Plan) -> list[Seen]:
    """The logs of every run of the cloud."""
    return [msgspec.json.decode(file.read_bytes(), type=Seen) for file in sorted(plan.place.glob("cloud-*.json"))]


class Watching:
    """The application, with a record of its requests.

    Args:
        app: It.
        seen: Where it is written down.
    """

    def __init__(self, app: ASGIApp, seen: Seen) -> None:
        self._app = app
        self._seen = seen
        self._broken: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI side."""
        path: str = scope["path"]
        _, _, _, collection, tenant, what = [*path.split("/"), "", "", ""][:6]
        if what == "external-db-access":
            keys = [value.decode() for name, value in scope["headers"] if name == b"idempotency-key"]
            self._seen.keys.setdefault(tenant, set()).update(keys or ["none"])
        if collection != "tenants" or what not in {"events", "status"}:
            await self._app(scope, receive, send)
            return
        good, ended = False, False

        async def watch(message: Message) -> None:
            nonlocal good, ended
            await send(message)
            if message["type"] == "http.response.start":
                good = message["status"] == 200
            elif good:
                ended = not message.get("more_body", False)
                if (broke := self._broken.pop(tenant, None)) is not None:
                    self._seen.silences.append(Silence(tenant, broke, time.time()))

        async def watch_client() -> Message:
            nonlocal ended
            message = await receive()
            ended = ended or message["type"] == "http.disconnect"
            return message

        await self._app(scope, watch_client, watch)
        if what == "events" and good and not ended:
            self._broken[tenant] = time.time()


async def _write_down(seen: Seen, world: World, file: Path) -> None:
    while True:
        seen.struck = dict(world.faults.struck)
        seen.requests = dict(world.ledger.requests)
        if isinstance(world.faults, NotedFaults):
            seen.misled = {path.split("/")[4] for path in world.faults.misled if path.count("/") > 4}
        partial = file.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(seen))
        partial.replace(file)
        await trio.sleep(FLUSH_SECONDS)


async def run_cloud(plan: Plan, life: int) -> None:
    """Serve the planned world until killed."""
    allow_open_files(MAX_CONNECTIONS)
    world, tenants = build_world(plan, life=life)
    seen = Seen(life)
    watched = Watching(build_app(world), seen)
    async with (
        serve_app(watched, port=plan.port, connections=MAX_CONNECTIONS),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_write_down, seen, world, plan.place / f"cloud-{life:04}.json")
        for planned, tenant in zip(plan.tenants(), tenants, strict=True):
            if planned.end == "gone":
                nursery.start_soon(_delete, world, tenant.id, tenant.started + planned.seconds / 2)


async def _delete(world: World, tenant: str, moment: float) -> None:
    await trio.sleep(max(0.0, moment - world.now()))
    world.delete(world.tenants[tenant])


if __name__ == "__main__":
    trio.run(run_cloud, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan), int(sys.argv[2]))
