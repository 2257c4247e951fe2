"""A person at a real browser: the whole onboarding, with every page as Chromium sees it.

What no other test shows: that the pages of the cloud and of the callback listener work together in a browser that has
policies, cookies, an address bar and a history. The person is Selenium, on a thread; everything else is as always.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import trio
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.io.loopback.callback import MAX_HELD, listen_for_callback, new_nonce
from systemprompt_cloud.io.loopback.pages import success_page

from tests.support.rehearsal import open_rehearsal, wait_parked

pytestmark = pytest.mark.browser

# Selenium ships no complete types; `Any` keeps its gaps in one place.
Browser = Any
T = TypeVar("T")


async def in_browser(act: Callable[[], T]) -> T:
    """Selenium blocks, so it waits on a thread."""
    return await trio.to_thread.run_sync(act)


def press(browser: Browser, decision: str, account: str | None = None) -> str:
    """Choose, press, and return the heading of where it led."""
    if account is not None:
        browser.find_element(By.CSS_SELECTOR, f"input[value='{account}']").click()
    button = browser.find_element(By.CSS_SELECTOR, f"button[value={decision}]")
    button.click()
    # A click returns before the next page stands; asking the old one for its heading is a race.
    # Between the two chromedriver may know neither, and says so with an error of its own.
    WebDriverWait(browser, 10, ignored_exceptions=(WebDriverException,)).until(staleness_of(button))
    return heading(browser)


def heading(browser: Browser) -> str:
    return browser.find_element(By.TAG_NAME, "h1").text


def complaints(browser: Browser) -> list[str]:
    """What the console says, policy violations included, beyond the missing icon."""
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


def scrubbed(browser: Browser) -> bool:
    """Whether the address bar shows the callback without what it carried."""
    url: str = browser.current_url
    parts = urlsplit(url)
    return (parts.path, parts.query, parts.fragment) == ("/callback", "", "")


async def test_a_person_goes_from_nothing_to_a_running_tenant(tmp_path: Path, browser: Browser) -> None:
    """Choose an account, approve, pay: the flow is ready, both callback pages are scrubbed, nothing complained."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def log_in(url: str) -> None:
            browser.get(url)
            assert press(browser, "approve", "grace@sandbox.example") == "Almost there"
            assert scrubbed(browser)
            assert complaints(browser) == []

        def pay(url: str) -> None:
            browser.get(url)
            assert press(browser, "pay") == "Checking the payment"
            assert scrubbed(browser)
            (tenant,) = rehearsal.cloud.tenants
            assert browser.find_element(By.ID, "tenant").text == tenant
            assert complaints(browser) == []

        login_url = (await rehearsal.wait_shown()).url
        await in_browser(lambda: log_in(login_url))
        payment_url = (await rehearsal.wait_shown(2)).url
        await in_browser(lambda: pay(payment_url))
        outcome = await flow.wait()
        assert outcome.state == "ready"
        assert outcome.result["user_email"] == "grace@sandbox.example"
        ledger = rehearsal.cloud.ledger
        assert (ledger.checkouts, ledger.tenants, len(ledger.activities)) == (1, 1, 1)


def icons(browser: Browser) -> list[str]:
    """The pictures that can be seen."""
    shapes = browser.find_elements(By.CSS_SELECTOR, "svg g")
    return [str(shape.get_attribute("class")) for shape in shapes if shape.is_displayed()]


async def test_a_pending_payment_turns_to_ready_before_the_persons_eyes(tmp_path: Path, browser: Browser) -> None:
    """The waiting page follows the steps, says that the tenant is ready, and stops asking."""
    async with (
        open_rehearsal(tmp_path, nobody=True, step_seconds=0.3) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def pay(url: str) -> None:
            browser.get(url)
            assert press(browser, "pending") == "Setting up your tenant"
            assert scrubbed(browser)
            WebDriverWait(browser, 10, poll_frequency=0.05).until(lambda _: "Setting up" not in heading(browser))
            assert heading(browser) == "Your tenant is ready"
            assert browser.title == "Your tenant is ready"
            # On a busy machine the next message may be there already.
            text = browser.find_element(By.ID, "text").text
            assert text in {"Infrastructure ready", "Your sandbox tenant is ready"}
            assert icons(browser) == ["i-good"]

        url = (await rehearsal.wait_shown()).url
        await in_browser(lambda: pay(url))
        assert (await flow.wait()).state == "ready"
        # The listener changes hands between two states; a question in that instant is refused, and asked again.
        refused = [said for said in await in_browser(lambda: complaints(browser)) if "CONNECTION" not in said]
        assert refused == []


async def test_a_pending_payment_that_fails_says_so_on_the_page(tmp_path: Path, browser: Browser) -> None:
    """The waiting page turns to the failure, in the server's words; the flow pauses, because it is paid."""
    faults = ["provisioning-failure:after=5"]
    async with (
        open_rehearsal(tmp_path, nobody=True, step_seconds=0.3, faults=faults) as rehearsal,
        rehearsal.open_engine() as engine,
    ):
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def pay(url: str) -> str:
            browser.get(url)
            press(browser, "pending")
            WebDriverWait(browser, 10, poll_frequency=0.05).until(lambda _: heading(browser) == "Setting up failed")
            assert icons(browser) == ["i-bad"]
            return browser.find_element(By.ID, "text").text

        url = (await rehearsal.wait_shown()).url
        assert "did not start" in await in_browser(lambda: pay(url))
        said = (await wait_parked(flow)).user_message
        assert said.startswith("paid, and the tenant")
        assert "did not start" in said


@pytest.mark.parametrize(
    ("decision", "said", "end"), [("deny", "Not logged in", "denied"), ("approve", "Almost there", "authenticated")]
)
async def test_the_login_pages(tmp_path: Path, browser: Browser, decision: str, said: str, end: str) -> None:
    """The page says what became of it, takes the query out of the address bar, and runs nothing it may not."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())

        def decide(url: str) -> None:
            browser.get(url)
            assert press(browser, decision) == said
            assert scrubbed(browser)
            assert browser.find_element(By.TAG_NAME, "main").value_of_css_property("border-radius") == "16px"
            assert complaints(browser) == []

        url = (await rehearsal.wait_shown()).url
        await in_browser(lambda: decide(url))
        assert (await flow.wait()).state == end


async def test_a_declined_payment_is_checked(tmp_path: Path, browser: Browser) -> None:
    """The page says so: that nothing was paid is only the browser's word, so the flow asks, and pauses."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def decline(url: str) -> str:
            browser.get(url)
            return press(browser, "decline")

        url = (await rehearsal.wait_shown()).url
        assert await in_browser(lambda: decline(url)) == "Checking the payment"
        assert "the API knows of no payment" in (await wait_parked(flow)).user_message


async def test_reloading_the_callback_page_does_no_harm(tmp_path: Path, browser: Browser) -> None:
    """After success a reload, and the way back through the history, disturb nothing and log in nobody else."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def log_in_and_reload(url: str) -> None:
            browser.get(url)
            press(browser, "approve")
            # Nobody listens there any more: the browser says so in its own words, and to Selenium as an error.
            with suppress(WebDriverException):
                browser.refresh()
            with suppress(WebDriverException):
                browser.back()

        url = (await rehearsal.wait_shown()).url
        await in_browser(lambda: log_in_and_reload(url))
        payment = await rehearsal.wait_shown(2)
        assert flow.state == "checking_out"
        assert len(rehearsal.cloud.ledger.activities) == 1

        def pay() -> str:
            browser.get(payment.url)
            return press(browser, "pay")

        assert await in_browser(pay) == "Checking the payment"
        assert (await flow.wait()).state == "ready"
        assert rehearsal.cloud.ledger.tenants == 1


async def test_a_tab_left_open_over_an_interruption_completes_the_login(tmp_path: Path, browser: Browser) -> None:
    """The terminal is closed while the consent page is open; the command runs again, and the same tab is accepted."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await start_login(engine, rehearsal.login())
            url = (await rehearsal.wait_shown()).url
            await in_browser(lambda: browser.get(url))
        async with rehearsal.open_engine() as engine:
            again = await start_login(engine, rehearsal.login())
            await rehearsal.wait_shown(2)
            assert await in_browser(lambda: press(browser, "approve")) == "Almost there"
            assert again.id == flow.id
            assert (await again.wait()).succeeded


# --- pages that ask to be reloaded: only the address bar still holds what the browser brought -------------------------


async def test_a_callback_that_could_not_be_recorded_is_taken_by_a_reload(tmp_path: Path, browser: Browser) -> None:
    """The journal refuses the callback, the page says to reload; mended and gone on with, the same tab logs in."""
    refusing = """CREATE TRIGGER refusing BEFORE INSERT ON events WHEN NEW.name = 'CallbackReceived'
        BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"""

    def journal(statement: str) -> None:
        with closing(sqlite3.connect(rehearsal.paths.journal)) as connection:
            connection.execute(statement)
            connection.commit()

    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        url = (await rehearsal.wait_shown()).url
        journal(refusing)

        def come_back() -> None:
            browser.get(url)
            assert press(browser, "approve") == "Not recorded yet"
            assert "reload this page" in browser.find_element(By.ID, "text").text
            assert "access_token" in urlsplit(str(browser.current_url)).query
            assert [said for said in complaints(browser) if "503" not in said] == []

        def reload() -> None:
            browser.refresh()
            assert heading(browser) == "Almost there"
            assert scrubbed(browser)
            assert complaints(browser) == []

        await in_browser(come_back)
        with pytest.raises(FlowParked):
            await flow.wait()
        journal("DROP TRIGGER refusing")
        again = await engine.resume(flow.id)
        await rehearsal.wait_shown(2)
        await in_browser(reload)
        assert (await again.wait()).succeeded


async def test_a_callback_that_met_a_closing_listener_is_taken_by_a_reload(browser: Browser) -> None:
    """Interrupted while the flow looks at it: the page keeps its address, and the next listener takes it."""
    nonce = new_nonce()
    headings: list[str] = []

    async def load(act: Callable[[], None]) -> None:
        headings.append(await in_browser(lambda: (act(), heading(browser))[1]))

    async with trio.open_nursery() as nursery, listen_for_callback(port=0, nonce=nonce) as listener:
        address = f"{listener.redirect_uri}&access_token=t"
        nursery.start_soon(load, lambda: browser.get(address))
        await listener.wait_hit()
    assert browser.current_url == address
    async with listen_for_callback(port=listener.port, nonce=nonce) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(load, browser.refresh)
        hit = await listener.wait_hit()
        assert hit.params == {"access_token": "t"}
        hit.accept(success_page("Done", "It worked."))
    assert headings == ["Not recorded", "Done"]
    assert scrubbed(browser)


async def test_the_tab_too_many_is_taken_by_a_reload(browser: Browser) -> None:
    """With as many tabs held as may be, one more is told to reload; when the others are gone its reload is taken."""
    headings: list[str] = []

    async def load(act: Callable[[], None]) -> None:
        headings.append(await in_browser(lambda: (act(), heading(browser))[1]))

    async with listen_for_callback(port=0, nonce=None) as listener, trio.open_nursery() as nursery:
        held = [await trio.open_tcp_stream("127.0.0.1", listener.port) for _ in range(MAX_HELD)]
        for number, stream in enumerate(held):
            head = f"GET /callback?access_token={number} HTTP/1.1\r\nHost: 127.0.0.1:{listener.port}\r\n\r\n"
            await stream.send_all(head.encode())
        hits = [await listener.wait_hit() for _ in held]
        await load(lambda: browser.get(f"{listener.redirect_uri}?access_token=mine"))
        for hit in hits:
            hit.refuse("not you")
        for stream in held:
            assert await stream.receive_some()
            await stream.aclose()
        nursery.start_soon(load, browser.refresh)
        hit = await listener.wait_hit()
        assert hit.params == {"access_token": "mine"}
        hit.accept(success_page("Done", "It worked."))
    assert headings == ["Too many tabs at once", "Done"]
