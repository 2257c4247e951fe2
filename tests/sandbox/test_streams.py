"""Tests of sandbox/streams.py: the two event streams over real HTTP, read by a small reader of the tests' own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import h11
import httpx
import msgspec
import pytest
import trio
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.state import Checkout, Tenant
from systemprompt_cloud.sandbox.streams import last_event_id

Bearer = Callable[..., dict[str, str]]
Paid = Callable[[Sandbox], Tenant]
Buy = Callable[[Sandbox], Checkout]


class Event(msgspec.Struct, frozen=True):
    """One event as it was read; a comment has the name `:`."""

    name: str
    id: str
    data: str

    @property
    def record(self) -> dict[str, Any]:
        return json.loads(self.data)


class Clock:
    """A world's time that stands until it is moved."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Reader:
    """Reads one stream from a bare socket, event by event.

    Not through httpx: its nested generators cannot be left half-read under trio without a warning, and a break in the
    middle of the answer is seen more exactly here.
    """

    def __init__(self, socket: trio.SocketStream) -> None:
        self._socket = socket
        self._http = h11.Connection(h11.CLIENT)
        self._text = ""
        self.status = 0
        self.headers: dict[str, str] = {}

    async def open(self, url: str, headers: dict[str, str]) -> None:
        """Send the request and read the answer's head."""
        parts = urlsplit(url)
        request = h11.Request(method="GET", target=parts.path, headers=[*headers.items(), ("Host", parts.netloc)])
        await self._socket.send_all((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        answer = await self._receive()
        assert isinstance(answer, h11.Response)
        self.status = answer.status_code
        self.headers = {name.decode(): value.decode() for name, value in answer.headers}

    async def _receive(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            with trio.fail_after(5):
                self._http.receive_data(await self._socket.receive_some())
        return event

    async def next(self) -> Event | None:
        """The next event or comment; None when the stream ended well.

        Raises:
            h11.RemoteProtocolError: The connection broke in the middle of the answer.
        """
        while True:
            while "\n\n" not in self._text:
                received = await self._receive()
                if not isinstance(received, h11.Data):
                    assert isinstance(received, h11.EndOfMessage)
                    assert self._text == ""
                    return None
                self._text += bytes(received.data).decode()
            block, _, self._text = self._text.partition("\n\n")
            lines = block.split("\n")
            if lines[0].startswith(":"):
                return Event(":", "", lines[0][1:].strip())
            fields = dict(line.split(": ", 1) for line in lines)
            return Event(fields.get("event", "message"), fields.get("id", ""), fields["data"])

    async def next_event(self) -> Event | None:
        """The next event that is no sign of life."""
        while (event := await self.next()) and event.name in {":", "heartbeat"}:
            pass
        return event

    async def rest(self) -> list[Event]:
        """All further events until the end, without the signs of life."""
        events: list[Event] = []
        while event := await self.next_event():
            events.append(event)
        return events


@asynccontextmanager
async def reading(url: str, headers: dict[str, str], after: str | None = None) -> AsyncGenerator[Reader, None]:
    """Open a stream."""
    extra = {"Accept": "text/event-stream"} | ({} if after is None else {"Last-Event-ID": after})
    async with await trio.open_tcp_stream("127.0.0.1", urlsplit(url).port or 0) as socket:
        reader = Reader(socket)
        await reader.open(url, headers | extra)
        assert reader.status == 200
        yield reader


async def read_to_the_end(url: str, headers: dict[str, str], after: str | None = None) -> list[Event]:
    """Every event of a stream that ends well."""
    async with reading(url, headers, after) as stream:
        return await stream.rest()


async def read_to_the_break(url: str, headers: dict[str, str], after: str | None = None) -> list[str]:
    """The ids of every event of a stream that must break."""
    ids: list[str] = []
    async with reading(url, headers, after) as stream:
        try:
            while event := await stream.next_event():
                ids.append(event.id)
        except h11.RemoteProtocolError:
            return ids
    raise AssertionError("the stream ended well")


def events_url(sandbox: Sandbox, tenant: Tenant) -> str:
    return f"{sandbox.url}/api/v1/tenants/{tenant.id}/events"


async def test_a_tenants_stream_tells_all_ten_steps_and_ends(bearer: Bearer, paid: Paid) -> None:
    """Ids count from 1, each event is a ProvisioningEvent, both allowed names occur, and after the last it closes."""
    async with serve_sandbox(step_seconds=0.01) as sandbox:
        tenant = paid(sandbox)
        async with reading(events_url(sandbox, tenant), bearer(sandbox)) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert stream.headers["cache-control"] == "no-store"
            events = await stream.rest()
    assert [event.id for event in events] == [str(number) for number in range(1, 11)]
    assert {event.name for event in events} == {"provisioning", "message"}
    for event in events:
        assert set(event.record) == {"tenant_id", "event_type", "status", "message", "app_url", "fly_app_name"}
        assert event.record["tenant_id"] == tenant.id
    assert [event.record["event_type"] for event in events][-2:] == ["infrastructure_ready", "tenant_ready"]
    assert events[-1].record["status"] == "ready"
    assert events[-1].record["app_url"].startswith("https://")


async def test_a_checkouts_stream_lives_before_the_payment_and_tells_after_it(bearer: Bearer, buy: Buy) -> None:
    """Nothing but signs of life until somebody pays; then CheckoutEvents, all named `provisioning`."""
    clock = Clock()
    async with serve_sandbox(step_seconds=1.0, now=clock) as sandbox:
        checkout = buy(sandbox)
        url = f"{sandbox.url}/api/v1/checkout/{checkout.id}/events"
        async with reading(url, bearer(sandbox)) as stream:
            first = await stream.next()
            assert first is not None
            assert "sandbox" in first.data
            clock.time += 1.0
            sandbox.cloud.wake()
            assert await stream.next() == Event("heartbeat", "", "{}")
            sandbox.cloud.answer_payment(checkout, "pending")
            clock.time += 1.0
            sandbox.cloud.wake()
            event = await stream.next_event()
            assert event is not None
            clock.time += 9.0
            sandbox.cloud.wake()
            rest = await stream.rest()
    assert set(event.record) == {
        "checkout_session_id",
        "tenant_id",
        "tenant_name",
        "event_type",
        "status",
        "message",
        "app_url",
        "fly_app_name",
    }
    assert event.record["checkout_session_id"] == checkout.id
    assert "Sandbox" in event.record["tenant_name"]
    assert {found.name for found in (event, *rest)} == {"provisioning"}
    assert [found.id for found in (event, *rest)] == [str(number) for number in range(1, 11)]


async def test_signs_of_life_come_every_second_in_both_forms(bearer: Bearer, paid: Paid) -> None:
    """A heartbeat event and a comment in turn, none with an id, so the last event id stays what it was."""
    clock = Clock()
    async with (
        serve_sandbox(step_seconds=1000.0, now=clock) as sandbox,
        reading(events_url(sandbox, paid(sandbox)), bearer(sandbox)) as stream,
    ):
        await stream.next()
        seen: list[Event | None] = []
        for _ in range(4):
            clock.time += 1.0
            sandbox.cloud.wake()
            seen.append(await stream.next())
    assert seen == [Event("heartbeat", "", "{}"), Event(":", "", "heartbeat")] * 2


async def test_a_sign_of_life_comes_in_real_time_too(bearer: Bearer, paid: Paid) -> None:
    """On trio's own clock nobody has to wake anything."""
    async with (
        serve_sandbox(step_seconds=1000.0) as sandbox,
        reading(events_url(sandbox, paid(sandbox)), bearer(sandbox)) as stream,
    ):
        await stream.next()
        assert await stream.next() == Event("heartbeat", "", "{}")


@pytest.mark.parametrize(
    ("header", "first"), [("0", 1), ("1", 2), ("7", 8), ("9", 10), ("", 1), ("abc", 1), ("-1", 1), ("9" * 30, 1)]
)
async def test_replay_starts_strictly_after_the_last_event(header: str, first: int, bearer: Bearer, paid: Paid) -> None:
    """A client that comes back gets what it has not had; an id that is none of ours means from the beginning."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox), after=header)
        assert [event.id for event in events] == [str(number) for number in range(first, 11)]


async def test_who_has_had_everything_gets_a_stream_that_ends(bearer: Bearer, paid: Paid) -> None:
    """There is nothing to wait for after the last event."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        assert await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox), after="10") == []


async def test_both_streams_of_a_tenant_share_their_ids(bearer: Bearer, paid: Paid) -> None:
    """Who followed the checkout may go on with the tenant, from the same id."""
    async with serve_sandbox(step_seconds=0) as sandbox:
        tenant = paid(sandbox)
        url = f"{sandbox.url}/api/v1/checkout/{tenant.checkout_session_id}/events"
        types = [event.record["event_type"] for event in await read_to_the_end(url, bearer(sandbox), after="4")]
        events = await read_to_the_end(events_url(sandbox, tenant), bearer(sandbox), after="4")
        assert [event.record["event_type"] for event in events] == types


def test_last_event_ids_of_any_kind_are_read() -> None:
    """Digits are a number; other scripts' digits, signs and words are not."""
    assert [last_event_id(text) for text in (None, " 3 ", "٣", "1_0", "0x1", "+1")] == [0, 3, 0, 0, 0, 0]


async def test_leaving_the_sandbox_ends_its_streams_at_once(bearer: Bearer, paid: Paid) -> None:
    """An open stream ends well when the sandbox closes, and does not hold it up."""
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.fail_after(1.5):
            async with serve_sandbox(step_seconds=1000.0) as sandbox:
                url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
                opened = trio.Event()

                async def follow() -> None:
                    async with reading(url, headers) as stream:
                        await stream.next()
                        opened.set()
                        assert await stream.rest() == []
                    ended.set()

                nursery.start_soon(follow)
                await opened.wait()
            await ended.wait()


async def test_a_client_that_leaves_frees_its_stream(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """Many clients that come and go leave a sandbox that still answers."""
    async with serve_sandbox(step_seconds=1000.0) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        for _ in range(200):
            async with reading(events_url(sandbox, tenant), headers) as stream:
                await stream.next()
        assert (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)).status_code == 200


# --- faults ---


async def test_drop_stream_breaks_after_the_event_and_replay_mends_it(bearer: Bearer, paid: Paid) -> None:
    """Three events, then a broken connection; with the last id the rest comes, nothing twice and nothing lost."""
    async with serve_sandbox(step_seconds=0.01, faults=["drop-stream:after=3"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        ids = await read_to_the_break(url, headers)
        assert ids == ["1", "2", "3"]
        ids += [event.id for event in await read_to_the_end(url, headers, after=ids[-1])]
    assert ids == [str(number) for number in range(1, 11)]


async def test_drop_stream_may_strike_more_than_once(bearer: Bearer, paid: Paid) -> None:
    """`after` counts each connection's own events, so two drops of four leave two events for the third."""
    async with serve_sandbox(step_seconds=0, faults=["drop-stream:after=4,times=2"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        got = [await read_to_the_break(url, headers)]
        got.append(await read_to_the_break(url, headers, after="4"))
        got.append([event.id for event in await read_to_the_end(url, headers, after="8")])
    assert got == [["1", "2", "3", "4"], ["5", "6", "7", "8"], ["9", "10"]]


async def test_a_doubled_and_a_held_back_event(bearer: Bearer, paid: Paid) -> None:
    """`duplicate` sends one twice, `reorder` one after the next; the last event of a story is not kept back."""
    faults = ["duplicate:after=1", "reorder:after=3", "reorder:after=9"]
    async with serve_sandbox(step_seconds=0, faults=faults) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
    assert [event.id for event in events] == ["1", "2", "2", "3", "5", "4", "6", "7", "8", "9", "10"]


async def test_a_stream_told_from_the_beginning(bearer: Bearer, paid: Paid) -> None:
    """`replay-all` ignores the last id once; without an id there is nothing to ignore."""
    async with serve_sandbox(step_seconds=0, faults=["replay-all"]) as sandbox:
        url, headers = events_url(sandbox, paid(sandbox)), bearer(sandbox)
        told = [len(await read_to_the_end(url, headers, after=after)) for after in (None, "8", "8")]
    assert told == [10, 10, 2]


async def test_an_outage_refuses_streams_and_nothing_else(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """For the seconds after the drop streams answer 503 while the status call works; then they are back."""
    clock = Clock()
    async with serve_sandbox(step_seconds=0, now=clock, faults=["drop-stream:after=0,outage=5"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        url = events_url(sandbox, tenant)
        assert await read_to_the_break(url, headers) == []
        clock.time += 4.9
        assert (await http.get(url, headers=headers)).json()["error"]["code"] == "stream_outage"
        assert (await http.get(url.replace("/events", "/status"), headers=headers)).status_code == 200
        clock.time += 0.2
        assert len(await read_to_the_end(url, headers)) == 10


async def test_silence_keeps_the_connection_and_says_nothing(bearer: Bearer, paid: Paid) -> None:
    """After one event neither events nor heartbeats come, though the connection stands; the next one is well."""
    clock = Clock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["silence:after=1"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        async with reading(events_url(sandbox, tenant), headers) as stream:
            clock.time += 1.0
            sandbox.cloud.wake()
            event = await stream.next_event()
            assert event is not None
            assert event.id == "1"
            clock.time += 100.0
            sandbox.cloud.wake()
            with trio.move_on_after(0.2) as heard_nothing:
                await stream.next()
            assert heard_nothing.cancelled_caught
        assert len(await read_to_the_end(events_url(sandbox, tenant), headers, after="1")) == 9


async def test_malformed_is_one_bad_event_among_good_ones(bearer: Bearer, paid: Paid) -> None:
    """It carries no id and no JSON, and all ten real events still come."""
    async with serve_sandbox(step_seconds=0, faults=["malformed:after=2"]) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
    assert [event.id for event in events] == ["1", "2", "", *(str(number) for number in range(3, 11))]
    with pytest.raises(json.JSONDecodeError):
        _ = events[2].record


async def test_malformed_for_ever_is_one_per_event(bearer: Bearer, paid: Paid) -> None:
    """Without a limit there is a bad event before each good one, and the stream still ends."""
    async with serve_sandbox(step_seconds=0, faults=["malformed:after=0,times=0"]) as sandbox:
        events = await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))
        assert len([event for event in events if event.id]) == 10


async def test_a_stream_fault_keeps_to_its_path(bearer: Bearer, paid: Paid) -> None:
    """A fault for checkouts leaves tenants' streams alone."""
    async with serve_sandbox(step_seconds=0, faults=["drop-stream:after=0,path=/checkout/"]) as sandbox:
        assert len(await read_to_the_end(events_url(sandbox, paid(sandbox)), bearer(sandbox))) == 10


async def test_provisioning_failure_is_told_by_stream_and_status(
    http: httpx.AsyncClient, bearer: Bearer, paid: Paid
) -> None:
    """After the asked number of steps both say failed, the stream ends, and the tenant never becomes active."""
    async with serve_sandbox(step_seconds=0, faults=["provisioning-failure:after=3"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        events = await read_to_the_end(events_url(sandbox, tenant), headers)
        assert [event.id for event in events] == ["1", "2", "3", "4"]
        assert (events[-1].record["event_type"], events[-1].record["status"]) == ("provisioning_failed", "failed")
        status = (await http.get(f"{sandbox.url}/api/v1/tenants/{tenant.id}/status", headers=headers)).json()["data"]
        assert (status["status"], status["app_url"], status["secrets_url"]) == ("failed", None, None)
        assert status["message"] == events[-1].record["message"]
        me = (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)).json()
        assert me["tenants"][0]["status"] == "pending"


async def test_needs_deploy_stops_at_infrastructure_ready(http: httpx.AsyncClient, bearer: Bearer, paid: Paid) -> None:
    """The stream stays open after the ninth event; the status is neither ready nor failed; the secrets are there."""
    clock = Clock()
    async with serve_sandbox(step_seconds=1.0, now=clock, faults=["needs-deploy"]) as sandbox:
        tenant, headers = paid(sandbox), bearer(sandbox)
        clock.time += 500.0
        async with reading(events_url(sandbox, tenant), headers) as stream:
            events = [await stream.next_event() for _ in range(9)]
            assert events[-1] is not None
            assert events[-1].record["event_type"] == "infrastructure_ready"
            clock.time += 1.0
            sandbox.cloud.wake()
            assert await stream.next() == Event("heartbeat", "", "{}")
        status = (await http.get(f"{sandbox.url}/api/v1/tenants/{tenant.id}/status", headers=headers)).json()["data"]
        assert status["status"] == "infrastructure_ready"
        assert status["app_url"] is None
        assert (await http.get(sandbox.url + status["secrets_url"], headers=headers)).status_code == 200
