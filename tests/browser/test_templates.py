"""An embedder's own pages, as Chromium sees them under our policy: styled, scrubbed, alive, and deaf to scripts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from systemprompt_cloud.io.loopback.callback import CallbackListener, StatusView, listen_for_callback
from systemprompt_cloud.io.loopback.pages import CheckoutTemplates

pytestmark = pytest.mark.browser

# Selenium ships no complete types; `Any` keeps its gaps in one place.
Browser = Any
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
TEMPLATES = CheckoutTemplates(
    success_html=f"""<!DOCTYPE html>\r\n<html lang="en"><head><title>Ours</title>\r
<style>\r\nh1 {{ color: rgb(1, 2, 3) }}\r\n</style></head>\r
<body><h1>Paid</h1><code>{{{{TENANT_ID}}}}</code>
<img alt="" src="{DOT}" onload="document.title = 'ran'"></body></html>""",
    waiting_html="""<html><body class="theirs busy"><h1 id="title">Wait</h1><p id="text">…</p>
<a id="link"></a></body>""",
)


async def visit(browser: Browser, listener: CallbackListener, page: str) -> None:
    """Come back with something, and be shown the page."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, browser.get, f"{listener.redirect_uri}?tenant_id=t")
        (await listener.wait_hit()).accept(page)


def scrubbed(browser: Browser) -> bool:
    """Whether the address bar shows the callback without what it carried."""
    parts = urlsplit(str(browser.current_url))
    return (parts.path, parts.query) == ("/callback", "")


async def test_a_template_is_styled_and_scrubbed_and_runs_nothing(browser: Browser) -> None:
    """The style counts although its lines end as on Windows, the id is text, and the attribute's script is refused."""
    tenant = "<script>document.title = 'ran'</script>"
    async with listen_for_callback(port=0, nonce=None) as listener:
        await visit(browser, listener, TEMPLATES.success_page("t", "m", tenant))
    assert scrubbed(browser)
    assert browser.find_element(By.TAG_NAME, "code").text == tenant
    assert browser.find_element(By.TAG_NAME, "h1").value_of_css_property("color") == "rgba(1, 2, 3, 1)"
    picture = browser.find_element(By.TAG_NAME, "img")
    assert browser.execute_script("return [document.compatMode, arguments[0].naturalWidth]", picture) == [
        "CSS1Compat",
        1,
    ]
    assert browser.title == "Ours"
    assert [entry for entry in browser.get_log("browser") if "script-src" in entry["message"]]


async def test_a_waiting_template_follows_its_tenant(browser: Browser) -> None:
    """The words of the server go into the places it has; its own class stays."""
    now = StatusView(status="working", message="halfway")
    async with listen_for_callback(port=0, nonce=None, status_page=lambda: now) as listener:
        await visit(browser, listener, TEMPLATES.waiting_page("t1"))

        def shows(element: str, text: str) -> None:
            WebDriverWait(browser, 10).until(lambda _: browser.find_element(By.ID, element).text == text)

        await trio.to_thread.run_sync(shows, "text", "halfway")
        now = StatusView(status="ready", message="done", app_url="https://t1.example/")
        await trio.to_thread.run_sync(shows, "title", "Your tenant is ready")
        await trio.to_thread.run_sync(shows, "link", "https://t1.example/")
    assert browser.find_element(By.TAG_NAME, "body").get_attribute("class") == "theirs good"
    assert scrubbed(browser)
    assert [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]] == []
