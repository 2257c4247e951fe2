"""Event streams of a real server: opened or refused on entering, watched, left without a trace."""

from __future__ import annotations

import msgspec
import pytest
import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, StreamLost
from systemprompt_cloud.io.cloud import wire
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.testing.scripted import (
    ME,
    TOKEN,
    ScriptedServer,
    api_error,
    client_of,
    event_stream,
    serve_bytes,
)


async def test_stream_gives_events_and_resumes_after_the_last_id(server: ScriptedServer) -> None:
    """The right request goes out, also with an id that is not ASCII, and what comes is decoded."""
    event = wire.ProvisioningEvent(tenant_id="t", event_type="tenant_created", status="ok")
    data = msgspec.json.encode(event)
    server.plan(event_stream(b": hi\n\nevent: provisioning\nid: 4\ndata: " + data + b"\n\n"))
    async with client_of(server) as client, client.tenant_events("t", last_event_id="é3") as stream:
        found = await anext(stream)
        assert msgspec.json.decode(found.data, type=wire.ProvisioningEvent) == event
        assert (found.event, stream.last_event_id) == ("provisioning", "4")
        with pytest.raises(StreamLost, match="ended"):
            await anext(stream)
    (request,) = server.requests
    assert request.url.path == "/api/v1/tenants/t/events"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["last-event-id"].encode("latin-1").decode() == "é3"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("last_event_id", [None, "", " 1", "a\nb", "a\x00b"])
async def test_no_id_or_an_impossible_one_is_not_sent(server: ScriptedServer, last_event_id: str | None) -> None:
    """What no header can carry is left out, and the stream starts from the beginning."""
    server.plan(event_stream(b"data: a\n\n"))
    async with client_of(server) as client, client.checkout_events("cs", last_event_id=last_event_id) as stream:
        assert (await anext(stream)).data == "a"
    assert "last-event-id" not in server.requests[0].headers
    assert server.requests[0].url.path == "/api/v1/checkout/cs/events"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (api_error(401), NotAuthenticated, "not accepted"),
        (api_error(404, "gone", "no such tenant"), ApiError, "gone: no such tenant"),
        (Response(status_code=204), ApiError, "no stream"),
        (HTMLResponse("<html>"), ApiError, "an HTML page, not the API"),
        (JSONResponse({}), ApiError, "'application/json', where an event stream was asked for"),
        (Response(status_code=307, headers={"Location": "https://evil.example"}), ApiError, "redirect"),
    ],
    ids=["401", "404", "204", "html", "json", "redirect"],
)
async def test_what_is_no_stream_is_told_on_entering(
    server: ScriptedServer, answer: Response, kind: type[CloudError], said: str
) -> None:
    """The block is entered with an open stream or not at all."""
    server.plan(answer)
    entered = False
    async with client_of(server) as client:
        with pytest.raises(kind, match=said):
            async with client.tenant_events("t"):
                entered = True
    assert not entered
    assert len(server.requests) == 1


async def test_stream_outlives_the_timeout_of_a_request(server: ScriptedServer) -> None:
    """A stream has no deadline, only a watchdog; reads are not bounded by the request's timeout."""
    server.plan(event_stream(*[b"data: %d\n\n" % number for number in range(6)], every=0.5))
    async with client_of(server, timeout=2.0) as client, client.tenant_events("t") as stream:
        assert [(await anext(stream)).data for _ in range(6)] == ["0", "1", "2", "3", "4", "5"]


async def test_silent_stream_is_lost(server: ScriptedServer) -> None:
    """A connection that says nothing any more is given up after the idle timeout."""
    server.plan(event_stream(b"data: a\n\n", hold=True))
    async with client_of(server) as client, client.tenant_events("t", idle_timeout=0.1) as stream:
        await anext(stream)
        with pytest.raises(StreamLost, match=r"lost: no data for 0\.1 s"):
            await anext(stream)


async def test_stream_that_never_answers_is_a_network_error(server: ScriptedServer) -> None:
    """Opening is bounded like any request."""

    async def never(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    server.plan(never)
    async with client_of(server, timeout=0.1) as client:
        with pytest.raises(Network, match=r"within 0.1 s"):
            async with client.tenant_events("t"):
                pass


async def test_broken_stream_is_lost_with_its_cause() -> None:
    """A connection cut in the middle of a chunk is a lost stream."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + b"9\r\ndata: a\n\n\r\nff\r\n"
    async with serve_bytes(answer) as url, CloudApiClient(url, TOKEN) as client, client.tenant_events("t") as stream:
        assert (await anext(stream)).data == "a"
        with pytest.raises(StreamLost, match="lost: the server closed the connection"):
            await anext(stream)


async def test_reader_is_cancelled_at_once_and_the_client_goes_on(server: ScriptedServer) -> None:
    """Leaving a stream, by cancellation or by choice, is quick and leaves nothing open or warned about."""
    server.plan(
        event_stream(b"data: a\n\ndata: b\n\n", hold=True), event_stream(b"data: a\n\n", hold=True), JSONResponse(ME)
    )
    async with client_of(server) as client:
        started = trio.current_time()
        with trio.move_on_after(0.2):
            async with client.tenant_events("t") as stream:
                async for _ in stream:
                    pass
        async with client.tenant_events("t") as stream:
            await anext(stream)
        assert trio.current_time() - started < 0.6
        assert (await client.me()).user.id == "u1"


async def test_errors_of_the_readers_own_block_pass_through(server: ScriptedServer) -> None:
    """A deadline the reader set itself is not mistaken for the network's."""
    server.plan(event_stream(b"data: a\n\n", hold=True))
    async with client_of(server) as client:

        async def read_until_late() -> None:
            async with client.tenant_events("t") as stream:
                with trio.fail_after(0.05):
                    async for _ in stream:
                        pass

        with pytest.raises(trio.TooSlowError):
            await read_until_late()


async def test_many_streams_do_not_starve_a_call(server: ScriptedServer) -> None:
    """Open streams hold connections; calls beside them still get one."""
    server.plan(*[event_stream(b"data: a\n\n", hold=True)] * 120, JSONResponse(ME))
    async with client_of(server, timeout=60.0) as client, trio.open_nursery() as nursery:
        opened = 0

        async def hold() -> None:
            nonlocal opened
            async with client.tenant_events("t") as stream:
                await anext(stream)
                opened += 1
                if opened == 120:
                    assert (await client.me()).user.id == "u1"
                    nursery.cancel_scope.cancel()
                await trio.sleep_forever()

        for _ in range(120):
            nursery.start_soon(hold)
    assert opened == 120


async def test_client_outside_its_block_is_a_programming_error() -> None:
    """No pool is opened behind anybody's back."""
    with pytest.raises(RuntimeError, match="async with"):
        await CloudApiClient("http://127.0.0.1:9", TOKEN).me()
