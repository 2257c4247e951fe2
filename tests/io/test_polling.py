"""Waits between tries spread out, stay under their cap, and never fall short of what the server asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.errors import ApiError, Network, NotAuthenticated, TooLarge
from systemprompt_cloud.io.http.polling import LONGEST_RETRY_AFTER, Backoff, may_have_happened


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- jitter is no secret


@pytest.mark.parametrize(
    ("failure", "open_question"),
    [
        *((ApiError("refused", status=status, code="no"), False) for status in (400, 403, 404, 409, 422, 499)),
        *((ApiError("a proxy's page", status=status), True) for status in (400, 403, 404, 409, 499)),
        *((ApiError("not worked on", status=status), False) for status in (407, 408, 421, 425, 429)),
        *((ApiError("not done, or done", status=status), True) for status in (101, 301, 303, 307, 500, 503, 599)),
        (ApiError("done, and the answer makes no sense"), True),
        (TooLarge("done, and the answer is too large"), True),
        (Network("broke", sent=True), True),
        (Network("never connected", sent=False), False),
        (NotAuthenticated("401"), False),
    ],
)
def test_only_a_refusal_and_a_request_that_never_left_prove_that_nothing_happened(
    failure: Exception, open_question: bool
) -> None:
    """4xx says so in a body the API made, a proxy's does not; nor does a redirect (303: RFC 9110 section 15.4.4)."""
    assert may_have_happened(failure) is open_question


@given(st.integers(0, 10_000), st.integers())
def test_delay_is_within_the_exponential_bound_and_the_cap(attempt: int, seed: int) -> None:
    """Attempt n waits between nothing and base * 2**n, never over the cap, and a huge n overflows nothing."""
    delay = Backoff(base=0.5, cap=30.0, rng=seeded(seed)).delay(attempt)
    assert 0.0 <= delay <= min(30.0, 0.5 * 2 ** min(attempt, 20))


def test_jitter_is_full() -> None:
    """Waits of one attempt spread over the whole interval, so that clients do not return together."""
    backoff = Backoff(base=1.0, cap=8.0, rng=seeded(7))
    delays = [backoff.delay(3) for _ in range(400)]
    assert min(delays) < 0.5
    assert max(delays) > 7.5
    assert 3.5 < sum(delays) / len(delays) < 4.5


def test_same_seed_gives_the_same_waits() -> None:
    """Chance is handed in, so a test or a soak run can be repeated."""
    one, other = Backoff(rng=seeded(3)), Backoff(rng=seeded(3))
    assert [one.delay(n) for n in range(8)] == [other.delay(n) for n in range(8)]


@given(st.floats(0.0, LONGEST_RETRY_AFTER), st.integers(0, 40))
def test_retry_after_is_a_lower_bound(retry_after: float, attempt: int) -> None:
    """The server is never asked again earlier than it said, and not much later."""
    delay = Backoff(base=0.5).delay(attempt, retry_after)
    assert retry_after <= delay <= retry_after + 0.5


def test_absurd_retry_after_is_cut_down() -> None:
    """A server that asks for a year does not get it; one that asks for less than nothing gets a short wait."""
    assert Backoff(base=0.5).delay(0, 365 * 86400.0) <= LONGEST_RETRY_AFTER + 0.5
    assert 0.0 <= Backoff(base=0.5).delay(0, -5.0) <= 0.5


def test_zero_base_waits_nothing() -> None:
    """A base of 0 turns waiting off, for tests."""
    assert Backoff(base=0.0).delay(5) == 0.0


def test_negative_waits_are_refused() -> None:
    """A wait cannot be negative."""
    with pytest.raises(ValueError, match="negative"):
        Backoff(base=-1.0)
