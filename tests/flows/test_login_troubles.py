"""A login when things go wrong around it (API, clock, files, terminal): nothing is lost, and it says what to do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse
from systemprompt_cloud.base.errors import EXIT_LOGIN_NEEDED, EXIT_PENDING
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.cli.shared.log import configure_logging
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.testing.scripted import serve_scripted

from tests.support.listening import logging_restored
from tests.support.rehearsal import CLIENT_ATTEMPTS, Rehearsal, open_rehearsal, wait_parked

Captured = pytest.CaptureFixture[str]
DAY = 24 * 60 * 60.0


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    with logging_restored():
        yield


async def run_login(rehearsal: Rehearsal, *, confirm: Callable[[str], Awaitable[bool]] | None = None) -> Outcome:
    """A login in a process of its own."""
    async with rehearsal.open_engine(confirm=confirm) as engine:
        return await (await start_login(engine, rehearsal.login())).wait()


def consent(rehearsal: Rehearsal, decision: str = "approve") -> str:
    """Answer the open consent page by hand; returns where the browser is sent."""
    (page,) = rehearsal.cloud.consents.values()
    return rehearsal.cloud.answer_consent(page, decision, rehearsal.cloud.accounts[0].email)


# --- an API that does not do as it should --------------------------------------------------------------------------


async def test_a_refused_token_leaves_the_old_credentials_alone(tmp_path: Path) -> None:
    """The API does not accept the new token: `failed`, and credentials.json is byte-identical (SECURITY 9)."""
    async with open_rehearsal(tmp_path, faults=["unauthorized:path=/auth/me"]) as rehearsal:
        rehearsal.log_in(person=2)
        before = rehearsal.paths.credentials.read_bytes()
        outcome = await run_login(rehearsal)
        assert outcome.state == "failed"
        assert "401" in outcome.problem or "refused" in outcome.problem
        assert rehearsal.paths.credentials.read_bytes() == before


async def test_a_login_survives_an_api_that_is_down_when_it_starts(tmp_path: Path) -> None:
    """Parked with what to check; the same command goes on with the same flow when the API is back."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        await rehearsal.go_down()
        flow = await start_login(engine, rehearsal.login())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("Network", "requesting_authorization")
        assert parked.value.code == EXIT_PENDING
        assert "connection" in parked.value.recovery_hint
        assert rehearsal.url in parked.value.user_message
        await rehearsal.come_up()
        again = await start_login(engine, rehearsal.login())
        assert again.id == flow.id
        assert (await again.wait()).succeeded


async def test_a_login_survives_an_api_that_goes_down_while_somebody_approves(tmp_path: Path) -> None:
    """The token that came back is kept over the outage: resumed, it is verified without a second visit."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        await rehearsal.wait_shown()
        back = consent(rehearsal)
        await rehearsal.go_down()
        async with httpx.AsyncClient(trust_env=False) as browser:
            assert (await browser.get(back)).status_code == 200
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("Network", "verifying_token")
        await rehearsal.come_up()
        resumed = await engine.resume(flow.id)
        assert (await resumed.wait()).succeeded
        assert len(rehearsal.cloud.consents) == 1


@pytest.mark.parametrize(
    ("path", "state"), [("/auth/oauth", "requesting_authorization"), ("/auth/me", "verifying_token")]
)
async def test_an_api_that_speaks_html_is_said_to(tmp_path: Path, path: str, state: str) -> None:
    """A captive portal's page instead of an answer: parked, the page is called a page, and resuming goes on."""
    fault = f"content-type:path={path}"
    async with open_rehearsal(tmp_path, faults=[fault]) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("ApiError", state)
        assert "HTML page" in parked.value.user_message
        assert parked.value.remedy == Remedy("check_page")
        assert (await (await engine.resume(flow.id)).wait()).succeeded


@pytest.mark.parametrize("path", ["/auth/oauth", "/auth/me"])
async def test_a_short_hiccup_is_not_even_noticed(tmp_path: Path, path: str) -> None:
    """One 503 is tried again by the call itself; the flow never stops."""
    async with open_rehearsal(tmp_path, faults=[f"error:path={path}"]) as rehearsal:
        assert (await run_login(rehearsal)).succeeded


async def test_an_authorize_url_that_must_not_be_opened_is_not(tmp_path: Path) -> None:
    """`http:` on another host: parked before it is shown to anybody (SECURITY 12)."""
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        server.plan(JSONResponse({"authorize_url": "http://evil.example/login"}))
        flow = await start_login(engine, rehearsal.login(api_url=server.url))
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.kind == "UnsafeUrl"
        assert rehearsal.shown == []


async def test_an_html_error_is_not_printed_whole(tmp_path: Path) -> None:
    """A proxy's 403 page becomes a sentence with the status, not a page in the terminal; it ends nothing."""
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        server.plan(HTMLResponse("<!doctype html><html>" + "<p>blocked</p>" * 500, status_code=403))
        parked = await wait_parked(await start_login(engine, rehearsal.login(api_url=server.url)))
        assert parked.state == "requesting_authorization"
        assert "403" in parked.user_message
        assert len(parked.user_message) < 900


@pytest.mark.parametrize("fault", ["error:path=/activity,times=0", "error:status=403,path=/activity"])
async def test_a_report_that_fails_does_not_fail_the_login(tmp_path: Path, fault: str) -> None:
    """The report is a courtesy: logged in all the same."""
    async with open_rehearsal(tmp_path, faults=[fault]) as rehearsal:
        assert (await run_login(rehearsal)).succeeded
        assert rehearsal.cloud.ledger.activities == []


# --- the clock -----------------------------------------------------------------------------------------------------


async def test_a_clock_that_runs_ahead_is_named(tmp_path: Path) -> None:
    """The API accepts a token that has expired by our clock: parked, the clock is named, the login is not lost."""
    shift = [-2 * DAY]
    async with open_rehearsal(tmp_path, wall=lambda: time.time() + shift[0]) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, rehearsal.login())
            with pytest.raises(FlowParked) as parked:
                await flow.wait()
        assert (parked.value.kind, parked.value.code) == ("ClockWrong", EXIT_PENDING)
        assert "clock" in parked.value.user_message
        assert "Set this computer's clock" in parked.value.recovery_hint
        assert not rehearsal.paths.credentials.exists()


async def test_a_refusal_because_of_the_clock_says_so(tmp_path: Path) -> None:
    """A 401 from a server whose clock is hours off ours: the message tells by how much."""
    headers = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    async with open_rehearsal(tmp_path) as rehearsal, serve_scripted() as server, rehearsal.open_engine() as engine:
        server.plan(JSONResponse({"error": {"code": "expired", "message": "no"}}, status_code=401, headers=headers))
        outcome = await (await start_login(engine, rehearsal.login(api_url=server.url), token="a.b.c")).wait()
        assert outcome.state == "failed"
        assert "this computer's clock" in outcome.problem


# --- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["garbage", "a directory"])
async def test_unreadable_credentials_are_set_aside_and_named(tmp_path: Path, there: str, capsys: Captured) -> None:
    """What is no credentials.json does not stop a login; it is kept under another name, which is said (SECURITY 11)."""
    async with open_rehearsal(tmp_path) as rehearsal:
        configure_logging(0, None)
        rehearsal.paths.directory.mkdir(mode=0o700)
        if there == "garbage":
            rehearsal.paths.credentials.write_bytes(b"{ not json")
        else:
            rehearsal.paths.credentials.mkdir()
        assert (await run_login(rehearsal)).succeeded
        (kept,) = rehearsal.paths.directory.glob("credentials.json.unreadable-*")
        assert kept.is_dir() or kept.read_bytes() == b"{ not json"
        assert str(kept) in capsys.readouterr().err
        CloudCredentials.load_and_validate_from_path(rehearsal.paths.credentials)


async def test_credentials_that_cannot_be_written_park_the_login(tmp_path: Path) -> None:
    """A symbolic link in the file's place: parked naming it, and resumable once it is gone, without a second visit."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.paths.credentials.symlink_to(tmp_path / "somewhere else")
        flow = await start_login(engine, rehearsal.login())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert (parked.value.kind, parked.value.state) == ("UnsafeFile", "saving_credentials")
        assert str(rehearsal.paths.credentials) in parked.value.user_message
        rehearsal.paths.credentials.unlink()
        assert (await (await engine.resume(flow.id)).wait()).succeeded
        assert len(rehearsal.cloud.consents) == 1


async def test_an_interrupted_login_accepts_the_tab_that_is_still_open(tmp_path: Path) -> None:
    """The terminal is closed while the browser is open: the next start waits on the same port for the same nonce."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, rehearsal.login())
            await rehearsal.wait_shown()
        back = consent(rehearsal)
        async with httpx.AsyncClient(trust_env=False) as browser:
            with pytest.raises(httpx.ConnectError):
                await browser.get(back)
            async with rehearsal.open_engine() as engine:
                again = await start_login(engine, rehearsal.login())
                assert again.id == flow.id
                await rehearsal.wait_shown(2)
                assert (await browser.get(back)).status_code == 200
                assert (await again.wait()).succeeded
        assert rehearsal.shown[0].url == rehearsal.shown[-1].url
        assert len(rehearsal.cloud.consents) == 1


async def test_a_parked_login_asks_for_a_login_only_when_that_helps(tmp_path: Path) -> None:
    """The exit code of a parked login is 8: logging in is what it is doing already."""
    fault = f"error:path=/auth/me,times={CLIENT_ATTEMPTS}"
    async with open_rehearsal(tmp_path, faults=[fault]) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        with pytest.raises(FlowParked) as parked:
            await flow.wait()
        assert parked.value.code == EXIT_PENDING != EXIT_LOGIN_NEEDED
