"""Leaving an event for the process that drives a flow."""

from __future__ import annotations

import msgspec

from ..base.clock import Clock
from ..base.moments import moment_text
from .machine.parts import Event
from .store import Ownership


async def post(store: Ownership, clock: Clock, flow: str, event: Event) -> None:
    """Leave an event in a flow's inbox; returns when it is durable. Raises `JournalError`."""
    body = msgspec.json.encode(event).decode()
    await store.post(flow, moment_text(clock.now()), type(event).__name__, body)
