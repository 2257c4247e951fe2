"""Strangers at the door while a login waits: it goes on waiting, and then succeeds with the right callback.

SECURITY.md lines 1 to 5 and 8, end to end: a real flow, a real listener, a real socket, bytes as a stranger sends them.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
import trio
from systemprompt_cloud.cli.shared.log import configure_logging
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.machines.login import LoginContext
from systemprompt_cloud.sandbox import views
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.listening import logging_restored
from tests.support.rehearsal import Rehearsal, open_rehearsal, wait_for_change


class Waiting:
    """A login that waits for its browser.

    Attributes:
        rehearsal: Where it runs.
        flow: It.
        port: Where it listens.
        right: The right way back, with a good token.
    """

    def __init__(self, rehearsal: Rehearsal, flow: Flow, right: str) -> None:
        context = flow.context
        assert isinstance(context, LoginContext)
        self.rehearsal = rehearsal
        self.flow = flow
        self.port = context.port
        self.right = right

    @property
    def query(self) -> str:
        return urlsplit(self.right).query

    async def send(self, head: str) -> bytes:
        """Send a request's head as it is and return the beginning of the answer."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(head.replace("\n", "\r\n").encode())
            with trio.fail_after(5):
                return bytes(await stream.receive_some())

    def head(self, target: str, *, method: str = "GET", host: str | None = None, more: str = "") -> str:
        """A request's head."""
        return f"{method} {target} HTTP/1.1\nHost: {host or f'127.0.0.1:{self.port}'}\n{more}\n"


@asynccontextmanager
async def waiting_login(directory: Path) -> AsyncGenerator[Waiting]:
    """A login that waits, whose consent page was approved by a person whose browser has not come back yet."""
    async with open_rehearsal(directory, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        await rehearsal.wait_shown()
        (page,) = rehearsal.cloud.consents.values()
        right = rehearsal.cloud.answer_consent(page, "approve", rehearsal.cloud.accounts[0].email)
        yield Waiting(rehearsal, flow, right)


async def assert_unaffected(waiting: Waiting, before: int) -> None:
    """The flow stands where it stood, its history has not grown, and the right callback completes it."""
    assert waiting.flow.state == "awaiting_callback"
    assert len(waiting.flow.history) == before
    async with httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.get(waiting.right)).status_code == 200
    assert (await waiting.flow.wait()).succeeded


async def settled(waiting: Waiting) -> int:
    """How long the history is once the browser question is settled: nothing of its own comes after that."""
    while not any(change.event == "BrowserNotOpened" for change in waiting.flow.history):
        await trio.lowlevel.checkpoint()
    return len(waiting.flow.history)


Stranger = Callable[[Waiting], str]

STRANGERS: dict[str, tuple[Stranger, bytes]] = {
    "no nonce": (lambda w: w.head("/callback?access_token=evil"), b"400"),
    "a wrong nonce": (lambda w: w.head(f"/callback?access_token=evil&state={'x' * 43}"), b"400"),
    "an error without the nonce": (lambda w: w.head("/callback?error=access_denied"), b"400"),
    "an error with a wrong nonce": (lambda w: w.head("/callback?error=access_denied&state=guess"), b"400"),
    "the nonce twice": (lambda w: w.head(f"/callback?{w.query}&state=x"), b"400"),
    "a foreign Host": (lambda w: w.head(f"/callback?{w.query}", host=f"evil.example:{w.port}"), b"4"),
    "a Host without our port": (lambda w: w.head(f"/callback?{w.query}", host="127.0.0.1"), b"4"),
    "a foreign Origin": (lambda w: w.head(f"/callback?{w.query}", more="Origin: https://evil.example\n"), b"403"),
    "an image of a page": (lambda w: w.head(f"/callback?{w.query}", more="Sec-Fetch-Dest: image\n"), b"403"),
    "HEAD": (lambda w: w.head(f"/callback?{w.query}", method="HEAD"), b"4"),
    "POST": (lambda w: w.head(f"/callback?{w.query}", method="POST", more="Content-Length: 0\n"), b"4"),
    "OPTIONS": (lambda w: w.head(f"/callback?{w.query}", method="OPTIONS"), b"4"),
    "favicon": (lambda w: w.head("/favicon.ico"), b"404"),
    "another path": (lambda w: w.head(f"/callback/more?{w.query}"), b"404"),
    "the status page of a checkout": (lambda w: w.head("/status/tenant"), b"404"),
    "far too long": (lambda w: w.head(f"/callback?{w.query}&more={'x' * 200_000}"), b"4"),
    "neither token nor error": (
        lambda w: w.head(f"/callback?state={quote(parse_qs(w.query)['state'][0])}"),
        b"503",
    ),
    "no HTTP at all": (lambda _: "\x16\x03\x01\x02\x00\x01\x00\n\n", b"400"),
}


@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_does_not_disturb_a_waiting_login(tmp_path: Path, name: str) -> None:
    """The stranger is refused, nothing is recorded, and the right callback still logs in."""
    make, status = STRANGERS[name]
    async with waiting_login(tmp_path) as waiting:
        before = await settled(waiting)
        answer = await waiting.send(make(waiting))
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:60]
        await assert_unaffected(waiting, before)


async def test_half_open_connections_do_not_disturb_a_waiting_login(tmp_path: Path) -> None:
    """Connections that never finish their request keep neither the callback out nor the flow from going on."""
    async with waiting_login(tmp_path) as waiting:
        before = await settled(waiting)
        streams = [await trio.open_tcp_stream("127.0.0.1", waiting.port) for _ in range(5)]
        try:
            for stream in streams[1:]:
                await stream.send_all(b"GET /callback?access_token=ev")
            with trio.fail_after(5):
                await assert_unaffected(waiting, before)
        finally:
            for stream in streams:
                await stream.aclose()


async def test_a_callback_after_the_end_meets_nobody(tmp_path: Path) -> None:
    """The port is closed once the login is over: a replay is refused by the system itself (SECURITY 1, 3)."""
    async with waiting_login(tmp_path) as waiting, httpx.AsyncClient(trust_env=False) as browser:
        assert (await browser.get(waiting.right)).status_code == 200
        await waiting.flow.wait()
        with pytest.raises(httpx.ConnectError):
            await browser.get(waiting.right)


async def test_nobody_listens_before_the_wait(tmp_path: Path) -> None:
    """The port is refused until the flow awaits its callback, and only 127.0.0.1 answers then (SECURITY 1)."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        await rehearsal.wait_shown()
        context = flow.context
        assert isinstance(context, LoginContext)
        for other in ("127.0.0.2", "::1"):
            with pytest.raises(OSError, match=r"."):
                await trio.open_tcp_stream(other, context.port)


async def test_a_page_is_refused_when_the_flow_was_cancelled_first(tmp_path: Path) -> None:
    """A browser that comes back just after a cancel is not told that it is logged in."""
    async with waiting_login(tmp_path) as waiting:
        await waiting.flow.cancel()
        async with httpx.AsyncClient(trust_env=False) as browser:
            with pytest.raises(httpx.ConnectError):
                await browser.get(waiting.right)
        assert not waiting.rehearsal.paths.credentials.exists()


# --- the right browser with an answer of no use (SECURITY 3) -------------------------------------------------------

USELESS = {
    "": "neither a token nor an error",
    "&error_description=Not+today": "no token, but a message: Not today",
    "&access_token=a&access_token=b": "twice",
    "&access_token=%ff": "damaged",
    "&access_token=%C3%A9": "visible ASCII",
}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the terminal shows while the command goes on."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("more", USELESS)
async def test_an_answer_of_the_right_browser_that_cannot_be_used_is_shown_in_the_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, more: str
) -> None:
    """The person waits at the terminal, and may never look at the tab again."""
    async with waiting_login(tmp_path) as waiting:
        before = await settled(waiting)
        nonce = quote(parse_qs(waiting.query)["state"][0])
        answer = await waiting.send(waiting.head(f"/callback?state={nonce}{more}"))
        assert answer.startswith(b"HTTP/1.1 503"), answer[:60]
        (said,) = warnings_of(caplog)
        assert said.startswith("the browser came back, but its answer cannot be used: ")
        assert USELESS[more] in said
        await assert_unaffected(waiting, before)


async def test_a_form_of_the_right_browser_is_shown_in_the_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused before it is looked at, too: the person would wait out the time otherwise."""
    async with waiting_login(tmp_path) as waiting:
        before = await settled(waiting)
        form = waiting.head(f"/callback?{waiting.query}", method="POST", more="Origin: null\nContent-Length: 0\n")
        assert (await waiting.send(form)).startswith(b"HTTP/1.1 403")
        (said,) = warnings_of(caplog)
        assert said.startswith("the browser came back, but its answer cannot be used: Another site sent it with a form")
        assert waiting.query not in said
        await assert_unaffected(waiting, before)


async def test_a_denial_ends_the_login_however_damaged_its_description_is(tmp_path: Path) -> None:
    """`error` with the right nonce is the provider's answer; the description is only shown."""
    async with waiting_login(tmp_path) as waiting:
        nonce = quote(parse_qs(waiting.query)["state"][0])
        await waiting.send(waiting.head(f"/callback?state={nonce}&error=access_denied&error_description=No%E9%1b"))
        with trio.fail_after(5):
            outcome = await waiting.flow.wait()
        assert outcome.state == "denied"
        assert isinstance(waiting.flow.context, LoginContext)
        assert waiting.flow.context.problem == "No\ufffd\ufffd"


async def test_without_a_nonce_only_the_page_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Any program on this computer could fill the terminal otherwise."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login(bound=False))
        await rehearsal.wait_shown()
        waiting = Waiting(rehearsal, flow, "")
        for query in ("", "?error=a&error=b"):
            assert b" 200 " not in (await waiting.send(waiting.head(f"/callback{query}")))[:20]
        assert warnings_of(caplog) == []
        await flow.cancel()


# --- where secrets stand, and where they do not --------------------------------------------------------------------


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    with logging_restored():
        yield


KEPT_ON_PURPOSE = {"credentials.json", "tenants.json"}


def files_with(root: Path, secrets: dict[str, str], *, besides: Path | None = None) -> list[str]:
    """Which secret stands in which file under a directory; `besides` is left out, and so are the two stores."""
    found: list[str] = []
    for path in root.rglob("*"):
        if path.is_file() and path.name not in KEPT_ON_PURPOSE and not (besides and path.is_relative_to(besides)):
            content = path.read_bytes()
            for name, value in secrets.items():
                assert value, f"the test knows no {name}"
                if any(form.encode() in content for form in {value, quote(value, safe="")}):
                    found.append(f"{name} in {path.name}")
    return found


def nonce_in(url: str) -> str:
    (nonce,) = parse_qs(urlsplit(url).query)["state"]
    return nonce


async def opened(rehearsal: Rehearsal, count: int) -> str:
    """Wait until so many URLs were shown, and give the last one to the person."""
    shown = await rehearsal.wait_shown(count)
    await rehearsal.open_tab(shown.url)
    return shown.url


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("payment", ["pay", "pending"])
async def test_no_secret_stands_where_it_should_not(tmp_path: Path, payment: str) -> None:
    """Through a whole onboarding, logged at debug: every secret is in the vault while needed, and nowhere else."""
    log = tmp_path / "debug.log"
    configure_logging(2, log)
    person = ScriptedBrowser(payment="pay" if payment == "pay" else "pending", patience=5)
    async with open_rehearsal(tmp_path, browser=person, faults=["drop-stream:after=2", "malformed"]) as rehearsal:
        cloud, vault = rehearsal.cloud, rehearsal.paths.vault
        middles = tmp_path / "middles"

        async def scan(name: str, secrets: dict[str, str]) -> None:
            # A copy first: what stands in the write-ahead log at this moment may be gone a moment later.
            middle = middles / name
            await trio.to_thread.run_sync(lambda: shutil.copytree(rehearsal.paths.directory, middle))
            assert (middle / "journal.sqlite3-wal").stat().st_size > 0
            assert files_with(middle, secrets, besides=middle / vault.name) == []
            kept = "".join(path.read_text() for path in (middle / vault.name).iterdir())
            assert [key for key, value in secrets.items() if value not in kept] == []

        async with rehearsal.open_engine(open_browser=None) as engine:
            flow = await start_onboarding(engine, rehearsal.onboarding(external_db=True))
            login_url = (await rehearsal.wait_shown()).url
            (page,) = cloud.consents.values()
            secrets = {"login nonce": nonce_in(page.redirect_uri or ""), "authorize URL": login_url}
            await scan("login", secrets)
            await opened(rehearsal, 1)
            pay_url = (await rehearsal.wait_shown(2)).url
            (checkout,) = cloud.checkouts.values()
            order = {"checkout nonce": nonce_in(checkout.redirect_uri or ""), "checkout URL": pay_url}
            await scan("checkout", order)
            await opened(rehearsal, 2)
            outcome = await flow.wait()
            assert outcome.succeeded
        assert not [path for path in vault.rglob("*") if path.is_file()]
        (tenant,) = cloud.tenants.values()
        given = views.tenant_secrets(cloud, tenant)
        token = httpx.Response(200, content=rehearsal.paths.credentials.read_bytes()).json()["api_token"]
        secrets |= order | {
            "token": token,
            "database URL": given.database_url,
            "outside database URL": views.database_url(cloud, tenant, external=True),
            "database password": cloud.keys.derive("database:" + tenant.id, 24),
            "sync token": given.sync_token or "",
            "JWT secret": given.jwt_secret,
        }
        assert log.stat().st_size > 0
        assert "answered 200" in log.read_text()
        assert files_with(tmp_path, secrets, besides=middles) == []


@pytest.mark.usefixtures("own_logging")
async def test_a_failure_does_not_quote_a_secret(tmp_path: Path) -> None:
    """What a parked flow says, in the log, in its history and in the journal, holds no token."""
    log = tmp_path / "debug.log"
    configure_logging(2, log)

    async def broken(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        token = VaultFiles(rehearsal.paths.vault).get(flow.id, "vault:access_token")
        raise RuntimeError(f"a bug that quotes {token}")

    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine(confirm=broken) as engine:
        flow = await start_login(engine, rehearsal.login(bound=False))
        parked = await wait_for_change(flow, lambda change: change.kind == "paused")
        (page,) = rehearsal.cloud.consents.values()
        (token,) = parse_qs(urlsplit(page.location or "").query)["access_token"]
        assert "a bug that quotes ***" in parked.message
        assert "RuntimeError" in log.read_text()
        assert files_with(tmp_path, {"token": token}, besides=rehearsal.paths.vault) == []
