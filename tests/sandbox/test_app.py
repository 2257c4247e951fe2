"""Tests of sandbox/app.py: the gate before everything, and starting and stopping."""

from __future__ import annotations

import socket

import httpx
import pytest
import trio
from systemprompt_cloud.errors import InvalidFault, PortBusy
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.app import is_loopback


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("localhost:1", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:127", False),
        ("127.0.0.1:port", False),
        ("127.0.0.1@evil.example", False),
        ("evil@127.0.0.1", False),
        ("127.0.0.1/evil", False),
        ("127.0.0.1#", False),
        ("127.0.0.1?", False),
        ("0", False),
        ("[::1]", False),
        ("[", False),
        ("", False),
    ],
)
def test_only_loopback_names_are_let_in(host: str, fine: bool) -> None:
    """A rebound name resolves to this computer but keeps its name, and that is how it is known."""
    assert is_loopback(host) is fine


async def test_a_foreign_host_reaches_nothing(http: httpx.AsyncClient) -> None:
    """API, pages and ledger alike answer 421 and count nothing."""
    async with serve_sandbox() as sandbox:
        for path in ("/", "/sandbox/ledger", "/api/v1/auth/me", "/api/v1/auth/oauth/github", "/nowhere"):
            answer = await http.get(sandbox.url + path, headers={"Host": "rebound.example"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")
        assert not sandbox.cloud.ledger.requests
        local = await http.get(sandbox.url.replace("127.0.0.1", "localhost"), headers={"Host": "localhost"})
        assert local.status_code == 200


async def test_two_hosts_or_none_are_refused() -> None:
    """A request without exactly one Host does not say where it wanted to go (RFC 9112 section 3.2)."""
    async with serve_sandbox() as sandbox:
        for hosts in (b"", b"Host: 127.0.0.1\r\nHost: evil.example\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1]))
            async with stream:
                await stream.send_all(b"GET /sandbox/ledger HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
                answer = await stream.receive_some()
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


async def test_a_foreign_origin_reaches_nothing(http: httpx.AsyncClient) -> None:
    """Another site's script, even one on another port of this computer, is 403."""
    async with serve_sandbox() as sandbox:
        for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
            answer = await http.get(f"{sandbox.url}/sandbox/ledger", headers={"Origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
        own = await http.get(f"{sandbox.url}/sandbox/ledger", headers={"Origin": sandbox.url})
        assert own.status_code == 200
        assert "access-control-allow-origin" not in own.headers


async def test_what_does_not_exist_is_said_in_the_apis_words(http: httpx.AsyncClient) -> None:
    """Unknown calls are 404, known ones with another method 405; both bodies are the API's."""
    async with serve_sandbox() as sandbox:
        unknown = await http.get(f"{sandbox.url}/api/v1/nothing")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        wrong = await http.delete(f"{sandbox.url}/api/v1/auth/me")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
        assert (await http.head(f"{sandbox.url}/api/v1/auth/me")).status_code == 405


async def test_it_is_gone_when_the_context_is_left(http: httpx.AsyncClient) -> None:
    """After the end the port refuses connections, and the same port can be used again at once."""
    async with serve_sandbox() as sandbox:
        url = sandbox.url
        assert (await http.get(url)).status_code == 200
    with pytest.raises(httpx.ConnectError):
        await http.get(url)
    async with serve_sandbox(int(url.rsplit(":", 1)[1])) as sandbox:
        assert sandbox.url == url


async def test_only_this_computer_is_listened_on() -> None:
    """The address is 127.0.0.1: another loopback address of the same computer finds nobody."""
    async with serve_sandbox() as sandbox:
        with socket.socket() as other:
            other.settimeout(0.5)
            assert other.connect_ex(("127.0.0.2", int(sandbox.url.rsplit(":", 1)[1]))) != 0


async def test_a_taken_port_and_a_bad_fault_are_said_before_anything_starts() -> None:
    """Both are errors of entering the context."""
    async with serve_sandbox() as sandbox:
        port = int(sandbox.url.rsplit(":", 1)[1])
        with pytest.raises(PortBusy, match=str(port)):
            async with serve_sandbox(port):
                pass
    with pytest.raises(InvalidFault):
        async with serve_sandbox(faults=["no-such-fault"]):
            pass


async def test_an_error_of_the_caller_comes_out_as_it_is() -> None:
    """What is raised inside the context is not wrapped in a group."""
    with pytest.raises(KeyError):
        async with serve_sandbox():
            raise KeyError
