"""Failures of a proxy are named as the proxy's, and those of the server behind it are not."""

from __future__ import annotations

import sys
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


@pytest.mark.parametrize(
    ("value", "problem", "hint"),
    [
        ("socks5://ann:hunter22@[::1]:1080", r"a SOCKS proxy, \[::1\]:1080, .* is not installed", "socks"),
        ("SOCKS5H://127.0.0.1:1080", r"a SOCKS proxy, 127\.0\.0\.1:1080, .* is not installed", "socks"),
        ("socks4://127.0.0.1:1080", "the kind 'socks4'; there are http, https, socks5, socks5h", "http://HOST:PORT"),
        ("ftp://ann:hunter22@127.0.0.1", "the kind 'ftp'", "http://HOST:PORT"),
        ("http://", "names no proxy", "http://HOST:PORT"),
        ("http://[::1", "names no proxy", "http://HOST:PORT"),
        ("http://127.0.0.1:port", "names no proxy", "http://HOST:PORT"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, problem: str, hint: str
) -> None:
    """By the variable, in words, with what to do; never by what httpx says, and nothing is tried again."""
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where the package is not installed
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(Network, match=f"^ALL_PROXY names .*{problem}|^ALL_PROXY {problem}") as caught:
        async with CloudApiClient("https://api.cloud.test", "token"):
            pass
    assert (caught.value.sent, caught.value.retryable) == (False, False)
    assert hint in caught.value.recovery_hint
    assert "hunter22" not in f"{caught.value} {caught.value.recovery_hint}"
    assert caught.value.remedy is not None
    assert caught.value.remedy.facts == {"variable": "ALL_PROXY"}


@pytest.mark.parametrize("no_proxy", ["cloud.test", "[::1],10.0.0.0/8 .test", "*"])
async def test_a_host_that_is_exempt_needs_no_proxy_at_all(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    """A proxy that could not be used does not matter then."""
    monkeypatch.setenv("HTTPS_PROXY", "socks4://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    async with CloudApiClient("https://api.cloud.test", "token", attempts=1) as client:
        with pytest.raises(Network, match="cannot connect") as caught:
            await client.me()
    assert "proxy" not in caught.value.user_message
