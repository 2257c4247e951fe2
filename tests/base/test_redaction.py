"""The redactor: what is said never holds a secret, however it got into the sentence."""

from __future__ import annotations

import gc
import threading
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.base.redaction import forget, forget_secrets, redact, register_held, register_secret

from tests.support.effort import calls_of

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl"
NONCE = "Zk3vQ9_nonce-T1x"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"the API sent {JWT}.", "the API sent ***"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "***"),
        (f"cut short: {JWT[:30]}", "cut short: ***"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("{b'authorization': b'bearer abc'}", "{b'authorization': b'bearer ***'}"),
        (f"GET /callback?access_token=abc&state={NONCE}", "GET /callback?access_token=***&state=***"),
        (
            "GET /callback?error=access_denied&code=xyz#id_token=q",
            "GET /callback?error=access_denied&code=***#id_token=***",
        ),
        ("https://h/a?tenant=t1&secret=s", "https://h/a?tenant=t1&secret=***"),
        (
            f"https://api/authorize?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback%3Fstate%3D{NONCE}&x=1",
            "https://api/authorize?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback%3Fstate%3D***&x=1",
        ),
        ("http%3A%2F%2Fh%2F%3Fstate%3Dabc%26page%3D2", "http%3A%2F%2Fh%2F%3Fstate%3D***%26page%3D2"),
        ("proxy http://ann:pa/s@s@proxy:3128/ is down", "proxy http://ann:***@proxy:3128/ is down"),
        ("https://ghp_abc@github.com/o/r", "https://***@github.com/o/r"),
        ("postgres://app:pw@db.example/t?sslmode=require refused", "postgres://*** refused"),
        ('{"api_token": "abc", "status": "ok"}', '{"api_token": "***", "status": "ok"}'),
        ("TenantSecrets(sync_token='abc', app_url='u')", "TenantSecrets(sync_token='***', app_url='u')"),
        ('{"anthropic_api_key":"sk-1"}', '{"anthropic_api_key":"***"}'),
    ],
)
def test_a_secret_known_by_its_shape_is_hidden(said: str, shown: str) -> None:
    """Tokens, headers, callback parameters, passwords and database URLs are replaced, and nothing around them."""
    assert redact(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "flow 01J is in state awaiting_callback",
        '{"state": "awaiting_callback", "code": "not_found"}',
        "GET https://api.systemprompt.io:443/api/v1/auth/me answered 401",
        "https://registry.example:443/@scope/package",
        "systemprompt-cloud login --port 8765",
        "zipcode 12345, 3 tokens left",
    ],
)
def test_what_is_no_secret_stays_readable(said: str) -> None:
    """A flow's state, an error's code, ports and plain words are left alone."""
    assert redact(said) == said


@given(secret=st.text(min_size=1, max_size=20), before=st.text(max_size=20), after=st.text(max_size=20))
@example(secret='"\\\n', before="%", after="'")
def test_a_registered_value_is_found_anywhere(secret: str, before: str, after: str) -> None:
    """A value with no shape at all is hidden plain, percent-encoded and as a repr, whatever stands around it."""
    secret = f"opaque!{secret}!value"
    register_secret(secret)
    for form in (secret, quote(secret, safe=""), repr(secret)[1:-1]):
        assert form not in redact(before + form + after)


def test_the_longer_of_two_registered_values_is_hidden_whole() -> None:
    """A secret that is the beginning of another does not leave the other's rest standing."""
    register_secret("shared-start")
    register_secret("shared-start-and-rest")
    assert redact("<shared-start-and-rest>") == "<***>"


def test_a_very_short_value_is_not_registered() -> None:
    """Hiding `ab` everywhere would make every message unreadable."""
    register_secret("ab")
    assert redact("about") == "about"


_PARTS = st.sampled_from(
    [JWT, "Bearer ", "state=", "&code=x", "://u:p@h", "postgres://", '"token": "', "%3Fstate%3D", " "]
)


@given(st.lists(_PARTS | st.text(max_size=5), max_size=12).map("".join))
def test_redacting_twice_changes_nothing_more(said: str) -> None:
    """Text meets the redactor more than once: the first pass leaves no token, the second nothing to do."""
    once = redact(said)
    assert redact(once) == once
    assert JWT not in once


# --- who holds a secret -------------------------------------------------------------------------------------------

# Some are part of others, `a b` and `a%20b` have a form in common, and all begin alike.
_SHARED = ("shared-one", "shared-one-and-more", "shared a b", "shared%20a%20b", "shared+a+b", 'shared "quoted"')
_OWNERS = (None, "flow 1", "flow 2", "client")


@given(st.lists(st.tuples(st.sampled_from(_OWNERS), st.sampled_from([*_SHARED, "forget"]))))
def test_a_value_is_hidden_as_long_as_somebody_holds_it(steps: list[tuple[str | None, str]]) -> None:
    """Whatever is registered and forgotten in whatever order: hidden means held, in every form."""
    forget_secrets()
    held: set[tuple[str | None, str]] = set()
    for owner, value in steps:
        if value != "forget":
            register_secret(value, owner)
            held.add((owner, value))
        elif owner is not None:
            forget(owner)
            held = {each for each in held if each[0] != owner}
        known = {value for _, value in held}
        hidden = {form for value in known for form in (value, quote(value, safe=""), value.replace(" ", "+"))}
        for value in _SHARED:
            assert (redact(f"<{value}>") == f"<{value}>") == (not any(form in value for form in hidden))


def test_threads_register_and_forget_beside_each_other() -> None:
    """What a thread holds is hidden until it lets go, whatever others do with the same value."""
    found: list[str] = []

    def hold(n: int) -> None:
        for turn in range(200):
            register_secret("a-shared-secret", f"{n}")
            register_secret(f"a-secret-of-{n}-{turn}", f"{n}")
            said = redact(f"a-shared-secret a-secret-of-{n}-{turn}")
            if said != "*** ***":
                found.append(said)
            forget(f"{n}")

    threads = [threading.Thread(target=hold, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == []
    assert redact("a-shared-secret a-secret-of-0-0") == "a-shared-secret a-secret-of-0-0"


@pytest.mark.parametrize("lengths", [1, 40])
def test_a_line_costs_the_same_however_many_secrets_are_known(lengths: int) -> None:
    """All keys of a provider begin alike; calls are counted, not seconds."""
    line = "the key sk_live_000003 was refused; " + "sk_live_ is how keys begin " * 20
    counts: list[int] = []
    known = 0
    for many in (100, 10_000):
        for number in range(known, many):
            register_secret(f"sk_live_{number:06}".ljust(14 + number % lengths, "x"), "a provider")
        known = many
        register_secret("sk_live_000003", "somebody")
        assert redact(line).startswith("the key *** was refused; sk_live_ is how keys begin")
        counts.append(calls_of(lambda: redact(line)))
    forget("a provider")
    forget("somebody")
    assert counts[1] == counts[0]


class Record(msgspec.Struct, frozen=True, weakref=True):
    """Holds a secret, as the records of saved files do."""

    token: str

    def __post_init__(self) -> None:
        register_held(self, [self.token])


def test_a_secret_of_a_record_is_hidden_as_long_as_a_record_has_it() -> None:
    """A copy holds it as well; afterwards it is an ordinary word, and a long process does not collect them."""
    record = Record("opaque-value")
    copy = msgspec.structs.replace(record)
    del record
    gc.collect()
    assert redact("opaque-value") == "***"
    del copy
    gc.collect()
    assert redact("opaque-value") == "opaque-value"


def test_a_record_may_end_while_the_redactor_works() -> None:
    """Garbage is collected in whichever thread runs, also in one that registers a secret: nothing waits for itself."""
    for number in range(2000):
        loop: list[object] = [Record(f"opaque-value-{number}")]
        loop.append(loop)  # only the collector finds it
    gc.collect()
    assert redact("opaque-value-7") == "opaque-value-7"
