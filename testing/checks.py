"""Finds what a table must not do and no type says: change a context in place, read a clock, answer the same question
twice differently, or make what cannot be stored.

An engine reads every context back before the next step, and may ask a guard again after a restart. So a guard or an
update must depend on nothing but its arguments, and must leave them as they are. What can be seen without calling it
(a coroutine function, a wrong number of parameters) is refused when the table is built.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from types import FrameType
from typing import Any, Final, cast

from ..base.errors import CloudError
from ..engine.machine.functions import name_of
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Context, Event
from .tables import RowCase, row_cases

TIMES = 3
"""How often each function is called with equal arguments."""

_CLOCKS: Final = frozenset(
    getattr(time, f"{name}{unit}")
    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
    for unit in ("", "_ns")
)
_TODAY: Final = frozenset({"now", "utcnow", "today"})
_COMMON: Final = random.random.__self__  # the generator that all share


def table_faults(machine: Machine[Any], cases: Iterable[RowCase] | None = None) -> list[str]:
    """Call every guard and update of a table with contexts and events that were read back, several times.

    Args:
        machine: The table.
        cases: The situations; one for each row (`row_cases`) when not given.

    Returns:
        A description of every fault; empty when there is none.

    Raises:
        ValueError: No case was found for a row.
    """
    found: dict[str, None] = {}
    for case in row_cases(machine) if cases is None else cases:
        found.update(dict.fromkeys(_faults(machine, case)))
    return list(found)


def _faults(machine: Machine[Any], case: RowCase) -> Iterator[str]:
    where = f"{case.state}, {case.row.event.__name__}"
    for what, function, read in (
        ("the guard", case.row.guard, _answer),
        ("the update", case.row.update, _updated),
    ):
        if function is not None:
            name = f"{where}: {what} {name_of(function)}"
            yield from (f"{name} {fault}" for fault in _calls(machine, case, function, read))


def _calls(
    machine: Machine[Any],
    case: RowCase,
    function: Callable[[Any, Any], Any],
    read: Callable[[Machine[Any], object], object],
) -> Iterator[str]:
    before = machine.encode_context(case.context)[0], machine.encode_event(case.event)[0]
    answers: list[object] = []
    impure: set[str] = set()
    for _ in range(TIMES):
        # Read back each time: nothing that an earlier call changed, or remembers by identity, is in them.
        context: Context = machine.decode_context(before[0])
        event: Event = machine.decode_event(before[1])
        try:
            with _watching(impure):
                answer = function(context, event)
        except Exception as exc:  # noqa: BLE001 it is the user's
            yield f"raises {type(exc).__name__}: {exc}"
            return
        if _text(machine.encode_context, context) != before[0]:
            yield "changes the context in place: return a new one (`msgspec.structs.replace`)"
        if _text(machine.encode_event, event) != before[1]:
            yield "changes the event in place"
        try:
            answers.append(read(machine, answer))
        except CloudError as exc:
            yield f"returns what cannot be stored: {exc.user_message}"
            return
        except TypeError as exc:
            yield str(exc)
            return
    if impure:
        yield f"calls {', '.join(sorted(impure))}: what it needs of that belongs in an event or the context"
    elif any(each != answers[0] for each in answers):
        yield (
            "gives another answer to the same arguments: a time, a random number or a counter belongs in an event or "
            "the context"
        )


@contextmanager
def _watching(impure: set[str]) -> Generator[None, None, None]:
    """Collect the names of the clocks and sources of chance that are called: three answers can be equal by chance."""
    before = sys.getprofile()

    def called(_frame: FrameType, event: str, what: Any) -> None:
        if event == "c_call" and (name := _impure(what)):
            impure.add(name)

    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(before)


def _impure(function: Any) -> str:
    """The name of a function that tells the time or draws at random; empty for every other."""
    if function in _CLOCKS:
        return f"time.{function.__name__}"
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, date) and function.__name__ in _TODAY:
        return f"{owner.__name__}.{function.__name__}"
    if owner is _COMMON:  # one with a seed of its own gives the same numbers each time
        return f"random.{function.__name__}"
    return "os.urandom" if function is os.urandom else ""


def _answer(_machine: Machine[Any], answer: object) -> object:
    if not isinstance(answer, bool):
        raise TypeError(f"returns {type(answer).__name__}, not True or False")
    return answer


def _updated(machine: Machine[Any], answer: object) -> object:
    if type(answer) is not machine.context_type:
        raise TypeError(f"returns {type(answer).__name__}, not {machine.context_type.__name__}")
    return machine.encode_context(cast("Context", answer))[0]


def _text(encode: Callable[[Any], tuple[str, Any]], value: object) -> str:
    try:
        return encode(value)[0]
    except CloudError as exc:
        return exc.user_message
