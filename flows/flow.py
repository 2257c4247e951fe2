"""The handle a caller holds on a flow, and what it hands out: changes on the way, an outcome at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ..io.records import FlowRow, Record

if TYPE_CHECKING:
    from ..machines.machine import Context, Event
    from .engine import Engine


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One committed line of a flow's history, as people and programs may see it: it holds no secret.

    Attributes:
        flow: The flow's id.
        seq: 1 for the first line of this flow, and so on without gaps.
        at: RFC 3339, UTC.
        machine: The machine's name.
        kind: `started`, `event`, `intent`, `parked`, `resumed`, `migrated` or `abandoned`.
        event: The event's name; for the other kinds what it is about.
        from_state: Before.
        to_state: After; the same for progress.
        message: What happened in words, when there is something to say.
        deadline: When the state it led to runs out (RFC 3339), when it does.
    """

    flow: str
    seq: int
    at: str
    machine: str
    kind: str
    event: str
    from_state: str
    to_state: str
    message: str = ""
    deadline: str | None = None

    @classmethod
    def of(cls, machine: str, record: Record) -> Change:
        """From the journal's record."""
        body = msgspec.json.decode(record.body, type=dict[str, object])
        words = next((str(body[name]) for name in ("message", "problem", "reason") if body.get(name)), "")
        return cls(
            flow=record.flow,
            seq=record.seq,
            at=record.at,
            machine=machine,
            kind=record.kind,
            event=record.name,
            from_state=record.from_state,
            to_state=record.to_state,
            message=words if record.kind in {"event", "parked", "abandoned"} else "",
            deadline=record.deadline,
        )


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow ended.

    Attributes:
        flow: The flow's id.
        machine: The machine's name.
        state: The final state.
        verdict: `success`, `failure` or `cancelled`.
        problem: Why it did not end well, in a sentence; empty when it did.
        result: What the flow hands out; holds no secret.
    """

    flow: str
    machine: str
    state: str
    verdict: str
    problem: str
    result: Mapping[str, object]

    @property
    def succeeded(self) -> bool:
        """True when the flow reached what it was started for."""
        return self.verdict == "success"


class Flow:
    """A running flow. Made by `Engine.start` and `Engine.resume`."""

    def __init__(self, engine: Engine, flow: str) -> None:
        self._engine = engine
        self.id = flow

    @property
    def row(self) -> FlowRow:
        """The flow as it stands, as the journal has it."""
        return self._engine.row(self.id)

    @property
    def state(self) -> str:
        """The state it stands in."""
        return self.row.state

    @property
    def context(self) -> Context:
        """What it knows."""
        return self._engine.context(self.id)

    @property
    def history(self) -> list[Change]:
        """Everything that happened to it, in order."""
        return self._engine.history(self.id)

    async def send(self, event: Event) -> bool:
        """Give it an event; returns when the event is durable.

        Returns:
            True when the flow took it; False when this process does not drive the flow and left it in its inbox.

        Raises:
            EventNotAccepted: The state it stands in has no row for the event; nothing changed.
            JournalError: The event could not be written; nothing changed.
        """
        return await self._engine.send(self.id, event)

    async def cancel(self, reason: str = "") -> None:
        """Stop it for good, children first.

        Raises:
            JournalError: It could not be written; nothing changed.
        """
        await self._engine.cancel(self.id, reason)

    def changes(self, *, children: bool = False) -> AsyncGenerator[Change]:
        """Every change, from the first there ever was to the last; ends when the flow ends or is parked.

        Left early, it must be closed (`contextlib.aclosing`): trio collects no asynchronous generator for you.

        Args:
            children: Also those of the flows that run inside it; each change names its flow and machine.
        """
        return self._engine.changes(self.id, children=children)

    async def wait(self) -> Outcome:
        """Wait until it has ended.

        Raises:
            FlowParked: It cannot go on until somebody mends something; the message and the hint say what.
            JournalError: The journal cannot be written; the flow stands where it stood.
            EngineClosed: The engine was closed meanwhile; the flow can be resumed.
        """
        return await self._engine.wait(self.id)
