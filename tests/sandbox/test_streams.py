"""Tests of sandbox/streams.py: what the two event streams tell, over real HTTP."""

from __future__ import annotations

from itertools import count

import httpx
import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.streams import last_event_id
from systemprompt_cloud.testing.clock import WorldClock

from tests.support.bare_stream import Event, read_to_the_end, reading

from .conftest import Bearer, Buy, Paid, events_url


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


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 0.5, 0.7, 1.0, 1.3])
async def test_a_step_that_becomes_due_between_two_looks_is_told(bearer: Bearer, paid: Paid, seconds: float) -> None:
    """However the clock moves between any two readings of it, the stream ends after the last step and not before."""
    readings = count()
    async with (
        serve_sandbox(step_seconds=1.0, now=lambda: next(readings) * seconds) as sandbox,
        reading(events_url(sandbox, paid(sandbox)), bearer(sandbox)) as stream,
    ):
        with trio.fail_after(30):
            events = await stream.rest()
    assert [event.id for event in events if event.id] == [str(number) for number in range(1, 11)]


async def test_a_checkouts_stream_lives_before_the_payment_and_tells_after_it(bearer: Bearer, buy: Buy) -> None:
    """Nothing but signs of life until somebody pays; then CheckoutEvents, all named `provisioning`."""
    clock = WorldClock()
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
    clock = WorldClock()
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
        with trio.fail_after(60):  # and the stream would have gone on for 1,000 s
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
    clock = WorldClock()
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
