"""Events from other processes: left for the process that drives a flow, and taken there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from ..base.clock import Clock
from ..base.errors import CloudError
from ..base.log import get_logger
from ..base.moments import moment_text
from .errors import EventNotAccepted
from .journal.records import Signal
from .live import LiveFlow
from .machine.parts import CancelRequested, Event
from .store import Ownership

logger = get_logger(__name__)


async def post(store: Ownership, clock: Clock, flow: str, event: Event) -> None:
    """Leave an event in a flow's inbox; returns when it is durable. Raises `JournalError`."""
    body = msgspec.json.encode(event).decode()
    await store.post(flow, moment_text(clock.now()), type(event).__name__, body)


class EndFlow(Protocol):
    """Ends a driven flow for good, its children first; the signal that asked for it leaves the inbox with the step."""

    def __call__(self, live: LiveFlow, reason: str, *, signal: int | None = None) -> Awaitable[None]: ...


async def take(live: LiveFlow, signal: Signal, *, end: EndFlow, drop: Callable[[int], Awaitable[None]]) -> None:
    """Give a driven flow an event from its inbox; any runner can use this.

    What its state has no row for, or its machine cannot read, is dropped, with a warning in the log. What cannot be
    written stays for the next time.

    Args:
        live: The flow.
        signal: The event in the inbox.
        end: Ends the flow, when that is what the event asks for.
        drop: Takes a signal out of the inbox.
    """
    try:
        event = live.machine.decode_event(signal.body)
        if isinstance(event, CancelRequested):
            await end(live, event.reason, signal=signal.id)
            if live.ended:  # perhaps by what became of its child, and then the signal is still there
                await drop(signal.id)
        else:
            await live.step(event, signal=signal.id)
    except EventNotAccepted as exc:
        await _refuse(live, signal, exc, drop)
    except CloudError as exc:  # this flow cannot be written just now; its signal stays, and the next one has its turn
        logger.warning("%s: the signal %s has to wait: %s", live.row.id, signal.name, exc)
    except Exception as exc:  # noqa: BLE001 not an event, or a table whose update cannot take it: no other flow suffers
        await _refuse(live, signal, exc, drop)


async def _refuse(live: LiveFlow, signal: Signal, exc: Exception, drop: Callable[[int], Awaitable[None]]) -> None:
    logger.warning("%s: the signal %s was not taken: %s", live.row.id, signal.name, exc)
    await drop(signal.id)
