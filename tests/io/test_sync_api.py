"""The calls that wait: the same as the asynchronous ones, from any thread, and ended by Ctrl-C and by `close`."""

from __future__ import annotations

import asyncio
import inspect
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, StreamLost
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.cloud.sync_api import SyncCloudApiClient
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.sse.blocking import SyncEventSource, SyncEventStream
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from systemprompt_cloud.io.sse.event_source import Closed, Connecting, EventSource, Open, Waiting
from systemprompt_cloud.testing.scripted import ME, ScriptedServer, event_stream

STREAMS = {
    "AbstractAsyncContextManager[EventStream]": "AbstractContextManager[SyncEventStream]",
    "EventSource": "SyncEventSource",
}


def signature(member: object) -> str:
    """Parameters and return annotation, as they read on the side that waits; properties have none."""
    if isinstance(member, property):
        return "property"
    assert callable(member)
    found = inspect.signature(member)
    given = str(found.return_annotation)
    return str(found.replace(return_annotation=STREAMS.get(given, given)))


def test_every_public_member_has_its_waiting_twin() -> None:
    """Both faces have the same methods with the same parameters, results and descriptions, and the same arguments."""
    names = {name for name in dir(CloudApiClient) if not name.startswith("_")}
    assert {name for name in dir(SyncCloudApiClient) if not name.startswith("_")} == names | {"close"}
    for name in sorted(names | {"__init__"}):
        twin, waiting = getattr(CloudApiClient, name), getattr(SyncCloudApiClient, name)
        assert signature(waiting) == signature(twin), name
        assert name == "__init__" or inspect.getdoc(waiting) == inspect.getdoc(twin), name


def test_the_streams_have_the_same_members() -> None:
    """What an asynchronous stream tells about itself, a waiting one tells too; closing is its block's business."""
    shared = {name for name in dir(EventStream) if not name.startswith("_")} - {"aclose"}
    assert shared | {"last_event_id"} == {name for name in dir(SyncEventStream) if not name.startswith("_")}
    shared = {name for name in dir(EventSource) if not name.startswith("_")} - {"at"}
    assert shared | {"last_event_id"} == {name for name in dir(SyncEventSource) if not name.startswith("_")}


async def test_calls_wait_for_their_answer_and_raise_its_error(server: ScriptedServer) -> None:
    """In a worker thread of a trio program: records come back, errors are raised as they are."""
    server.plan(
        JSONResponse(ME), JSONResponse({"error": {"code": "no", "message": "never"}}, 403), Response(status_code=204)
    )

    def use() -> None:
        with SyncCloudApiClient(server.url, "token") as client:
            assert client.me().user.id == "u1"
            with pytest.raises(ApiError, match="no: never"):
                client.tenants()
            client.set_secrets("t", {"A": "value-of-a"}, idempotency_key="k")

    await trio.to_thread.run_sync(use)
    assert [request.method for request in server.requests] == ["GET", "GET", "PUT"]


async def test_it_works_in_a_worker_thread_of_asyncio(server: ScriptedServer) -> None:
    """A running asyncio loop in the same process does not matter."""
    server.plan(JSONResponse(ME))

    def use() -> str:
        with SyncCloudApiClient(server.url, "token") as client:
            return client.me().user.id

    async def program() -> str:
        return await asyncio.to_thread(use)

    def run() -> str:
        return asyncio.run(program())

    assert await trio.to_thread.run_sync(run) == "u1"


async def test_threads_share_one_pool(server: ScriptedServer) -> None:
    """Eight threads use one client at once, and its connections again afterwards."""
    server.plan(JSONResponse(ME))

    def use() -> list[str]:
        with SyncCloudApiClient(server.url, "token") as client, ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(client.me) for _ in range(40)]
            return [each.result().user.id for each in asked]

    assert await trio.to_thread.run_sync(use) == ["u1"] * 40
    ports = {request.scope["client"][1] for request in server.requests}
    assert len(ports) <= 8


async def test_streams_are_iterators_in_a_with_block(server: ScriptedServer) -> None:
    """Events come one by one; the end of the stream is StreamLost, as on the asynchronous side."""
    server.plan(event_stream(b"retry: 50\nid: 7\ndata: a\n\n", b"data: b\n\n"))
    seen: list[ServerSentEvent] = []

    def use() -> None:
        with SyncCloudApiClient(server.url, "token") as client, client.tenant_events("t", last_event_id="6") as stream:
            with pytest.raises(StreamLost):
                seen.extend(iter(stream.__next__, None))
            assert (stream.last_event_id, stream.retry_ms) == ("7", 50)

    def collect() -> None:
        with SyncCloudApiClient(server.url, "token") as client, client.checkout_events("c") as stream:
            for event in stream:
                seen.append(event)
                if event.data == "b":
                    break

    await trio.to_thread.run_sync(collect)
    assert [(event.data, event.id) for event in seen] == [("a", "7"), ("b", "7")]
    assert server.requests[0].url.path == "/api/v1/checkout/c/events"
    server.plan(event_stream(b"retry: 50\nid: 7\ndata: a\n\n"))
    await trio.to_thread.run_sync(use)
    assert server.requests[1].headers["last-event-id"] == "6"


async def test_a_followed_stream_goes_on_over_connections(server: ScriptedServer) -> None:
    """Events of two connections come as one row; 204 ends it; the states are told when they are asked for."""
    answers = [event_stream(b"id: 1\ndata: a\n\n"), event_stream(b"id: 2\ndata: b\n\n"), Response(status_code=204)]

    def follow(*, states: bool) -> list[object]:
        api = SyncCloudApiClient(server.url, "token")
        with api as client, client.follow_tenant("t", last_event_id="0", backoff=Backoff(base=0.0)) as source:
            found: list[object] = list(source.with_states() if states else source)
            assert source.last_event_id == "2"
            assert isinstance(source.state, Closed)
            return found

    server.plan(*answers)
    events = await trio.to_thread.run_sync(partial(follow, states=False))
    assert events == [ServerSentEvent("message", "a", "1"), ServerSentEvent("message", "b", "2")]
    assert [request.headers["last-event-id"] for request in server.requests] == ["0", "1", "2"]
    server.plan(*answers)
    told = await trio.to_thread.run_sync(partial(follow, states=True))
    kinds = [Connecting, Open, ServerSentEvent, Waiting]
    assert [type(each) for each in told] == [*kinds, *kinds, Connecting, Closed]


async def test_a_client_closed_under_a_followed_stream(server: ScriptedServer) -> None:
    """Leaving the stream's block afterwards is no error; reading on is."""
    server.plan(event_stream(b"data: a\n\n", hold=True))

    def follow() -> None:
        client = SyncCloudApiClient(server.url, "token")
        with client, client.follow_checkout("c") as source:
            assert next(source).data == "a"
            client.close()
            with pytest.raises(RuntimeError, match="outside its `with` block"):
                next(source)

    with trio.fail_after(10):
        await trio.to_thread.run_sync(follow)


async def test_a_stream_that_is_refused_raises_on_entering(server: ScriptedServer) -> None:
    """No block is entered without a stream."""
    server.plan(JSONResponse({"error": {"code": "gone", "message": "it is gone"}}, 410))

    def use() -> None:
        with (
            SyncCloudApiClient(server.url, "token") as client,
            pytest.raises(ApiError, match="gone"),
            client.tenant_events("t"),
        ):
            pytest.fail("there is no stream")

    await trio.to_thread.run_sync(use)


def test_outside_its_block_it_says_so() -> None:
    """Before `with` and after it, a call is a clear error; closing twice is none; opening twice is one."""
    client = SyncCloudApiClient("http://127.0.0.1:9", "token")
    with pytest.raises(RuntimeError, match="outside its `with` block"):
        client.me()
    client.close()
    with client:
        with pytest.raises(RuntimeError, match="open already"):
            client.__enter__()
        before = threading.active_count()
        client.close()
        client.close()
        assert threading.active_count() == before - 1
        with pytest.raises(RuntimeError, match="outside its `with` block"):
            client.me()
        with pytest.raises(RuntimeError, match="outside its `with` block"), client.tenant_events("t"):
            pytest.fail("there is no stream")


def test_arguments_are_checked_as_ever() -> None:
    """The token's rules hold on this side, too."""
    with pytest.raises(NotAuthenticated):
        SyncCloudApiClient("https://api.example", "two words")


async def test_close_ends_what_waits_in_other_threads(server: ScriptedServer) -> None:
    """A call and a stream that wait in another thread end with RuntimeError when the client is closed, at once."""
    asked = trio.Event()

    async def never(_request: Request) -> Response:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    server.plan(event_stream(b"data: a\n\n", hold=True), never)
    client = SyncCloudApiClient(server.url, "token", timeout=60.0)

    def read() -> None:
        with client.tenant_events("t") as stream:
            assert next(stream).data == "a"
            reading.set()
            with pytest.raises(RuntimeError, match="closed"):
                next(stream)

    def call() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            client.me()

    reading = threading.Event()
    with trio.fail_after(10):
        await trio.to_thread.run_sync(client.__enter__)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            await trio.to_thread.run_sync(reading.wait)
            nursery.start_soon(trio.to_thread.run_sync, call)
            await asked.wait()
            await trio.to_thread.run_sync(client.close)


def test_a_close_is_told_in_one_way_to_every_call_it_meets() -> None:
    """A call that is just beginning when the client is closed learns the same as one that has long been waiting."""
    said: list[str] = []

    def call(client: SyncCloudApiClient) -> None:
        while True:
            try:
                client.me()
            except Network:
                continue
            except RuntimeError as exc:
                said.append(str(exc))
                return

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for _ in range(10):
            client = SyncCloudApiClient(f"http://127.0.0.1:{nobody.getsockname()[1]}", "token", attempts=1)
            with ThreadPoolExecutor(16) as threads:
                with client:
                    calling = [threads.submit(call, client) for _ in range(16)]
                    with suppress(Network):
                        client.me()
                for each in calling:
                    each.result()
    assert len(said) == 160
    assert set(said) <= {
        "the client was closed while one of its calls was waiting",
        "the client is used outside its `with` block",
    }


PROGRAM = """
import sys
from systemprompt_cloud import SyncCloudApiClient
with SyncCloudApiClient(sys.argv[1], "token", timeout=60) as client:
    print("calling", flush=True)
    try:
        client.me()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(client.me().user.id, flush=True)
"""


async def test_ctrl_c_ends_the_waiting_and_the_client_goes_on(server: ScriptedServer) -> None:
    """SIGINT reaches the main thread while it waits; the call is given up; the next one works."""
    asked = trio.Event()

    async def never(_request: Request) -> Response:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    server.plan(never, JSONResponse(ME))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            command = [sys.executable, "-c", PROGRAM, server.url]
            run = partial(trio.run_process, command, stdin=subprocess.DEVNULL, capture_stdout=True)
            process: trio.Process = await nursery.start(run)
            await asked.wait()
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    assert len(server.requests) == 2
