"""A server of event streams only: `python -m benchmarks.stream_server EVERY HOLD`.

It shares the cores with the reader, so it does as little as possible: plain sockets, no HTTP library. Each stream sends
ten steps, the first at once and then one every EVERY seconds; the message of each has the time it was written, on the
clock all processes share. With HOLD (1) a stream sends only its first step and stays open.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from subprocess import DEVNULL, PIPE, Popen

import trio
from systemprompt_cloud.sandbox.provisioning import MESSAGES

from .measure import ROOT

STEPS = [event.value for event in MESSAGES]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(tenant: str, number: int) -> bytes:
    step = STEPS[number]
    record = {
        "tenant_id": tenant,
        "event_type": step,
        "status": "ready" if step == STEPS[-1] else "provisioning",
        "message": f"at={time.monotonic_ns()}",
        "app_url": None,
        "fly_app_name": None,
    }
    event = f"event: provisioning\nid: {number + 1}\ndata: {json.dumps(record)}\n\n"
    return f"{len(event):x}\r\n{event}\r\n".encode()


async def _answer(stream: trio.SocketStream, every: float, hold: bool) -> None:
    async with stream:
        asked = b""
        while True:
            while b"\r\n\r\n" not in asked:
                received = await stream.receive_some(4096)
                if not received:
                    return
                asked += received
            line, _, asked = asked.partition(b"\r\n")[0], *asked.partition(b"\r\n\r\n")[1:]
            path = line.split()[1].decode().split("/")
            if path[-1] != "events":
                body = b'{"data":{"status":"provisioning"}}'
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                await stream.send_all(head + body)
                continue
            await stream.send_all(HEAD + _chunk(path[-2], 0))
            if hold:
                await trio.sleep_forever()
            begun = trio.current_time()
            for number in range(1, len(STEPS)):
                await trio.sleep_until(begun + number * every)
                await stream.send_all(_chunk(path[-2], number))
            await stream.send_all(b"0\r\n\r\n")


async def _serve(every: float, hold: bool) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # a reader closes once it has read enough
            await _answer(stream, every, hold)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, handle, 0, host="127.0.0.1", backlog=4096)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        print(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", flush=True)


@contextmanager
def stream_server(every: float, *, hold: bool = False) -> Generator[str, None, None]:
    """Run a server process inside the block; gives its URL.

    Args:
        every: Seconds between two steps of a stream.
        hold: Send only the first step, and keep the stream open.
    """
    argv = [sys.executable, "-m", "benchmarks.stream_server", str(every), str(int(hold))]
    with Popen(argv, cwd=ROOT, stdout=PIPE, stderr=DEVNULL, stdin=DEVNULL) as process:  # noqa: S603 our own module
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    from systemprompt_cloud.io.http.open_files import allow_open_files

    allow_open_files(4096)
    trio.run(_serve, float(sys.argv[1]), sys.argv[2] == "1")
