"""A person at a real browser: the whole onboarding, with every page as Chromium sees it.

What no other test shows: that the pages of the cloud and of the callback listener work together in a browser that has
policies, cookies, an address bar and a history. The person is Selenium, on a thread; everything else is as always.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import trio
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.testing.fixtures import open_rehearsal

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
            assert press(browser, "pay") == "Paid"
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
            assert browser.find_element(By.ID, "text").text == "Infrastructure ready"

        url = (await rehearsal.wait_shown()).url
        await in_browser(lambda: pay(url))
        assert (await flow.wait()).state == "ready"
        # The listener changes hands between two states; a question in that instant is refused, and asked again.
        refused = [said for said in await in_browser(lambda: complaints(browser)) if "CONNECTION" not in said]
        assert refused == []


async def test_a_pending_payment_that_fails_says_so_on_the_page(tmp_path: Path, browser: Browser) -> None:
    """The waiting page turns to the failure, in the server's words."""
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
            return browser.find_element(By.ID, "text").text

        url = (await rehearsal.wait_shown()).url
        assert "did not start" in await in_browser(lambda: pay(url))
        assert (await flow.wait()).state == "failed"


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


async def test_a_declined_payment_says_so(tmp_path: Path, browser: Browser) -> None:
    """The page and the flow agree."""
    async with open_rehearsal(tmp_path, nobody=True) as rehearsal, rehearsal.open_engine() as engine:
        rehearsal.log_in()
        flow = await start_onboarding(engine, rehearsal.onboarding())

        def decline(url: str) -> str:
            browser.get(url)
            return press(browser, "decline")

        url = (await rehearsal.wait_shown()).url
        assert await in_browser(lambda: decline(url)) == "Not paid"
        assert (await flow.wait()).state == "denied"


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

        assert await in_browser(pay) == "Paid"
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
