"""The handle a caller holds on a flow."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol, TypeAlias

from .history import Change, Outcome
from .journal.records import FlowRow
from .machine.parts import Context, Event


class Steering(Protocol):
    """What a handle asks of the engine behind it; see `Engine` for what each does."""

    def row(self, flow: str) -> FlowRow: ...
    def context(self, flow: str) -> Context: ...
    def history(self, flow: str) -> list[Change]: ...
    def changes(self, flow: str, *, children: bool = False) -> AsyncGenerator[Change]: ...
    async def send(self, flow: str, event: Event) -> bool: ...
    async def cancel(self, flow: str, reason: str = "") -> bool: ...
    async def wait(self, flow: str) -> Outcome: ...


class Flow:
    """A running flow. Made by `Engine.start` and `Engine.resume`."""

    def __init__(self, engine: Steering, flow: str) -> None:
        self._engine = engine
        self.id = flow

    @property
    def row(self) -> FlowRow:
        """The flow as the journal has it."""
        return self._engine.row(self.id)

    @property
    def state(self) -> str:
        """Its state."""
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
            True when the flow took it; False when it is kept in the flow's inbox: until a state takes it, or until a
            process drives the flow.

        Raises:
            EventNotAccepted: No state that the flow is in or can enter has a row for it, or it has ended, or its inbox
                is full; nothing changed.
            NotStorable: The event, or the context after it, cannot be written and read back; nothing changed.
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
        """Every change, from the first there ever was to the last; ends when the flow ends or is paused.

        Left early, it must be closed (`contextlib.aclosing`): trio collects no asynchronous generator for you.

        Args:
            children: Also those of the flows that run inside it; each change names its flow and machine.
        """
        return self._engine.changes(self.id, children=children)

    async def wait(self) -> Outcome:
        """Wait until it has ended.

        Raises:
            FlowParked: It is paused until something is fixed; the message and the hint say what.
            JournalError: The journal cannot be written; the flow keeps its last committed state.
            EngineClosed: The engine was closed meanwhile, or no process drives the flow; it can be resumed.
            FlowBusy: Another process drives it; docs/guides/embed.md shows how to follow it.
        """
        return await self._engine.wait(self.id)


FlowId: TypeAlias = str | Flow
"""What names a flow: its id, or a handle of it."""


def id_of(flow: FlowId) -> str:
    """A flow's id. Raises `TypeError` for anything that names no flow."""
    if isinstance(flow, Flow):
        return flow.id
    if not isinstance(flow, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers without a type checker
        raise TypeError(f"a flow is named by its id or its handle, not by {type(flow).__name__}")
    return flow
