"""The callback listener and whoever it does not let in, and what its answers show (SECURITY 3, 5, 6 and 8)."""

from __future__ import annotations

from urllib.parse import urlencode

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.redaction import redact
from systemprompt_cloud.errors import CallbackRejected
from systemprompt_cloud.io.loopback.callback import CallbackHit, StatusView, listen_for_callback, new_nonce
from systemprompt_cloud.io.loopback.exchange import MAX_HEAD
from systemprompt_cloud.io.loopback.pages import waiting_page

from tests.support.tab import DONE, NONCE, ask, exchange, request, status_of, still_waiting

# --- who does not get in (SECURITY 3 and 5) ----------------------------------------------------------------

WRONG = "another-one-of-the-same-forty-three-letters"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"/callback?state={WRONG}&access_token=evil", 400),
        (f"/callback?state={NONCE[:-1]}&access_token=evil", 400),
        (f"/callback?state={NONCE}x&access_token=evil", 400),
        ("/callback?state=%C3%A9&access_token=evil", 400),
        ("/callback?state=&access_token=evil", 400),
        ("/callback?access_token=evil", 400),
        ("/callback", 400),
        ("/callback?error=access_denied", 400),
        (f"/callback?error=access_denied&state={WRONG}", 400),
        (f"/callback?state={NONCE}&state={NONCE}", 400),
        (f"/callback?state={WRONG}&state={NONCE}&access_token=evil", 400),
        (f"/callback?state={NONCE}&state={WRONG}&access_token=evil", 400),
        (f"/callback?state={NONCE}&%73tate={WRONG}&access_token=evil", 400),
        (f"/callback?state={NONCE}%ff&access_token=evil", 400),
        (f"/callback?state={WRONG}&error=access_denied&error_description=%ff", 400),
        ("/favicon.ico", 404),
        ("/", 404),
        (f"/callback/?state={NONCE}", 404),
        (f"//callback?state={NONCE}", 404),
        (f"/%63allback?state={NONCE}", 404),
        (f"/x/../callback?state={NONCE}", 404),
        (f"/Callback?state={NONCE}", 404),
        ("/status/t1", 404),
    ],
)
async def test_a_wrong_request_is_refused_and_the_wait_goes_on(target: str, status: int) -> None:
    """Missing, wrong or doubled nonce, also with `error=`, and every other path: 4xx, then a good one succeeds."""
    async with still_waiting() as listener:
        assert status_of(await exchange(listener.port, request(listener.port, target))) == status


# --- what the right browser brings is always a hit (SECURITY 3) ---------------------------------------------

MANY = "".join(f"&p{n}=1" for n in range(40))
DAMAGED = ["&access_token=a&access_token=b", "&access_token=%ff", "&access_token=a%00", MANY]
LENIENT: list[tuple[str, dict[str, str]]] = [
    ("&error=denied&error_description=%E9", {"error": "denied", "error_description": "\ufffd"}),
    ("&error=%1b%5b2J", {"error": "\ufffd[2J"}),
    ("&error=a&error=b", {"error": "a"}),
    ("&error=denied&access_token=%ff", {"error": "denied"}),
    (
        f"&error=denied&error_description=No%0D%0Aline{''.join(f'&p{n}=1' for n in range(40))}",
        {"error": "denied", "error_description": "No line"},
    ),
    ("&error=denied&%ff=1", {"error": "denied", "\ufffd": "1"}),
    ("", {}),
]


@pytest.mark.parametrize(("more", "params"), [*LENIENT, *((more, None) for more in DAMAGED)])
async def test_a_callback_with_the_nonce_is_a_hit_whatever_else_it_says(
    more: str, params: dict[str, str] | None
) -> None:
    """What is for the person need not be whole; of what is damaged nothing is used, and the flow learns of it."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        for query in (f"state={NONCE}{more}", f"{more[1:]}&state={NONCE}"):
            nursery.start_soon(ask, listener, answers, request(listener.port, f"/callback?{query}"))
            with trio.fail_after(5):
                hit = await listener.wait_hit()
            assert (hit.params, hit.damage == "") == (params or {}, params is not None)
            hit.refuse(DONE)
    assert [status_of(answer) for answer in answers] == [503, 503]


@pytest.mark.parametrize("more", [*DAMAGED, "&error=%1b%5b2J", "&error=denied&error_description=%ff"])
async def test_without_a_nonce_what_is_damaged_is_no_hit(more: str) -> None:
    """Anybody can have sent it: it gets a 400 page, and the wait goes on."""
    async with still_waiting(nonce=None) as listener:
        assert status_of(await exchange(listener.port, request(listener.port, f"/callback?{more[1:]}"))) == 400


async def test_a_pasted_address_that_is_damaged_says_so() -> None:
    """Once it is known to be of this login; what is for the person need not be whole there either."""
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        address = f"http://127.0.0.1:{listener.port}/callback?state="
        with pytest.raises(CallbackRejected, match="damaged"):
            await listener.take_pasted(f"{address}{NONCE}&access_token=%ff")
        with pytest.raises(CallbackRejected, match="another login"):
            await listener.take_pasted(f"{address}{WRONG}&access_token=%ff")
        nursery.start_soon(listener.take_pasted, f"{address}{NONCE}&error=denied&error_description=%E9")
        hit = await listener.wait_hit()
        assert hit.params == {"error": "denied", "error_description": "\ufffd"}
        hit.accept(DONE)


# --- requests of another kind (SECURITY 5) ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "DELETE", "TRACE"])
async def test_other_methods_are_refused_and_the_wait_goes_on(method: str) -> None:
    """Only GET is a browser coming back; the right nonce does not make up for it."""
    async with still_waiting() as listener:
        data = request(listener.port, f"/callback?state={NONCE}&x=1", method, f"Host: 127.0.0.1:{listener.port}")
        answer = await exchange(listener.port, data)
        assert status_of(answer) == 405
        assert b"\r\nallow: GET\r\n" in answer
        assert method != "HEAD" or answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: evil.example"], 400),
        (["Host: evil.example:{port}"], 400),
        (["Host: 127.0.0.1"], 400),
        (["Host: 127.0.0.1:1"], 400),
        (["Host: 127.0.0.1:{port}.evil.example"], 400),
        (["Host: 127.0.0.2:{port}"], 400),
        (["Host:"], 400),
        (["Host: 127.0.0.1:{port}", "Host: evil.example"], 400),
        (["Origin: https://evil.example"], 403),
        (["Origin: null"], 403),
        (["Origin: https://127.0.0.1:{port}"], 403),
        (["Origin: http://127.0.0.1:1"], 403),
        (["Sec-Fetch-Dest: iframe"], 403),
        (["Sec-Fetch-Dest: image"], 403),
        (["Sec-Fetch-Dest: script"], 403),
    ],
)
async def test_a_foreign_host_or_origin_is_refused_even_with_the_nonce(headers: list[str], status: int) -> None:
    """DNS rebinding and cross-site requests end in 4xx, and the wait goes on."""
    async with still_waiting() as listener:
        filled = [header.format(port=listener.port) for header in headers]
        data = request(listener.port, f"/callback?state={NONCE}&access_token=evil", "GET", *filled)
        assert status_of(await exchange(listener.port, data)) == status


async def test_a_missing_host_is_refused() -> None:
    """HTTP/1.1 without Host, and HTTP/1.0 that need not send one, are both turned away."""
    async with still_waiting() as listener:
        for version in ("1.1", "1.0"):
            data = f"GET /callback?state={NONCE} HTTP/{version}\r\nConnection: close\r\n\r\n".encode()
            assert status_of(await exchange(listener.port, data)) == 400


async def test_an_absolute_form_target_is_refused() -> None:
    """A request meant for a proxy is not one for us, whatever Host it carries (RFC 9112 section 3.2.2)."""
    async with still_waiting() as listener:
        for host in ("evil.example", f"127.0.0.1:{listener.port}"):
            target = f"http://{host}/callback?state={NONCE}&access_token=evil"
            assert status_of(await exchange(listener.port, request(listener.port, target))) == 404


@pytest.mark.parametrize("where", ["url", "header", "body"])
async def test_oversized_requests_are_refused_and_the_wait_goes_on(where: str) -> None:
    """A head over the bound is 4xx; a body nobody asked for is not read."""
    async with still_waiting() as listener:
        big = "a" * (MAX_HEAD + 1)
        data = {
            "url": request(listener.port, f"/callback?state={NONCE}&access_token={big}"),
            "header": request(listener.port, f"/callback?state={NONCE}", "GET", f"X: {big}"),
            "body": request(listener.port, "/callback", "POST", "Content-Length: 4000000") + b"x" * 4_000_000,
        }[where]
        answer = await exchange(listener.port, data)
        assert not answer or 400 <= status_of(answer) < 500


async def test_fifty_half_open_connections_do_not_stop_a_good_callback() -> None:
    """Silent connections and half-sent requests neither block the callback nor hold up the end."""
    with trio.fail_after(3):
        streams: list[trio.SocketStream] = []
        async with still_waiting() as listener:
            for number in range(50):
                stream = await trio.open_tcp_stream("127.0.0.1", listener.port)
                await stream.send_all(request(listener.port)[: number * 2])
                streams.append(stream)
        for stream in streams:
            await stream.aclose()


async def test_a_web_socket_is_refused() -> None:
    """An upgrade with the right nonce is not a callback."""
    async with still_waiting() as listener:
        data = request(
            listener.port,
            f"/callback?state={NONCE}",
            "GET",
            f"Host: 127.0.0.1:{listener.port}",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ).replace(b"Connection: close", b"Connection: Upgrade")
        assert status_of(await exchange(listener.port, data)) == 403


@settings(max_examples=60, deadline=None)
@given(
    query=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
    | st.lists(st.tuples(st.sampled_from(["state", "error", "access_token", ""]), st.text(max_size=8)), max_size=5).map(
        urlencode
    )
)
async def test_no_query_gets_in_without_the_nonce(query: str) -> None:
    """Whatever else the query says, without the nonce it is 400 and no hit."""
    async with still_waiting() as listener:
        assert status_of(await exchange(listener.port, request(listener.port, f"/callback?{query}"))) == 400


@settings(max_examples=40, deadline=None)
@given(garbage=st.lists(st.binary(max_size=40), min_size=1, max_size=4), hang_up=st.booleans(), upgrade=st.booleans())
async def test_no_bytes_disturb_a_browser_that_is_held(garbage: list[bytes], hang_up: bool, upgrade: bool) -> None:
    """Whatever another connection sends, in whatever packets, the held one gets its page and a new one is heard."""
    answers: list[bytes] = []
    async with listen_for_callback(port=0, nonce=NONCE) as listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener, answers)
        hit = await listener.wait_hit()
        async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
            try:
                for piece in [b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n" * upgrade, *garbage]:
                    await stream.send_all(piece)
                if hang_up:
                    await stream.send_eof()
            except trio.BrokenResourceError:
                pass
        assert status_of(await exchange(listener.port, request(listener.port, "/callback"))) == 400
        hit.accept(DONE)
    assert status_of(answers[0]) == 200


# --- what is shown (SECURITY 6, 8) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/callback", ""),
        ("/nothing", ""),
        ("/callback", "Host: evil.example"),
        ("/status/t", ""),
        ("/callback", "A: b"),
    ],
)
async def test_every_answer_carries_the_protecting_headers(target: str, host: str) -> None:
    """Also a refusal must not be stored, framed, sniffed or quoted as a referrer."""
    async with listen_for_callback(port=0, nonce=NONCE, status_page=lambda: StatusView("working")) as listener:
        answer = await exchange(listener.port, request(listener.port, target, "GET", *([host] if host else [])))
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nreferrer-policy: no-referrer" in head
    assert b"\r\ncache-control: no-store" in head
    assert b"\r\nx-content-type-options: nosniff" in head
    assert b"\r\nserver:" not in head
    if not target.startswith("/status"):
        assert b"content-security-policy: default-src 'none'" in head
        assert b"frame-ancestors 'none'" in head


async def test_no_answer_repeats_what_was_sent() -> None:
    """A refusal shows nothing of the query, so there is nothing to inject and no token on the page."""
    async with still_waiting() as listener:
        target = "/callback?state=QUERYVALUE&access_token=QUERYVALUE&error=%3Cscript%3EQUERYVALUE"
        assert b"QUERYVALUE" not in await exchange(listener.port, request(listener.port, target))


def test_a_hit_does_not_show_its_values() -> None:
    """The repr names the parameters only: values are tokens, and reprs end in logs and tracebacks."""
    shown = repr(CallbackHit({"access_token": "the-secret"}, lambda: None))
    assert "access_token" in shown
    assert "the-secret" not in shown


async def test_nonce_and_token_are_known_to_the_redactor() -> None:
    """From the moment they are met, nonce and token are hidden wherever they turn up."""
    nonce, answers = new_nonce(), list[bytes]()
    async with listen_for_callback(port=0, nonce=nonce) as listener, trio.open_nursery() as nursery:
        assert nonce not in redact(f"the nonce is {nonce}")
        target = f"/callback?state={nonce}&access_token=opaque-token-42"
        nursery.start_soon(ask, listener, answers, request(listener.port, target))
        (await listener.wait_hit()).accept(DONE)
        assert "opaque-token-42" not in redact("the token is opaque-token-42")


async def test_the_waiting_page_is_served_its_status() -> None:
    """`/status/anything` is JSON of the current view, under the same Host and Origin checks."""
    view = StatusView("provisioning", "Making the database")
    answers: list[bytes] = []
    async with (
        listen_for_callback(port=0, nonce=NONCE, status_page=lambda: view) as listener,
        trio.open_nursery() as nursery,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", trust_env=False) as client,
    ):
        nursery.start_soon(ask, listener, answers)
        (await listener.wait_hit()).accept(waiting_page("cs_1"))
        answer = await client.get("/status/cs_1", headers={"Sec-Fetch-Dest": "empty"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"status": "provisioning", "message": "Making the database", "app_url": None}
        view = StatusView("ready", app_url="https://t.example")
        assert (await client.get("/status/whatever")).json()["app_url"] == "https://t.example"
        assert (await client.post("/status/cs_1")).status_code == 405
        assert (await client.get("/status/cs_1", headers={"Host": "evil.example"})).status_code == 400
        assert (await client.get("/status/cs_1", headers={"Origin": "https://evil.example"})).status_code == 403
    assert b"connect-src 'self'" in answers[0]
