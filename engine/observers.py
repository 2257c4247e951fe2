"""Who is told what the flows of an engine do: metrics, traces, alarms.

An observer is told after the commit, in the order of the commits, and for every flow that this engine writes. It is
called on the loop, between two steps of the flows: it must not block. What it raises is logged and disturbs no flow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..base.errors import CloudError
from ..base.log import get_logger
from .errors import FlowParked
from .history import Change, Outcome, Trouble, outcome_of
from .journal.records import FlowRow, Record
from .program import Program

logger = get_logger(__name__)


class Observer(Protocol):
    """What an observer is told; subclass it and write the methods that are wanted.

    Each gets the flow as it is after the commit. Nothing in what it gets is a secret.
    """

    def started(self, flow: FlowRow) -> None:
        """A flow was started; `flow.parent` is the flow that runs it."""

    def committed(self, flow: FlowRow, change: Change) -> None:
        """Anything was written of a flow; what the other methods tell was told here first."""

    def retried(self, flow: FlowRow, change: Change) -> None:
        """An activity failed and will be tried again; `change.event` is its name."""

    def paused(self, flow: FlowRow, error: FlowParked) -> None:
        """A flow was paused; `error.__cause__` is what its activity raised."""

    def ended(self, flow: FlowRow, outcome: Outcome | None) -> None:
        """A flow has ended; None when its machine is not known here, and only `flow.verdict` tells how."""


_TOLD: Final = ("started", "committed", "retried", "paused", "ended")


class Observers:
    """The observers of one engine.

    Args:
        program: What is known here of a machine, by its name. Raises `IncompatibleFlow`.
    """

    def __init__(self, program: Callable[[str], Program[Any]]) -> None:
        self._program = program
        self._observers: tuple[Observer, ...] = ()

    @property
    def any(self) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._observers)

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell one more, until what is returned is called. Raises `TypeError` for what is no observer."""
        for name in _TOLD:
            method = getattr(observer, name, None)
            if not callable(method) or inspect.iscoroutinefunction(method):
                what = "no method" if method is None else "a coroutine function as its method"
                raise TypeError(f"{type(observer).__name__} has {what} {name}: an observer is a subclass of Observer")
        self._observers += (observer,)

        def stop() -> None:
            self._observers = tuple(each for each in self._observers if each is not observer)

        return stop

    def tell(self, row: FlowRow, record: Record, cause: BaseException | None) -> None:
        """Called after a commit.

        Args:
            row: The flow as it now is.
            record: What was written of it.
            cause: What it is paused by, if it is.
        """
        change = Change.of(row.machine, record)
        self._each(lambda observer: observer.committed(row, change))
        if record.kind == "started":
            self._each(lambda observer: observer.started(row))
        elif record.kind == "retried":
            self._each(lambda observer: observer.retried(row, change))
        elif record.kind == "paused":
            error = Trouble.read(record.body).error(row)
            error.__cause__ = cause
            self._each(lambda observer: observer.paused(row, error))
        elif row.status == "ended" and record.seq == row.seq:
            outcome = self._outcome(row, record)
            self._each(lambda observer: observer.ended(row, outcome))

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                logger.exception("the observer %s failed", type(observer).__name__)

    def _outcome(self, row: FlowRow, record: Record) -> Outcome | None:
        if record.kind == "abandoned":
            return None
        try:
            machine = self._program(row.machine).machine
        except CloudError:
            return None
        try:
            return outcome_of(machine, row, machine.decode_context(row.context))
        except Exception:
            logger.exception("flow %s has ended, and its outcome cannot be read", row.id)
            return None
