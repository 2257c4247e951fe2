"""What the activities get from the outside: the right token for the right place, a URL shown before it is opened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.errors import CredentialsCorrupted, NotAuthenticated, TokenExpired, UnsafeUrl
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.loopback.browser import BrowserOutcome
from systemprompt_cloud.sandbox.tokens import Keyring, TokenOffice

NOW = datetime.now(UTC)
HERE = "http://127.0.0.1:4100"


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Directories nobody else uses."""
    directory = tmp_path / ".systemprompt"
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


@pytest.fixture
async def services(paths: CloudPaths) -> AsyncGenerator[Services]:
    """Services without a browser."""
    async with Services(paths, open_browser=None) as services:
        yield services


def save(paths: CloudPaths, *, api_url: str = HERE, age: timedelta = timedelta()) -> str:
    """Store credentials for an API whose token was issued some time ago; returns the token."""
    issued = (NOW - age).timestamp()
    token = TokenOffice(Keyring(0).signing_key, wall=lambda: issued).issue("u", "ada@sandbox.example")
    CloudCredentials(
        api_token=token, api_url=api_url, authenticated_at=NOW, user_email="ada@sandbox.example"
    ).save_to_path(paths.credentials)
    return token


async def test_one_client_for_one_token(services: Services) -> None:
    """The connection pool is shared; another token, or none, gets its own client."""
    first, again = await services.client(HERE, "one"), await services.client(HERE, "one")
    assert first is again
    assert await services.client(HERE, "two") is not first
    assert await services.client(HERE, None) is not first


async def test_two_that_ask_at_once_get_the_same_client(paths: CloudPaths) -> None:
    """Opening a client takes a moment; nobody opens a second one meanwhile."""
    made: list[CloudApiClient] = []

    def make(api_url: str, token: str | None) -> CloudApiClient:
        made.append(CloudApiClient(api_url, token))
        return made[-1]

    async with Services(paths, make_client=make) as services, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(services.client, HERE, "one")
    assert len(made) == 1


async def test_a_sandbox_token_is_not_sent_elsewhere(services: Services, paths: CloudPaths) -> None:
    """Production never sees a local cloud's token (SECURITY 16)."""
    with pytest.raises(NotAuthenticated, match="local cloud"):
        await services.client("https://api.systemprompt.io", save(paths))


async def test_an_api_must_be_https_or_loopback(services: Services) -> None:
    """No token travels in the clear."""
    with pytest.raises(UnsafeUrl):
        await services.client("http://api.systemprompt.io", "token")


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("http://127.0.0.1:4999", HERE),
        ("http://localhost:4100", HERE),
        ("http://127.0.0.1", "https://127.0.0.1"),
        ("http://127.0.0.1", "http://127.0.0.1:0"),
        ("https://api.example", "https://api.example.evil.example"),
    ],
)
async def test_credentials_are_for_one_api(services: Services, paths: CloudPaths, stored: str, asked: str) -> None:
    """Those of another API are not used, and the hint names the API to log in to."""
    save(paths, api_url=stored)
    with pytest.raises(NotAuthenticated, match=stored) as refused:
        services.credentials(asked)
    assert refused.value.remedy == Remedy("log_in_there", {"api_url": asked})


async def test_credentials_that_stand_are_used(services: Services, paths: CloudPaths) -> None:
    """A path behind the same origin makes no difference."""
    token = save(paths)
    assert services.credentials(f"{HERE}/").api_token == token
    assert (await services.api(HERE)) is await services.client(HERE, token)


async def test_why_credentials_do_not_stand(services: Services, paths: CloudPaths) -> None:
    """Missing, expired and unreadable are told apart."""
    with pytest.raises(NotAuthenticated, match="not logged in"):
        services.credentials(HERE)
    save(paths, age=timedelta(days=2))
    with pytest.raises(TokenExpired):
        services.credentials(HERE)
    paths.credentials.write_bytes(b"{")
    with pytest.raises(CredentialsCorrupted, match=r"credentials\.json"):
        services.credentials(HERE)


async def test_a_url_is_checked_shown_and_opened_in_this_order(paths: CloudPaths) -> None:
    """What must not be opened is not even shown."""
    told: list[str] = []

    async def open_browser(url: str) -> BrowserOutcome:
        await trio.lowlevel.checkpoint()
        told.append(f"open {url}")
        return BrowserOutcome(opened=True, reason="")

    def show(purpose: str, url: str, again: bool) -> None:
        told.append(f"{purpose} {url} {again}")

    async with Services(paths, show_url=show, open_browser=open_browser) as services:
        assert (await services.invite("pay", f"{HERE}/pay", again=False)).opened
        assert told == [f"pay {HERE}/pay False", f"open {HERE}/pay"]
        with pytest.raises(UnsafeUrl):
            await services.invite("pay", "http://evil.example/pay", again=False)
        assert len(told) == 2


async def test_a_tab_that_may_be_open_is_not_opened_again(paths: CloudPaths) -> None:
    """A resumed wait shows the URL, says that a tab may be open, and opens none."""
    shown: list[bool] = []

    async def open_browser(_url: str) -> BrowserOutcome:
        raise AssertionError("opened twice")

    def show(_purpose: str, _url: str, again: bool) -> None:
        shown.append(again)

    async with Services(paths, show_url=show, open_browser=open_browser) as services:
        outcome = await services.invite("log in", f"{HERE}/login", again=True)
        assert not outcome.opened
        assert "still be open" in outcome.reason
        assert shown == [True]


async def test_without_a_browser_nothing_is_opened(services: Services) -> None:
    """`--no-browser`: not opened, and the reason says that nobody wanted it."""
    outcome = await services.invite("log in", f"{HERE}/login", again=False)
    assert (outcome.opened, outcome.reason) == (False, "no browser was asked for")
