"""https for real: a server with a certificate of our own authority, HTTP/2, and a proxy that tunnels to it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
import trustme
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType] -- what it says of WSGI is not whole
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.errors import ApiError, Network
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.polling import Backoff

HOST = "api.cloud.test"
ME = {"user": {"id": "u1", "email": "ada@example.com"}}


class SecureServer:
    """Answers `me` and event streams over TLS.

    Attributes:
        port: Where it listens on 127.0.0.1.
        asked: Every request.
        streaming: Event streams that are being sent.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Request] = []
        self.streaming = 0

    async def me(self, request: Request) -> Response:
        self.asked.append(request)
        return JSONResponse(ME)

    async def events(self, request: Request) -> Response:
        self.asked.append(request)

        async def body() -> AsyncGenerator[bytes]:
            self.streaming += 1
            try:
                yield b"event: provisioning\ndata: {}\n\n"
                await trio.sleep_forever()
            finally:
                self.streaming -= 1

        kinds = {"html": "text/html", "zipped": "text/event-stream"}
        encoded = {"Content-Encoding": "br"} if request.path_params["id"] == "zipped" else None
        return StreamingResponse(
            body(), headers=encoded, media_type=kinds.get(request.path_params["id"], "text/event-stream")
        )

    @property
    def versions(self) -> set[str]:
        """The HTTP versions it was spoken to in."""
        return {request.scope["http_version"] for request in self.asked}

    @property
    def connections(self) -> set[int]:
        """The ports it was spoken to from."""
        return {request.scope["client"][1] for request in self.asked}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority nobody knows."""
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names that authority, as it does behind a proxy that signs certificates."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


@asynccontextmanager
async def serve_secure(authority: trustme.CA, directory: Path, *protocols: str) -> AsyncGenerator[SecureServer]:
    """Serve over TLS on a free port, offering these protocols (RFC 7301)."""
    certificate = authority.issue_cert("127.0.0.1", HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    server, config = SecureServer(), Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(directory / "server.pem")
    config.alpn_protocols = list(protocols)
    config.errorlog = logging.Logger("secure", logging.CRITICAL)  # a level of the library's own logger would outlive us
    config.graceful_timeout = 0.1
    routes = [Route("/api/v1/auth/me", server.me), Route("/api/v1/tenants/{id}/events", server.events)]
    app = cast("ASGIFramework", Starlette(routes=routes))
    async with trio.open_nursery() as nursery:
        run = partial(serve, app, config, shutdown_trigger=trio.sleep_forever, mode="asgi")
        bound: list[str] = await nursery.start(run)
        server.port = int(bound[0].rpartition(":")[2])
        yield server
        nursery.cancel_scope.cancel()


@pytest.fixture
async def server(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[SecureServer]:
    """A server that offers HTTP/2."""
    async with serve_secure(authority, tmp_path, "h2", "http/1.1") as running:
        yield running


@asynccontextmanager
async def tunnel_to(port: int) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """An HTTP proxy on loopback: every CONNECT (RFC 9110 section 9.3.6) leads to that port. Gives what it was asked."""
    asked: list[bytes] = []

    async def pump(source: trio.SocketStream, sink: trio.SocketStream, done: Callable[[], None]) -> None:
        try:
            async for chunk in source:
                await sink.send_all(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        done()

    async def handle(client: trio.SocketStream) -> None:
        async with client:
            asked.append(bytes(await client.receive_some()))
            await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with await trio.open_tcp_stream("127.0.0.1", port) as upstream, trio.open_nursery() as both:
                both.start_soon(pump, client, upstream, both.cancel_scope.cancel)
                both.start_soon(pump, upstream, client, both.cancel_scope.cancel)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", asked
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("trusted")
async def test_http2_is_spoken_where_it_is_offered(server: SecureServer) -> None:
    """Calls at the same time share one connection."""
    api = CloudApiClient(f"https://127.0.0.1:{server.port}", "token")
    async with api as client, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(client.me)
    assert server.versions == {"2"}
    assert len(server.connections) == 1


@pytest.mark.usefixtures("trusted")
async def test_http1_is_spoken_where_nothing_else_is_offered(authority: trustme.CA, tmp_path: Path) -> None:
    """A server or proxy that does not know HTTP/2 is no obstacle, and its connection is kept."""
    async with serve_secure(authority, tmp_path, "http/1.1") as server:
        async with CloudApiClient(f"https://127.0.0.1:{server.port}", "token") as client:
            await client.me()
            await client.me()
        assert server.versions == {"1.1"}
        assert len(server.connections) == 1


@pytest.mark.usefixtures("trusted")
async def test_more_streams_than_a_connection_takes(server: SecureServer) -> None:
    """Over HTTP/2 a server takes 100 requests on a connection; 110 streams, and a call beside them, all get through."""
    heard = 0
    all_heard = trio.Event()

    async def listen(client: CloudApiClient, tenant: str) -> None:
        nonlocal heard
        async with client.tenant_events(tenant) as stream:
            await anext(stream)
            heard += 1
            if heard == 110:
                all_heard.set()
            await all_heard.wait()

    api = CloudApiClient(f"https://127.0.0.1:{server.port}", "token", attempts=1)
    with trio.fail_after(20):
        async with api as client, trio.open_nursery() as nursery:
            for number in range(110):
                nursery.start_soon(listen, client, str(number))
            await all_heard.wait()
            assert (await client.me()).user.id == "u1"
    assert server.versions == {"2"}
    assert len(server.connections) == 4


@pytest.mark.usefixtures("trusted")
async def test_a_stream_that_is_left_ends_for_the_server_too(server: SecureServer) -> None:
    """httpcore does not reset it, so its connection is closed, as soon as nobody else uses it; calls go on."""
    with trio.fail_after(10):
        async with CloudApiClient(f"https://127.0.0.1:{server.port}", "token") as client:
            for _ in range(3):
                async with client.tenant_events("t") as stream:
                    await anext(stream)
                    await client.me()
                while server.streaming:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await client.me()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("tenant", ["html", "zipped"])
async def test_an_answer_refused_by_its_head_ends_for_the_server_too(server: SecureServer, tenant: str) -> None:
    """Its body is not read, and its connection is closed: a server would count it among the open ones for ever."""
    with trio.fail_after(10):
        async with CloudApiClient(f"https://127.0.0.1:{server.port}", "token") as client:
            with pytest.raises(ApiError):
                async with client.tenant_events(tenant):
                    pytest.fail("this is no event stream")
            while server.streaming:
                await trio.testing.wait_all_tasks_blocked(0.01)
            await client.me()


async def test_an_unknown_authority_is_refused_and_the_hint_says_where_to_name_it(server: SecureServer) -> None:
    """Nothing is sent to a server nobody vouches for, and nothing is tried again."""
    async with CloudApiClient(f"https://127.0.0.1:{server.port}", "token", backoff=Backoff(base=0.0)) as client:
        with pytest.raises(Network, match="certificate is not trusted") as refused:
            await client.me()
    assert "SSL_CERT_FILE" in refused.value.recovery_hint
    assert (refused.value.sent, refused.value.retryable) == (False, False)
    assert server.asked == []


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_for_another_name_is_refused(server: SecureServer) -> None:
    """A trusted authority vouches for a name, not for whoever answers (RFC 9110 section 4.3.4)."""
    async with CloudApiClient(f"https://localhost:{server.port}", "token", attempts=1) as client:
        with pytest.raises(Network, match=r"certificate is not trusted: .*localhost") as refused:
            await client.me()
    assert isinstance(refused.value.remedy, Remedy)
    assert (refused.value.remedy.step, refused.value.retryable) == ("check_certificates", False)
    assert server.asked == []


async def test_a_server_without_tls_is_no_matter_of_certificates() -> None:
    """TLS that fails for another reason is a broken connection, whatever the library's text has in it."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def answer_in_the_clear(stream: trio.SocketStream) -> None:
            await stream.send_all(b"HTTP/1.1 400 CERTIFICATE_VERIFY_FAILED\r\n\r\n")

        nursery.start_soon(trio.serve_listeners, answer_in_the_clear, [listener])
        port = listener.socket.getsockname()[1]
        async with CloudApiClient(f"https://127.0.0.1:{port}", "token", attempts=1) as client:
            with pytest.raises(Network) as failed:
                await client.me()
        nursery.cancel_scope.cancel()
    assert failed.value.remedy is None or failed.value.remedy.step != "check_certificates"
    assert failed.value.retryable
    assert failed.value.brief.startswith("cannot connect: ")


async def test_an_authority_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong SSL_CERT_FILE is a clear error, not a traceback."""
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authority.pem")
    with pytest.raises(Network, match="certificate settings") as refused:
        async with CloudApiClient("https://api.example", "token"):
            pass
    assert "SSL_CERT_FILE" in refused.value.recovery_hint


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_the_proxy_of_the_environment_is_used(
    server: SecureServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The proxy sees a host and a port to connect to; token and path travel inside the tunnel."""
    for other in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(other, raising=False)
    async with tunnel_to(server.port) as (proxy, asked):
        monkeypatch.setenv(name, proxy)
        async with CloudApiClient(f"https://{HOST}", "a-bearer-token") as client:
            assert (await client.me()).user.id == "u1"
    (connect,) = asked
    assert connect.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
    assert b"a-bearer-token" not in connect
    assert b"/api/v1" not in connect
    (request,) = server.asked
    assert request.headers["authorization"] == "Bearer a-bearer-token"
    assert server.versions == {"2"}


@pytest.mark.usefixtures("trusted")
async def test_this_computer_is_called_without_the_proxy(server: SecureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on loopback is no proxy's business, also over TLS."""
    async with tunnel_to(server.port) as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        async with CloudApiClient(f"https://127.0.0.1:{server.port}", "token") as client:
            await client.me()
    assert asked == []
