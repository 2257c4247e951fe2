"""What a failure leaves open, and how long to wait before trying again.

Theory: after an outage every client wakes at once, and clients that wait the same time return at once too, and bring
the server down again. Full jitter (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015)
spreads them best: attempt n waits a uniformly random time between nothing and `base * 2**n`, under a cap. A
`Retry-After` of the server is a lower bound on that, never a value to be exact about, so a little jitter comes on top
of it.

Nothing here sleeps and nothing looks at a clock: the caller waits, under its own deadline.
"""

from __future__ import annotations

import random
from typing import Final

from ...errors import ApiError, Network, NotAuthenticated

LONGEST_RETRY_AFTER: Final = 300.0
"""Seconds. A `Retry-After` beyond this is cut down: a bug of the server must not stop a client for a year."""

_NOT_WORKED_ON: Final = frozenset({407, 408, 421, 425, 429})


def may_have_happened(failure: Exception) -> bool:
    """Whether what was asked for may have been done although its one try failed.

    It was not if nothing was sent, if the token was not accepted, or if the API itself refused (4xx in a body of its
    own). What a proxy answers in the API's place tells nothing about the API, with a few exceptions: 407 (RFC 9110
    section 15.5.8), 408 (15.5.9: not all of the request had come), 421 (15.5.20), 425 (RFC 8470 section 5.2) and 429
    (RFC 6585 section 4) say that the request was not worked on. A redirect refuses nothing: 303 may say that what was
    asked for was done (RFC 9110 section 15.4.4).
    """
    if isinstance(failure, Network):
        return failure.sent
    if isinstance(failure, ApiError):
        if failure.status in _NOT_WORKED_ON:
            return False
        return failure.code is None or failure.status is None or not 400 <= failure.status < 500
    return not isinstance(failure, NotAuthenticated)


class Backoff:
    """Full-jitter exponential backoff.

    Args:
        base: Seconds; the upper bound of the first wait.
        cap: Seconds; no wait without a `Retry-After` is longer.
        rng: Where chance comes from; seed one of your own to make waits repeatable.

    Raises:
        ValueError: `base` or `cap` is negative: waits cannot be.
    """

    def __init__(self, base: float = 0.5, cap: float = 30.0, rng: random.Random | None = None) -> None:
        if base < 0 or cap < 0:
            raise ValueError(f"waits cannot be negative: base={base}, cap={cap}")
        self._base: Final = base
        self._cap: Final = cap
        # Not a secret: jitter only has to differ between clients.
        self.rng: Final = random.Random() if rng is None else rng  # noqa: S311

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Return how many seconds to wait after a failure.

        Args:
            attempt: How many failures came before this one: 0 for the first.
            retry_after: Seconds the server asked for (RFC 9110 section 10.2.3), when it did.

        Returns:
            Seconds: at least `retry_after` (up to `LONGEST_RETRY_AFTER`), at most that plus the jittered backoff.
        """
        # 2.0**1024 overflows, and any exponent near it has met the cap long before.
        bound = min(self._cap, self._base * 2.0 ** min(max(attempt, 0), 64))
        if retry_after is None:
            return self.rng.uniform(0.0, bound)
        return min(max(retry_after, 0.0), LONGEST_RETRY_AFTER) + self.rng.uniform(0.0, min(bound, self._base))
