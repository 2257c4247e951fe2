"""Whether a request that failed is sent again, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from ...base.log import get_logger
from ...errors import ApiError, Network
from .polling import Backoff, may_have_happened

logger = get_logger(__name__)

_IDEMPOTENT: Final = frozenset({"GET", "PUT", "DELETE"})


class Retries:
    """The failures of one call, and what follows from each.

    Args:
        method: The HTTP method.
        key: The call's `Idempotency-Key`, if it has one.
        honoured: Whether the API is known to honour such keys.
        attempts: Tries in all.
        budget: Seconds from now after which no try begins.
        backoff: How long to wait between tries.
    """

    def __init__(
        self,
        method: str,
        key: str | None,
        *,
        honoured: Callable[[], bool],
        attempts: int,
        budget: float,
        backoff: Backoff,
    ) -> None:
        self._method = method
        self._key = key
        self._honoured = honoured
        self._attempts = attempts
        self._last_start = trio.current_time() + budget
        self._backoff = backoff
        self._failures = 0
        self.unsure = False
        """Whether a try that failed may have had its effect all the same."""

    def decide(self, exc: Exception) -> bool | float:
        """What stamina asks after a failure: the seconds to wait, or False for no further try."""
        self._failures += 1
        if self.unsure and self._key is not None and isinstance(exc, ApiError) and exc.status == 409:
            # The first try under this key may still be worked on
            # (draft-ietf-httpapi-idempotency-key-header, section 2.6): this is no refusal.
            exc.retryable = True
        self.unsure = self.unsure or may_have_happened(exc)
        if not isinstance(exc, Network | ApiError) or not exc.retryable or self._failures >= self._attempts:
            return False
        never_left = isinstance(exc, Network) and not exc.sent
        answers_again = self._key is not None and self._honoured()
        if self._method not in _IDEMPOTENT and not never_left and not answers_again:
            return False
        wait = self._backoff.delay(self._failures - 1, exc.retry_after if isinstance(exc, ApiError) else None)
        if trio.current_time() + wait > self._last_start:
            return False
        logger.info("%s; trying again in %.1f s", exc, wait)
        return wait
