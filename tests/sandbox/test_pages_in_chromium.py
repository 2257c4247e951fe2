"""The sandbox's pages in a real browser: the policy, the cookie, the form and the way back, all as Chromium sees them.

What the plain tests cannot show is whether a browser *agrees*: that the style is let in by its hash, that the form's
redirect passes `form-action`, that the cookie comes back with the form, and that nothing is reported on the console.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from systemprompt_cloud.io.cloud.wire import OAuthProvider
from systemprompt_cloud.sandbox import Sandbox, serve_sandbox
from systemprompt_cloud.sandbox.serving import serve_app
from systemprompt_cloud.sandbox.state import PLANS, Checkout

pytestmark = pytest.mark.browser

# Selenium ships no complete types; `Any` keeps its gaps in one place.
Browser = Any


@asynccontextmanager
async def callback() -> AsyncGenerator[tuple[str, list[Request]], None]:
    """A listener to come back to: its address, and the requests it got."""
    hits: list[Request] = []

    async def answer(request: Request) -> Response:
        hits.append(request)
        # An icon of its own, so that the browser does not ask for one that is not there.
        return HTMLResponse('<!doctype html><link rel="icon" href="data:,"><title>back</title><h1>You are back</h1>')

    async with serve_app(Starlette(routes=[Route("/callback", answer)])) as port:
        yield f"http://127.0.0.1:{port}/callback?state=nonce", hits


async def in_browser(act: Callable[[], Any]) -> Any:
    """Selenium blocks, so it waits on a thread."""
    return await trio.to_thread.run_sync(act)


def complaints(browser: Browser) -> list[str]:
    """What the console says beyond the missing favicon."""
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


def press(browser: Browser, url: str, decision: str, account: str | None = None) -> str:
    """Open a page, choose, press, and return the heading of where it led."""
    browser.get(url)
    assert browser.find_element(By.CSS_SELECTOR, ".sandbox").is_displayed()
    if account is not None:
        browser.find_element(By.CSS_SELECTOR, f"input[value='{account}']").click()
    return submit(browser, decision)


def submit(browser: Browser, decision: str) -> str:
    """Press a button of the page that is open, and return the heading of where it led."""
    button = browser.find_element(By.CSS_SELECTOR, f"button[value={decision}]")
    button.click()
    # A click returns before the next page stands; asking the old one for its heading is a race.
    # Between the two chromedriver may know neither, and says so with an error of its own.
    WebDriverWait(browser, 10, ignored_exceptions=(WebDriverException,)).until(staleness_of(button))
    return browser.find_element(By.TAG_NAME, "h1").text


def open_checkout(sandbox: Sandbox, back: str) -> Checkout:
    return sandbox.cloud.open_checkout(sandbox.cloud.accounts[0], PLANS[1], "fra", back)


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_a_person_logs_in_or_does_not(decision: str, browser: Browser) -> None:
    """The chosen account or the denial arrives at the listener, with the nonce and without a referrer or an origin."""
    async with serve_sandbox() as sandbox, callback() as (back, hits):
        consent = sandbox.cloud.open_consent(OAuthProvider.GITHUB, back)
        url = f"{sandbox.url}/sandbox/consent/{consent.id}"
        heading = await in_browser(lambda: press(browser, url, decision, "grace@sandbox.example"))
        assert heading == "You are back"
        query = dict(hits[0].query_params)
        assert query["state"] == "nonce"
        if decision == "approve":
            claims = sandbox.cloud.tokens.check(f"Bearer {query['access_token']}")
            assert claims.email == "grace@sandbox.example"
        else:
            assert query["error"] == "access_denied"
        assert "referer" not in hits[0].headers
        assert "origin" not in hits[0].headers
        assert await in_browser(lambda: complaints(browser)) == []


@pytest.mark.parametrize(
    ("decision", "told"), [("pay", {"status": "completed"}), ("pending", {"status": "pending"}), ("decline", {})]
)
async def test_a_person_pays_or_does_not(decision: str, told: dict[str, str], browser: Browser) -> None:
    """Each of the three buttons leads back with its own story."""
    async with serve_sandbox() as sandbox, callback() as (back, hits):
        checkout = open_checkout(sandbox, back)
        url = f"{sandbox.url}/sandbox/pay/{checkout.id}"
        assert await in_browser(lambda: press(browser, url, decision)) == "You are back"
        query = dict(hits[0].query_params)
        assert {name: query[name] for name in told} == told
        assert ("error" in query) is (decision == "decline")
        assert checkout.payment == decision
        assert await in_browser(lambda: complaints(browser)) == []


async def test_going_back_and_pressing_again_buys_once(browser: Browser) -> None:
    """The back button shows the form from the browser's memory, or that it is done: either way there is one tenant."""
    async with serve_sandbox() as sandbox, callback() as (back, _):
        url = f"{sandbox.url}/sandbox/pay/{open_checkout(sandbox, back).id}"

        def again() -> str:
            press(browser, url, "pay")
            browser.back()
            if browser.find_elements(By.CSS_SELECTOR, "button[value=pay]"):
                submit(browser, "pay")
                browser.back()
            browser.refresh()
            return browser.find_element(By.TAG_NAME, "h1").text

        assert await in_browser(again) == "Already answered"
        assert sandbox.cloud.ledger.tenants == 1


async def test_the_pages_are_styled_and_fit_a_small_screen(browser: Browser) -> None:
    """The inline style passes the policy, and nothing sticks out sideways at 320 pixels."""
    async with serve_sandbox(faults=["drop-stream"]) as sandbox:
        consent = sandbox.cloud.open_consent(OAuthProvider.GOOGLE, "http://127.0.0.1:1/callback")
        checkout = open_checkout(sandbox, "http://127.0.0.1:1/callback")
        urls = [sandbox.url, f"{sandbox.url}/sandbox/consent/{consent.id}", f"{sandbox.url}/sandbox/pay/{checkout.id}"]

        def look() -> list[tuple[str, bool]]:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": False},
            )
            found: list[tuple[str, bool]] = []
            for url in urls:
                browser.get(url)
                radius = browser.find_element(By.TAG_NAME, "main").value_of_css_property("border-radius")
                wide = browser.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
                found.append((radius, wide))
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return found

        assert await in_browser(look) == [("16px", False)] * 3
        assert await in_browser(lambda: complaints(browser)) == []
