"""Redirects of an event stream: followed, a few times, and no credential follows to another place."""

from __future__ import annotations

import httpx
import pytest
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.errors import ApiError, UnsafeUrl
from systemprompt_cloud.io.sse.event_source import EventSource
from systemprompt_cloud.testing.streams import ScriptedTransport, answer, events
from trio.testing import MockClock

HOME = "https://home.test/events"

CREDENTIALS = {"authorization", "cookie", "x-api-key", "x-client-key"}


def leads(location: str, status: int = 307) -> httpx.Response:
    return answer(status, headers={"Location": location})


async def follow(*answers: httpx.Response | int, url: str = HOME) -> ScriptedTransport:
    """What a client that carries every kind of credential sends until the stream says it is done."""
    transport = ScriptedTransport(*answers)
    mine = {"Authorization": "Bearer t0ken", "X-Api-Key": "k3y", "Accept": "overruled"}
    async with (
        httpx.AsyncClient(transport=transport, headers={"X-Client-Key": "k3y"}, cookies={"session": "s"}) as client,
        EventSource.at(client, url, headers=mine, last_event_id="7") as source,
    ):
        async for _ in source:
            pass
    return transport


def carried(request: httpx.Request) -> set[str]:
    return CREDENTIALS & set(request.headers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_origin_keeps_everything(status: int, autojump_clock: MockClock) -> None:
    """Another path of the same place, absolute or relative, gets what the first was sent."""
    transport = await follow(leads("/elsewhere", status), leads("https://home.test:443/third", status), 204)
    assert [request.url.path for request in transport.requests] == ["/events", "/elsewhere", "/third"]
    for request in transport.requests:
        assert carried(request) == CREDENTIALS
        assert (request.headers["accept"], request.headers["last-event-id"]) == ("text/event-stream", "7")


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.test/events", "https://home.test:8443/events", "//evil.test/events", "https://sub.home.test/events"],
)
async def test_no_credential_leaves_the_origin(elsewhere: str, autojump_clock: MockClock) -> None:
    """Another host, port or subdomain gets what any stranger would send, and still gives its events."""
    transport = await follow(leads(elsewhere), events(b"id: 8\ndata: a\n\n"), 204)
    assert [carried(request) for request in transport.requests] == [CREDENTIALS, set(), CREDENTIALS]
    stranger = transport.requests[1]
    assert set(stranger.headers) <= {
        *("host", "accept", "accept-encoding", "cache-control", "last-event-id", "user-agent", "x-request-id")
    }
    assert stranger.headers["last-event-id"] == "7"
    assert str(transport.requests[2].url) == HOME


async def test_credentials_do_not_come_back_with_the_origin(autojump_clock: MockClock) -> None:
    """A stranger that sends us home may not decide where at home our token goes (Fetch 4.4, step 13)."""
    transport = await follow(leads("https://evil.test/"), leads("https://home.test/admin"), leads("/on"), 204)
    assert [carried(request) for request in transport.requests] == [CREDENTIALS, set(), set(), set()]


async def test_basic_credentials_of_the_client_and_of_the_url_stay_at_home(autojump_clock: MockClock) -> None:
    """`auth=` and a user in the URL are credentials, too: kept within the origin, dropped outside."""
    for url, auth in ((HOME, ("ada", "pw")), ("https://ada:pw@home.test/events", None)):
        transport = ScriptedTransport(leads("/b"), leads("https://evil.test/"), 204)
        async with (
            httpx.AsyncClient(transport=transport, auth=auth) as client,
            EventSource.at(client, url) as source,
        ):
            assert [event async for event in source] == []
        sent = [request.headers.get("authorization", "")[:5] for request in transport.requests]
        assert sent == ["Basic", "Basic", ""], url


@pytest.mark.parametrize(
    ("answers", "kind", "said"),
    [
        ([leads(HOME)], ApiError, "in a circle"),
        ([leads("/b"), leads("/c"), leads("/b")], ApiError, "in a circle"),
        ([leads(f"/{n}") for n in range(11)], ApiError, "on and on, 10 times and more"),
        ([leads("http://home.test/events")], UnsafeUrl, "into the clear"),
        ([leads("https://ada@home.test/events")], UnsafeUrl, "a user to log in as"),
        ([leads("ftp://home.test/")], UnsafeUrl, "into the clear"),
        ([leads("https://xn--.test/")], UnsafeUrl, "is not a URL"),
        ([answer(302)], ApiError, "a redirect; redirects are not followed"),
    ],
    ids=["itself", "circle", "many", "downgrade", "user", "scheme", "no host", "nowhere"],
)
async def test_a_redirect_that_must_not_be_followed_is_final(
    answers: list[httpx.Response], kind: type[CloudError], said: str, autojump_clock: MockClock
) -> None:
    """It is refused by name, and not tried again."""
    with pytest.raises(kind, match=said):
        await follow(*answers)


async def test_ten_redirects_are_followed_and_every_reconnection_begins_at_the_start(autojump_clock: MockClock) -> None:
    """The limit itself is allowed; a moved stream may move back."""
    hops = [leads(f"/{n}") for n in range(10)]
    transport = await follow(*hops, events(b"data: a\n\n"), 204)
    assert str(transport.requests[-1].url) == HOME


async def test_http_may_lead_to_http(autojump_clock: MockClock) -> None:
    """What was in the clear from the start is not made worse by a redirect."""
    transport = await follow(leads("http://other.test/"), 204, url="http://home.test/events")
    assert carried(transport.requests[1]) == set()


@pytest.mark.parametrize(
    "reply",
    [
        answer(403, b"no such login: opaque-t0ken"),
        answer(403, headers={"X-Request-Id": "opaque-t0ken"}),
        answer(200, headers={"Content-Type": "opaque-t0ken"}),
        events(headers={"Content-Encoding": "opaque-t0ken"}),
    ],
    ids=["body", "request id", "content type", "content encoding"],
)
async def test_what_a_server_says_back_of_the_token_is_not_shown(
    reply: httpx.Response, autojump_clock: MockClock
) -> None:
    """An error quotes the answer; the token in it is a secret there too (SECURITY 8)."""
    async with (
        httpx.AsyncClient(transport=ScriptedTransport(reply)) as client,
        EventSource.at(client, HOME, headers={"Authorization": "Bearer opaque-t0ken"}) as source,
    ):
        with pytest.raises(ApiError) as refused:
            await anext(source)
    assert "t0ken" not in str(refused.value)
    assert "***" in str(refused.value)
