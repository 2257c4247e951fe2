"""The local cloud's pages: consent, payment, and a few plain ones. HTML in, nothing out: no page needs a script.

Every page says that it is a sandbox, loads nothing, and is answered by an ordinary form, so that it works in any
browser and can be read in its source. Whatever comes from outside is escaped.

The policy (Content Security Policy Level 3) allows one inline style, named by its hash, and forms that go to the page
itself and on to the redirect URI's origin: browsers built on Chromium apply `form-action` to the redirect that answers
a form as well, so without that origin the person would be stuck on the page. The referrer policy is `same-origin` and
not `no-referrer`, because under the latter a browser sends `Origin: null` with the form and the check for foreign
origins would have nothing to compare; towards the redirect URI both send no referrer.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from typing import Final

from starlette.responses import HTMLResponse

from ..io.cloud.wire import REGIONS
from .faults import Fault
from .redirects import origin_of
from .state import Account, Checkout, Consent
from .world import World

FORM_COOKIE: Final = "sandbox_form"

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2230; --soft: #5b6478; --paper: #ffffff; --ground: #eef1f7; --line: #d8deea;
  --accent: #3552d8; --on-accent: #ffffff; --warn: #8a4b00; --warn-ground: #fff3da; --warn-line: #f0d59a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf4; --soft: #a2abc0; --paper: #1a1f2c; --ground: #11141d;
  --line: #323a4e; --accent: #8ea2ff; --on-accent: #10142a; --warn: #ffd588; --warn-ground: #33270d;
  --warn-line: #5c481b; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { width: 100%; max-width: 29rem; background: var(--paper); border: 1px solid var(--line); border-radius: 16px;
  overflow: hidden; box-shadow: 0 12px 40px rgb(10 20 60 / 12%); }
.sandbox { margin: 0; padding: .6rem 1.75rem; background: var(--warn-ground); color: var(--warn);
  border-bottom: 1px solid var(--warn-line); font-size: .875rem; }
.content { padding: 1.5rem 1.75rem 1.75rem; }
h1 { margin: 0 0 .35rem; font-size: 1.4rem; line-height: 1.25; letter-spacing: -.01em; }
h2 { margin: 1.5rem 0 .4rem; font-size: 1rem; }
p { margin: 0 0 1rem; } .soft { color: var(--soft); }
code { font-size: .875em; overflow-wrap: anywhere; }
fieldset { border: 0; margin: 0 0 1.25rem; padding: 0; }
legend { padding: 0; margin-bottom: .5rem; font-weight: 600; }
label { display: flex; align-items: center; gap: .75rem; padding: .65rem .9rem; margin-bottom: .5rem; cursor: pointer;
  border: 1px solid var(--line); border-radius: 10px; }
label:has(:checked) { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
label small { display: block; color: var(--soft); font-size: .875rem; }
input[type=radio] { width: 1.1rem; height: 1.1rem; margin: 0; flex: none; accent-color: var(--accent); }
dl { display: grid; grid-template-columns: auto 1fr; gap: .45rem 1.25rem; margin: 1rem 0 1.5rem; padding: 1rem;
  border: 1px solid var(--line); border-radius: 10px; }
dt { color: var(--soft); } dd { margin: 0; text-align: right; font-weight: 600; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.2rem; }
.buttons { display: grid; gap: .6rem; }
button { font: inherit; font-weight: 600; padding: .7rem 1rem; border-radius: 10px; cursor: pointer;
  border: 1px solid var(--line); background: transparent; color: var(--ink); }
button.main { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
button:hover { filter: brightness(1.06); border-color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def _answer(title: str, content: str, *, status: int = 200, redirect_uri: str | None = None) -> HTMLResponse:
    """A whole page; `content` is HTML whose every foreign part is escaped already."""
    html = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · SystemPrompt sandbox</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        '<p class="sandbox"><strong>Sandbox.</strong> This runs on your computer only. '
        "No account, no card and no money is real.</p>\n"
        f'<div class="content">\n<h1>{escape(title)}</h1>\n{content}\n</div>\n</main>\n</body>\n</html>\n'
    )
    targets = "'self'" + (f" {origin_of(redirect_uri)}" if redirect_uri else "")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {targets}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(html, status, headers)


def _form(csrf: str, inner: str) -> str:
    return f'<form method="post">\n<input type="hidden" name="csrf" value="{escape(csrf)}">\n{inner}\n</form>'


def _button(value: str, text: str, *, main: bool = False) -> str:
    kind = ' class="main"' if main else ""
    return f'<button type="submit" name="decision" value="{escape(value)}"{kind}>{escape(text)}</button>'


def _account_choice(account: Account, *, first: bool) -> str:
    checked = " checked" if first else ""
    return (
        f'<label><input type="radio" name="account" value="{escape(account.email)}"{checked}>'
        f"<span>{escape(account.name)}<small>{escape(account.email)}</small></span></label>"
    )


def consent_page(world: World, consent: Consent) -> HTMLResponse:
    """The page an `authorize_url` opens: choose an account, approve or deny."""
    if consent.answer is not None:
        return plain_page("Already answered", "Go back to your terminal; this page has done its part.")
    provider = {"github": "GitHub", "google": "Google"}[consent.provider]
    choices = "\n".join(_account_choice(account, first=number == 0) for number, account in enumerate(world.accounts))
    buttons = _button("approve", "Approve", main=True) + "\n" + _button("deny", "Deny")
    return _answer(
        "Log in to SystemPrompt Cloud",
        f'<p class="soft">A program on this computer wants to log in with a pretended {provider} account. '
        f"It continues at <code>{escape(origin_of(consent.redirect_uri or ''))}</code>.</p>\n"
        + _form(
            consent.csrf,
            f"<fieldset>\n<legend>Who are you?</legend>\n{choices}\n</fieldset>\n"
            f'<div class="buttons">\n{buttons}\n</div>',
        ),
        redirect_uri=consent.redirect_uri,
    )


def payment_page(checkout: Checkout) -> HTMLResponse:
    """The page a `checkout_url` opens: pay, pay with the confirmation pending, or decline."""
    if checkout.answer is not None:
        return plain_page("Already answered", "Go back to your terminal; this page has done its part.")
    plan = checkout.plan
    facts = {
        "Plan": plan.name,
        "Memory": f"{plan.memory_mb_default} MB",
        "Volume": f"{plan.volume_gb} GB",
        "Region": REGIONS.get(checkout.region, checkout.region),
        "Account": checkout.owner.email,
        "Order": checkout.transaction_id,
    }
    rows = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    buttons = "\n".join(
        (
            _button("pay", "Pay with sandbox money", main=True),
            _button("pending", "Pay, but let the bank take its time"),
            _button("decline", "Let the card be declined"),
        )
    )
    return _answer(
        "Order a tenant",
        f"<dl>\n{rows}\n</dl>\n" + _form(checkout.csrf, f'<div class="buttons">\n{buttons}\n</div>'),
        redirect_uri=checkout.redirect_uri,
    )


def plain_page(title: str, text: str, status: int = 200) -> HTMLResponse:
    """A heading and a sentence."""
    return _answer(title, f'<p class="soft">{escape(text)}</p>', status=status)


def home_page(world: World, base_url: str) -> HTMLResponse:
    """What this is, who lives here, and what shall go wrong."""
    people = "".join(
        f"<li>{escape(account.name)}, <code>{escape(account.email)}</code></li>" for account in world.accounts
    )
    return _answer(
        "SystemPrompt Cloud, embedded",
        '<p class="soft">A local cloud that speaks the same API, for trying things out and for tests. It forgets '
        "everything when it stops.</p>\n"
        f"<p>Use it: <code>--api-url {escape(base_url)}</code></p>\n<h2>Accounts</h2>\n<ul>{people}</ul>\n"
        f"<h2>Scripted faults</h2>\n{_fault_list(world.faults.faults)}\n"
        "<h2>What happened</h2>\n<p>As JSON, for tests: <code>/sandbox/ledger</code></p>",
    )


def _fault_list(faults: Iterable[Fault]) -> str:
    items = "".join(f"<li><code>{escape(fault.text)}</code></li>" for fault in faults)
    return f"<ul>{items}</ul>" if items else '<p class="soft">None.</p>'
