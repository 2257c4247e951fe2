"""Many event streams at once: bounded connecting, pool work that does not grow with the number, no long silence."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pytest
import trio
import trio.testing
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.errors import ApiError
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.flows.steps.source import Pauses
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.open_files import allow_open_files
from systemprompt_cloud.io.http.transport import CONNECTS_AT_ONCE
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.provisioning import TenantBecameReady

from tests.faults import soak
from tests.support.watched import BUSY, SERVER, After, InMemory, Item, Streams, said, visit

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\ndata: {}\n\n"


@pytest.fixture(autouse=True, scope="module")
def files() -> None:
    """Room for both ends of every stream, and for the test runner."""
    allow_open_files(2048)


@asynccontextmanager
async def listening() -> AsyncGenerator[int]:
    """Answer each connection with a stream that stays open; gives the port."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            if await stream.receive_some():
                await stream.send_all(STREAM)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1", backlog=1024)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def connecting_to(port: int) -> int:
    """Sockets of this computer that connect, or are connected, to the port (state 02 and 01 of proc_net_tcp(5))."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] in {"01", "02"} for line in lines)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no other system tells who is connecting")
async def test_no_more_connections_are_made_at_once_than_the_limit() -> None:
    """A port that takes nobody in is tried by so many and no more, however many streams are wanted."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port: int = deaf.getsockname()[1]
        most = 0
        async with CloudApiClient(f"http://127.0.0.1:{port}", "token", attempts=1) as client:

            async def watch(number: int) -> None:
                async with client.tenant_events(str(number)):
                    pass

            async with trio.open_nursery() as nursery:
                for number in range(2 * CONNECTS_AT_ONCE):
                    nursery.start_soon(watch, number)
                with trio.fail_after(5):
                    while most < CONNECTS_AT_ONCE:
                        await trio.testing.wait_all_tasks_blocked(0.01)
                        most = max(most, connecting_to(port))
                await trio.testing.wait_all_tasks_blocked(0.2)
                # One or two are taken in by the kernel, and have connected.
                assert connecting_to(port) <= CONNECTS_AT_ONCE + 2
                nursery.cancel_scope.cancel()


async def pool_work(streams: int) -> float:
    """How many functions of httpcore's pool and connections are called for each of so many streams, opened and left."""
    calls = 0

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call" and "httpcore" in frame.f_code.co_filename

    everybody = trio.Event()
    opened = 0

    async def watch(client: CloudApiClient, number: int) -> None:
        nonlocal opened
        async with client.tenant_events(str(number)) as stream:
            await anext(stream)
            opened += 1
            if opened == streams:
                everybody.set()
            await everybody.wait()

    async with listening() as port:
        sys.setprofile(count)
        try:
            client = CloudApiClient(f"http://127.0.0.1:{port}", "token")
            async with client, trio.open_nursery() as nursery:
                for number in range(streams):
                    nursery.start_soon(watch, client, number)
        finally:
            sys.setprofile(None)
    return calls / streams


async def test_pool_work_for_a_stream_does_not_grow_with_their_number() -> None:
    """One pool for all would do four times as much for each of four times as many; counted, not timed."""
    few, many = await pool_work(32), await pool_work(128)
    assert many < 1.5 * few


FAULTS: dict[str, Exception | After] = {
    "reset": SERVER,
    "429": ApiError("busy", status=429, retry_after=1.0),
    "503": ApiError("busy", status=503),
    "Retry-After": BUSY,
    "redirected": ApiError("moved", status=307),
    "captive portal": ApiError("HTML, not the API"),
    "opens late": After(3.0, SERVER),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_broken_stream_costs_no_more_than_five_seconds_of_silence(
    autojump_clock: trio.testing.MockClock, paths: CloudPaths, fault: Exception | After
) -> None:
    """However often it breaks, and whatever meets who opens it again: it is polled all the time. By trio's clock."""
    script: list[Sequence[Item] | Exception | After] = []
    for number in range(1, 6):
        breaks, back = [said(number), After(5.0, SERVER)], list[Item]()
        script += [breaks, fault, fault, back]
    words: list[float] = []

    async def ask() -> Event | None:
        await trio.lowlevel.checkpoint()
        words.append(trio.current_time())
        return TenantBecameReady("tenant_ready", "", "polling") if len(words) == 40 else None

    await visit(InMemory(), Services(paths), Streams(*script), ask, Pauses())
    assert max(later - sooner for sooner, later in pairwise(words)) <= 5.0


@pytest.mark.long
def test_twenty_flows_whose_streams_break_all_become_ready(tmp_path: Path) -> None:
    """Drops, resets, 429, 503, redirects, captive portals, streams that open late, on real sockets.

    20 flows at a time in one process, the cloud in another. The short form is `test_soak.py`, where more goes wrong.
    """
    report = soak.run_soak(soak.make_plan(tmp_path, flows=20, seconds=8.0, seed=5, harsh=False))
    assert report.problems == []
    assert report.ended == {"ready": report.tenants}
    assert report.silences >= 5
