"""The scripted person: presses the button they were told to, keeps cookies, reloads the way back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.loopback.callback import listen_for_callback, new_nonce
from systemprompt_cloud.io.loopback.pages import success_page
from systemprompt_cloud.sandbox.browser import FormReader, PageVisit, ScriptedBrowser
from systemprompt_cloud.sandbox.serving import serve_app

CONSENT = """<form method="post"><input type="hidden" name="csrf" value="c&amp;1">
<input type="radio" name="account" value="ann@x.example" checked>
<input type="radio" name="account" value="ben@x.example">
<button name="decision" value="approve">Approve</button><button name="decision" value="deny">Deny</button></form>"""
PAYMENT = """<form method="post"><button name="decision" value="pay">Pay</button>
<button name="decision" value="pending">Later</button><button name="decision" value="decline">No</button></form>"""


@asynccontextmanager
async def cloud(page: str, redirect_uri: str) -> AsyncGenerator[str]:
    """A page behind a redirect that sets a cookie; its form goes to the redirect URI with what was sent."""

    async def start(request: Request) -> Response:
        answer = RedirectResponse("/page", 302)
        answer.set_cookie("session", "s1")
        return answer

    async def show(request: Request) -> Response:
        if request.method == "GET":
            return HTMLResponse(page)
        assert request.cookies == {"session": "s1"}
        assert request.headers["origin"] == str(request.base_url).rstrip("/")
        body = (await request.body()).decode()
        return RedirectResponse(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{body}", 303)

    routes = [Route("/", start), Route("/page", show, methods=["GET", "POST"])]
    async with serve_app(Starlette(routes=routes)) as port:
        yield f"http://127.0.0.1:{port}/"


async def came_back(browser: ScriptedBrowser, page: str) -> tuple[dict[str, str], PageVisit]:
    """What the callback got from this person, and where they ended."""
    visits: list[PageVisit] = []

    async def visit(url: str) -> None:
        visits.append(await browser.visit(url))

    async with (
        listen_for_callback(port=0, nonce=new_nonce()) as listener,
        cloud(page, listener.redirect_uri) as url,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(visit, url)
        hit = await listener.wait_hit()
        hit.accept(success_page("Done", "It worked."))
    return hit.params, visits[0]


async def test_the_suggested_account_approves() -> None:
    """Unless told otherwise a person approves with the account the page suggests, cookie and hidden fields included."""
    params, visit = await came_back(ScriptedBrowser(), CONSENT)
    assert params == {"csrf": "c&1", "account": "ann@x.example", "decision": "approve"}
    assert visit.status == 200
    assert "It worked." in visit.page
    assert visit.pressed == ("approve",)


async def test_another_account_denies() -> None:
    """A person who was told an account and to deny does both."""
    params, _ = await came_back(ScriptedBrowser(consent="deny", account="ben@x.example"), CONSENT)
    assert params == {"csrf": "c&1", "account": "ben@x.example", "decision": "deny"}


@pytest.mark.parametrize("payment", ["pay", "pending", "decline"])
async def test_a_payment_page_gets_its_button(payment: Literal["pay", "pending", "decline"]) -> None:
    """Each of the three choices presses the button of that value."""
    params, _ = await came_back(ScriptedBrowser(payment=payment, account="ben@x.example"), PAYMENT)
    assert params == {"decision": payment}


async def test_the_way_back_is_reloaded_while_refused_or_unavailable() -> None:
    """Nobody there, then 503, then the listener of a resumed command: the open tab gets in."""
    nonce, visits = new_nonce(), list[PageVisit]()
    async with listen_for_callback(port=0, nonce=nonce) as first:
        pass

    async def visit(url: str) -> None:
        visits.append(await ScriptedBrowser().visit(url))

    with trio.fail_after(10):
        async with cloud(CONSENT, first.redirect_uri) as url, trio.open_nursery() as nursery:
            nursery.start_soon(visit, url)
            async with listen_for_callback(port=first.port, nonce=nonce) as second:
                (await second.wait_hit()).refuse(success_page("Not yet", "Wait."))
            async with listen_for_callback(port=first.port, nonce=nonce) as third:
                (await third.wait_hit()).accept(success_page("Done", "It worked."))
    assert visits[0].status == 200


async def test_patience_ends() -> None:
    """When nobody ever listens the visit ends without a status, and it is no error."""
    async with listen_for_callback(port=0, nonce=None) as gone:
        pass
    async with cloud(CONSENT, gone.redirect_uri) as url:
        visit = await ScriptedBrowser(patience=0.2).visit(url)
    assert visit.status is None
    assert visit.url.startswith(gone.redirect_uri)


async def test_a_page_without_buttons_is_the_end() -> None:
    """A page that asks nothing ends the visit."""
    async with cloud("<p>Already answered</p>", "unused") as url:
        visit = await ScriptedBrowser().visit(url)
    assert (visit.status, visit.page, visit.pressed) == (200, "<p>Already answered</p>", ())


@pytest.mark.parametrize(
    ("browser", "page"),
    [
        (ScriptedBrowser(account="nobody@x.example"), CONSENT),
        (ScriptedBrowser(), '<form method="post"><button name="decision" value="other">?</button></form>'),
    ],
)
async def test_a_choice_the_page_does_not_offer_is_an_error(browser: ScriptedBrowser, page: str) -> None:
    """A test that asks for what is not there is told so, instead of pressing something else."""
    async with cloud(page, "unused") as url:
        with pytest.raises(LookupError):
            await browser.visit(url)


async def test_a_first_page_that_cannot_be_loaded_is_an_error() -> None:
    """Only the way back is reloaded; a dead first page is an error that names it."""
    async with listen_for_callback(port=0, nonce=None) as gone:
        pass
    with pytest.raises(Network, match="cannot load"):
        await ScriptedBrowser().visit(gone.redirect_uri)


def test_forms_are_read_as_a_browser_sends_them() -> None:
    """Defaults, unchecked choices and fields outside of forms are told apart."""
    reader = FormReader()
    reader.feed(
        '<input name="outside" value="1"><form action="/a"><input name="x" value="1">'
        '<input type="checkbox" name="y" value="2"><input type="submit" name="go" value="Go">'
        '<button type="button" name="no" value="no">-</button></form>'
    )
    (form,) = reader.forms
    assert (form.action, form.method, form.fields) == ("/a", "get", {"x": "1"})
    assert form.choices == {"y": ["2"]}
    assert form.buttons == [("go", "Go")]
