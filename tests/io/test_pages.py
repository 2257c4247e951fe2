"""The callback pages: nothing foreign gets in, nothing is loaded, and browsers are held to it."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.io.loopback.pages import (
    CheckoutTemplates,
    OAuthTemplates,
    checking_page,
    error_page,
    page_headers,
    success_page,
    waiting_page,
)
from typing_extensions import override

PAGES = {
    "success": success_page("Logged in", "Welcome."),
    "tenant": success_page("Paid", "The tenant is being made.", "tenant-1"),
    "error": error_page("Declined", "The card was declined."),
    "retry": error_page("Not recorded", "Reload this page.", retry=True),
    "checking": checking_page("Checking", "It is being checked.", "tenant-1"),
    "waiting": waiting_page("tenant-1"),
}

TEMPLATE = """<!DOCTYPE html>
<html lang="en"><head><title>Ours {{TENANT_ID}}</title><style>
p { color: teal }
</style><style media="print">p { color: black }</style></head>
<body class="busy"><h1 id="title">Ours</h1><p id="text" title="{{TENANT_ID}}">{{MESSAGE}}: {{TENANT_ID}} {{OTHER}}</p>
<svg viewBox="0 0 1 1"></svg></body></html>
"""
FILLED = {
    "login success": OAuthTemplates(TEMPLATE, TEMPLATE).success_page("t", "message"),
    "login error": OAuthTemplates(TEMPLATE, TEMPLATE).error_page("t", "message"),
    "success": CheckoutTemplates(TEMPLATE, TEMPLATE, TEMPLATE).success_page("t", "message", "tenant-1"),
    "error": CheckoutTemplates(TEMPLATE, TEMPLATE, TEMPLATE).error_page("t", "message"),
    "waiting": CheckoutTemplates(TEMPLATE, TEMPLATE, TEMPLATE).waiting_page("tenant-1"),
}


class Outline(HTMLParser):
    """The tags, attributes and texts of a page as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(sorted(attributes))) for tag, attributes in self.tags]


def directives(page: str) -> dict[str, str]:
    policy = page_headers(page)["Content-Security-Policy"]
    return {name: value for name, _, value in (part.strip().partition(" ") for part in policy.split(";"))}


def hash_of(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@given(text=st.text())
def test_no_text_changes_the_structure_of_a_page(text: str) -> None:
    """Whatever is interpolated stays text: the same tags with the same attributes, and no event handlers."""
    for page, plain in (
        (success_page(text, text, text), success_page("a", "a", "a")),
        (error_page(text, text), error_page("a", "a")),
        (waiting_page(text), waiting_page("a")),
    ):
        assert Outline(page).shape() == Outline(plain).shape()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><b>", "&lt;"])
def test_markup_is_shown_as_it_was_written(text: str) -> None:
    """The person reads the tenant id and the message exactly, and nothing of it runs."""
    outline = Outline(success_page(text, text, text))
    assert outline.texts.count(text) >= 3
    assert [tag for tag, _ in outline.tags if tag in {"img", "b"}] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_loads_nothing(page: str) -> None:
    """Self-contained: no address to fetch, no style attribute, no event handler."""
    for _, attributes in Outline(page).tags:
        assert not {"src", "srcset", "style", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "://" not in page.replace("https?:", "")
    assert "@import" not in page
    assert "url(" not in page


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_policy_allows_what_the_page_holds_and_nothing_else(page: str) -> None:
    """Every inline style and script is allowed by its hash; everything not named is 'none' (SECURITY 6)."""
    policy = directives(page)
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy["style-src"].split() == [hash_of(style) for style in styles]
    assert policy["script-src"].split() == ([hash_of(script) for script in scripts] or ["'none'"])
    assert "unsafe" not in page_headers(page)["Content-Security-Policy"]


def test_only_the_waiting_page_may_ask_and_only_us() -> None:
    """`connect-src 'self'` stands for the status calls of the waiting page alone."""
    assert [name for name, page in PAGES.items() if "connect-src" in directives(page)] == ["waiting"]
    assert directives(PAGES["waiting"])["connect-src"] == "'self'"


def test_a_page_that_is_not_ours_may_run_nothing() -> None:
    """A text from elsewhere gets a policy without any script."""
    assert directives("<script>alert(1)</script>")["script-src"] == "'none'"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_other_headers_keep_the_address_private(page: str) -> None:
    """No storing, no referrer, no sniffing (SECURITY 6)."""
    headers = page_headers(page)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"retry"}))
def test_the_query_is_scrubbed_before_anything_else_happens(name: str) -> None:
    """The first script, before any content, takes the token out of address bar and history."""
    page = PAGES[name]
    first = page.index("history.replaceState(null")
    assert page.index("<script>") < first < page.index("<title>")


def test_a_page_that_asks_to_be_reloaded_keeps_its_address() -> None:
    """What it carries was not taken: a reload must bring it again. It runs no script at all."""
    assert "<script" not in PAGES["retry"]
    assert directives(PAGES["retry"])["script-src"] == "'none'"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_can_be_read_by_everybody(page: str) -> None:
    """Language, title, one main landmark that announces changes, a heading, both colour schemes, less motion."""
    tags = Outline(page).tags
    assert ("html", {"lang": "en"}) in tags
    assert [attributes for tag, attributes in tags if tag == "main"] == [{"aria-live": "polite"}]
    assert len([tag for tag, _ in tags if tag == "h1"]) == 1
    assert re.search(r"<title>[^<]+</title>", page)
    assert "color-scheme: light dark" in page
    assert "prefers-color-scheme: dark" in page
    assert "prefers-reduced-motion" in page


def test_the_success_page_shows_the_tenant() -> None:
    """The tenant id stands on the page when there is one (docs/reference/wire.md section 2)."""
    assert "<code" not in PAGES["success"]
    assert "tenant-1" in Outline(PAGES["tenant"]).texts


def test_the_waiting_page_asks_for_its_status_by_a_safe_path() -> None:
    """An id with slashes, queries or quotes stays one path segment."""
    page = waiting_page('../x?y="#')
    bodies = [attributes for tag, attributes in Outline(page).tags if tag == "body"]
    assert bodies[0]["data-status"] == "/status/..%2Fx%3Fy%3D%22%23"


# --- pages of somebody else's --------------------------------------------------------------------------------------


@given(tenant=st.text(), message=st.text())
def test_no_text_changes_the_structure_of_a_template(tenant: str, message: str) -> None:
    """What is filled in stays text, in an attribute, too (SECURITY 6)."""
    templates = CheckoutTemplates(TEMPLATE, TEMPLATE, TEMPLATE)
    for page, plain in (
        (templates.success_page("t", message, tenant), FILLED["success"]),
        (templates.error_page("t", message), FILLED["error"]),
        (templates.waiting_page(tenant), FILLED["waiting"]),
        (OAuthTemplates(TEMPLATE).success_page("t", message), FILLED["login success"]),
    ):
        assert Outline(page).shape() == Outline(plain).shape()


def test_the_placeholders_are_filled_once_and_others_stay() -> None:
    """A tenant id that looks like a placeholder is shown as it is."""
    page = CheckoutTemplates(TEMPLATE).success_page("t", "<b>", "{{MESSAGE}}")
    assert '<p id="text" title="{{MESSAGE}}">&lt;b&gt;: {{MESSAGE}} {{OTHER}}</p>' in page


@pytest.mark.parametrize("page", FILLED.values(), ids=FILLED)
def test_the_policy_of_a_template_allows_its_style_and_our_scripts(page: str) -> None:
    """Every style it holds by its hash, no script but ours, nothing from anywhere else (SECURITY 6)."""
    policy = directives(page)
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["style-src"].split() == [hash_of("\np { color: teal }\n"), hash_of("p { color: black }")]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy["script-src"].split() == [hash_of(script) for script in scripts]
    assert "unsafe" not in page_headers(page)["Content-Security-Policy"]
    assert ("connect-src" in policy) is (page == FILLED["waiting"])
    assert "img-src" not in policy


@pytest.mark.parametrize("page", FILLED.values(), ids=FILLED)
def test_a_template_is_scrubbed_before_anything_of_its_own(page: str) -> None:
    """Our script comes first, with or without a doctype; the page stays in standards mode."""
    assert page.startswith("<!doctype html><script>history.replaceState(null")
    assert page.lower().count("<!doctype") == 1
    bare = OAuthTemplates("<p>done</p>").success_page("t", "m")
    assert bare.startswith("<!doctype html><script>history.replaceState(null")
    assert bare.endswith("<p>done</p>")


def test_a_template_may_bring_its_pictures_along() -> None:
    """`data:` images are allowed where there is one; nothing is ever fetched."""
    page = OAuthTemplates('<img src="data:image/png;base64,AA==">').success_page("t", "m")
    assert directives(page)["img-src"] == "data:"


def test_windows_line_ends_do_not_break_the_hash_of_a_style() -> None:
    """A browser hashes the style after turning CRLF into LF."""
    page = OAuthTemplates("<style>p {\r\n}</style>").success_page("t", "m")
    assert directives(page)["style-src"] == hash_of("p {\n}")


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        ("<SCRIPT>alert(1)</SCRIPT>", "script"),
        ("<style>p::after { content: '{{TENANT_ID}}' }</style>", "placeholder"),
    ],
)
def test_a_template_that_could_not_keep_the_promise_is_refused_at_once(html: str, complaint: str) -> None:
    """Where the embedder makes it, not where a person has just paid."""
    with pytest.raises(ValueError, match=f"error_html: .*{complaint}"):
        OAuthTemplates(error_html=html)
    with pytest.raises(ValueError, match=f"waiting_html: .*{complaint}"):
        CheckoutTemplates(waiting_html=html)


def test_without_a_template_the_page_is_ours() -> None:
    """Each by itself."""
    only_error = CheckoutTemplates(error_html="<p>no</p>")
    assert only_error.success_page("Paid", "It is being made.", "t") == checking_page("Paid", "It is being made.", "t")
    assert only_error.waiting_page("t") == waiting_page("t")
    assert OAuthTemplates().error_page("No", "Not you.") == error_page("No", "Not you.")


def test_a_waiting_template_follows_its_tenant_by_a_safe_path() -> None:
    """As our own page does."""
    page = CheckoutTemplates(waiting_html="<p id=text></p>").waiting_page('../x?y="#')
    found = [attributes for _, attributes in Outline(page).tags if "data-status" in attributes]
    assert found == [{"data-status": "/status/..%2Fx%3Fy%3D%22%23"}]
