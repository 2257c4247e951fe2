"""What schemathesis is told about the local cloud that a description cannot say; loaded by its own process."""

from __future__ import annotations

import itertools
from typing import Any

import schemathesis

# Its annotations leave type arguments open; `Any` keeps that in one place.
Case = Any

_numbers = itertools.count()


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType]  # as above
def before_call(_context: schemathesis.HookContext, case: Case, _kwargs: dict[str, Any]) -> None:
    """A good Idempotency-Key is spent by its first request; drawn twice for two bodies it would rightly be refused."""
    good = case.meta is not None and not case.meta.generation.mode.is_negative
    if good and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"fuzz-{next(_numbers)}"
