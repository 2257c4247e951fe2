"""What has the right nonce and cannot be used: the page says what to do, and so does the terminal (SECURITY 3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.errors import CallbackRejected
from systemprompt_cloud.io.loopback.brought import pasted_query, read_query
from systemprompt_cloud.io.loopback.callback import CallbackListener, listen_for_callback
from systemprompt_cloud.io.loopback.exchange import MAX_HEAD

from tests.support.tab import DONE, NONCE, ask, exchange, request, status_of

GOOD = f"/callback?state={NONCE}&access_token=t"
OTHER = "another-one-of-the-same-forty-three-letters"
BIG = "x" * MAX_HEAD


@asynccontextmanager
async def told() -> AsyncGenerator[tuple[CallbackListener, list[str]]]:
    """A listener, and what it tells the terminal; it must still take a good callback afterwards."""
    lines: list[str] = []
    answers: list[bytes] = []
    async with (
        listen_for_callback(port=0, nonce=NONCE, unusable=lines.append) as listener,
        trio.open_nursery() as nursery,
    ):
        yield listener, lines
        nursery.start_soon(ask, listener, answers)
        with trio.fail_after(5):
            (await listener.wait_hit()).accept(DONE)
    assert status_of(answers[0]) == 200


def page_of(answer: bytes) -> str:
    """The page of an answer."""
    return answer.partition(b"\r\n\r\n")[2].decode()


FORM = "Content-Type: application/x-www-form-urlencoded"
KINDS: dict[str, tuple[str, str, list[str], int, str, str]] = {
    "a form": (GOOD, "POST", [], 405, "form_post", "form_post"),
    "another method": (GOOD, "PUT", [], 405, "redirect", "not as a redirect"),
    "a form of another site": (GOOD, "POST", ["Origin: null", FORM], 403, "redirect", "form_post"),
    "a script of another site": (GOOD, "GET", ["Origin: https://api.example"], 403, "redirect", "script"),
    "a frame": (GOOD, "GET", ["Sec-Fetch-Dest: iframe"], 403, "tab of its own", "tab of its own"),
    "the port of a tunnel": (GOOD, "GET", ["Host: localhost:9999"], 400, "tunnel", "localhost:9999"),
    "an IPv6 address": (GOOD, "GET", ["Host: [::1]:9999"], 400, "tunnel", "[::1]:9999"),
    "another name": (GOOD, "GET", ["Host: box.local"], 400, "another name", "box.local"),
    "another path": (f"/callback/?state={NONCE}&access_token=t", "GET", [], 404, "only takes", "/callback"),
    "two states": (f"{GOOD}&state={OTHER}", "GET", [], 400, "terminal", "more than one"),
    "too many cookies": (GOOD, "GET", [f"Cookie: a={BIG}"], 431, "cookies", "cookies"),
    "an endless address": (f"{GOOD}{BIG}", "GET", [], 431, "too long", "more than 128 KB"),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_request_with_the_nonce_is_told_of(kind: str) -> None:
    """The browser and the terminal both say what to do, once; neither repeats nonce or token; the wait goes on."""
    target, method, headers, status, on_page, in_terminal = KINDS[kind]
    async with told() as (listener, lines):
        answer = await exchange(listener.port, request(listener.port, target, method, *headers))
        assert status_of(answer) == status
        assert on_page in page_of(answer)
        (line,) = lines
        assert in_terminal in line
        assert "pen the address" in line or "port" in line
        assert not any(secret in line + page_of(answer) for secret in (NONCE, "access_token"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_request_without_the_nonce_is_not_told_of(kind: str) -> None:
    """Any program on this computer could fill the terminal; the page is the same."""
    target, method, headers, status, _, _ = KINDS[kind]
    async with told() as (listener, lines):
        answer = await exchange(listener.port, request(listener.port, target.replace(NONCE, OTHER), method, *headers))
        assert status_of(answer) == status
        assert page_of(answer)
        assert lines == []


async def test_a_form_with_the_nonce_in_its_body_is_told_of() -> None:
    """Some providers send everything in the body; what is in it is only looked at for the nonce."""
    for state, count in ((NONCE, 1), (OTHER, 0)):
        async with told() as (listener, lines):
            body = urlencode({"access_token": "t", "state": state})
            head = request(listener.port, "/callback", "POST", FORM, f"Content-Length: {len(body)}")
            assert status_of(await exchange(listener.port, head + body.encode())) == 405
            assert len(lines) == count


async def test_a_program_that_looks_at_links_is_not_told_of() -> None:
    """A HEAD is followed by the browser's own GET."""
    async with told() as (listener, lines):
        assert status_of(await exchange(listener.port, request(listener.port, GOOD, "HEAD"))) == 405
        assert lines == []


@pytest.mark.parametrize("cookies", [1, 20, 120])
async def test_a_browser_full_of_cookies_is_let_in(cookies: int) -> None:
    """Cookies know no ports: those of every project on this computer come along."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        cookie = "; ".join(f"session{number}={'x' * 1000}" for number in range(cookies))
        nursery.start_soon(ask, listener, answers, request(listener.port, GOOD, "GET", f"Cookie: {cookie}"))
        with trio.fail_after(5):
            (await listener.wait_hit()).accept(DONE)
    assert status_of(answers[0]) == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    ],
)
async def test_no_answer_is_empty(data: bytes) -> None:
    """Whatever a browser sent, it shows a page and not an empty tab."""
    async with told() as (listener, _):
        assert "<h1" in page_of(await exchange(listener.port, data))


async def test_a_reload_after_success_is_not_sent_back_to_the_terminal() -> None:
    """Our page has taken the query away: the address that is left is of a login that is done."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        assert "still waiting" in page_of(await exchange(listener.port, request(listener.port, "/callback")))
        nursery.start_soon(ask, listener, answers)
        (await listener.wait_hit()).accept(DONE)
        for target in ("/callback", GOOD):
            answer = await exchange(listener.port, request(listener.port, target))
            assert status_of(answer) == 409
            assert "has what it needs" in page_of(answer)


# --- a query is read so that a person learns what came -------------------------------------------------------------

WORDS = st.text(st.characters(codec="latin-1"), max_size=12)
MORE = st.lists(st.tuples(st.sampled_from(["error_description", "access_token", "x", ""]), WORDS), max_size=40)


@given(
    before=MORE, after=MORE, raw=st.sampled_from(["", "&%ff=%ff", "&access_token=%00", "&error_description=%E9%0D%0A"])
)
def test_an_error_is_read_whatever_else_came(
    before: list[tuple[str, str]], after: list[tuple[str, str]], raw: str
) -> None:
    """It ends the login: nothing that stands beside it may hide it."""
    query = f"{urlencode(before)}&error=access_denied&state={NONCE}{raw}&{urlencode(after)}"
    found = read_query(query, NONCE)
    assert found is not None
    assert found.damage == ""
    assert found.params["error"] == "access_denied"
    assert not any(char < " " for value in found.params.values() for char in value)


@given(query=st.text(max_size=80) | MORE.map(urlencode), nonce=st.sampled_from([None, NONCE]))
def test_no_query_makes_the_reader_crash(query: str, nonce: str | None) -> None:
    """It is of this wait or not, whole or damaged; what is damaged brings nothing."""
    found = read_query(query, nonce)
    assert found is None or not found.damage or found.params == {}


def test_a_plus_in_a_token_stays_one() -> None:
    """Base64 that an API did not encode: no token holds a space."""
    found = read_query(f"state={NONCE}&access_token=a+b%2Bc/d==&x=a+b", NONCE)
    assert found is not None
    assert found.params == {"access_token": "a+b+c/d==", "x": "a b"}


# --- a pasted address, in any spelling -----------------------------------------------------------------------------

SPELLINGS = [
    "http://127.0.0.1:{port}/callback?{query}",
    "  http://127.0.0.1:{port}/callback?{query}\r",
    "https://127.0.0.1:{port}/callback?{query}",
    "http://localhost:{port}/callback?{query}",
    "http://[::1]:{port}/callback?{query}",
    "http://127.0.0.1:9999/callback?{query}",
    "http://localhost/callback?{query}",
    "HTTP://LOCALHOST:{port}/callback?{query}",
    "127.0.0.1:{port}/callback?{query}",
    "localhost:9999/callback?{query}",
    "<http://127.0.0.1:{port}/callback?{query}>",
    '"http://127.0.0.1:{port}/callback?{query}"',
    "\ufeffhttp://127.0.0.1:{port}/call\nback?{query}\u200b",
    "http://127.0.0.1:{port}/callback?x=1&amp;{query}",
    "http://127.0.0.1:{port}/callback?{query}#",
    "http://127.0.0.1:{port}/callback?{query}#_=_",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_pasted_address_is_read_in_any_spelling(spelling: str) -> None:
    """Tunnels change the port, browsers the scheme, people the name; the nonce tells whose it is."""
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        query = f"state={NONCE}&access_token=t"
        nursery.start_soon(listener.take_pasted, spelling.format(port=listener.port, query=query))
        with trio.fail_after(5):
            hit = await listener.wait_hit()
        assert hit.params["access_token"] == "t"
        hit.accept(DONE)


@pytest.mark.parametrize(
    "fragment", ["access_token=t&token_type=bearer", f"access_token=t&state={NONCE}", "error=denied"]
)
async def test_what_is_behind_the_hash_of_a_pasted_address_is_read(fragment: str) -> None:
    """A browser does not send it; only the person can bring it."""
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        address = f"http://127.0.0.1:{listener.port}/callback?state={NONCE}#{fragment}"
        nursery.start_soon(listener.take_pasted, address)
        with trio.fail_after(5):
            hit = await listener.wait_hit()
        assert hit.params.get("access_token") == "t" or hit.params["error"] == "denied"
        hit.accept(DONE)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "http://evil.example/callback?{query}",
        "http://127.0.0.1:1/other?{query}",
        "http://[::1/callback",
    ],
)
async def test_another_address_is_refused(address: str) -> None:
    """It says which one is meant; whoever has no nonce must name the port, too."""
    async with listen_for_callback(port=0, nonce=NONCE) as listener:
        with pytest.raises(CallbackRejected, match="not an address that begins with http://127"):
            await listener.take_pasted(address.format(query=f"state={NONCE}&access_token=t"))
    async with listen_for_callback(port=0, nonce=None) as listener:
        with pytest.raises(CallbackRejected, match="not an address that begins with http://127"):
            await listener.take_pasted("http://127.0.0.1:1/callback?access_token=t")


@settings(max_examples=300)
@given(text=st.text(max_size=60) | st.builds("{}//{}:{}/callback?{}#{}".format, *[st.text(max_size=8)] * 5))
def test_no_text_makes_the_reader_of_addresses_crash(text: str) -> None:
    """Whatever is pasted, it is one of ours or not."""
    found = pasted_query(text, None)
    assert found is None or found.isascii()


@given(token=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20))
def test_an_encoded_token_comes_through(token: str) -> None:
    """By redirect, by paste and behind the hash it is the same token."""
    for address in (
        f"?state={NONCE}&access_token={quote(token, safe='')}",
        f"?state={NONCE}#access_token={quote(token, safe='')}",
    ):
        query = pasted_query(f"http://127.0.0.1:1/callback{address}", None)
        assert query is not None
        found = read_query(query, NONCE)
        assert found is not None
        assert found.params == {"access_token": token}
