"""Reading many event streams: provisioning flows, and the bare httpx loop they are measured against."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import msgspec
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.flows.provisioning import provisioning_program, start_provisioning
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.open_files import allow_open_files
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.provisioning import PROVISIONING, ProvisioningContext
from systemprompt_cloud.sandbox import World

from .resident import resident_bytes
from .results import Bytes, Latencies
from .stream_server import STEPS, stream_server

_WRITTEN: Final = re.compile(rb"at=(\d+)")
WATCHING: Final = frozenset({"awaiting_tenant"})


class Streamed(msgspec.Struct, frozen=True):
    """The result of reading a number of streams to their ends.

    Attributes:
        seconds: From the first start to the last stream's last event.
        cpu: Processor seconds of this process in that time.
        delays: From written by the server to read, or to durable, of the events written when every stream was open.
    """

    seconds: float
    cpu: float
    delays: Latencies


class Events:
    """Counts the events of all streams until there are enough.

    Args:
        streams: How many streams there are.
        wanted: How many events of each to wait for.
        at_last: Called when all have arrived, while every stream is still open.
    """

    def __init__(self, streams: int, wanted: int, at_last: Callable[[], None] = lambda: None) -> None:
        self._at_last = at_last
        self._streams = streams
        self._left = streams * wanted
        self._opened: set[str] = set()
        self._all_open = 0
        self._heard: list[tuple[int, int]] = []

    def heard(self, stream: str, written: int) -> None:
        """Count an event of a stream, written at `written` (monotonic ns). Raises `Enough` after the last one."""
        now = time.monotonic_ns()
        self._heard.append((written, now - written))
        self._opened.add(stream)
        if len(self._opened) == self._streams and not self._all_open:
            self._all_open = now
        self._left -= 1
        if not self._left:
            self._at_last()
            raise Enough

    def delays(self) -> Latencies:
        """Of the events written when every stream was open; of all of them when none was."""
        late = [delay / 1e9 for written, delay in self._heard if written > self._all_open]
        return Latencies.of(late or [delay / 1e9 for _, delay in self._heard])


class Enough(Exception):
    """Every expected event has arrived."""


Read = Callable[[str, Events], Awaitable[None]]


def flows(directory: Path, count: int, every: float) -> Streamed:
    """A provisioning flow for each stream; an event counts when it is durable."""
    return _run(count, every, lambda url, events: _flows(directory, url, count, events))


def bare(count: int, every: float) -> Streamed:
    """One httpx client, one task for each stream; an event counts when its bytes were read."""
    return _run(count, every, lambda url, events: _bare(url, count, events))


def flow_bytes(directory: Path, count: int) -> Bytes:
    """Resident bytes of `count` flows whose streams are open and idle."""
    return _resident(count, lambda number: lambda url, events: _flows(directory / str(number), url, number, events))


def bare_bytes(count: int) -> Bytes:
    """Resident bytes of `count` open and idle streams read by the bare loop."""
    return _resident(count, lambda number: lambda url, events: _bare(url, number, events))


def _run(count: int, every: float, read: Read) -> Streamed:
    allow_open_files(2 * count + 512)
    events = Events(count, len(STEPS))
    with stream_server(every) as url:
        gc.collect()
        started, cpu = time.perf_counter(), time.process_time()
        _until_enough(read, url, events)
        return Streamed(time.perf_counter() - started, time.process_time() - cpu, events.delays())


def _resident(count: int, reading: Callable[[int], Read]) -> Bytes:
    allow_open_files(2 * count + 512)
    sizes: list[int] = []
    with stream_server(0.0, hold=True) as url:
        _until_enough(reading(1), url, Events(1, 1))  # so that every import is done
        before = resident_bytes()
        many = Events(count, 1, lambda: sizes.append(resident_bytes()))
        _until_enough(reading(count), url, many)
    return Bytes(sizes[0] - before, count)


def _until_enough(read: Read, url: str, events: Events) -> None:
    try:
        trio.run(read, url, events)
    except* Enough:
        pass


async def _bare(url: str, count: int, events: Events) -> None:
    async def read(client: httpx.AsyncClient, number: int) -> None:
        async with client.stream("GET", f"/api/v1/tenants/{number}/events") as response:
            async for chunk in response.aiter_raw():
                for written in _WRITTEN.findall(chunk):
                    events.heard(str(number), int(written))

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    patient = httpx.AsyncClient(base_url=url, limits=limits, timeout=None, trust_env=False)  # noqa: S113
    async with patient as client, trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(read, client, number)


async def _flows(directory: Path, url: str, count: int, events: Events) -> None:
    home = directory / ".systemprompt"
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")
    CloudCredentials(
        api_token=World().tokens.issue("ada", "ada@sandbox.example"),  # the client checks it, the server does not
        api_url=url,
        authenticated_at=datetime.now(UTC),
        user_email="ada@sandbox.example",
    ).save_to_path(paths.credentials)
    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(Services(paths, open_browser=None))
        whole = provisioning_program(services)
        # The bare loop does nothing after the stream, so a flow stops there, too.
        program = Program(
            PROVISIONING,
            {name: doing if name in WATCHING else [await_signal] for name, doing in whole.activities.items()},
        )
        engine = await stack.enter_async_context(open_engine(paths, [program]))
        with engine.feed.subscribe() as changes:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_start_all, engine, url, count)
                async for change in changes:
                    if change.message.startswith("at="):
                        events.heard(change.flow, int(change.message[3:]))


async def _start_all(engine: Engine, url: str, count: int) -> None:
    async def start(number: int) -> None:
        await start_provisioning(engine, ProvisioningContext(api_url=url, tenant_id=str(number)))

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(start, number)
