"""Failures of a proxy are named as the proxy's, and those of the server behind it are not."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.cloud.api import CloudApiClient


async def deploy(client: CloudApiClient) -> str:
    """A POST that must not arrive twice."""
    return (await client.deploy("t", "registry.example/app:1", idempotency_key="k")).status


@asynccontextmanager
async def refusing_proxy() -> AsyncGenerator[str]:
    """A proxy that wants to know who is asking."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_proxys_refusal_is_named_as_the_proxys(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Which proxy, which variable; the user and password in it are not shown; and nothing reached the API."""
    async with refusing_proxy() as address:
        monkeypatch.setenv(variable, f"http://user:hunter22@{address}")
        async with CloudApiClient("https://api.cloud.test", "token", attempts=1) as client:
            with pytest.raises(Network, match=f"the proxy {address} refused to connect: 407") as caught:
                await deploy(client)
    assert caught.value.sent is False
    assert variable in caught.value.recovery_hint
    assert "hunter22" not in str(caught.value)


async def test_a_proxy_that_is_down_is_named_as_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as the API, which was not even looked up."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    async with CloudApiClient("https://api.cloud.test", "token", attempts=1) as client:
        with pytest.raises(Network, match=r"the proxy 127\.0\.0\.1:9 cannot be reached"):
            await client.me()


@asynccontextmanager
async def proxy_to(handshake: bytes) -> AsyncGenerator[str]:
    """A good proxy, behind which a server answers the TLS handshake with these bytes, and hangs up."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await stream.receive_some()
            await stream.send_all(handshake or b"\x15")

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("handshake", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["no TLS", "hangs up"])
async def test_a_tls_failure_behind_a_proxy_is_not_the_proxys(
    monkeypatch: pytest.MonkeyPatch, handshake: bytes
) -> None:
    """The proxy was reached, and did what it was asked to."""
    async with proxy_to(handshake) as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
        async with CloudApiClient("https://api.cloud.test", "token", attempts=1) as client:
            with pytest.raises(Network) as caught:
                await client.me()
    assert address not in caught.value.user_message
    assert "cannot connect" in caught.value.user_message
