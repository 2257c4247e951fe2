"""The port of a login is ours from the look whether it is free: another program cannot take it in between."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.errors import PortBusy
from systemprompt_cloud.flows.login import PORTS_TRIED, start_login
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.machines.login import LoginContext
from systemprompt_cloud.testing.scripted import Handler, serve_scripted

from tests.support.ports import own_port
from tests.support.rehearsal import open_rehearsal, wait_for_state


def port_of(request: Request) -> int:
    """The port in a request's redirect URI."""
    return urlsplit(request.query_params["redirect_uri"]).port or 0


def offer(request: Request) -> Response:
    """Where the person should go, which is nowhere."""
    return JSONResponse({"authorize_url": f"{request.base_url}consent"})


def thieving(stack: ExitStack, times: int) -> Handler:
    """An API during whose answer another program takes the port, so many times."""
    left = [times]

    async def answer(request: Request) -> Response:
        if left[0]:
            left[0] -= 1
            thief = stack.enter_context(socket.socket())
            thief.bind(("127.0.0.1", port_of(request)))
            thief.listen()
        return offer(request)

    return answer


async def test_a_port_that_was_named_is_kept_while_the_api_is_asked(tmp_path: Path) -> None:
    """Whoever wants it meanwhile finds it taken; the login then listens there."""
    port = own_port()
    refused: list[str] = []

    async def answer(request: Request) -> Response:
        try:
            bind_loopback(port_of(request)).close()
        except PortBusy as exc:
            refused.append(exc.user_message)
        return offer(request)

    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, serve_scripted() as server:
        server.plan(answer)
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, rehearsal.login(api_url=server.url, port=port))
            await wait_for_state(flow, "awaiting_callback")
    assert [f"port {port} on 127.0.0.1 is taken" in each for each in refused] == [True]
    bind_loopback(port).close()


@pytest.mark.parametrize("status", [400, 401, 502])
async def test_a_login_that_does_not_begin_keeps_no_port(tmp_path: Path, status: int) -> None:
    """The API refuses or is down: nobody is going to come back."""
    port = own_port()
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, serve_scripted() as server:
        server.plan(JSONResponse({"error": {"code": "no", "message": "no"}}, status_code=status))
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, rehearsal.login(api_url=server.url, port=port))
            with suppress(FlowParked):
                await flow.wait()
            bind_loopback(port).close()


async def test_any_port_is_replaced_when_it_is_lost(tmp_path: Path) -> None:
    """The API is asked again, with another port and the same nonce; the login listens at that."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, serve_scripted() as server:
        with ExitStack() as stack:
            server.plan(thieving(stack, 1))
            async with rehearsal.open_engine() as engine:
                flow = await start_login(engine, rehearsal.login(api_url=server.url, port=0))
                await wait_for_state(flow, "awaiting_callback")
                lost, taken = map(port_of, server.requests)
                context = flow.context
                assert isinstance(context, LoginContext)
                assert context.port == taken != lost
        states = [parse_qs(urlsplit(each.query_params["redirect_uri"]).query)["state"] for each in server.requests]
        assert states[0] == states[1]


async def test_a_thief_of_every_port_ends_the_login(tmp_path: Path) -> None:
    """After a few; the message names the last."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, serve_scripted() as server:
        with ExitStack() as stack:
            server.plan(thieving(stack, 100))
            async with rehearsal.open_engine() as engine:
                outcome = await (await start_login(engine, rehearsal.login(api_url=server.url, port=0))).wait()
    assert (outcome.state, outcome.code.rpartition(".")[2]) == ("failed", "port_taken")
    assert f"port {port_of(server.requests[-1])} on 127.0.0.1 is taken" in outcome.problem
    assert len(server.requests) == PORTS_TRIED
