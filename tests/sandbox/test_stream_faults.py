"""Tests of the faults of sandbox/streams.py and endpoint.py that only a stream's reader can tell, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import httpx
import pytest
import trio
from systemprompt_cloud.errors import ApiError, StreamLost, TooLarge
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.sse.decoder import EventStream, ServerSentEvent
from systemprompt_cloud.io.sse.event_source import EventSource, Open, Waiting
from systemprompt_cloud.sandbox import serve_sandbox

from .conftest import Paid

TEN = [str(number) for number in range(1, 11)]


@asynccontextmanager
async def streaming(fault: str, paid: Paid, *, idle: float = 5.0, step: float = 0.001) -> AsyncGenerator[EventStream]:
    """The stream of a tenant in a cloud with this one fault."""
    async with serve_sandbox(faults=[fault], step_seconds=step) as sandbox:
        account = sandbox.cloud.accounts[0]
        token = sandbox.cloud.tokens.issue(account.id, account.email)
        async with (
            CloudApiClient(sandbox.url, token, attempts=1) as client,
            client.tenant_events(paid(sandbox).id, idle_timeout=idle) as stream,
        ):
            yield stream


async def ids_until(stream: EventStream, error: type[Exception]) -> list[str]:
    """The ids of the steps that are read before the stream ends in this way."""
    ids: list[str] = []
    with trio.fail_after(10):
        try:
            while True:
                event = await anext(stream)
                ids += [event.id] if event.id and event.event in {"provisioning", "message"} else []
        except error:
            return ids


async def test_reset_tears_an_event_and_the_connection(paid: Paid) -> None:
    """What was sent before the RST may be lost, half an event is never seen, and the reader is told of a reset."""
    async with streaming("reset:after=3", paid, step=0.05) as stream:
        ids = await ids_until(stream, StreamLost)
        with pytest.raises(StreamLost):
            await anext(stream)
    assert ids == TEN[: len(ids)]
    assert len(ids) <= 3


async def test_silence_is_silent_for_as_long_as_it_says(paid: Paid) -> None:
    """For good, until the reader's watchdog bites; or for a while, and then it goes on where it was."""
    async with streaming("silence:after=3", paid, idle=0.3) as stream:
        assert await ids_until(stream, StreamLost) == TEN[:3]
    async with streaming("silence:after=3,seconds=0.2", paid) as stream:
        assert await ids_until(stream, StreamLost) == TEN


async def test_silence_with_heartbeats_keeps_a_watchdog_fed(paid: Paid) -> None:
    """A server that lives and says nothing is not told from a slow one by the stream alone."""
    async with streaming("silence:after=3,seconds=2.5,heartbeats=1", paid, idle=1.6) as stream:
        assert await ids_until(stream, StreamLost) == TEN


@pytest.mark.parametrize("fault", ["trickle:seconds=0.001", "bad-utf8:times=0", "duplicate:after=20", "malformed"])
async def test_a_disturbed_stream_tells_everything(fault: str, paid: Paid) -> None:
    """Bytes one at a time, bytes that are not UTF-8, an event that is no JSON: the ten steps come through."""
    async with streaming(fault, paid) as stream:
        seen = await ids_until(stream, StreamLost)
    assert list(dict.fromkeys(seen)) == TEN


async def test_a_huge_line_is_refused(paid: Paid) -> None:
    """Nine megabytes in a line are over the reader's bound."""
    async with streaming("huge-line:after=2", paid) as stream:
        assert await ids_until(stream, TooLarge) == TEN[:2]


@pytest.mark.parametrize(
    ("fault", "status"), [("no-content", 204), ("redirect", 307), ("error:status=429,retry_after=3", 429)]
)
async def test_a_stream_that_does_not_open_says_why(fault: str, status: int, paid: Paid) -> None:
    """204, a redirect, 429: the API client takes none of them for a stream."""
    with pytest.raises(ApiError) as caught:
        async with streaming(fault, paid):
            pass
    assert caught.value.status == status
    assert caught.value.retry_after == (3.0 if status == 429 else None)


async def test_retry_after_can_be_a_moment(paid: Paid, http: httpx.AsyncClient) -> None:
    """RFC 9110 section 10.2.3 allows both forms; the moment is the server's."""
    async with serve_sandbox(faults=["error:status=503,retry_after=7,date=1"], wall=lambda: 1_800_000_000.0) as sandbox:
        answer = await http.get(f"{sandbox.url}/api/v1/tenants/{paid(sandbox).id}/events")
    assert answer.status_code == 503
    assert parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() == 1_800_000_007


@pytest.mark.parametrize(("foreign", "refused"), [(0, False), (1, True)])
async def test_a_redirect_to_another_origin_takes_no_token_along(foreign: int, refused: bool, paid: Paid) -> None:
    """An event source follows both; here it is sent back with its token, as localhost it has none and gets 401."""
    async with serve_sandbox(faults=[f"redirect:foreign={foreign}"], step_seconds=0.001) as sandbox:
        account = sandbox.cloud.accounts[0]
        headers = {"Authorization": f"Bearer {sandbox.cloud.tokens.issue(account.id, account.email)}"}
        url = f"{sandbox.url}/api/v1/tenants/{paid(sandbox).id}/events"
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            EventSource.at(client, url, headers=headers, backoff=Backoff(0.0)) as source,
        ):
            if refused:
                with pytest.raises(ApiError) as refusal:
                    await anext(source)
                assert (refusal.value.status, refusal.value.code) == (401, "missing_token")
            else:
                assert (await anext(source)).id == "1"


async def test_a_source_lives_through_what_breaks(paid: Paid) -> None:
    """One event source over a drop, a reset, an outage and an answer that is refused for now tells all ten steps."""
    faults = ["drop-stream:after=2", "reset:after=2", "error:status=503,path=/events", "error:status=429,path=/events"]
    async with serve_sandbox(faults=faults, step_seconds=0.02) as sandbox:
        account = sandbox.cloud.accounts[0]
        tenant = paid(sandbox)
        client = CloudApiClient(sandbox.url, sandbox.cloud.tokens.issue(account.id, account.email), attempts=1)
        ids: list[str] = []
        opened = waited = 0
        with trio.fail_after(20):
            async with client, client.follow_tenant(tenant.id, backoff=Backoff(0.01, 0.02)) as source:
                async for seen in source.with_states():
                    opened += isinstance(seen, Open)
                    waited += isinstance(seen, Waiting)
                    if isinstance(seen, ServerSentEvent):
                        ids.append(seen.id)
                    if ids[-1:] == ["10"]:
                        break
    assert list(dict.fromkeys(ids)) == TEN
    assert opened >= 3
    assert waited >= 4
