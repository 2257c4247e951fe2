"""Tests of sandbox/pages.py and the forms behind them, as a browser without scripts sees them."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from systemprompt_cloud.io.cloud.wire import OAuthProvider
from systemprompt_cloud.sandbox import Sandbox, World, serve_sandbox
from systemprompt_cloud.sandbox.state import PLANS, Account, Checkout
from typing_extensions import override

CALLBACK = "http://127.0.0.1:8765/callback?state=n%2Fonce"


def said_by(token: str) -> dict[str, Any]:
    """A token's payload, read without any library's help (RFC 7519 section 7.2)."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class PageParser(HTMLParser):
    """What a page offers: its fields by name, its buttons, everything it would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.buttons: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.language = ""
        self.feed(html)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.loads += [values[name] for name in ("src", "href", "action") if name in values]
        if tag in {"script", "link", "img", "iframe"}:
            self.loads.append(tag)
        if tag == "html":
            self.language = values.get("lang", "")
        if tag == "input":
            self.fields.setdefault(values["name"], []).append(values["value"])
        if tag == "button":
            self.buttons.append(values["value"])

    @override
    def handle_data(self, data: str) -> None:
        self.text += data


async def authorize(http: httpx.AsyncClient, sandbox: Sandbox, redirect_uri: str = CALLBACK) -> str:
    answer = await http.get(f"{sandbox.url}/api/v1/auth/oauth/github", params={"redirect_uri": redirect_uri})
    return answer.json()["authorize_url"]


async def submit(http: httpx.AsyncClient, url: str, **answer: str) -> httpx.Response:
    """Open a page and send its form."""
    page = PageParser((await http.get(url)).text)
    return await http.post(url, data={"csrf": page.fields["csrf"][0], **answer})


def query_of(location: str) -> dict[str, str]:
    assert location.startswith(("http://127.0.0.1:8765/callback?", "http://127.0.0.1:8766/callback?"))
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query, strict_parsing=True).items()}


def open_checkout(sandbox: Sandbox, redirect_uri: str | None = "http://127.0.0.1:8766/callback?state=n") -> Checkout:
    return sandbox.cloud.open_checkout(sandbox.cloud.accounts[0], PLANS[1], "gru", redirect_uri)


def page_url(sandbox: Sandbox, checkout: Checkout) -> str:
    return f"{sandbox.url}/sandbox/pay/{checkout.id}"


# --- consent ---


async def test_the_consent_page_offers_accounts_and_both_answers(http: httpx.AsyncClient) -> None:
    """Three accounts, approve and deny, a token for the form, and the word sandbox."""
    async with serve_sandbox() as sandbox:
        answer = await http.get(await authorize(http, sandbox))
        page = PageParser(answer.text)
        assert page.fields["account"] == [account.email for account in sandbox.cloud.accounts]
        assert page.buttons == ["approve", "deny"]
        assert len(page.fields["csrf"]) == 1
        assert "Sandbox" in page.text
        assert page.language == "en"


@pytest.mark.parametrize("person", [0, 1, 2])
async def test_approving_sends_the_chosen_accounts_token_back(person: int, http: httpx.AsyncClient) -> None:
    """303 to the redirect URI with its own query kept, and a token that `/auth/me` accepts as that person's."""
    async with serve_sandbox() as sandbox:
        email = sandbox.cloud.accounts[person].email
        answer = await submit(http, await authorize(http, sandbox), decision="approve", account=email)
        assert answer.status_code == 303
        assert answer.headers["referrer-policy"] == "no-referrer"
        query = query_of(answer.headers["location"])
        assert set(query) == {"state", "access_token"}
        assert query["state"] == "n/once"
        assert said_by(query["access_token"])["sandbox"] is True
        headers = {"Authorization": f"Bearer {query['access_token']}"}
        me = (await http.get(f"{sandbox.url}/api/v1/auth/me", headers=headers)).json()
        assert me["user"]["email"] == email


async def test_denying_sends_an_error_back(http: httpx.AsyncClient) -> None:
    """The error has the name OAuth gives it (RFC 6749 section 4.1.2.1), and there is no token."""
    async with serve_sandbox() as sandbox:
        answer = await submit(http, await authorize(http, sandbox), decision="deny")
        query = query_of(answer.headers["location"])
        assert set(query) == {"state", "error", "error_description"}
        assert query["error"] == "access_denied"


async def test_the_first_answer_stands(http: httpx.AsyncClient) -> None:
    """A second click leads to the same place, another answer is 409, and the page says that it is done."""
    async with serve_sandbox() as sandbox:
        url = await authorize(http, sandbox)
        csrf = PageParser((await http.get(url)).text).fields["csrf"][0]
        form = {"csrf": csrf, "decision": "approve", "account": "ada@sandbox.example"}
        first, second = await http.post(url, data=form), await http.post(url, data=form)
        assert first.headers["location"] == second.headers["location"]
        assert (await http.post(url, data={"csrf": csrf, "decision": "deny"})).status_code == 409
        done = PageParser((await http.get(url)).text)
        assert (done.buttons, "Already answered" in done.text) == ([], True)


@pytest.mark.parametrize(
    "answer", [{}, {"decision": "maybe"}, {"decision": "approve"}, {"decision": "approve", "account": "eve@x.example"}]
)
async def test_half_an_answer_leaves_the_page_open(answer: dict[str, str], http: httpx.AsyncClient) -> None:
    """Approving without one of the accounts is 400, and the person may still answer."""
    async with serve_sandbox() as sandbox:
        url = await authorize(http, sandbox)
        assert (await submit(http, url, **answer)).status_code == 400
        assert (await submit(http, url, decision="deny")).status_code == 303


async def test_a_form_from_elsewhere_is_refused(http: httpx.AsyncClient) -> None:
    """Without the page's cookie, with another page's token, or from another origin: 403, and nothing is answered."""
    async with serve_sandbox() as sandbox:
        url, other = await authorize(http, sandbox), await authorize(http, sandbox)
        page = await http.get(url)
        csrf = PageParser(page.text).fields["csrf"][0]
        foreign = PageParser((await http.get(other)).text).fields["csrf"][0]
        cookie = page.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert f"Path={urlsplit(url).path}" in cookie
        answer = {"decision": "approve", "account": "ada@sandbox.example"}
        async with httpx.AsyncClient(trust_env=False) as stranger:
            assert (await stranger.post(url, data=answer | {"csrf": csrf})).status_code == 403
        assert (await http.post(url, data=answer | {"csrf": foreign})).status_code == 403
        assert (await http.post(url, data=answer)).status_code == 403
        for origin in ("http://evil.example", "null", "https://" + urlsplit(url).netloc):
            refused = await http.post(url, data=answer | {"csrf": csrf}, headers={"Origin": origin})
            assert refused.status_code == 403
        own = {"Origin": sandbox.url}
        assert (await http.post(url, data=answer | {"csrf": csrf}, headers=own)).status_code == 303


async def test_an_unknown_page_is_a_page_too(http: httpx.AsyncClient) -> None:
    """Who opens a link of a sandbox that has stopped reads what happened."""
    async with serve_sandbox() as sandbox:
        for path in ("/sandbox/consent/none", "/sandbox/pay/none", "/nowhere"):
            answer = await http.get(sandbox.url + path)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
            assert "Sandbox" in PageParser(answer.text).text


# --- payment ---


async def test_the_payment_page_shows_the_order(http: httpx.AsyncClient) -> None:
    """Plan, size, region and account, and three ways to answer."""
    async with serve_sandbox() as sandbox:
        checkout = open_checkout(sandbox)
        page = PageParser((await http.get(page_url(sandbox, checkout))).text)
        assert page.buttons == ["pay", "pending", "decline"]
        for fact in ("Sandbox Team", "2048 MB", "10 GB", "South America (São Paulo)", "ada@sandbox.example"):
            assert fact in page.text


async def test_paying_creates_a_tenant_and_says_completed(http: httpx.AsyncClient) -> None:
    """The callback carries status, transaction and tenant; the tenant exists at that moment."""
    async with serve_sandbox() as sandbox:
        checkout = open_checkout(sandbox)
        answer = await submit(http, page_url(sandbox, checkout), decision="pay")
        assert answer.status_code == 303
        assert checkout.tenant is not None
        assert query_of(answer.headers["location"]) == {
            "state": "n",
            "status": "completed",
            "transaction_id": checkout.transaction_id,
            "tenant_id": checkout.tenant.id,
            "checkout_session_id": checkout.id,
        }
        assert sandbox.cloud.ledger.tenants == 1


async def test_paying_with_pending_names_the_session_only(http: httpx.AsyncClient) -> None:
    """The tenant's id is left to the event stream."""
    async with serve_sandbox() as sandbox:
        checkout = open_checkout(sandbox)
        answer = await submit(http, page_url(sandbox, checkout), decision="pending")
        assert query_of(answer.headers["location"]) == {
            "state": "n",
            "status": "pending",
            "checkout_session_id": checkout.id,
        }
        assert checkout.tenant is not None


async def test_declining_says_so_and_creates_nothing(http: httpx.AsyncClient) -> None:
    """No tenant, and an error in the callback."""
    async with serve_sandbox() as sandbox:
        checkout = open_checkout(sandbox)
        answer = await submit(http, page_url(sandbox, checkout), decision="decline")
        assert query_of(answer.headers["location"])["error"] == "payment_declined"
        assert (checkout.tenant, sandbox.cloud.ledger.tenants) == (None, 0)


async def test_nobody_pays_twice(http: httpx.AsyncClient) -> None:
    """A second click on pay is the same payment; declining afterwards is refused."""
    async with serve_sandbox() as sandbox:
        url = page_url(sandbox, open_checkout(sandbox))
        csrf = PageParser((await http.get(url)).text).fields["csrf"][0]
        answers = [await http.post(url, data={"csrf": csrf, "decision": "pay"}) for _ in range(2)]
        assert answers[0].headers["location"] == answers[1].headers["location"]
        assert (await http.post(url, data={"csrf": csrf, "decision": "decline"})).status_code == 409
        assert sandbox.cloud.ledger.tenants == 1


async def test_without_a_redirect_uri_the_person_is_sent_to_the_terminal(http: httpx.AsyncClient) -> None:
    """The optional field may be left out, and the page still ends somewhere."""
    async with serve_sandbox() as sandbox:
        answer = await submit(http, page_url(sandbox, open_checkout(sandbox, None)), decision="pay")
        assert (answer.status_code, "terminal" in answer.text) == (200, True)


async def test_a_payment_form_needs_its_own_token(http: httpx.AsyncClient) -> None:
    """A form of another page cannot spend the person's sandbox money."""
    async with serve_sandbox() as sandbox:
        checkout = open_checkout(sandbox)
        assert (await http.post(page_url(sandbox, checkout), data={"decision": "pay"})).status_code == 403
        huge = {"decision": "pay", "csrf": "x" * 70_000}
        assert (await http.post(page_url(sandbox, checkout), data=huge)).status_code == 413
        assert sandbox.cloud.ledger.tenants == 0


# --- what every page promises ---


async def pages_of(http: httpx.AsyncClient, sandbox: Sandbox) -> list[httpx.Response]:
    urls = [
        sandbox.url,
        await authorize(http, sandbox),
        page_url(sandbox, open_checkout(sandbox)),
        sandbox.url + "/nowhere",
        sandbox.url + "/sandbox/consent/none",
    ]
    return [await http.get(url) for url in urls]


async def test_every_page_is_shut_tight(http: httpx.AsyncClient) -> None:
    """A policy of nothing but its own style and form, no caching, no sniffing, and no resource of any kind."""
    async with serve_sandbox() as sandbox:
        for answer in await pages_of(http, sandbox):
            rules = answer.headers["content-security-policy"].split(";")
            policy = dict(rule.strip().split(" ", 1) for rule in rules)
            assert policy["default-src"] == "'none'"
            assert policy["style-src"].startswith("'sha256-")
            assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            page = PageParser(answer.text)
            assert page.loads == []
            assert "Sandbox." in page.text


async def test_a_form_may_lead_to_its_redirect_uri_and_nowhere_else(http: httpx.AsyncClient) -> None:
    """Chromium applies `form-action` to the redirect, so its origin is named; a page without one names none."""
    async with serve_sandbox() as sandbox:
        consent = await http.get(await authorize(http, sandbox, "http://localhost:4711/callback?state=n"))
        assert "form-action 'self' http://localhost:4711;" in consent.headers["content-security-policy"]
        assert "form-action 'self';" in (await http.get(sandbox.url)).headers["content-security-policy"]


async def test_what_comes_from_outside_is_escaped(http: httpx.AsyncClient) -> None:
    """Markup in a name, an address or a fault's text is shown, not obeyed."""
    hostile = "<script>alert(1)</script>\"'&"
    async with serve_sandbox(faults=[f"error:path={hostile}"]) as sandbox:
        cloud = sandbox.cloud
        cloud.accounts = (Account("usr_x", f"{hostile}@sandbox.example", hostile),)
        consent = cloud.open_consent(OAuthProvider.GITHUB, CALLBACK)
        checkout = cloud.open_checkout(cloud.accounts[0], PLANS[0], hostile, None)
        for path in ("/", f"/sandbox/consent/{consent.id}", f"/sandbox/pay/{checkout.id}"):
            answer = await http.get(sandbox.url + path)
            assert answer.status_code == 200
            assert "<script" not in answer.text
            assert hostile in PageParser(answer.text).text


async def test_the_home_page_says_what_this_is(http: httpx.AsyncClient) -> None:
    """Its address, its accounts and its faults, for whoever opens it in a browser."""
    async with serve_sandbox(faults=["drop-stream:after=2"]) as sandbox:
        text = PageParser((await http.get(sandbox.url)).text).text
        assert sandbox.url in text
        assert "grace@sandbox.example" in text
        assert "drop-stream" in text


def test_accounts_are_told_apart() -> None:
    """There are two or three people to choose from, with different ids."""
    accounts = World().accounts
    assert len({account.id for account in accounts}) == len(accounts) == 3
