"""Events for flows that another process drives, or none: left in the flow's inbox.

The same rule holds wherever an event is sent from. It is taken by the state the flow is in, or kept until the flow
enters a state that takes it, or refused: where the sender still listens with `EventNotAccepted`, else by a record in
the flow's history.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..base.clock import Clock
from ..base.moments import moment_text
from .errors import EventNotAccepted
from .journal.records import FlowRow
from .machine.machine import Machine
from .machine.parts import CancelRequested, DeadlinePassed, Event
from .store import Ownership
from .versions import is_current


def refuse_own(machine: str, state: str, event: Event) -> None:
    """Refuse `DeadlinePassed` from outside: only the engine's clock decides when a deadline has passed.

    Raises:
        EventNotAccepted: It is that event.
    """
    if isinstance(event, DeadlinePassed):
        raise EventNotAccepted(state, DeadlinePassed.__name__, machine=machine, own=True)


def inbox_text(machine: Machine[Any], row: FlowRow, event: Event) -> str:
    """The JSON of an event that may wait in a flow's inbox: the flow's state, or one it can enter, has a row for it.

    Raises:
        EventNotAccepted: No such state has, the flow has ended, or only the engine sends such an event.
        NotStorable: The event cannot be written and read back.
    """
    refuse_own(machine.name, row.state, event)
    text, event = machine.encode_event(event)
    kind, state = type(event), row.state
    if row.status == "ended":
        raise EventNotAccepted(state, kind.__name__, machine=machine.name, ended=True)
    if is_current(machine, row) and not (kind in machine.accepts(state) or machine.keeps(state, kind)):
        raise EventNotAccepted(state, kind.__name__, machine=machine.name)
    return text


async def ask_to_end(store: Ownership, clock: Clock, flow: str, reason: str) -> None:
    """Ask whoever drives a flow, or resumes it, to end it; returns when that is durable. Raises as `post`."""
    text = msgspec.json.encode(CancelRequested(reason)).decode()
    await store.post(flow, moment_text(clock.now()), CancelRequested.__name__, text)
