"""A login keeps its promises against a real local cloud, over real sockets, with a real journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from starlette.responses import JSONResponse
from systemprompt_cloud.base.errors import EXIT_PENDING
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.loopback.browser import BrowserOutcome
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.machines.login import LoginContext
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.testing.scripted import serve_scripted

from tests.support.rehearsal import Rehearsal, open_rehearsal, wait_for_state

Captured = pytest.CaptureFixture[str]
DAY = 24 * 60 * 60.0


async def run_login(rehearsal: Rehearsal, *, confirm: Callable[[str], Awaitable[bool]] | None = None) -> Outcome:
    """A login in a process of its own."""
    async with rehearsal.open_engine(confirm=confirm) as engine:
        return await (await start_login(engine, rehearsal.login())).wait()


def answer(yes: bool) -> Callable[[str], Awaitable[bool]]:
    """A person who gives this answer to any question."""

    async def confirm(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return yes

    return confirm


# --- how it ends ---------------------------------------------------------------------------------------------------


async def test_a_person_who_approves_is_logged_in(tmp_path: Path) -> None:
    """The credentials of the chosen account are on disk, 0600, the API was told, and nothing is left in the vault."""
    browser = ScriptedBrowser(account="grace@sandbox.example", patience=5)
    async with open_rehearsal(tmp_path, browser=browser) as rehearsal:
        outcome = await run_login(rehearsal)
        assert (outcome.state, outcome.verdict) == ("authenticated", "success")
        assert outcome.result["user_email"] == "grace@sandbox.example"
        saved = CloudCredentials.load_and_validate_from_path(rehearsal.paths.credentials)
        assert (saved.user_email, saved.api_url) == ("grace@sandbox.example", rehearsal.url)
        assert rehearsal.paths.credentials.stat().st_mode & 0o777 == 0o600
        assert [told["event"] for told in rehearsal.cloud.ledger.activities] == ["cloud_login"]
        assert not [path for path in rehearsal.paths.vault.rglob("*") if path.is_file()]


async def test_the_url_is_shown_before_a_browser_is_opened(tmp_path: Path) -> None:
    """Whoever has no browser here reads the URL in the terminal, and reads it first."""
    async with open_rehearsal(tmp_path) as rehearsal:
        order: list[str] = []

        async def open_browser(url: str) -> BrowserOutcome:
            order.append("opened")
            return await rehearsal.open_tab(url)

        def show(purpose: str, _url: str, _again: bool) -> None:
            order.append(purpose)

        async with rehearsal.open_engine(open_browser=open_browser, show_url=show) as engine:
            assert (await (await start_login(engine, rehearsal.login())).wait()).succeeded
        assert order == ["log in", "opened"]


async def test_without_a_browser_the_printed_url_is_enough(tmp_path: Path) -> None:
    """`--no-browser`: the login waits, and whoever opens the shown URL completes it."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine(open_browser=None) as engine:
        flow = await start_login(engine, rehearsal.login())
        await rehearsal.open_tab((await rehearsal.wait_shown()).url)
        assert (await flow.wait()).succeeded
        assert "no browser was asked for" in [change.message for change in flow.history]


async def test_a_person_who_refuses_is_not_logged_in(tmp_path: Path) -> None:
    """`denied`, with the provider's words; no credentials, and the browser says so, too."""
    async with open_rehearsal(tmp_path, browser=ScriptedBrowser(consent="deny", patience=5)) as rehearsal:
        outcome = await run_login(rehearsal)
        assert (outcome.state, outcome.verdict) == ("denied", "failure")
        assert "Login denied" in outcome.problem
        assert not rehearsal.paths.credentials.exists()
        assert "Not logged in" in (await rehearsal.wait_tab()).page


async def test_nobody_comes(tmp_path: Path) -> None:
    """`timed_out` when nobody came back in time, saying how long that was."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await (await start_login(engine, rehearsal.login(timeout=0.2))).wait()
        assert outcome.state == "timed_out"
        assert "within 0.2 s" in outcome.problem


async def test_a_login_can_be_cancelled_while_it_waits(tmp_path: Path) -> None:
    """`cancelled`, with the reason; the port is free again, and the next start is a new login."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        await wait_for_state(flow, "awaiting_callback")
        await flow.cancel("changed my mind")
        outcome = await flow.wait()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("cancelled", "cancelled", "changed my mind")
        context = flow.context
        assert isinstance(context, LoginContext)
        bind_loopback(context.port).close()
        again = await start_login(engine, rehearsal.login())
        assert again.id != flow.id


async def test_the_same_login_started_twice_is_one_flow(tmp_path: Path) -> None:
    """Starting while one waits goes on with that one."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        first = await start_login(engine, rehearsal.login())
        second = await start_login(engine, rehearsal.login())
        assert first.id == second.id


async def test_a_token_that_is_there_already_needs_no_browser(tmp_path: Path) -> None:
    """A token handed in is checked, saved and reported; the API is not asked for a URL."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        account = rehearsal.cloud.accounts[1]
        token = rehearsal.cloud.tokens.issue(account.id, account.email)
        outcome = await (await start_login(engine, rehearsal.login(), token=token)).wait()
        assert outcome.succeeded
        assert CloudCredentials.load_from_path(rehearsal.paths.credentials).api_token == token
        assert rehearsal.shown == []
        assert rehearsal.cloud.consents == {}


async def test_a_refused_handed_in_token_fails(tmp_path: Path) -> None:
    """A token the API does not know ends the login, and nothing is saved."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        outcome = await (await start_login(engine, rehearsal.login(), token="nobody.knows.this")).wait()
        assert outcome.state == "failed"
        assert not rehearsal.paths.credentials.exists()


# --- the port ------------------------------------------------------------------------------------------------------


async def test_a_busy_port_ends_the_login_before_any_browser_opens(tmp_path: Path) -> None:
    """`failed` naming the port and the way out; nobody was shown a URL, and with the port free a new start works."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        with bind_loopback(0) as taken:
            port = int(taken.getsockname()[1])
            outcome = await (await start_login(engine, rehearsal.login(port=port))).wait()
        assert outcome.state == "failed"
        assert str(port) in outcome.problem
        assert "choose another port" in outcome.problem
        assert rehearsal.shown == []
        assert rehearsal.cloud.consents == {}
        assert (await (await start_login(engine, rehearsal.login(port=port))).wait()).succeeded


async def test_two_logins_right_after_each_other_share_a_port(tmp_path: Path) -> None:
    """Connections of the first in TIME_WAIT do not keep the second from binding (SECURITY 2)."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        with bind_loopback(0) as sock:
            port = int(sock.getsockname()[1])
        for _ in range(2):
            assert (await (await start_login(engine, rehearsal.login(port=port))).wait()).succeeded


# --- an API that takes no query ------------------------------------------------------------------------------------


async def test_a_refused_redirect_uri_names_the_way_out(tmp_path: Path) -> None:
    """An API that answers 400 to our redirect URI: `failed`, its words, and a code."""
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        refusal = {"error": {"code": "bad_redirect", "message": "redirect_uri must not have a query"}}
        server.plan(JSONResponse(refusal, status_code=400))
        outcome = await (await start_login(engine, rehearsal.login(api_url=server.url))).wait()
        assert outcome.state == "failed"
        assert "bad_redirect: redirect_uri must not have a query" in outcome.problem
        assert outcome.code == "redirect_uri_refused"
        assert "?state=" in server.requests[0].query_params["redirect_uri"]


async def test_an_unbound_login_asks_before_it_saves(tmp_path: Path) -> None:
    """Yes: the account is saved. The redirect URI had no query, and the question names the account."""
    async with open_rehearsal(tmp_path) as rehearsal:
        questions: list[str] = []

        async def confirm(question: str) -> bool:
            assert not rehearsal.paths.credentials.exists()
            questions.append(question)
            await trio.lowlevel.checkpoint()
            return True

        async with rehearsal.open_engine(confirm=confirm) as engine:
            outcome = await (await start_login(engine, rehearsal.login(bound=False))).wait()
        assert outcome.succeeded
        assert "ada@sandbox.example" in questions[0]
        (page,) = rehearsal.cloud.consents.values()
        assert "state=" not in (page.redirect_uri or "")


async def test_an_account_that_is_not_mine_is_not_saved(tmp_path: Path) -> None:
    """No: `denied`, naming the account, and nothing is written."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine(confirm=answer(False)) as engine:
        outcome = await (await start_login(engine, rehearsal.login(bound=False))).wait()
        assert outcome.state == "denied"
        assert "ada@sandbox.example" in outcome.problem
        assert not rehearsal.paths.credentials.exists()


async def test_an_unbound_login_waits_for_somebody_who_can_be_asked(tmp_path: Path) -> None:
    """Nobody to ask: parked, still pending; resumed where somebody says yes, it goes on without a new browser visit."""
    async with open_rehearsal(tmp_path) as rehearsal:
        context = rehearsal.login(bound=False)
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, context)
            with pytest.raises(FlowParked) as parked:
                await flow.wait()
            assert (parked.value.kind, parked.value.code) == ("AccountNotConfirmed", EXIT_PENDING)
            assert parked.value.remedy == Remedy("confirm_account")
        assert not rehearsal.paths.credentials.exists()
        async with rehearsal.open_engine(confirm=answer(True)) as engine:
            again = await start_login(engine, context)
            assert again.id == flow.id
            assert (await again.wait()).succeeded
        assert len(rehearsal.cloud.consents) == 1
