"""The handle a caller holds on a flow."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, cast

from ..base.moments import parse_moment
from .history import Change, Outcome, Trouble
from .journal.records import QUEUED, RESTING, FlowRow
from .machine.parts import C_co, Context, Event


class Steering(Protocol):
    """What a handle asks of the engine behind it; see `Engine` for what each does."""

    def row(self, flow: str) -> FlowRow: ...
    def context(self, flow: str) -> Context: ...
    def history(self, flow: str) -> list[Change]: ...
    def changes(self, flow: str, *, children: bool = False) -> AsyncGenerator[Change]: ...
    async def send(self, flow: str, event: Event) -> bool: ...
    async def cancel(self, flow: str, reason: str = "") -> bool: ...
    async def wait(self, flow: str) -> Outcome[Any]: ...
    def describe(self, flow: str) -> str: ...


def in_words(row: FlowRow, how: str, now: datetime) -> str:
    """A flow in a few words, for a log line or a notebook.

    Args:
        row: The flow.
        how: How it is driven, where that is not as usual.
        now: The moment, for the time that is left.
    """
    match row.status:
        case "ended":
            said = f"ended: {row.verdict}"
        case "paused":
            said = f"paused: {Trouble.read(row.trouble or '').message}"
        case _:
            queued = row.status == QUEUED
            said = how or (row.status if row.status in {QUEUED, RESTING} else "")
            if row.deadline is not None:
                left = max(0, int((parse_moment(row.deadline) - now).total_seconds()))
                minutes, seconds = divmod(left, 60)
                hours, minutes = divmod(minutes, 60)
                clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
                said = ", ".join(filter(None, (said, f"begins in {clock}" if queued else f"{clock} left")))
    return f"{row.machine} {row.id} {row.state}{f', {said}' if said else ''}"


class Flow(Generic[C_co]):
    """A running flow of a machine with this context. Made by `Engine.start` and `Engine.resume`."""

    def __init__(self, engine: Steering, flow: str) -> None:
        self._engine = engine
        self.id = flow

    def __repr__(self) -> str:
        return f"<{self._engine.describe(self.id)}>"

    @property
    def row(self) -> FlowRow:
        """The flow as the journal has it. Raises `EngineClosed` after the engine."""
        return self._engine.row(self.id)

    @property
    def state(self) -> str:
        """Its state."""
        return self.row.state

    @property
    def context(self) -> C_co:
        """What it knows."""
        return cast("C_co", self._engine.context(self.id))

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
        """Stop it for good, children first; see `Engine.cancel`.

        Raises:
            EventNotAccepted: The flow's state has no row for `CancelRequested`, or a guard refused it; its children
                were not cancelled either.
            NotStorable: The reason is no text that can be stored.
            TableFailed: The update of that row raised; nothing was changed.
            JournalError: It could not be written; children that had ended before stay ended, and whoever resumes the
                flow may find that it is to end.
            EngineClosed: The engine is closed.
        """
        await self._engine.cancel(self.id, reason)

    def changes(self, *, children: bool = False) -> AsyncGenerator[Change]:
        """Every change, from the first there ever was to the last, whichever process drives the flow.

        They end when the flow has ended or is paused, or when no process drives it any more. Those that another process
        writes come within a tenth of a second.

        Left early, it must be closed (`contextlib.aclosing`): trio collects no asynchronous generator for you.

        Args:
            children: Also those of the flows that run inside it; each change names its flow and machine.
        """
        return self._engine.changes(self.id, children=children)

    async def wait(self) -> Outcome[C_co]:
        """Wait until it has ended, whichever process drives it.

        Raises:
            FlowParked: It is paused until something is fixed; the message and the hint say what.
            FlowInterrupted: No process drives it: the one that did ended or was killed. It can be resumed.
            JournalError: The journal cannot be written; the flow keeps its last committed state.
            EngineClosed: The engine was closed meanwhile; the flow can be resumed.
        """
        return await self._engine.wait(self.id)


FlowId: TypeAlias = str | Flow[Any]
"""What names a flow: its id, or a handle of it."""


def id_of(flow: FlowId) -> str:
    """A flow's id. Raises `TypeError` for anything that names no flow."""
    if isinstance(flow, Flow):
        return flow.id
    if not isinstance(flow, str):  # pyright: ignore[reportUnnecessaryIsInstance] callers without a type checker
        raise TypeError(f"a flow is named by its id or its handle, not by {type(flow).__name__}")
    return flow
