"""The pages a browser sees when it comes back: done, went wrong, still working.

Theory: such a page is shown at an address that holds a token, in a browser that also runs other sites' scripts. So
each page is one self-contained document: nothing is fetched, every interpolated text is escaped, the only style and the
only scripts are constants of this file allowed by their SHA-256 in the Content-Security-Policy (CSP level 3,
section 2.3.1), and the first thing the page does is take the query out of the address bar and the history
(RFC 6750 section 5.3 on tokens in URLs). `page_headers` gives the headers that make a browser hold us to this.

One kind of page keeps its query: the one that says "reload this page". What the browser brought was not taken, its
address bar is the only place where it still is, and a reload asks for exactly that address. The page that the
reload gets takes the query away. A page about a callback without any token keeps its address as well: what an API put
behind `#` never reached us, and the person may have to copy it.

Who embeds a flow may give pages of their own (`OAuthTemplates`, `CheckoutTemplates`). They are held to the same
promises: the text that fills them is escaped, the query is scrubbed by a script of ours that comes before everything
of theirs, and no script of theirs runs, because the policy names only ours.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Final
from urllib.parse import quote

import msgspec

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #17202b; --soft: #57636f; --paper: #f3f5f8; --card: #ffffff; --line: #dde3ea;
  --good: #1a7f4b; --bad: #b3261e; --busy: #2457c5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf3; --soft: #a3afbb; --paper: #10151b; --card: #1a2129;
  --line: #2c3641; --good: #5bd08f; --bad: #ff8a80; --busy: #8ab0ff; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { width: 100%; max-width: 30rem; padding: 2.25rem 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 1rem; box-shadow: 0 1px 2px rgb(0 0 0 / 6%), 0 12px 32px rgb(0 0 0 / 8%); }
svg { display: block; width: 3rem; height: 3rem; margin-bottom: 1.1rem; fill: none; stroke: currentColor;
  stroke-width: 2.5; stroke-linecap: round; stroke-linejoin: round; }
.good svg { color: var(--good); } .bad svg { color: var(--bad); } .busy svg { color: var(--busy); }
.busy svg { animation: turn 1.4s linear infinite; }
svg g { display: none; }
.good .i-good, .bad .i-bad, .busy .i-busy { display: inline; }
p:has(> a:empty) { display: none; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .busy svg { animation: none; } }
h1 { margin: 0 0 .5rem; font-size: 1.45rem; line-height: 1.25; }
p { margin: 0 0 .75rem; overflow-wrap: anywhere; }
.small { margin-bottom: 0; color: var(--soft); font-size: .9rem; }
code { padding: .1rem .35rem; border: 1px solid var(--line); border-radius: .35rem; font-family: ui-monospace, Menlo,
  Consolas, monospace; font-size: .9em; overflow-wrap: anywhere; }
a { color: var(--busy); }
"""

_SCRUB: Final = 'history.replaceState(null, "", location.pathname);'

# textContent and a checked scheme: what the status says is data, never markup and never a script address.
_WATCH: Final = """
(() => {
  // A page of an embedder's may lack any of these places; what has none is not shown.
  const show = (id, text) => { const place = document.getElementById(id); if (place) place.textContent = text; };
  const turn = (kind, text) => {
    document.body.classList.remove("busy");
    document.body.classList.add(kind);
    document.title = text;
    show("title", text);
  };
  let misses = 0;
  const look = async () => {
    try {
      const { status } = document.querySelector("[data-status]").dataset;
      const answer = await fetch(status, { cache: "no-store", credentials: "omit" });
      const now = await answer.json();
      misses = 0;
      if (now.message) show("text", now.message);
      if (now.status === "ready") {
        turn("good", "Your tenant is ready");
        if (!now.message) show("text", "You can close this tab and return to the terminal.");
        const link = document.getElementById("link");
        if (link && typeof now.app_url === "string" && /^https?:\\/\\//.test(now.app_url)) {
          link.href = link.textContent = now.app_url;
        }
        return;
      }
      if (now.status === "failed") {
        turn("bad", "Setting up failed");
        return;
      }
    } catch {
      misses += 1;
      if (misses === 5) {
        turn("bad", "No longer followed here");
        show("text", "The command line no longer listens here. See the terminal for the status.");
        return;
      }
    }
    setTimeout(look, 1000);
  };
  document.addEventListener("DOMContentLoaded", look);
})();
"""

_ICONS: Final = {
    "good": '<circle cx="24" cy="24" r="20"/><path d="m15 25 6 6 12-13"/>',
    "bad": '<circle cx="24" cy="24" r="20"/><path d="M24 14v13m0 6v.5"/>',
    "busy": '<path d="M24 4a20 20 0 1 1-20 20"/>',
}


def success_page(title: str, text: str, tenant_id: str | None = None) -> str:
    """Return the page for a callback that did what it should.

    Args:
        title: The heading, a few words.
        text: One or two sentences on what happened.
        tenant_id: Shown beneath when given.
    """
    shown = "" if tenant_id is None else f'<p>Tenant: <code id="tenant">{escape(tenant_id)}</code></p>'
    return _page("good", title, text, shown + '<p class="small">You can close this tab and return to the terminal.</p>')


def error_page(title: str, text: str, *, retry: bool = False) -> str:
    """Return the page for a callback that failed or could not be taken; says what to do in `text`.

    Args:
        title: The heading, a few words.
        text: What happened and what to do about it.
        retry: True when `text` asks to reload the page: it keeps its address, and so what the browser brought.
    """
    below = '<p class="small">See the terminal for the status.</p>'
    return _page("bad", title, text, below, keep_address=retry)


def checking_page(title: str, text: str, tenant_id: str | None = None) -> str:
    """Return the page for a callback whose news is not confirmed yet: neither good nor bad.

    Args:
        title: The heading, a few words.
        text: One or two sentences on what is being done.
        tenant_id: Shown beneath when given.
    """
    shown = "" if tenant_id is None else f'<p>Tenant: <code id="tenant">{escape(tenant_id)}</code></p>'
    return _page("busy", title, text, shown + '<p class="small">You can close this tab and return to the terminal.</p>')


def waiting_page(tenant_id: str) -> str:
    """Return the page that follows a tenant's provisioning through `/status/{tenant_id}` of the same listener.

    Args:
        tenant_id: The tenant's id, or the checkout session's while the tenant has none.
    """
    below = (
        f'<p><a id="link"></a></p><p class="small">For <code>{escape(tenant_id)}</code>. You may close this tab.</p>'
    )
    return _page("busy", "Setting up your tenant", _WAITING, below, " " + _status_attribute(tenant_id), _WATCH)


class OAuthTemplates(msgspec.Struct, frozen=True):
    """The pages a browser sees after a login: whole HTML documents of the embedder's, or ours where one is empty.

    `{{MESSAGE}}` is filled with what happened, escaped. Style goes into `<style>` elements, pictures in the document
    (inline SVG, or `data:` addresses); nothing else is loaded, no script of a template runs, and no `style` attribute
    counts: the policy forbids it (SECURITY 6).

    Attributes:
        success_html: The browser brought a token.
        error_html: The person, or the provider, denied the login.

    Raises:
        ValueError: A template holds a script, or a placeholder inside its style, where escaping protects nothing.
    """

    success_html: str = ""
    error_html: str = ""

    def __post_init__(self) -> None:
        _check_templates(self)

    def success_page(self, title: str, text: str) -> str:
        """The page for a login that came back with a token; `title` and `text` are what our own page says."""
        return _filled(self.success_html, text) or success_page(title, text)

    def error_page(self, title: str, text: str) -> str:
        """The page for a login that was refused; `title` and `text` are what our own page says."""
        return _filled(self.error_html, text) or error_page(title, text)


class CheckoutTemplates(msgspec.Struct, frozen=True):
    """The pages a browser sees after a payment; the rules are those of `OAuthTemplates`.

    `{{TENANT_ID}}` is filled with the tenant's id, escaped; while the tenant has none, on the waiting page, with the
    checkout session's. The waiting page is followed by a script of ours: what the server says goes into the elements
    with the ids `title` and `text`, the address of the finished tenant into the `<a>` with the id `link`, and `<body>`
    gets the class `good` or `bad` at the end. An element that is missing is left out.

    They are shown before the API has confirmed anything: whoever calls the listener can report a payment, or none. Our
    own pages say that it is being checked.

    Attributes:
        success_html: The browser reports that the payment is complete.
        error_html: The browser reports that it is not, or nothing that can be understood.
        waiting_html: It is being processed.

    Raises:
        ValueError: As for `OAuthTemplates`.
    """

    success_html: str = ""
    error_html: str = ""
    waiting_html: str = ""

    def __post_init__(self) -> None:
        _check_templates(self)

    def success_page(self, title: str, text: str, tenant_id: str) -> str:
        """The page for a payment that is reported; `title` and `text` are what our own page says."""
        return _filled(self.success_html, text, tenant_id) or checking_page(title, text, tenant_id)

    def error_page(self, title: str, text: str) -> str:
        """The page for a payment that is reported as not made; `title` and `text` are what our own page says."""
        return _filled(self.error_html, text) or checking_page(title, text)

    def waiting_page(self, tenant_id: str) -> str:
        """The page for a payment that is being processed; see `waiting_page`."""
        head = f"<meta {_status_attribute(tenant_id)}><script>{_WATCH}</script>"
        return _filled(self.waiting_html, _WAITING, tenant_id, head) or waiting_page(tenant_id)


_WAITING: Final = "The payment is being confirmed and the tenant set up. The terminal continues by itself."
_SCRIPT: Final = re.compile(r"<script", re.IGNORECASE)
_STYLES: Final = re.compile(r"<style[^>]*>(.*?)</style", re.IGNORECASE | re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"\{\{(TENANT_ID|MESSAGE)\}\}")
_DOCTYPE: Final = re.compile(r"\s*<!doctype[^>]*>", re.IGNORECASE)
_DATA_IMAGE: Final = re.compile(r"src=[\"']?data:image/", re.IGNORECASE)


def _status_attribute(tenant_id: str) -> str:
    return f'data-status="/status/{escape(quote(tenant_id, safe=""))}"'


def _check_templates(templates: OAuthTemplates | CheckoutTemplates) -> None:
    for name, html in msgspec.structs.asdict(templates).items():
        if _SCRIPT.search(html):
            raise ValueError(f"{name}: no script of a template runs at an address that held a token; leave it out")
        if any(_PLACEHOLDER.search(style) for style in _STYLES.findall(html)):
            raise ValueError(f"{name}: a placeholder inside <style> would not be escaped; move it into the text")


def _filled(template: str, message: str, tenant_id: str = "", head: str = "") -> str:
    """A template with its placeholders filled and our scripts before everything of its own; empty for an empty one."""
    if not template:
        return ""
    values = {"TENANT_ID": tenant_id, "MESSAGE": message}
    # In one pass, so that a value with a placeholder in it stays a text. A browser hashes a style after turning CRLF
    # into LF (HTML section 13.2.3.5).
    text = _PLACEHOLDER.sub(lambda found: escape(values[found[1]]), template.replace("\r\n", "\n"))
    doctype = _DOCTYPE.match(text)
    # Right after the doctype: a parser opens <head> for it, so it comes before any element of the template's.
    first = f'<script>{_SCRUB}</script><meta name="referrer" content="no-referrer">{head}'
    return f"<!doctype html>{first}{text[doctype.end() if doctype else 0 :]}"


def page_headers(page: str) -> dict[str, str]:
    """Return the response headers for a page of this module, or for any other text that may run nothing.

    Args:
        page: The document; the policy allows the style it holds, and just those of our scripts that it holds.
    """
    styles = " ".join(_hash(style) for style in _STYLES.findall(page))
    scripts = " ".join(_hash(script) for script in (_SCRUB, _WATCH) if f"<script>{script}</script>" in page)
    policy = [
        "default-src 'none'",
        f"style-src {styles}" if styles else "style-src 'none'",
        f"script-src {scripts}" if scripts else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    if _DATA_IMAGE.search(page):
        policy.append("img-src data:")
    if _WATCH in page:
        policy.append("connect-src 'self'")
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(policy),
        **PRIVATE_HEADERS,
    }


PRIVATE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers for every answer of the listener, pages or not (SECURITY 6)."""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _page(
    kind: str,
    title: str,
    text: str,
    below: str,
    attributes: str = "",
    script: str = "",
    *,
    keep_address: bool = False,
) -> str:
    scrub = "" if keep_address else f"<script>{_SCRUB}</script>"
    more = f"<script>{script}</script>" if script else ""
    # All three: a page that follows a tenant turns from one into another.
    icons = "".join(f'<g class="i-{name}">{shape}</g>' for name, shape in _ICONS.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"{scrub}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f'<body class="{kind}"{attributes}><main aria-live="polite">'
        f'<svg viewBox="0 0 48 48" aria-hidden="true">{icons}</svg>'
        f'<h1 id="title">{escape(title)}</h1><p id="text">{escape(text)}</p>{below}</main>{more}</body></html>\n'
    )


OUR_LOGIN_PAGES: Final = OAuthTemplates()
OUR_CHECKOUT_PAGES: Final = CheckoutTemplates()
